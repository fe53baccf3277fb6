"""A slide goes into an archive, is asked for by a time, and is there: price and time first."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from demo.presets import came_back
from wsistore import ops
from wsistore.execute import Executor
from wsistore.ops.recall_lists import lines_of

_SPEED = 18_000
"""Hours of the rehearsed archive take fifths of seconds."""
_HOURS = 40.0
"""In which the slide is needed: too few for the cheapest way back, which takes 48."""
_PATIENCE = 60
_TIER = "deep-archive"
_ARCHIVE = f"""
[tiers.{_TIER}.archive]
class = "DEEP_ARCHIVE"
simulated_speed = {_SPEED}
"""


def come_back(folder: Path, slide: str, executor: Executor, back: Path) -> tuple[list[str], bool]:
    """Move a slide into a rehearsed archive and ask for it.

    Parameters
    ----------
    folder
        A site with a tier ``hot``, where the slide lies.
    slide
        Its key.
    executor
        Encodes.
    back
        A new folder for restored files.

    Returns
    -------
    list of str
        What was done, or what went wrong.
    bool
        Whether the slide came back as it was.

    """
    values = {"preset": "pack", "prices": "aws-s3-deep-archive", "location": "rehearsed"}
    ops.add_tier(folder, _TIER, {"url": str(folder / "tiers" / _TIER), **values})
    settings = folder / "wsistore.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + _ARCHIVE, encoding="utf-8")
    with ops.open_site(folder, actor="demo") as site:
        name = site.catalog.slide(slide).name
        (moved,) = ops.move(site, [slide], _TIER, executor=executor)
        frozen = [copy for copy in site.catalog.copies(slide) if copy.evidence == "attested-before-freeze"]
        if moved.error is not None or len(frozen) != 1:
            return [f"[red]{name} was not archived: {moved.error.message if moved.error else moved.reason}[/]"], False
        by = site.clock.now() + timedelta(hours=_HOURS) / _SPEED
        asked = ops.recall(site, lines_of([slide]), by=by, keep=timedelta(days=14))
        hours = _hours(datetime.fromisoformat(asked.expected_at or asked.by or "") - site.clock.now())
        (status,) = ops.wait(site, [asked.name], executor=executor, poll_seconds=0.2)
        for _ in range(_PATIENCE):  # this machine may be slow
            if status.is_done:
                break
            ops.advance(site, [asked.name], executor=executor)
            (status,) = ops.statuses(site, [asked.name])
            site.clock.sleep(0.5)
        took = _hours(site.clock.now() - by) + _HOURS
        is_ready = all(case.state == "ready" for case in status.cases)
        is_back = is_ready and came_back(site, slide, back)
    way = ", ".join(asked.ways)
    told = [
        f"{name} went packed into an archive class (rehearsed, {_SPEED} times as fast), and cannot be read there.",
        f"Asked for in {_HOURS:.0f} hours: {way}, at most {asked.eur_high:.4f} EUR, expected in {hours:.0f} hours.",
    ]
    if not is_back:
        return [*told, "[red]It did not come back as it was.[/]"], False
    return [*told, f"It was there after {took:.0f} of the archive's hours, byte for byte, and stays for 14 days."], True


def _hours(span: timedelta) -> float:
    return span.total_seconds() * _SPEED / 3600
