"""How plans are printed: totals, rows, differences and bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wsistore.cli.output import fits, print_table, say, warn
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.tiers.plans.diffs import Change, Difference
    from wsistore.tiers.plans.header import Header
    from wsistore.tiers.plans.totals import TierTotal, Total

_WIDTH = 46
"""Characters of the longest bar."""
_FIGURES = ("slides", "waiting", "now", "after", "moved", "EUR/y now", "after", "EUR once", "pays in", "kWh/y", "after")
_FIGURES_MORE = ("kgCO2e/y", "after", "time")
_ROW = ("slide", "action", "rule", "tier", "now", "after", "EUR/y", "EUR/y after", "EUR once", "waits for", "why")

_NARROW_FIGURES = (*range(8), len(_FIGURES) + len(_FIGURES_MORE) - 1)
"""Of the figures: without pay-back, energy and carbon."""
_NARROW_ROW = (0, 1, 2, 3, 4, 5, 9)
"""Of a row: without costs, and without why, which is long."""
_WIDE_FIGURES = 150
_WIDE_ROW = 190
"""Characters."""

_BLOCKED = {
    "held": "on hold",
    "stale-feed": "the patients' dates are too old to delete by",
    "still-charged": "their class charges for them until a later day",
    "tier-not-allowed": "the tier does not allow the data",
    "too-few-copies": "too few copies would remain",
    "no-good-copy": "no copy is good",
    "not-detachable": "the patient's dates do not say that the legal time is over",
}


def print_header(header: Header, digest: str) -> None:
    """Print who made a plan, from what, and whether it is one that can be approved."""
    say(f"Plan {digest[:12]} of {header.site}, made {_moment(header.made_at)} by {header.author}.")
    if header.is_look_ahead:
        say(f"It looks ahead: the rules' now is {_moment(header.at)}.")
    say(f"It may be applied until {_moment(header.expires_at)}.")
    digests = (header.rules.digest, header.catalogue_digest, header.coefficients_digest)
    rules, catalogue, coefficients = (one[:12] for one in digests)
    say(f"Rules {header.rules.file} {rules}, catalogue {catalogue}, prices and coefficients {coefficients}.")
    for one in header.over_limit:
        warn(f"OVER ITS LIMIT, cannot be approved. {one}")


def print_totals(header: Header) -> None:
    """Print totals by action, tier, rule and department, and what is not done."""
    totals = header.totals
    print_group("action", {**totals.by_action, "all": totals.all})
    say("")
    _print_tiers(totals.by_tier)
    for title, group in (("rule", totals.by_rule), ("department", totals.by_department)):
        if len(group) > 1 or "" not in group:
            say("")
            print_group(title, group)
    lines = list(not_done(header))
    if lines:
        say("")
        say("Not done:")
        for line in lines:
            say(f"  {line}")
    say("")
    for line in basis(header):
        say(line)
    if not fits(_WIDE_FIGURES):
        say(f"Pay-back, energy and carbon of actions and rules need a terminal of {_WIDE_FIGURES} columns, or a pipe.")


def print_group(title: str, totals: Mapping[str, Total]) -> None:
    """Print totals, one line for each."""
    figures = (*_FIGURES, *_FIGURES_MORE)
    shown = range(len(figures)) if fits(_WIDE_FIGURES) else _NARROW_FIGURES
    columns = (title, *(figures[at] for at in shown))
    told = ((name, _figures(total)) for name, total in totals.items())
    rows = ((name or "(none)", *(cells[at] for at in shown)) for name, cells in told)
    print_table(columns, rows, right=columns[1:])


def _figures(total: Total) -> tuple[str, ...]:
    sums, years = total.sums, total.payback_years
    return (
        str(total.slides),
        str(total.waiting) if total.waiting else "",
        *(format_bytes(sums[name]) for name in ("bytes_now", "bytes_after", "bytes_moved")),
        *(figure(sums[name]) for name in ("eur_year_now", "eur_year_after")),
        figure(total.eur_spent),
        "" if years is None else f"{years:.1f} y",
        *(figure(sums[name]) for name in ("kwh_year_now", "kwh_year_after")),
        *(figure(sums[name] / 1000) for name in ("gco2e_year_now", "gco2e_year_after")),
        duration(sums["seconds"]),
    )


def _print_tiers(tiers: Mapping[str, TierTotal]) -> None:
    columns = ("tier", "slides", "after", "stored", "after", "EUR/y", "after", "kWh/y", "after", "kgCO2e/y", "after")
    rows = (
        (
            name,
            *(str(one) for one in (tier.slides_now, tier.slides_after)),
            *(format_bytes(one) for one in (tier.bytes_now, tier.bytes_after)),
            *(figure(one) for one in (tier.eur_year_now, tier.eur_year_after)),
            *(figure(one) for one in (tier.kwh_year_now, tier.kwh_year_after)),
            *(figure(one / 1000) for one in (tier.gco2e_year_now, tier.gco2e_year_after)),
        )
        for name, tier in tiers.items()
    )
    print_table(columns, rows, right=columns[1:])


def not_done(header: Header) -> Iterable[str]:
    """Yield what the plan does not do, and why."""
    totals = header.totals
    for name, count in totals.blocked.items():
        yield f"{_slides(count)}: {_BLOCKED.get(name, name)}"
    unknown = totals.retention.get("unknown", 0)
    if unknown:
        yield f"{_slides(unknown)}: nothing is deleted, for it is not known until when to keep"
    for name, total in totals.postponed.items():
        size, once = format_bytes(total.sums["bytes_moved"]), figure(total.eur_spent)
        yield f"{_slides(total.slides)}: for a later night ({size} to move, {once} EUR), because of {name}"


def _slides(count: int) -> str:
    return "1 slide" if count == 1 else f"{count} slides"


_RESTS = {
    "copies-of-format": "the site's copies in the same format",
    "copies-in-preset": "the site's copies in other formats",
    "tuner": "the tuner's samples",
    "assumed": "assumed ratios",
}


def basis(header: Header) -> Iterable[str]:
    """Yield what sizes and times rest on."""
    guessed = header.estimated.get("assumed", 0)
    told = sum(header.estimated.values())
    if told:
        how = ", ".join(f"{_RESTS.get(name, name)} ({count})" for name, count in header.estimated.items())
        yield f"Sizes of {told} copies that are yet to be made are estimated from {how}."
    if guessed:
        yield "'wsistore tune' measures what is assumed."
    speeds = header.coefficients.get("speeds", {})
    samples = speeds.get("samples", 0)
    yield (
        f"Times rest on the last {samples} copies that this site made."
        if samples
        else "Times are assumed: this site has made no copy yet."
    )


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of a plan."""
    cells = (
        (
            row["slide"],
            row["action"],
            row["keep_rule" if row["action"] in ("delete", "detach-identity") else "place_rule"] or "",
            row["tier"] or "",
            format_bytes(row["bytes_now"]),
            format_bytes(row["bytes_after"]),
            figure(row["eur_year_now"]),
            figure(row["eur_year_after"]),
            figure(row["eur_once"] + row["eur_retrieval"] + row["eur_early"]),
            row["postponed"] or "",
            row["reason"],
        )
        for row in rows
    )
    if fits(_WIDE_ROW):
        print_table(_ROW, cells, right=_ROW[4:9])
        return
    columns = tuple(_ROW[at] for at in _NARROW_ROW)
    print_table(columns, (tuple(row[at] for at in _NARROW_ROW) for row in cells), right=columns[4:6])
    say("'wsistore plan explain SLIDE' says why, and what it costs.")


def print_difference(found: Difference) -> None:
    """Print what differs between two plans as a whole."""
    for same, what in (
        (found.same_rules, "rules"),
        (found.same_catalogue, "catalogue's state"),
        (found.same_coefficients, "prices and coefficients"),
        (found.same_limits, "limits"),
    ):
        say(f"The {what}: {'the same' if same else 'others'}.")
    say("")
    print_group("plan", {"first": found.before, "second": found.after})


def print_changes(changes: Sequence[Change]) -> None:
    """Print slides of which two plans say something else."""
    print_table(("slide", "first", "second"), ((one.slide, _said(one.before), _said(one.after)) for one in changes))


def _said(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return "(not in it)"
    return ", ".join(f"{name} {_word(value)}" for name, value in part.items() if name not in ("state", "steps"))


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    return "–" if value is None else str(value)


def print_bars(header: Header) -> None:
    """Draw what lies in each tier, now and afterwards, and what is done to how many slides."""
    tiers = {name: one for name, one in header.totals.by_tier.items() if one.bytes_now or one.bytes_after}
    most = max([1.0, *(max(one.bytes_now, one.bytes_after) for one in tiers.values())])
    name_width = max([4, *map(len, tiers), *map(len, header.totals.by_action)])
    say("Stored, now ░ and afterwards █")
    for name, tier in tiers.items():
        for label, letter, size in ((name, "░", tier.bytes_now), ("", "█", tier.bytes_after)):
            say(f"{label:>{name_width}} │{_bar(letter, size, most)} {format_bytes(size)}")
    say("")
    say("Slides by what is done █, and what waits ▒")
    actions = {name: one for name, one in header.totals.by_action.items() if name != "none"}
    most = max([1, *(one.slides for one in actions.values())])
    for name, total in actions.items():
        doing = total.slides - total.waiting
        bars = _bar("█", doing, most) + _bar("▒", total.waiting, most)
        say(f"{name:>{name_width}} │{bars} {doing}{f' + {total.waiting}' if total.waiting else ''}")
    rest = header.totals.by_action.get("none")
    say(f"{'none':>{name_width}} │ {0 if rest is None else rest.slides} stay as they are")


def _bar(letter: str, value: float, most: float) -> str:
    return letter * (max(1, round(value / most * _WIDTH)) if value > 0 else 0)


def figure(number: float) -> str:
    """Return a number with three digits that say something, and never as a power of ten."""
    if number == 0:
        return "0"
    if abs(number) >= 99.95:
        return f"{number:,.0f}".replace(",", " ")
    return f"{number:.3g}" if abs(number) >= 0.001 else f"{number:.6f}"


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds else ""
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
