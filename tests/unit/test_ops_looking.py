"""One look at a tier serves many attempts; and a bucket is believed for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsistore.catalog.records import Attempt
from wsistore.compress.keys import Place
from wsistore.errors import StorageError, TransientError
from wsistore.ops.looking import Look
from wsistore.ops.site import Site
from wsistore.settings import TierSettings
from wsistore.storage.base import MARKER_KEY, ObjectInfo
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.open import create_tier
from wsistore.testing.clock import ManualClock


class Counted(MemoryStorage):
    """Counts listings; keeps parts of uploads."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[str] = []
        self.failure: StorageError | None = None
        self.parts = {"store/slide01/attempt01/x", "store/slide02/attempt02/y", "store/slide01/living/z"}
        self.aborts = 0

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        self.listed.append(prefix)
        if self.failure is not None:
            raise self.failure
        return super().list(prefix, after=after)

    def abort_uploads(self, prefix: str, older_than: object = None, spares: Any = lambda _: False) -> int:
        self.aborts += 1
        gone = {key for key in self.parts if key.startswith(prefix) and not spares(key)}
        self.parts -= gone
        return len(gone)


def look(storage: Counted, count: int) -> Look:
    attempts = [SimpleNamespace(tier="far", attempt=f"attempt{n:02}") for n in range(count)]
    site = SimpleNamespace(tier=lambda _: storage)
    return Look(cast("Site", site), cast("list[Attempt]", attempts))


def with_commits() -> Counted:
    storage = Counted()
    for slide in range(30):
        for number in range(1 + slide % 3):
            storage.put(f"commits/slide{slide:02}/{number + 1:08}.json", b"{}")
    return storage


@pytest.mark.parametrize("count", [1, 4, 5, 30])
def test_commits_of_many_are_listed_once(count: int) -> None:
    storage = with_commits()
    seen = look(storage, count)
    for slide in range(count):
        expected = [f"commits/slide{slide:02}/{number + 1:08}.json" for number in range(1 + slide % 3)]
        assert list(seen.commits_of("far", f"slide{slide:02}")) == expected
    assert list(seen.commits_of("far", "slide99")) == []
    assert len(storage.listed) == (1 if count > 4 else count + 1)


def test_tier_with_far_more_commits_is_asked_for_each_slide() -> None:
    storage = with_commits()
    for number in range(300):
        storage.put(f"commits/other/{number + 1:08}.json", b"{}")
    seen = look(storage, 5)
    assert len(seen.commits_of("far", "slide02")) == 3
    assert storage.listed == ["commits/", "commits/slide02/"]


def test_what_fails_for_one_fails_for_all_at_once() -> None:
    storage = with_commits()
    storage.failure = TransientError("gone")
    seen = look(storage, 9)
    for slide in range(9):
        with pytest.raises(TransientError):
            seen.commits_of("far", f"slide{slide:02}")
    assert len(storage.listed) == 1


@pytest.mark.parametrize("count", [3, 9])
def test_parts_are_thrown_away_of_these_attempts_only(count: int) -> None:
    storage = Counted()
    seen = look(storage, count)
    for n in range(count):
        seen.abort_uploads("far", Place(f"slide{n:02}", f"attempt{n:02}"))
    assert storage.parts == {"store/slide01/living/z"}
    assert storage.aborts == (1 if count > 4 else 2 * count)


@pytest.mark.parametrize(("url", "notices"), [("s3://bucket/tier", False), ("/mnt/tier", True), ("file:///mnt", True)])
def test_only_buckets_are_believed_and_only_for_a_moment(url: str, notices: bool) -> None:
    storage, clock = MemoryStorage(), ManualClock()
    create_tier(storage, "tier1", "far")
    site = Site(cast("Any", None), cast("Any", None), cast("Any", None), clock, "", "")
    tier = cast("TierSettings", SimpleNamespace(name="far", id="tier1", url=url))
    site._check(storage, tier)
    storage.delete(MARKER_KEY)
    if notices:
        with pytest.raises(StorageError):
            site._check(storage, tier)
    else:
        site._check(storage, tier)
    clock.advance(2.0)
    with pytest.raises(StorageError):
        site._check(storage, tier)
