"""What the lifecycle shows in Prefect: the plan with its costs, who has to approve it, and what became of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from wsistore import ops
from wsistore.errors import WsistoreError
from wsistore.ops import plans_due
from wsistore.ops.plans_due import DuePlan
from wsistore.units import format_bytes
from wsistore_flows.artifacts import markdown_table
from wsistore_flows.lifecycle_apply import Night
from wsistore_flows.running import Run
from wsistore_flows.states import may_be_told, told

_log = logging.getLogger(__name__)


def show_plan(run: Run, due: DuePlan) -> None:
    """Show a plan that was just made: totals as a table, what it costs as a text, and a chart."""
    header = due.plan.header
    rows = [
        {
            "what": name,
            "slides": total.slides,
            "wait for a limit": total.waiting,
            "stored now": format_bytes(total.sums["bytes_now"]),
            "stored afterwards": format_bytes(total.sums["bytes_after"]),
            "moved": format_bytes(total.sums["bytes_moved"]),
            "EUR once": _money(total.eur_spent),
            "EUR saved a year": _money(total.eur_saved_per_year),
            "kgCO2e saved a year": _money((total.sums["gco2e_year_now"] - total.sums["gco2e_year_after"]) / 1e3),
        }
        for name, total in {**header.totals.by_action, "all": header.totals.all}.items()
    ]
    about = f"Plan {due.name}, made {header.made_at:%Y-%m-%d %H:%M} UTC, valid until {header.expires_at:%Y-%m-%d}."
    run.shown.table("plan", rows, f"{about} {due.standing.sentence}")
    run.shown.text("plan-tiers", _tiers(due), about)
    picture = due.path.with_suffix(".png")
    try:
        if run.shown.is_seen and due.path.exists():
            ops.draw_plan(due.plan, picture)
            run.shown.picture("plan-chart", picture.read_bytes(), about)
            run.shown.link("plan-file", due.path, due.path.name, f"wsistore plan show {due.path}")
    except (WsistoreError, OSError) as error:
        _log.warning("the plan's chart could not be drawn: %s", error)


def _tiers(due: DuePlan) -> str:
    pair = ("now", "afterwards")
    kinds = ("slides", "stored", "EUR a year", "kgCO2e a year")
    head = ("tier", *(f"{kind} {when}" for kind in kinds for when in pair))
    lines = [
        (
            *(name, one.slides_now, one.slides_after, format_bytes(one.bytes_now), format_bytes(one.bytes_after)),
            *(_money(one.eur_year_now), _money(one.eur_year_after)),
            *(_money(one.gco2e_year_now / 1e3), _money(one.gco2e_year_after / 1e3)),
        )
        for name, one in due.plan.header.totals.by_tier.items()
    ]
    return markdown_table(head, lines, right=range(1, len(head)))


def show_waiting(run: Run, due: DuePlan) -> None:
    """Show who has to approve a plan, as what, and by which command."""
    run.shown.text("approval", "\n".join(_approval(run, due)), f"Plan {due.name} waits for approval.")


def _approval(run: Run, due: DuePlan) -> Iterator[str]:
    standing, header = due.standing, due.plan.header
    yield f"# Plan {due.name} waits for approval"
    yield ""
    actions = ", ".join(f"{count} × {action}" for action, count in standing.totals.actions.items())
    touched, deleted = format_bytes(standing.totals.bytes_touched), format_bytes(standing.totals.bytes_deleted)
    yield f"{standing.totals.slides} slides ({actions}): {touched} touched, {deleted} deleted for good."
    yield f"{standing.sentence} It can be applied until {header.expires_at:%Y-%m-%d %H:%M} UTC."
    yield ""
    yield "## What it lacks"
    yield from (f"- {one}" for one in standing.missing)
    given = [f"- as {one.role} ({one.scope}), at {one.at}" for one in standing.given]
    yield from ("", "## What it has", *given) if given else ()
    people = run.step("read the roster", lambda: plans_due.who_may(run.site))
    roles = [role for role in standing.policy.roles if any(role in one for one in standing.missing)]
    yield from ("", "## Who can give that")
    for role in roles:
        names = ", ".join(people.get(role, [])) or "nobody yet: wsistore approver add"
        yield f"- {role}: {names}"
    yield from ("", "## How", "Each under their own account, on this machine:", "", "```")
    yield f"wsistore -C {run.site.folder} plan show {due.path}"
    yield from (f"wsistore -C {run.site.folder} approve {due.path} --role {role}" for role in roles)
    for role in standing.policy.visas:
        if any(role in one for one in standing.missing):
            yield f"wsistore -C {run.site.folder} visa add {due.path} --role {role} --reference … --date …"
    yield "```"
    yield ""
    yield "The flow lifecycle-apply applies it within a quarter of an hour after the last approval, in the window."


def show_night(run: Run, due: DuePlan, found: Night) -> None:
    """Show what became of a plan: in one text, with a table of all slides that somebody may want to look at."""
    run.shown.text("night", "\n".join(_night(run, due, found)), f"Plan {due.name}: {found.sentence}.")
    rows = [
        {
            "slide": row.slide,
            "what": row.action,
            "became": str(row.state),
            "why": may_be_told(row.reason, row.kind),
            "look": f"wsistore show {row.slide}",
        }
        for row in sorted(found.told, key=lambda row: str(row.state))
    ]
    if rows:
        run.shown.table("not-done", rows, f"Plan {due.name}: {_slides(len(rows))} refused or failed.")
    if found.receipt:
        text = Path(found.receipt).with_suffix(".txt")
        run.shown.link("receipt", text, text.name, f"wsistore receipt {due.name}")


def _night(run: Run, due: DuePlan, found: Night) -> Iterator[str]:
    done = found.states["done"]
    yield f"# {done} of {found.total} slides done"
    yield ""
    lines = [(action, state, count) for (action, state), count in sorted(found.became.items())]
    lines += [("", "left for the next run", found.left)] if found.left else []
    yield markdown_table(("what", "became", "slides"), lines, right=[2])
    yield ""
    yield f"{format_bytes(found.bytes_moved)} written, {format_bytes(found.bytes_deleted)} freed."
    wanted = list(_wanted(found))
    yield from ("", "## Somebody is needed", *wanted) if wanted else ("", "Nobody is needed.")
    if found.left and not wanted:
        yield f"{found.stopped} {found.goes_on}"
    yield from ("", f"The receipt: `wsistore -C {run.site.folder} receipt {due.name}`")


def _wanted(found: Night) -> Iterator[str]:
    if found.stopper is not None:
        why = may_be_told(found.stopper.message, found.stopper.kind)
        yield f"- **{_slides(found.left)} left**, for a tier or the site failed: {why} {found.goes_on}"
    elif found.error is not None:
        yield f"- **The work ended** with {_slides(found.left)} left: {told(found.error)} {found.goes_on}"
    for state, what in (("failed", "failed"), ("refused", "refused, with nothing done")):
        reasons: dict[str, int] = {}
        for row in found.told:
            if str(row.state) == state:
                text = f"{row.action}: {may_be_told(row.reason, row.kind)}".replace(row.slide, "…")
                reasons[text] = reasons.get(text, 0) + 1
        if reasons:
            yield f"- **{_slides(found.states[state])} {what}**:"
            yield from _counted(reasons)


def _counted(reasons: Mapping[str, int]) -> Iterator[str]:
    shown = sorted(reasons.items(), key=lambda item: -item[1])[:10]
    yield from (f"    - {count} × {reason}" for reason, count in shown)
    if len(reasons) > len(shown):
        yield f"    - and {len(reasons) - len(shown)} other reasons"


def _slides(count: int) -> str:
    return "1 slide" if count == 1 else f"{count} slides"


def _money(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:.2f}"
