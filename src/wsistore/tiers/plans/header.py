"""What a plan says of itself: who made it, from what, for when, with which totals; JSON in the file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from wsistore.clock import iso
from wsistore.events import plain
from wsistore.tiers.plans.limits import OverLimit
from wsistore.tiers.plans.totals import TierTotal, Total, Totals

Json = dict[str, Any]

FORMAT_VERSION = 1
VALID_DAYS = 7
"""For which a plan may be applied unless told otherwise."""


@dataclass(frozen=True, slots=True)
class RulesUsed:
    """The rules that a plan was made with, whole: a plan explains itself when the file has changed since."""

    file: str
    """Its name, for people."""
    digest: str
    """SHA-256 of the file's bytes."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All but the rows."""

    format: int = FORMAT_VERSION
    site: str
    """Name of the site; a plan of another one is none here."""
    software: str
    made_at: datetime
    at: datetime
    """The `now` of the rules: `made_at`, or the day that was asked for."""
    expires_at: datetime
    author: str
    rules: RulesUsed
    catalogue_digest: str
    """SHA-256 over key and state of every slide."""
    coefficients: Mapping[str, Any]
    coefficients_digest: str
    limits: Mapping[str, Any]
    over_limit: tuple[OverLimit, ...]
    """Limits that the plan as a whole breaks; with any, it cannot be approved."""
    estimated: Mapping[str, int]
    """Copies whose size is estimated, by what the estimate rests on."""
    totals: Totals
    rows: int
    data_sha256: str = ""
    """Of all bytes of the file before its footer: the rows."""

    @property
    def is_look_ahead(self) -> bool:
        """Whether the plan is for another moment than that at which it was made."""
        return self.at != self.made_at

    def to_json(self) -> Json:
        """Return JSON values."""
        document = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("made_at", "at", "expires_at"):
            document[name] = iso(document[name])
        document["rules"] = asdict(self.rules)
        document["over_limit"] = [asdict(one) for one in self.over_limit]
        document["totals"] = _totals_to_json(self.totals)
        found: Json = plain(document)
        return found

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Header:
        """Read `to_json`; raises KeyError, TypeError, ValueError or AttributeError on anything else."""
        names = {item.name for item in fields(cls)}
        if set(document) != names:
            msg = f"its header has {', '.join(sorted(set(document) ^ names))} too many or too few"
            raise ValueError(msg)
        values = dict(document)
        for name in ("made_at", "at", "expires_at"):
            values[name] = _moment(values[name])
        for name in ("site", "software", "author", "catalogue_digest", "coefficients_digest", "data_sha256"):
            _is_a(str, name, values[name])
        for name in ("coefficients", "limits", "estimated"):
            _is_a(dict, name, values[name])
        _is_a(int, "rows", values["rows"])
        values["rules"] = _texts(RulesUsed, document["rules"])
        values["over_limit"] = tuple(_over_limit(one) for one in document["over_limit"])
        values["totals"] = _totals_from_json(document["totals"])
        return cls(**values)


_BY = ("by_action", "by_rule", "by_department", "postponed")


def _totals_to_json(totals: Totals) -> Json:
    document: Json = {"all": totals.all.to_json()}
    for name in _BY:
        document[name] = {word: total.to_json() for word, total in getattr(totals, name).items()}
    document["by_tier"] = {name: asdict(one) for name, one in totals.by_tier.items()}
    document["retention"], document["blocked"] = dict(totals.retention), dict(totals.blocked)
    return document


def _totals_from_json(document: Mapping[str, Any]) -> Totals:
    if set(document) != {item.name for item in fields(Totals)}:
        msg = "its totals are others"
        raise ValueError(msg)
    by = {name: {word: Total.from_json(one) for word, one in document[name].items()} for name in _BY}
    counts = [{word: _count(number) for word, number in document[name].items()} for name in ("retention", "blocked")]
    return Totals(
        all=Total.from_json(document["all"]),
        by_action=by["by_action"],
        by_rule=by["by_rule"],
        by_department=by["by_department"],
        by_tier={name: TierTotal.from_json(one) for name, one in document["by_tier"].items()},
        retention=counts[0],
        blocked=counts[1],
        postponed=by["postponed"],
    )


def _over_limit(document: Mapping[str, Any]) -> OverLimit:
    found = OverLimit(**document)
    _is_a(str, "limit", found.limit)
    for name in ("slides", "allowed", "catalogue"):
        _is_a(int, name, getattr(found, name))
    return found


def _count(value: object) -> int:
    _is_a(int, "a count", value)
    return int(str(value))


def _texts(kind: type[RulesUsed], document: Mapping[str, Any]) -> RulesUsed:
    found = kind(**document)
    for item in fields(found):
        _is_a(str, item.name, getattr(found, item.name))
    return found


def _is_a(kind: type, name: str, value: object) -> None:
    if type(value) is not kind:
        msg = f"{name} is {value!r:.40}"
        raise TypeError(msg)


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text).astimezone(UTC)
    if iso(found) != text:
        msg = f"{text!r:.40} is no moment in UTC"
        raise ValueError(msg)
    return found
