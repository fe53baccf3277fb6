"""Golden cases: facts of made-up slides, and what rules must decide about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsistore.errors import InputError
from wsistore.model import CopyState, Preset
from wsistore.settings.tiers import MOST_COPIES
from wsistore.tiers.rules.deciding import decide
from wsistore.tiers.rules.decisions import DECISIONS
from wsistore.tiers.rules.facts import COPY, SCHEMA
from wsistore.tiers.rules.positions import Place, parse_yaml, read_bytes
from wsistore.tiers.rules.values import Rules, TierFacts

VERSION = 1
_TOP = ("version", "about", "tiers", "cases")
_CASE = ("name", "at", "facts", "others", "expect")
_TIER = ("preset", "required_copies", "archive", "remote", "location", "certified_until", "closed")
_EXPECT = tuple(name for name in DECISIONS.names if name not in {"slide", "case_id"})
_SLIDE, _THE_CASE = "SLIDE-0001", "CASE-0001"


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One case."""

    name: str
    line: int
    """In the file, from 1."""
    at: datetime
    facts: pa.Table
    """The slide, and then the others of its case."""
    expected: Mapping[str, Any]
    """By column of the decisions."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A file of golden cases."""

    name: str
    tiers: Mapping[str, TierFacts]
    """What the tiers are; nothing: any tier is allowed."""
    cases: tuple[GoldenCase, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one case."""

    name: str
    line: int
    failures: tuple[str, ...]
    """What is not as expected: ``keep_until is 2020-01-01, and 2021-01-01 was expected``."""


def read_golden(path: Path) -> Golden:
    """Read a file of golden cases.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no such file; the message names file, line and column (`Kind.RULES_INVALID`).

    """
    root = parse_yaml(read_bytes(path), str(path))
    top = root.table(_TOP)
    for key in ("version", "cases"):
        if key not in top:
            what = f"there is no key {key!r}"
            raise root.wrong(what)
    top["version"].integer(VERSION, VERSION)
    tiers = {name: _tier(place) for name, place in top["tiers"].pairs().items()} if "tiers" in top else {}
    places = top["cases"].items()
    if not places:
        msg = "there are no cases"
        raise top["cases"].wrong(msg, "Write at least one.")
    return Golden(str(path), tiers, tuple(_case(place) for place in places))


def check(rules: Rules, golden: Golden) -> list[Checked]:
    """Return what comes of each golden case.

    Raises
    ------
    InputError
        If the rules name a tier that the file's `tiers` do not have.

    """
    bound = rules.bind(golden.tiers) if golden.tiers else rules
    return [Checked(case.name, case.line, tuple(_differences(bound, case))) for case in golden.cases]


def _differences(rules: Rules, case: GoldenCase) -> list[str]:
    found = decide(case.facts, rules, case.at, threads=1).slice(0, 1).to_pylist()[0]
    return [
        f"{key} is {_shown(found[key])}, and {_shown(wanted)} was expected"
        for key, wanted in case.expected.items()
        if not _agrees(found[key], wanted)
    ]


def _agrees(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        have = found or []
        return len(have) == len(wanted) and all(_agrees(one, other) for one, other in zip(have, wanted, strict=True))
    if isinstance(wanted, dict):
        return all(found.get(key) == value for key, value in wanted.items())
    return bool(found == wanted)


def _shown(value: Any) -> str:
    return "nothing" if value is None or value == [] else str(value)


# --- reading ----------------------------------------------------------------------------------------------------------


def _case(place: Place) -> GoldenCase:
    table = place.named("case").table(_CASE)
    for key in ("name", "at", "facts", "expect"):
        if key not in table:
            what = f"there is no key {key!r}"
            raise place.named("case").wrong(what)
    name = table["name"].text()
    at = _moment(table["at"]).replace(tzinfo=UTC)
    others = table["others"].items() if "others" in table else []
    case = {"case_id": _THE_CASE} if others else {}
    rows = [_facts(table["facts"].named(f"case {name!r}, facts"), at, {"slide": _SLIDE, **case})]
    for number, other in enumerate(others, 2):
        rows.append(_facts(other.named(f"case {name!r}, others"), at, {"slide": f"SLIDE-{number:04}", **case}))
    expected = table["expect"].named(f"case {name!r}, expect").table(_EXPECT)
    return GoldenCase(
        name,
        place.line,
        at,
        pa.Table.from_pylist(rows, schema=SCHEMA),
        {key: _value(value, DECISIONS.field(key).type) for key, value in expected.items()},
    )


def _facts(place: Place, at: datetime, given: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: _value(value, SCHEMA.field(key).type) for key, value in place.table(SCHEMA.names).items()}
    known = {
        "identity_detached": False,
        "holds": 0,
        "collections": [],
        "tags": [],
        "feed_as_of": at.replace(tzinfo=None),
        **given,
        **said,
    }
    known.setdefault("tiers", sorted({copy["tier"] for copy in known.get("copies") or ()}))
    return {name: known.get(name) for name in SCHEMA.names}


def _value(place: Place, kind: pa.DataType) -> Any:
    """Return a value of the type that a column has."""
    plain = place.plain()
    if plain is None:
        return None
    if kind == COPY:
        return _copy(place)
    if pa.types.is_struct(kind):
        table = place.table([field.name for field in kind])
        return {name: _value(value, kind.field(name).type) for name, value in table.items()}
    if pa.types.is_map(kind):
        return [(name, value.text()) for name, value in place.pairs().items()]
    if pa.types.is_list(kind):
        return [_value(one, kind.value_type) for one in place.items()]
    if pa.types.is_date(kind):
        return _day(place)
    if pa.types.is_timestamp(kind):
        return _moment(place)
    return _scalar(place, plain, kind)


def _scalar(place: Place, plain: Any, kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return place.text()
    wanted: tuple[type, ...] = {pa.bool_(): (bool,), pa.int64(): (int,), pa.float64(): (int, float)}[kind]
    fits = isinstance(plain, wanted) and (kind == pa.bool_() or not isinstance(plain, bool))
    if not fits or (kind == pa.int64() and abs(plain) >= 2**63):
        what = f"{place.shown} stands where a value of the type {kind} is expected"
        raise place.wrong(what)
    return plain


def _copy(place: Place) -> dict[str, Any]:
    table = place.table([field.name for field in COPY])
    said = {name: _value(value, COPY.field(name).type) for name, value in table.items()}
    if "tier" not in said:
        msg = "there is no key 'tier'"
        raise place.wrong(msg)
    default = {
        "attempt": "attempt",
        "preset": str(Preset.KEEP),
        "state": str(CopyState.COMMITTED),
        "bytes_stored": 1_600_000_000,
        "objects": 50,
    }
    return {field.name: said.get(field.name, default.get(field.name)) for field in COPY}


def _tier(place: Place) -> TierFacts:
    table = place.table(_TIER)
    found = {name: value.plain() for name, value in table.items() if name in {"archive", "remote"}}
    for name, value in found.items():
        if not isinstance(value, bool):
            what = f"{table[name].shown} stands where true or false is expected"
            raise table[name].wrong(what)
    return TierFacts(
        preset=Preset(table["preset"].one_of(tuple(map(str, Preset)))) if "preset" in table else Preset.KEEP,
        required_copies=table["required_copies"].integer(1, MOST_COPIES) if "required_copies" in table else 1,
        archive=found.get("archive", False),
        remote=found.get("remote", False),
        location=table["location"].text() if "location" in table else "",
        certified_until=_day(table["certified_until"]) if "certified_until" in table else None,
        closed=table["closed"].text() if "closed" in table else "",
    )


def _day(place: Place) -> date:
    try:
        return date.fromisoformat(place.text())
    except ValueError as error:
        raise _no_day(place, "day such as 2026-01-31") from error


def _moment(place: Place) -> datetime:
    """Return a moment in UTC, without a time zone; a day alone is its noon."""
    text = place.text()
    try:
        if len(text) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), time(12))
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise _no_day(place, "moment such as 2026-01-31T12:00") from error


def _no_day(place: Place, expected: str) -> InputError:
    what = f"{place.shown} is no {expected}"
    return place.wrong(what)
