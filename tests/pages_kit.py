"""What tests of pages share: reports of made-up hospitals, as `wsistore report` writes them, without any slide."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.report_kit import Event, begun, dropped, lying, slides, told
from wsistore import __version__, ops
from wsistore.clock import iso
from wsistore.ops.report_data import tier_costs, tier_models
from wsistore.reports import sets
from wsistore.reports.columns import schema_of
from wsistore.reports.focus import rows_of
from wsistore.reports.metering import Meter
from wsistore.reports.models import METHOD, charges
from wsistore.reports.periods import Month
from wsistore.reports.terms import read_settings

HARDWARE = """\
version = 1
title = "Disk array of the hospital's own"
medium = "hdd"
[raw_per_usable]
central = 1.25
source = "RAID6 8+2"
mark = "derived"
[hardware.usable_tb]
central = 100
source = "order 2025-118"
mark = "seen"
[hardware.purchase]
low = 55000
central = 60000
high = 66000
source = "order 2025-118"
mark = "seen"
[hardware.lifetime_years]
low = 4
central = 5
high = 7
source = "write-off rule"
mark = "assumed"
[hardware.upkeep_per_year]
central = 8000
source = "contract 2025-119"
mark = "seen"
"""
ODD = ("Anatomie & cytologie", '<b>Néphrologie</b> "Île"', "=1+1", "<5", "A*", "Dermatologie", "", "'Œil'")
"""Departments whose names HTML, formulas and patterns trip over."""


@dataclass
class Hospital:
    """What a report is made of."""

    tiers: Sequence[str] = ("hot", "warm", "cold")
    departments: Sequence[str | None] = (*ODD, None)
    months: int = 4
    own_hardware: bool = False
    each: int = 1
    """Slides that share the TB of a department and month; a thousand are as large as real ones."""
    name: str = "CHU <Est> & Île"
    settings: str = 'timezone = "Europe/Paris"\naccount = "CHU-01"\n'
    last: Month = field(default_factory=lambda: Month(2026, 10, "Europe/Paris"))


def site_of(folder: Path, hospital: Hospital) -> Path:
    """Make a site with the hospital's tiers; return its folder."""
    ops.init_site(folder, name=hospital.name)
    settings = folder / "wsistore.toml"
    text = settings.read_text("utf-8").partition("[tiers.hot]")[0]
    for number, name in enumerate(hospital.tiers):
        (folder / "tiers" / name).mkdir(parents=True, exist_ok=True)
        text += f'[tiers.{name}]\nid = "t{number:019}"\nurl = "tiers/{name}"\npreset = "keep"\n'
        if number == 0 and hospital.own_hardware:
            text += 'prices = "./own.toml"\n'
    settings.write_text(text, "utf-8")
    (folder / "own.toml").write_text(HARDWARE, "utf-8")
    (folder / "reports.toml").write_text(hospital.settings, "utf-8")
    return folder


def events_of(hospital: Hospital) -> tuple[list[Event], pa.Table]:
    """Return events of slides (TB together, so that there are amounts to look at) and their departments."""
    found: list[Event] = []
    known: dict[str, tuple[int, str | None]] = {}
    month = hospital.last
    for _ in range(hospital.months - 1):
        month = Month(month.year - (month.number == 1), (month.number - 2) % 12 + 1, month.zone)
    for age in range(hospital.months):
        for place in range(len(hospital.departments) * hospital.each):
            number, one = divmod(place, hospital.each)
            name = f"s{age:02}{number:03}" + (f"{one:06}" if hospital.each > 1 else "")
            size = (number % 7 + 1) * 10**12 // hospital.each
            known[name] = (size, hospital.departments[number])
            at = month.begins + timedelta(days=2 + number % 20, hours=number % 5)
            spent = 3600.0 / hospital.each
            found.append(begun(name, 1, f"{at:%Y-%m-%dT%H:%M}", hospital.tiers[0], size=size, cpu_seconds=spent))
            found += _moved(name, at, size, number, hospital)
        month = month.next
    now = f"{hospital.last.next.begins + timedelta(days=1):%Y-%m-%dT%H:%M}"
    return [event for event in found if event[2] < begun("x", 1, now)[2]], slides(**known)


def _moved(name: str, at: Any, size: int, number: int, hospital: Hospital) -> list[Event]:
    if len(hospital.tiers) < 2 or number % 3 == 0:
        return []
    target = hospital.tiers[1 + number % (len(hospital.tiers) - 1)]
    copied, gone = (f"{at + timedelta(days=days):%Y-%m-%dT%H:%M}" for days in (20, 21))
    folded = size * 3 // 4
    more: dict[str, Any] = {
        "preset": "fold",
        "from": hospital.tiers[0],
        "bytes_read": size,
        "cpu_seconds": 7200.0 / hospital.each,
    }
    return [begun(name, 2, copied, target, size=folded, **more), dropped(name, 3, gone, hospital.tiers[0], size=size)]


def written(folder: Path, hospital: Hospital | None = None) -> tuple[Path, Path]:
    """Write a hospital's reports of all its months; return the folders of site and sets."""
    one = hospital or Hospital()
    site, out = site_of(folder / "site", one), folder / "reports"
    events, known = events_of(one)
    month = one.last
    with ops.open_site(site) as opened:
        for _ in range(max(one.months, 1)):
            write_month(opened, out, month, events, known)
            month = Month(month.year - (month.number == 1), (month.number - 2) % 12 + 1, month.zone)
    return site, out


def write_month(site: ops.Site, out: Path, month: Month, events: Sequence[Event], known: pa.Table) -> None:
    """Write one month's sets."""
    settings = read_settings(site.folder)
    costs = tier_costs(tier_models(site, settings, month), settings, month)
    happened, table = told(events), lying(events, known)
    meter = Meter([month])
    meter.add(table, happened)
    found = list(charges(meter.by_month[month], month, costs))
    header: dict[str, Any] = {"month": str(month)}
    folder = sets.partition(out, sets.USAGE, month)
    sets.write_rows(folder / sets.PART, rows_of(found, month, costs, account="CHU-01"), "1.2", header)
    _write(out, sets.INVENTORIES, month, _inventory(table, month))
    _write(out, sets.CHAINS, month, _events(happened, month))
    about = {
        "FocusVersion": "1.2",
        "CreationDate": iso(month.ends + timedelta(days=1)),
        "DataGenerator": f"wsistore {__version__}",
        "site": site.settings.name,
        "timezone": month.zone,
        "method": METHOD,
        "unexplained": {tier.name: 0.0 for tier in site.settings.tiers},
        "closed_at": None,
        "files": {},
    }
    sets.write_about(folder, json.loads(json.dumps(about)))


def _write(out: Path, name: str, month: Month, table: pa.Table) -> None:
    path = sets.partition(out, name, month) / sets.PART
    with sets.PartWriter(path, schema_of(sets.columns_of(name)), {"month": str(month)}) as writer:
        writer.write(table)


def _inventory(table: pa.Table, month: Month) -> pa.Table:
    end = pa.scalar(month.ends, pa.timestamp("us", tz="UTC"))
    stays = pc.or_kleene(pc.is_null(table["ended"]), pc.greater_equal(table["ended"], end))
    mine = table.filter(pc.and_(pc.less(table["began"], end), stays))
    names = ["tier", "commit", "bytes_stored", "began", "tier", "objects", "bytes_logical", "slide", "preset"]
    columns = [mine[name] for name in (*names, "department", "estimated")]
    made = pa.table(columns, schema=schema_of(sets.columns_of(sets.INVENTORIES)))
    return made.sort_by([(name, "ascending") for name in ("Slide", "Bucket", "Key")])


def _events(happened: pa.Table, month: Month) -> pa.Table:
    kind = happened["at"].type
    begins, ends = pa.scalar(month.begins, kind), pa.scalar(month.ends, kind)
    mine = happened.filter(pc.and_(pc.greater_equal(happened["at"], begins), pc.less(happened["at"], ends)))
    names = ["slide", "number", "at", "kind", "tier", "from", "preset", "version", "bytes_stored", "objects"]
    columns = [mine[name] for name in (*names, "bytes_read", "cpu_seconds", "retrieval")]
    return pa.table(columns, schema=schema_of(sets.columns_of(sets.CHAINS)))
