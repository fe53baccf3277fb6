"""What tests of watching a share share: a site that watches a folder, passes over it, and slides that arrive there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from tests.move_kit import tiered_site
from tests.site_kit import tiny_tiff
from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.execute import SerialExecutor
from wsistore.ops.intake_results import IntakeReport
from wsistore.settings import IntakeSettings, Release
from wsistore.testing.clock import ManualClock

SETTLE = 600
HOUR = 3600
NAME = "scanner-1"


def watched(folder: Path, clock: ManualClock, **options: Any) -> ops.Site:
    """Make and open a site of three tiers that watches the folder ``share`` beside it."""
    share = folder / "share"
    share.mkdir(parents=True, exist_ok=True)
    site = tiered_site(folder / "site", clock=clock)
    watch(site, share, **options)
    return site


def watch(site: ops.Site, share: Path, **options: Any) -> None:
    """Change what the settings say of the share."""
    options.setdefault("settle", timedelta(seconds=SETTLE))
    site.settings = replace(site.settings, intake=(IntakeSettings(NAME, str(share), **options),))


def releasing(how: Release = Release.DELETE, *, copies: int = 1, hours: float = 0, **options: Any) -> dict[str, Any]:
    """Return options of a share whose originals go."""
    return {"release": how, "release_copies": copies, "release_after": timedelta(hours=hours), **options}


def look(site: ops.Site, **options: Any) -> IntakeReport:
    """Make one pass, which may not fail."""
    (report,) = ops.intake(site, jobs=1, **options)
    assert not report.problem, report.problem
    assert not report.busy
    return report


def settle(site: ops.Site, **options: Any) -> IntakeReport:
    """Make two passes, so far apart that everything has stopped changing; return the second's report."""
    look(site)
    site.clock.advance(SETTLE)  # type: ignore[attr-defined]
    return look(site, **options)


def said(report: IntakeReport) -> dict[str, str]:
    """Return the status of everything, the last one told of each."""
    return {row.path: str(row.status) for row in report.rows}


def why(report: IntakeReport, path: str) -> str:
    """Return the reason that is given for one slide or file."""
    return next(row.reason for row in reversed(report.rows) if row.path == path)


def copied(site: ops.Site, slide: str, tier: str) -> None:
    """Make a copy of a slide in another tier."""
    (result,) = ops.copy(site, [slide], tier, executor=SerialExecutor())
    assert result.error is None, result.error


def made_vsi(folder: Path, seed: int = 1) -> dict[str, bytes]:
    """Write a made-up Olympus slide: a small TIFF and a folder of what it stands for; return its files."""
    main = tiny_tiff(folder / "a.vsi", seed)
    stack = folder / "_a_" / "stack1"
    stack.mkdir(parents=True)
    (stack / "frame_t.ets").write_bytes(bytes(range(256)) * 40)
    return {"a.vsi": main.read_bytes(), "_a_/stack1/frame_t.ets": (stack / "frame_t.ets").read_bytes()}


# --- killed -----------------------------------------------------------------------------------------------------------

DEAD = KeyboardInterrupt("killed")
"""What a killed process does at once, as far as others can see."""

STEPS: dict[Any, tuple[str, ...]] = {
    Path: ("rename", "unlink", "rmdir", "hardlink_to"),
    Catalog: ("start_release", "finish_release", "put_intake"),
}
"""What a pass changes by: of the share, and of the catalogue beside an ingest."""


class Killer:
    """Ends the process before or after the nth of the calls that change something.

    Parameters
    ----------
    nth
        From 1.
    after
        Whether the call is carried out before.

    """

    def __init__(self, nth: int, *, after: bool) -> None:
        self.left, self.after, self.struck = nth, after, False

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                self.struck = True
                raise DEAD
            result = real(*arguments, **options)
            if self.left == 0:
                self.struck = True
                raise DEAD
            return result

        return call

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, names in STEPS.items():
                for name in names:
                    stack.enter_context(mock.patch.object(owner, name, self.wrap(getattr(owner, name))))
            yield
