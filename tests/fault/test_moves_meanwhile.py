"""Whatever is done to a slide, another process may move it away at any moment: nobody takes that for damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.move_kit import (
    TIERS,
    assert_at_rest,
    bare,
    in_process,
    mended,
    move,
    moved,
    places,
    reopened,
    tiered_site,
)
from tests.site_kit import files_of, ingest, reencode, tiny_series
from wsistore import ops
from wsistore.errors import ConflictError, Kind
from wsistore.events import EventKind
from wsistore.model import Preset
from wsistore.storage.base import Storage
from wsistore.storage.fault import Fault, FaultStorage, RunBefore
from wsistore.storage.wrapper import Verb
from wsistore.testing.clock import ManualClock

ELSEWHERE = "elsewhere/1:boot:1:1"


class _Calls:
    """Counts the calls of all tiers; before one of them, another process acts."""

    def __init__(self, nth: int, act: Callable[[], None]) -> None:
        self.count, self._nth, self._act = 0, nth, act

    def strike(self) -> Fault | None:
        self.count += 1
        return RunBefore(self._act) if self.count == self._nth else None


class _CountedStorage(FaultStorage):
    def __init__(self, inner: Storage, calls: _Calls) -> None:
        super().__init__(inner)
        self._moment = calls

    def strike(self, verb: Verb, key: str) -> Fault | None:
        return self._moment.strike()


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with tiered_site(tmp_path / "site", clock=ManualClock()) as opened:
        opened.owner = ELSEWHERE
        yield opened


@pytest.fixture
def slide(site: ops.Site, tmp_path: Path) -> str:
    (result,) = ingest(site, tiny_series(tmp_path / "in"))
    return str(result.slide)


def _restore(site: ops.Site, slide: str, out: Path) -> None:
    ops.restore(site, slide, out / "files")
    assert files_of(out / "files") == files_of(out.parent / "in")


def _export(site: ops.Site, slide: str, out: Path) -> None:
    ops.export(site, slide, out / "a.ome.zarr", with_private=True)
    assert list(out.glob("a.private/metadata.json"))


def _verify(site: ops.Site, slide: str, _: Path) -> None:
    assert all(result.ok for result in ops.verify(site, [slide]))


def _take_in_again(site: ops.Site, slide: str, out: Path) -> None:
    (result,) = ingest(site, out.parent / "in")
    assert (result.slide, result.status) == (slide, "exists")


def _move(to: str, **options: object) -> Callable[[ops.Site, str, Path], None]:
    def act(site: ops.Site, slide: str, _: Path) -> None:
        _or_busy(move(site, slide, to, **options))

    return act


def _reencode(site: ops.Site, slide: str, _: Path) -> None:
    (copy,) = site.catalog.copies(slide)
    result = reencode(site, slide, Preset.KEEP if copy.preset is Preset.FOLD else Preset.FOLD)
    if result.error is None or result.error.kind != Kind.SLIDE_MISSING:  # as there is no copy in the tier any more
        _or_busy(result)


def _tune(site: ops.Site, slide: str, _: Path) -> None:
    try:
        ops.tune(site, [slide], ops.TuneOptions(tier="warm", keep=False, again=True))
    except ConflictError as error:
        if error.kind != Kind.BUSY:
            raise


def _or_busy(result: ops.MoveResult | ops.ReencodeResult) -> None:
    """Check that it was done, or refused for another is at work."""
    assert result.error is None or result.error.kind == Kind.BUSY, result.error


ACTS = {
    "restore": _restore,
    "export": _export,
    "verify": _verify,
    "ingest": _take_in_again,
    "move": _move("warm"),
    "move encoded": _move("warm", preset=Preset.FOLD),
    "copy": _move("warm", keep_source=True),
    "reencode": _reencode,
    "tune": _tune,
}


@pytest.mark.parametrize("name", ACTS)
def test_the_slide_is_moved_away_at_any_moment(name: str, site: ops.Site, slide: str, tmp_path: Path) -> None:
    done, files = 0, files_of(tmp_path / "in")
    for nth in (*range(1, 40), *range(40, 1000, 7)):
        for tier in ("warm", "cold"):
            if tier in places(site, slide):
                moved(site, slide, "hot", source=tier)
        went: list[ops.MoveResult] = []

        def go() -> None:
            with reopened(site) as other:
                went.append(move(other, slide, "cold"))  # noqa: B023 - called in this turn

        calls = _Calls(nth, go)
        for tier in TIERS:
            site._tiers[tier] = _CountedStorage(bare(site, tier), calls)
        out = tmp_path / "out"
        ACTS[name](site, slide, out)
        mended(site)
        shutil.rmtree(out, ignore_errors=True)
        done += sum(result.status == "moved" for result in went)
        if calls.count < nth:
            break
        assert EventKind.VERIFICATION_FAILED not in {event.kind for event in site.catalog.events(slide)}
        where = places(site, slide)
        assert_at_rest(site, slide, files, *where)
        assert len(where) == (2 if name == "copy" and "warm" in where else 1)
    assert done
