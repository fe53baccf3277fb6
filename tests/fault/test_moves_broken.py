"""The protocol of moves broken on purpose, in one place at a time: each time a test that guards it must fail.

Such a test passes, as every run of the suite shows; here the very same function is called on a protocol with one step
left out, and must notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import select

from tests.catalog_kit import NOW
from tests.catalog_kit import new_url as new_catalog
from tests.fault import test_moves_crash as crashes
from tests.fault import test_moves_faults as faults
from tests.move_kit import in_process, tiered_site
from tests.site_kit import ingest, tiny_svs
from tests.unit import test_moves_catalog as steps
from tests.unit import test_ops_deleting as deletions
from wsistore import ops
from wsistore.catalog import Catalog, attempts, drops, schema
from wsistore.catalog.rows import attempt_row, copy_row
from wsistore.errors import WsistoreError
from wsistore.model import CopyState
from wsistore.ops import attempts as life
from wsistore.ops import dropping, reencode_attempt
from wsistore.ops.stored import commit_of
from wsistore.storage.base import Storage
from wsistore.testing.clock import ManualClock

pytestmark = pytest.mark.slow


@dataclass
class Stage:
    """What the tests are given."""

    site: ops.Site
    slide: str
    path: Path
    clock: ManualClock
    folder: Path

    def catalog(self) -> Catalog:
        (self.folder / "bare").mkdir()
        return Catalog.open(new_catalog(self.folder / "bare"), clock=ManualClock(NOW))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    path, clock = tiny_svs(tmp_path / "in" / "a.svs"), ManualClock()
    with in_process(), tiered_site(tmp_path / "site", clock=clock) as site:
        yield Stage(site, str(ingest(site, path)[0].slide), path, clock, tmp_path)


# --- what is broken ---------------------------------------------------------------------------------------------------

Change = tuple[object, str, Callable[..., Any]]
"""An owner of a name, the name, and what it is replaced by."""


def no_act(*_: object, **__: object) -> None:
    """Leave a step out."""


def never_old(*_: object) -> bool:
    """Take all evidence for fresh."""
    return True


def whoever(connection: Any, attempt: str, fence: int) -> Any:
    """Let anybody go on with an attempt, whatever the fencing number."""
    return attempt_row(connection.execute(select(schema.attempts).where(schema.attempts.c.attempt == attempt)).one())


def with_those_that_go(connection: Any, copy: Any, _: Any) -> list[Any]:
    """Count the copies that are being dropped, too."""
    copies = schema.copies
    states = [str(CopyState.COMMITTED), str(CopyState.DROPPING)]
    wanted = (copies.c.slide == copy.slide, copies.c.attempt != copy.attempt, copies.c.state.in_(states))
    return [copy_row(row) for row in connection.execute(select(copies).where(*wanted))]


def source_first(site: ops.Site, attempt: Any) -> bool:
    """Delete the copy that was moved when the new one was read back, before its commit is there."""
    for copy in site.catalog.copies(attempt.slide):
        if copy.tier != attempt.tier:
            for record in commit_of(copy).objects:
                site.tier(copy.tier).delete(record.key)
    return _finish(site, attempt)


_finish = life.finish


def hidden(storage: Storage, keys: Sequence[str], _: Sequence[str]) -> None:
    """Delete without naming versions."""
    for key in keys:
        storage.delete(key)


@contextmanager
def broken(*changes: Change) -> Iterator[None]:
    with ExitStack() as patches:
        for owner, name, instead in changes:
            patches.enter_context(mock.patch.object(owner, name, instead))
        yield


# --- who notices ------------------------------------------------------------------------------------------------------


def damaged_at_the_destination(stage: Stage) -> None:
    faults.test_damage_at_the_destination_is_found_by_reading_back(stage.site, stage.slide, stage.path, None)


def taken_over(stage: Stage) -> None:
    with stage.catalog() as catalog:
        steps.test_every_step_of_who_was_taken_over_is_refused(catalog)


def pinned(stage: Stage) -> None:
    faults.test_what_a_drop_rests_on_stays_until_it_has_ended(stage.site, stage.slide, stage.path)


def renewed(stage: Stage) -> None:
    faults.test_old_evidence_that_cannot_be_renewed_drops_nothing(stage.site, stage.slide, stage.clock)


def held(stage: Stage) -> None:
    faults.test_hold_suspends_every_drop(stage.site, stage.slide, stage.path)


def killed(stage: Stage) -> None:
    crashes.test_process_dies_at_some_calls_of_a_move(stage.folder / "crash")


def citing(stage: Stage) -> None:
    with stage.catalog() as catalog:
        steps.test_a_copy_that_is_being_dropped_is_no_reason_to_drop_another(catalog)


def versions(stage: Stage) -> None:
    deletions.test_moves_and_drops_leave_no_version_behind(stage.folder / "versions")


def late(stage: Stage) -> None:
    faults.test_mover_that_slept_before_its_commit_takes_it_back_where_the_copy_is_gone(
        stage.site, stage.slide, stage.path, stage.clock
    )


BROKEN: dict[str, tuple[tuple[Change, ...], Callable[[Stage], None]]] = {
    "read-back skipped": (((reencode_attempt, "verify_copy", no_act),), damaged_at_the_destination),
    "source dropped before the commit": (((reencode_attempt, "finish", source_first),), killed),
    "fencing number ignored": (((attempts, "held", whoever),), taken_over),
    "drop pins nothing": (((drops, "_pin", no_act),), pinned),
    "copies that are being dropped count": (
        ((drops, "_good", with_those_that_go), (drops, "_pin", no_act)),
        citing,
    ),
    "stale evidence believed": (((drops, "_is_fresh", never_old),), renewed),
    "holds ignored": (((drops, "_check_holds", no_act),), held),
    "late commit left": (((life, "_take_back_late_commit", no_act),), late),
    "versions left": (((dropping, "delete_exactly", hidden),), versions),
}


@pytest.mark.parametrize(("changes", "notices"), BROKEN.values(), ids=BROKEN)
def test_broken_protocol_is_noticed(
    stage: Stage, changes: tuple[Change, ...], notices: Callable[[Stage], None]
) -> None:
    with broken(*changes), pytest.raises((AssertionError, WsistoreError, pytest.fail.Exception)):
        notices(stage)
