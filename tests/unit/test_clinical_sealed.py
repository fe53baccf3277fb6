"""Tables from the hospital in a site that seals identities: found by number, and nowhere in the catalogue's bytes."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import catalog_kit as kit
from tests.site_kit import memory_site
from wsistore import ops
from wsistore.errors import InputError
from wsistore.keys import site_keys
from wsistore.ops.clinical import import_metadata
from wsistore.testing.clock import ManualClock

IPP, MATRICULE, NAME, STAY = "IPP-PLANTED-0001", "160017512345670", "NAME-PLANTED-0002", "STAY-PLANTED-0003"
TABLES = {
    "patients": "patient_id,birth_date,identity_status,ins_matricule,ins_oid,birth_name,first_names,sex,birth_place\n"
    f"{IPP},1960-01-01,qualified,{MATRICULE},1.2.250.1.213.1.4.8,{NAME},X,M,75056\n",
    "encounters": f"encounter_id,ins_matricule,kind,begins\n{STAY},{MATRICULE},visit,2001-01-01\n",
    "cases": f"case_id,patient_id\nCASE-1,{IPP}\n",
}


def seal(folder: Path) -> None:
    path = folder / "wsistore.toml"
    path.write_text(path.read_text("utf-8").replace("\nname = ", "\nencrypt_identities = true\nname = ", 1), "utf-8")


def opened(folder: Path) -> ops.Site:
    return ops.open_site(folder, clock=ManualClock(kit.NOW))


def take(site: ops.Site, days_ago: int, **tables: str) -> None:
    paths = []
    for name, text in tables.items():
        paths.append(site.folder.parent / f"{name}.csv")
        paths[-1].write_text(text)
    import_metadata(site, paths, kit.NOW - timedelta(days=days_ago))


def row(site: ops.Site) -> dict[str, Any]:
    (found,) = ops.facts_table(site).to_pylist()
    return dict(found)


def assert_nobody_is_named(folder: Path) -> None:
    data = b"".join(path.read_bytes() for path in folder.glob("catalog.db*"))
    for planted in (IPP, MATRICULE, NAME, STAY):
        assert planted.encode() not in data
        assert planted.casefold().encode() not in data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a site with keys and one slide."""
    with memory_site(tmp_path / "site", clock=ManualClock(kit.NOW)) as site:
        kit.ingest(site.catalog, "slide1", metadata={"case_id": "CASE-1"})
    site_keys.make(tmp_path / "site/keys", ManualClock())
    return tmp_path / "site"


def test_nobody_is_named_and_everything_is_found(folder: Path) -> None:
    seal(folder)
    with opened(folder) as site:
        take(site, 5, **TABLES)
        assert (row(site)["birth_date"], row(site)["last_encounter"]) == (date(1960, 1, 1), date(2001, 1, 1))
        take(site, 4, patients=f"patient_id,birth_date\n{IPP.lower()},1961-01-01\n")
        assert row(site)["birth_date"] == date(1961, 1, 1)
        take(site, 3, encounters=f"encounter_id,state\n{STAY},cancelled\n")
        assert row(site)["last_encounter"] is None
        take(site, 2, merges=f"patient_id,into_patient_id\n{IPP},IPP-PLANTED-0009\n")
        take(site, 1, slides=f"slide,patient_id\nslide1,{IPP}\n")
        assert site.catalog.slide("slide1").metadata["patient_id"] == IPP
        with pytest.raises(InputError, match="another patient") as caught:
            take(site, 0, slides="slide,patient_id\nslide1,IPP-PLANTED-0008\n")
        assert IPP not in caught.value.message
    assert_nobody_is_named(folder)


def test_what_was_known_before_it_was_sealed_is_found_afterwards(folder: Path) -> None:
    with opened(folder) as site:
        take(site, 5, **TABLES)
        before = row(site)
    seal(folder)
    with opened(folder) as site:
        ops.seal_identities(site)
        assert row(site) == before
        take(site, 4, encounters=f"encounter_id,state\n{STAY},cancelled\n")
        assert row(site)["last_encounter"] is None
        take(site, 3, **TABLES)
        assert row(site)["patient"] == before["patient"]
        assert row(site)["last_encounter"] is None
