"""A check of a tier tries everything out, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import Buffer

from tests.execute_kit import wait_until
from tests.site_kit import cli, command
from wsistore import ops
from wsistore.clock import Clock, SystemClock
from wsistore.errors import Kind, ObjectMissingError, StorageError
from wsistore.ops.tier_bench import Bench
from wsistore.ops.tier_check import NEEDED, check_bench
from wsistore.ops.tier_manners import RACERS
from wsistore.ops.tier_rows import CheckRow, Result, is_fit
from wsistore.settings import Certificate, ObjectLock, TierSettings
from wsistore.storage.base import MARKER_KEY, ByteRange, ObjectInfo, Storage
from wsistore.storage.fault import Corrupt, FailBefore, FaultStorage, Rule
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.open import create_tier
from wsistore.storage.wrapper import Verb, WrappedStorage
from wsistore.testing.clock import ManualClock

TIER = TierSettings(name="far", id="0123456789abcdef", url="memory://far")
SIZE = 300_000


def bench(storage: Storage, tier: TierSettings = TIER, clock: Clock | None = None, **more: Any) -> Bench:
    return Bench(tier, storage, storage, more.get("locking"), clock or SystemClock(), SIZE)


def tier_of(storage: Storage) -> Storage:
    create_tier(storage, TIER.id, TIER.name)
    return storage


@pytest.fixture(params=[False, True], ids=["plain", "versions"])
def inner(request: pytest.FixtureRequest) -> Storage:
    return tier_of(MemoryStorage(versions=request.param))


def rows_of(storage: Storage, **more: Any) -> dict[str, CheckRow]:
    return {row.check: row for row in check_bench(bench(storage, **more), lock=bool(more.get("locking")))}


def failed(rows: dict[str, CheckRow]) -> set[str]:
    return {name for name, row in rows.items() if row.result is Result.FAILED}


def keys(storage: Storage) -> set[str]:
    return {info.key for info in storage.versions()}


# --- all well ---------------------------------------------------------------------------------------------------------


def test_good_storage_is_fit_and_nothing_stays(inner: Storage) -> None:
    rows = rows_of(inner)
    assert is_fit(rows.values())
    assert failed(rows) == set()
    assert set(NEEDED) <= set(rows)
    assert {row.result for row in rows.values() if row.needed} == {Result.OK}
    assert rows["versions"].result is (Result.OK if inner.properties.versions else Result.NO)
    assert rows["large"].values["bytes"] == SIZE
    assert keys(inner) == {MARKER_KEY}


def test_everything_lies_below_check(inner: Storage) -> None:
    seen = FaultStorage(inner)
    rows_of(seen)
    written = {call.key for call in seen.calls if call.verb in {Verb.PUT, Verb.UPLOAD, Verb.DELETE}}
    assert written
    assert all(key.startswith("check/") for key in written)
    assert len({key.split("/")[1] for key in written}) == 1


def test_two_checks_at_once_do_not_meet() -> None:
    storage = tier_of(MemoryStorage())
    found: list[dict[str, CheckRow]] = []
    threads = [threading.Thread(target=lambda: found.append(rows_of(storage))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [failed(rows) for rows in found] == [set(), set()]
    assert keys(storage) == {MARKER_KEY}


# --- faults -----------------------------------------------------------------------------------------------------------


class Unguarded(WrappedStorage):
    """Ignores the condition, as S3 services do with those of multipart uploads."""

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        return super().put(key, data)


class OneTooMany(WrappedStorage):
    """Tells one loser of each race that it won."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.lied: set[str] = set()

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        try:
            return super().put(key, data, if_absent=if_absent)
        except StorageError:
            if key in self.lied:
                raise
            self.lied.add(key)
            return self.head(key)


class Forgetful(WrappedStorage):
    """Guards a key in a race, and forgets it afterwards."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        with self.lock:
            self.asked[key] += 1
            return super().put(key, data, if_absent=if_absent and self.asked[key] <= RACERS)


class Lagging(WrappedStorage):
    """Lists what is written only after a while."""

    def __init__(self, inner: Storage, clock: ManualClock, seconds: float) -> None:
        super().__init__(inner)
        self.clock, self.seconds = clock, seconds
        self.written: dict[str, float] = {}

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        self.written[key] = self.clock.monotonic_seconds()
        return super().put(key, data, if_absent=if_absent)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        now = self.clock.monotonic_seconds()
        return (i for i in super().list(prefix, after=after) if now - self.written.get(i.key, -1e9) >= self.seconds)


class Stale(WrappedStorage):
    """Remembers that an object was not there, as a client's cache of names does."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.absent: set[str] = set()

    def head(self, key: str) -> ObjectInfo:
        if key in self.absent:
            raise ObjectMissingError(key)
        try:
            return super().head(key)
        except ObjectMissingError:
            self.absent.add(key)
            raise


class Old(WrappedStorage):
    """Gives the first content of an object for ever, as a cache in between does."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.first: dict[str, bytes] = {}

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        if byte_range is not None or version is not None or key == MARKER_KEY:
            return super().get(key, byte_range, version=version)
        return self.first.setdefault(key, super().get(key))


class Whole(WrappedStorage):
    """Ignores ranges and gives the whole object."""

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        return super().get(key, version=version)


class Undying(WrappedStorage):
    """Says that it deleted."""

    def delete(self, key: str, *, version: str | None = None) -> None:
        pass


def corrupting(verb: Verb, key: str) -> Callable[[Storage], Storage]:
    return lambda inner: FaultStorage(inner, [Rule(Corrupt(offset=5), verb=verb, key_contains=key, times=10**6)])


@pytest.mark.parametrize(
    ("break_it", "check", "said"),
    [
        (Unguarded, "conditional-write", "16 of 16 racing writers"),
        (OneTooMany, "conditional-write", "2 of 16 racing writers"),
        (Forgetful, "conditional-write", "a later writer replaced the object"),
        (Stale, "read-after-write", "was not there when it had just been written"),
        (Old, "read-after-write", "was read as it had been before"),
        (Whole, "range", "other bytes"),
        (Whole, "suffix", "came back as others"),
        (corrupting(Verb.GET, "/read-7"), "read-back", "object 8 of 20 came back with other bytes"),
        (corrupting(Verb.STREAM, "/read-7"), "read-back", "object 8 of 20 came back with other bytes"),
        (corrupting(Verb.STREAM, "/large"), "large", "came back as 300.0 kB with other bytes"),
        (corrupting(Verb.GET_MANY, "/ranges"), "range", "other bytes"),
    ],
)
def test_what_is_broken_is_found(break_it: Callable[[Storage], Storage], check: str, said: str) -> None:
    inner = tier_of(MemoryStorage())
    rows = rows_of(break_it(inner))
    assert rows[check].result is Result.FAILED
    assert said in rows[check].figure
    assert rows[check].remedy
    assert not is_fit(rows.values())
    assert keys(inner) == {MARKER_KEY}


def test_a_listing_that_lags_is_found_and_waited_for() -> None:
    clock = ManualClock()
    inner = tier_of(MemoryStorage(clock=clock))
    rows = rows_of(Lagging(inner, clock, 3.0), clock=clock)
    assert rows["list"].result is Result.WARNING
    assert "complete only after 3.0 s" in rows["list"].figure
    assert is_fit(rows.values())
    assert keys(inner) == {MARKER_KEY}


def test_a_listing_that_never_comes_is_found() -> None:
    clock = ManualClock()
    inner = tier_of(MemoryStorage(clock=clock))
    rows = rows_of(Lagging(inner, clock, 1e6), clock=clock)
    assert rows["list"].result is Result.WARNING
    assert "0 of 12 objects listed after 10 s" in rows["list"].figure
    assert keys(inner) == {MARKER_KEY}


def test_what_cannot_be_deleted_is_told() -> None:
    inner = tier_of(MemoryStorage())
    rows = rows_of(Undying(inner))
    assert rows["delete"].result is Result.WARNING
    assert rows["clean"].result is Result.WARNING
    assert "objects are left under check/" in rows["clean"].figure
    assert is_fit(rows.values())


@pytest.mark.parametrize("verb", [Verb.PUT, Verb.UPLOAD, Verb.LIST, Verb.DELETE])
def test_what_is_denied_is_named(verb: Verb) -> None:
    denied = StorageError("denied", kind=Kind.STORAGE_DENIED, remedy="Ask.")
    inner = tier_of(MemoryStorage())
    storage = FaultStorage(inner, [Rule(FailBefore(denied), verb=verb, key_contains="check/", times=10**6)])
    rows = rows_of(storage)
    row = {Verb.PUT: "write", Verb.UPLOAD: "large", Verb.LIST: "list", Verb.DELETE: "delete"}[verb]
    assert row in failed(rows)
    assert row in str(rows["permissions"].values["denied"]).split()
    assert is_fit(rows.values()) == (verb is Verb.DELETE)


def test_the_tiers_clock_is_compared() -> None:
    for off, result in ((0, Result.OK), (120, Result.WARNING), (-3600, Result.FAILED)):
        clock = ManualClock()
        theirs = ManualClock()
        theirs.jump(theirs.now() + timedelta(seconds=off))
        rows = rows_of(tier_of(MemoryStorage(clock=theirs)), clock=clock)
        assert rows["clock"].result is result
        assert rows["clock"].values["skew_seconds"] == off


def test_another_tier_and_no_tier_are_not_written_to() -> None:
    other = MemoryStorage()
    create_tier(other, "fedcba9876543210", "other")
    for storage, said in ((other, "is the tier 'other'"), (MemoryStorage(), "is no tier")):
        before = keys(storage)
        rows = rows_of(storage)
        assert list(rows) == ["reach", "identity"]
        assert said in rows["identity"].figure
        assert not is_fit(rows.values())
        assert keys(storage) == before


def test_a_place_that_is_gone_is_told(tmp_path: Path) -> None:
    ops.init_site(tmp_path)
    (tmp_path / "tiers/hot").rename(tmp_path / "away")
    with ops.open_site(tmp_path) as site:
        (row,) = ops.check_tier(site, "hot")
    assert (row.check, row.result) == ("reach", Result.FAILED)
    assert row.values["kind"] == "tier-missing"


# --- certificate and lock ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "result", "said"),
    [
        (date(2027, 1, 1), Result.OK, ""),
        (date(2026, 2, 1), Result.WARNING, "expires-soon"),
        (date(2025, 12, 31), Result.WARNING, "expired"),
    ],
)
def test_certificate_is_looked_at(until: date, result: Result, said: str) -> None:
    clock = ManualClock()
    tier = TierSettings(name="far", id=TIER.id, url=TIER.url, certificate=Certificate("HDS-1", until))
    row = rows_of(tier_of(MemoryStorage(clock=clock)), tier=tier, clock=clock)["certificate"]
    assert row.result is result
    assert said in row.figure
    assert ("no new copies" in row.remedy) == (said == "expired")


LOCKED = TierSettings(name="far", id=TIER.id, url=TIER.url, object_lock=ObjectLock("governance", 3))


class Locking(WrappedStorage):
    """Lets nobody delete."""

    def delete(self, key: str, *, version: str | None = None) -> None:
        raise StorageError("locked", kind=Kind.STORAGE_DENIED)


def test_lock_is_tried_only_when_asked_for() -> None:
    inner = tier_of(MemoryStorage())
    row = rows_of(inner, tier=LOCKED)["lock"]
    assert (row.result, keys(inner)) == (Result.SKIPPED, {MARKER_KEY})
    assert "--lock" in row.remedy
    row = rows_of(inner, tier=LOCKED, locking=Locking(inner))["lock"]
    assert row.result is Result.OK
    (left,) = keys(inner) - {MARKER_KEY}
    assert left == row.values["key"]


def test_a_lock_that_does_not_hold_is_told() -> None:
    inner = tier_of(MemoryStorage())
    assert rows_of(inner, tier=LOCKED, locking=inner)["lock"].result is Result.FAILED


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_whenever_it_is_interrupted_nothing_stays(inner: Storage) -> None:
    for stop in range(1, len(NEEDED) + 9):
        with closing(check_bench(bench(inner))) as rows:  # type: ignore[type-var]
            for _, _row in zip(range(stop), rows, strict=False):
                pass
        assert keys(inner) == {MARKER_KEY}, stop


def test_ctrl_c_in_the_middle_of_a_call_leaves_nothing() -> None:
    clean = FaultStorage(tier_of(MemoryStorage()))
    rows_of(clean)
    writes = [
        call for call in clean.calls if call.verb in {Verb.PUT, Verb.UPLOAD_WRITE, Verb.GET} and "race" not in call.key
    ]
    for call in writes[:: max(len(writes) // 25, 1)]:
        inner = tier_of(MemoryStorage())
        storage = Pressed(inner, call.verb, call.key)
        with pytest.raises(KeyboardInterrupt):
            list(check_bench(bench(storage)))
        assert keys(inner) == {MARKER_KEY}, call


class Pressed(WrappedStorage):
    """Somebody presses Ctrl-C when a key of this name is used; later nothing happens."""

    def __init__(self, inner: Storage, verb: Verb, key: str) -> None:
        super().__init__(inner)
        self.verb, self.name, self.is_over = verb, key.rpartition("/")[2], False

    def _press(self, key: str) -> None:
        if (not self.is_over and key.endswith(f"/{self.name}")) or (key == self.name and not self.is_over):
            self.is_over = True
            raise KeyboardInterrupt

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        if self.verb is Verb.PUT:
            info = super().put(key, data, if_absent=if_absent)
            self._press(key)  # the object is there, its reply is not
            return info
        return super().put(key, data, if_absent=if_absent)

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        if self.verb is Verb.GET:
            self._press(key)
        return super().get(key, byte_range, version=version)

    def upload(self, key: str) -> Any:
        if self.verb is Verb.UPLOAD_WRITE:
            upload = super().upload(key)
            upload.write(b"x" * 100)
            self._press(key)
            return upload
        return super().upload(key)


# --- command line -----------------------------------------------------------------------------------------------------


def test_command_prints_a_row_per_check_and_ends_with_fitness(tmp_path: Path) -> None:
    ops.init_site(tmp_path)
    done = cli(tmp_path, "tier", "check", "--size", "1 MiB", "--json")
    assert done.code == 0
    assert {line["tier"] for line in done.lines} == {"hot", "warm", "cold"}
    assert {line["result"] for line in done.lines if line["needed"]} == {"ok"}
    assert not (tmp_path / "tiers/hot/check").exists()
    (tmp_path / "tiers/cold").rename(tmp_path / "away")
    done = cli(tmp_path, "tier", "check", "hot", "cold", "--size", "1 MiB")
    assert done.code == 6
    assert "hot is fit for slides." in done.out
    assert "cold is NOT fit for slides: reach." in done.out


def test_command_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    ops.init_site(tmp_path)
    assert cli(tmp_path, "tier", "check", "hto", "--json").error["kind"] == "tier-unknown"
    assert cli(tmp_path, "tier", "check", "hot", "--size", "big").code == 2


def test_ctrl_c_ends_the_command_and_leaves_nothing(tmp_path: Path) -> None:
    ops.init_site(tmp_path / "site")
    assert cli(tmp_path / "site", "tier", "add", "slow", tmp_path / "slow", "--bandwidth-up", "1 MB/s").code == 0
    process = subprocess.Popen(command(tmp_path / "site", "tier", "check", "slow"), stderr=subprocess.PIPE)
    hidden = tmp_path / "slow/.wsistore-tmp"

    def is_written() -> bool:
        with suppress(FileNotFoundError):  # the small ones before it come and go
            return any(file.stat().st_size > 300_000 for file in hidden.iterdir())
        return False

    wait_until(lambda: is_written() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130
    assert b"interrupted" in said
    assert [path.name for path in (tmp_path / "slow").rglob("*") if path.is_file()] == [MARKER_KEY]


def test_a_place_without_conditional_writes_cannot_become_a_tier(tmp_path: Path) -> None:
    ops.init_site(tmp_path)
    before = (tmp_path / "wsistore.toml").read_bytes()
    (tmp_path / "far").mkdir()
    done = cli(tmp_path, "tier", "add", "far", f"local://{tmp_path}/far", "--json")
    assert done.code == 6
    assert "only if it is absent" in done.error["message"]
    assert (tmp_path / "wsistore.toml").read_bytes() == before
    assert [path for path in (tmp_path / "far").rglob("*") if path.is_file()] == []
