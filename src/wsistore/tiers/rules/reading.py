"""From a file of rules to `Rules`, or to a message with line and column that says what is wrong with it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from wsistore.catalog.expressions import NOW, Expression, Vocabulary, parse, types_of
from wsistore.errors import InputError
from wsistore.model import Preset
from wsistore.settings.tiers import MOST_COPIES
from wsistore.settings.values import TIER_NAME, did_you_mean
from wsistore.tiers.rules.facts import FACTS, SCHEMA
from wsistore.tiers.rules.positions import Place, parse_yaml, read_bytes
from wsistore.tiers.rules.values import (
    FEED_MAX_AGE,
    VERSION,
    Hosting,
    Limits,
    Period,
    PlacementRule,
    RetentionRule,
    Rules,
    Unit,
    Window,
)
from wsistore.units import parse_bytes, parse_percent

NEVER_ENDS = "never-ends"
"""What stands in `keep_until` where a rule never lets a slide go."""

_COLUMNS = tuple(fact.name for fact in FACTS if fact.in_rules)
_HELP = "'wsistore rules columns' lists the columns."
WHERE = Vocabulary(_COLUMNS, "condition", _HELP)
KEEP_UNTIL = Vocabulary(_COLUMNS, "expression", _HELP)

_TOP = ("version", "about", "sources", "time_zone", "feed_max_age", "hosting", "retention", "placement", "limits")
_RETENTION = ("name", "about", "where", "keep_until", "suspended_by", "replaces", "at_legal_end", "review_every")
_PLACEMENT = ("name", "about", "where", "tier", "also", "encode", "copies")
_HOSTING = ("certificate", "own", "locations")
_LIMITS = (
    *("move_bytes_per_day", "window", "high_watermarks", "hot_high_watermark", "cost_at_most", "delete_at_most"),
    "move_at_most",
)
_WATERMARK = "_high_watermark"
_MOST_RULES = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PERIOD = re.compile(r"(\d{1,5}) ?(day|week|month|year)s?")
_WINDOW = re.compile(r"(\d\d?):(\d\d) ?[-–] ?(\d\d?):(\d\d)")
_MONEY = re.compile(r"(\d{1,9}(?:\.\d{1,2})?) ?(?:EUR|€)")
_MOST_COUNT = 10_000
_MOMENTS = ("DATE", "TIMESTAMP")


def read_rules(path: Path) -> Rules:
    """Read a file of rules.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no file of rules; the message names file, line, column and what is expected (`Kind.RULES_INVALID`).

    """
    return parse_rules(read_bytes(path), str(path))


def parse_rules(content: bytes, name: str) -> Rules:
    """Return the rules of a file.

    Parameters
    ----------
    content
        The file's bytes, UTF-8.
    name
        The file's, for messages.

    Raises
    ------
    InputError
        As `read_rules`.

    """
    root = parse_yaml(content, name)
    top = root.table(_TOP)
    if "version" not in top:
        msg = "there is no key 'version'"
        raise root.wrong(msg, f"Begin the file with 'version: {VERSION}'.")
    if top["version"].integer(1, 1_000_000) != VERSION:
        what = f"version {top['version'].shown}; this release knows {VERSION}"
        raise top["version"].wrong(what, "Upgrade wsistore.")
    checked = _Expressions()
    retention = tuple(_retention(place, checked) for place in _rules(top, "retention"))
    placement = tuple(_placement(place, checked) for place in _rules(top, "placement"))
    _check_names(top, retention, placement)
    checked.check_types()
    return Rules(
        name=name,
        digest=hashlib.sha256(content).hexdigest(),
        text=content.decode("utf-8"),
        about=top["about"].text().strip() if "about" in top else "",
        sources=top["sources"].texts() if "sources" in top else (),
        retention=retention,
        placement=placement,
        limits=_limits(top["limits"].table(_limit_keys(top["limits"]))) if "limits" in top else Limits(),
        hosting=_hosting(top["hosting"].table(_HOSTING)) if "hosting" in top else Hosting(),
        feed_max_age=_age(top["feed_max_age"]) if "feed_max_age" in top else FEED_MAX_AGE,
        time_zone=_zone(top["time_zone"]) if "time_zone" in top else UTC,
    )


# --- rules ------------------------------------------------------------------------------------------------------------


class _Expressions:
    """All expressions of a file: parsed one by one, their types asked of DuckDB together."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Place, Expression, Sequence[str]]] = {}

    def take(self, place: Place, vocabulary: Vocabulary, types: Sequence[str]) -> Expression:
        try:
            expression = parse(place.text(), vocabulary)
        except InputError as error:
            if error.kind.value.startswith("rules"):
                raise
            raise place.wrong(error.message, error.remedy) from error
        self._found[str(len(self._found))] = (place, expression, types)
        return expression

    def check_types(self) -> None:
        """Refuse expressions whose types do not fit, or are not what is needed."""
        yielded = types_of({key: expression for key, (_, expression, _) in self._found.items()}, SCHEMA)
        for key, (place, expression, types) in self._found.items():
            found = yielded[key]
            if isinstance(found, InputError):
                raise place.wrong(found.message, "Compare days with days, texts with texts in single quotes.")
            if found not in types:
                wanted = "true or false" if types == ("BOOLEAN",) else "a day"
                what = f"{expression.text!r} is not {wanted}, but of the type {found}"
                raise place.wrong(what)


def _rules(top: dict[str, Place], section: str) -> list[Place]:
    """Return the rules of a section, each named for messages."""
    if section not in top:
        return []
    places = top[section].items()
    if len(places) > _MOST_RULES:
        what = f"more than {_MOST_RULES} rules"
        raise top[section].wrong(what)
    return [place.named(f"{section} rule {number}") for number, place in enumerate(places, 1)]


def _needed(place: Place, table: dict[str, Place], *keys: str) -> None:
    for key in keys:
        if key not in table:
            what = f"there is no key {key!r}"
            raise place.wrong(what, f"Add '{key}: …' to the rule.")


def _rule(place: Place, keys: tuple[str, ...], *needed: str) -> tuple[str, dict[str, Place]]:
    """Return a rule's name and its values, which messages then name by it."""
    table = place.table(keys)
    _needed(place, table, "name")
    name = table["name"].text()
    if not _NAME.fullmatch(name):
        what = f"{table['name'].shown} is no name of up to 64 lower-case letters, digits, '-', '_' and '.'"
        raise table["name"].wrong(what)
    named = {key: value.named(f"rule {name!r}, {key}") for key, value in table.items()}
    _needed(place.named(f"rule {name!r}"), named, *needed)
    return name, named


def _retention(place: Place, checked: _Expressions) -> RetentionRule:
    name, table = _rule(place, _RETENTION, "keep_until")
    ends = table["keep_until"].text()
    detach = "at_legal_end" in table and table["at_legal_end"].one_of(("detach-identity",)) != ""
    if detach and ends != NEVER_ENDS:
        what = "'detach-identity' is for rules whose keep_until is never-ends: the slide stays, the identity goes"
        raise table["at_legal_end"].wrong(what)
    if "suspended_by" in table:
        table["suspended_by"].one_of(("recourse",))
    return RetentionRule(
        name=name,
        where=checked.take(table["where"], WHERE, ("BOOLEAN",)) if "where" in table else None,
        keep_until=None if ends == NEVER_ENDS else checked.take(table["keep_until"], KEEP_UNTIL, _MOMENTS),
        suspended_by_recourse="suspended_by" in table,
        replaces=table["replaces"].texts() if "replaces" in table else (),
        detach=detach,
        review_every=_period(table["review_every"]) if "review_every" in table else None,
        line=place.line,
    )


def _placement(place: Place, checked: _Expressions) -> PlacementRule:
    name, table = _rule(place, _PLACEMENT, "tier")
    tier = _tier(table["tier"])
    also = tuple(_tier(one) for one in _each(table["also"])) if "also" in table else ()
    if len({tier, *also}) != 1 + len(also):
        msg = "a tier is named twice"
        raise table["also"].wrong(msg)
    return PlacementRule(
        name=name,
        where=checked.take(table["where"], WHERE, ("BOOLEAN",)) if "where" in table else None,
        tier=tier,
        also=also,
        encode=Preset(table["encode"].one_of(tuple(map(str, Preset)))) if "encode" in table else None,
        copies=table["copies"].integer(1, MOST_COPIES) if "copies" in table else None,
        line=place.line,
    )


def _each(place: Place) -> list[Place]:
    return place.items() if place.shown == "a list" else [place]


def _tier(place: Place) -> str:
    name = place.text()
    if not TIER_NAME.fullmatch(name):
        what = f"{place.shown} is no tier's name"
        raise place.wrong(what)
    return name


def _check_names(
    top: dict[str, Place], retention: tuple[RetentionRule, ...], placement: tuple[PlacementRule, ...]
) -> None:
    for section, names in (
        ("retention", [rule.name for rule in retention]),
        ("placement", [rule.name for rule in placement]),
    ):
        seen: dict[str, int] = {}
        for place, name in zip(_rules(top, section), names, strict=True):
            if name in seen:
                what = f"there is another rule {name!r} in line {seen[name]}"
                raise place.wrong(what, "Give one of them another name.")
            seen[name] = place.line
    _check_replaced(top, {rule.name: rule for rule in retention})
    for place, rule, following in zip(_rules(top, "placement"), placement, placement[1:], strict=False):
        if rule.where is None:
            what = f"rule {rule.name!r} has no where: it is true for every slide, and {following.name!r} is never asked"
            raise place.wrong(what, "Put it last, or give it a where.")


def _check_replaced(top: dict[str, Place], rules: dict[str, RetentionRule]) -> None:
    for place, rule in zip(_rules(top, "retention"), rules.values(), strict=True):
        here = place.pairs().get("replaces", place).named(f"rule {rule.name!r}, replaces")
        for name in rule.replaces:
            if name not in rules:
                what = f"there is no retention rule {name!r}{did_you_mean(name, rules)}"
                raise here.wrong(what, f"Rules are: {', '.join(rules)}.")
        reached, waiting = set[str](), list(rule.replaces)
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += rules[name].replaces if name in rules else ()
        if rule.name in reached:
            what = "the rule replaces itself, or one that replaces it"
            raise here.wrong(what, "Leave one of them out.")


# --- values -----------------------------------------------------------------------------------------------------------


def _period(place: Place) -> Period:
    match = _PERIOD.fullmatch(place.text())
    if match is None or not 1 <= int(match[1]) <= _MOST_COUNT:
        what = f"{place.shown} is no period such as '5 year' or '18 month'"
        raise place.wrong(what)
    return Period(int(match[1]), Unit(match[2]))


def _age(place: Place) -> timedelta:
    period = _period(place)
    if period.unit not in {Unit.DAY, Unit.WEEK}:
        what = f"{place.shown} is no number of days or weeks"
        raise place.wrong(what)
    return timedelta(days=period.count * (7 if period.unit is Unit.WEEK else 1))


def _zone(place: Place) -> tzinfo:
    name = place.text()
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        what = f"{place.shown} is no time zone such as 'Europe/Paris'"
        raise place.wrong(what) from error


def _window(place: Place) -> Window:
    match = _WINDOW.fullmatch(place.text())
    try:
        if match is not None:
            window = Window(time(int(match[1]), int(match[2])), time(int(match[3]) % 24, int(match[4])))
            if window.begins != window.ends and int(match[3]) <= 24:
                return window
    except ValueError:
        pass
    what = f"{place.shown} is no span of hours such as '20:00-06:00'"
    raise place.wrong(what)


def _percent(place: Place) -> float:
    try:
        return parse_percent(place.text())
    except ValueError as error:
        raise place.wrong(str(error)) from error


def _size(place: Place) -> int:
    try:
        return parse_bytes(place.text())
    except ValueError as error:
        raise place.wrong(str(error)) from error


def _money(place: Place) -> float:
    match = _MONEY.fullmatch(place.text())
    if match is None:
        what = f"{place.shown} is no sum such as '500 EUR'"
        raise place.wrong(what)
    return float(match[1])


def _limit_keys(place: Place) -> tuple[str, ...]:
    """Return the keys that limits may have: those of every tier's watermark, too."""
    tiers = [key for key in place.pairs() if key.endswith(_WATERMARK) and TIER_NAME.fullmatch(key[: -len(_WATERMARK)])]
    return (*_LIMITS, *tiers)


def _limits(table: dict[str, Place]) -> Limits:
    marks = {key[: -len(_WATERMARK)]: _percent(place) for key, place in table.items() if key.endswith(_WATERMARK)}
    if "high_watermarks" in table:
        for tier, place in table["high_watermarks"].pairs().items():
            if tier in marks:
                what = f"the watermark of {tier!r} is here twice"
                raise place.wrong(what)
            marks[tier] = _percent(place)
    default = Limits()
    return Limits(
        move_bytes_per_day=_size(table["move_bytes_per_day"]) if "move_bytes_per_day" in table else None,
        window=_window(table["window"]) if "window" in table else None,
        high_watermarks=marks,
        cost_at_most_eur=_money(table["cost_at_most"]) if "cost_at_most" in table else None,
        delete_at_most=_percent(table["delete_at_most"]) if "delete_at_most" in table else default.delete_at_most,
        move_at_most=_percent(table["move_at_most"]) if "move_at_most" in table else default.move_at_most,
    )


def _hosting(table: dict[str, Place]) -> Hosting:
    needed = "certificate" in table and table["certificate"].one_of(("required", "not-required")) == "required"
    own = tuple(_tier(place) for place in _each(table["own"])) if "own" in table else ()
    return Hosting(needed, own, table["locations"].texts() if "locations" in table else ())


assert NOW not in _COLUMNS  # noqa: S101 - a column of this name would hide the present
