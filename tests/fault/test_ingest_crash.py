"""Crashes, lost replies and failures at every storage call of an ingest: nothing half done shows, a second run mends.

The calls are enumerated: a run without faults is traced, then the ingest is repeated for each call with a fault there.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.site_faults import DEAD, Crash, crashing, dying, faulty, mended
from tests.site_kit import (
    assert_all_restore,
    assert_sound,
    cli,
    command,
    committed_keys,
    files_of,
    ingest,
    memory_site,
    new_site,
    run,
    stored_keys,
    tiny_tiff,
)
from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.catalog.owner import Owner
from wsistore.compress.keys import COMMITS
from wsistore.errors import FullError, StorageError, TransientError, WsistoreError
from wsistore.storage.base import MARKER_KEY
from wsistore.storage.fault import Call, Cut, FailAfter, FailBefore, Fault, FaultStorage, Rule, RunAfter, RunBefore
from wsistore.storage.wrapper import Verb
from wsistore.testing.synthetic import synthetic_set


def trace(folder: Path, slide: Path) -> list[Call]:
    """Return the storage calls of an ingest of `slide`."""
    with memory_site(folder) as site:
        storage = faulty(site)
        ops.ingest_one(site, slide, tier="hot")
        return list(storage.calls)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_process_dies_at_every_storage_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, after: bool
) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    calls = trace(tmp_path / "trace", slide)
    assert len(calls) > 30
    finished = 0
    for call in calls:
        with memory_site(tmp_path / str(call.number)) as site:
            dying(site, call.number, after=after)
            assert crashing(site, slide), call
            commit_is_there = any(key.startswith(f"{COMMITS}/") for key in stored_keys(site.tier("hot")))
            assert commit_is_there <= (after and call.verb is Verb.PUT and call.key.startswith(COMMITS)), call
            assert site.catalog.slides() == [], call  # nothing half done is seen, even before a recovery
            done = ops.recover(site)
            assert done.failed == 0, call
            assert_sound(site)
            assert ops.recover(site) == ops.Recovered(0, 0, 0), call
            finished += len(site.catalog.slides())
            (result,) = ingest(site, slide)
            assert result.status == ("exists" if done.finished else "ingested"), call
            assert_sound(site)
            assert_all_restore(site, {"a.tiff": files_of(slide)})
    with capsys.disabled():
        moment = "after" if after else "before"
        sys.stdout.write(f"\n{len(calls)} storage calls, dying {moment} each; {finished} finished\n")
    # Only who dies at the commit's own call has claimed; whether before or after it, the recovery finishes.
    assert finished >= 1


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        (FailBefore(StorageError("refused")), 1),
        (FailAfter(StorageError("reply lost")), 1),
        (Cut(10, StorageError("cut")), 3),
        (FailBefore(FullError("no space")), 3),
        (FailAfter(TransientError("reply lost for good")), 3),
    ],
    ids=["before", "after", "cut", "full", "transient"],
)
def test_storage_fails_at_every_call(tmp_path: Path, fault: Fault, step: int) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    calls = trace(tmp_path / "trace", slide)
    for call in calls[::step]:
        with memory_site(tmp_path / str(call.number)) as site:
            faulty(site, Rule(fault, nth=call.number))
            results = _try(site, slide)
            mended(site)
            rows = site.catalog.slides()
            assert len(rows) <= 1
            if any(result.status == "failed" for result in results):
                assert rows == [], call
            ingest(site, slide)
            assert_sound(site)
            assert_all_restore(site, {"a.tiff": files_of(slide)})


def _try(site: ops.Site, *slides: Path) -> list[ops.IngestResult]:
    """Ingest; errors of the whole run count as results too."""
    try:
        return list(ops.ingest(site, slides, jobs=1))
    except WsistoreError as error:
        return [ops.IngestResult(slide=None, source="", status=ops.IngestStatus.FAILED, error=ops.Failure.of(error))]


@pytest.mark.parametrize("verb", [Verb.LIST, Verb.DELETE], ids=str)
def test_cleaning_up_fails_too(tmp_path: Path, verb: Verb) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        broken = StorageError("gone")
        faulty(
            site,
            Rule(FailBefore(broken), verb=Verb.STREAM),
            Rule(FailBefore(broken), verb=verb, key_contains="/", times=1000),
        )
        (result,) = _try(site, slide)
        assert result.error is not None
        assert "gone" in result.error.message
        assert len(site.catalog.open_attempts()) == 1
        mended(site)
        assert ops.recover(site) == ops.Recovered(0, 1, 0)
        assert_sound(site)


def test_lost_reply_of_the_commit_leaves_one_slide(tmp_path: Path) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        faulty(site, Rule(FailAfter(TransientError("reply lost")), verb=Verb.PUT, key_contains=f"{COMMITS}/"))
        (result,) = _try(site, slide)
        assert result.status == "failed"
        assert result.error is not None
        assert result.error.kind == "storage-transient"
        assert site.catalog.slides() == []
        mended(site)
        (again,) = ingest(site, slide)
        assert again.status == "exists"
        assert_sound(site)
        (copy,) = site.catalog.copies(str(again.slide))
        assert copy.state == "committed"
        assert [event.kind for event in site.catalog.events(str(again.slide))] == ["ingested"]


def test_lost_reply_is_found_out_at_once_where_calls_are_repeated(tmp_path: Path) -> None:
    # As in a site opened from its settings, where retries lie over the tier.
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        retry = site.tier("hot")
        rule = Rule(FailAfter(TransientError("reply lost")), verb=Verb.PUT, key_contains=f"{COMMITS}/")
        retry._inner = FaultStorage(retry.inner, [rule])  # type: ignore[attr-defined]
        (result,) = ingest(site, slide)
        assert result.status == "ingested"
        assert_sound(site)


def test_another_commit_in_its_place_is_left_alone(tmp_path: Path) -> None:
    # Somebody else's catalogue works on the same tier: theirs stands, ours is undone.
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        plain = site.tier("hot")

        def sneak() -> None:
            (attempt,) = site.catalog.open_attempts()
            plain.put(f"{COMMITS}/{attempt.slide}/00000001.json", b"theirs")

        faulty(site, Rule(RunBefore(sneak), verb=Verb.PUT, key_contains=f"{COMMITS}/"))
        (result,) = _try(site, slide)
        assert result.status == "failed"
        mended(site)
        ops.recover(site)
        (theirs,) = [key for key in stored_keys(plain) if key.startswith(f"{COMMITS}/")]
        assert plain.get(theirs) == b"theirs"
        assert site.catalog.slides() == []


@pytest.mark.parametrize("method", ["begin_attempt", "claim", "commit"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_process_dies_around_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, *, after: bool
) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        site.owner = DEAD
        dead = False

        def wrap(name: str) -> Callable:
            original = getattr(Catalog, name)

            def act(*args: object, **kwargs: object) -> object:
                nonlocal dead
                if dead:
                    raise Crash
                if name != method:
                    return original(*args, **kwargs)
                dead = True
                if after:
                    original(*args, **kwargs)
                raise Crash

            return act

        with monkeypatch.context() as patch:
            for name in ("begin_attempt", "claim", "commit", "abandon", "release", "forget_attempt"):
                patch.setattr(Catalog, name, wrap(name))
            with pytest.raises(Crash):
                ops.ingest_one(site, slide, tier="hot")
        site.owner = str(Owner.current())
        ops.recover(site)
        assert_sound(site)
        ingest(site, slide)
        assert_sound(site)
        assert_all_restore(site, {"a.tiff": files_of(slide)})


def test_recovery_dies_at_every_storage_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    count = len(trace(tmp_path / "trace", slide))
    for nth in range(1, 60):
        with memory_site(tmp_path / str(nth)) as site:
            dying(site, count - 3, after=False)
            assert crashing(site, slide)
            dying(site, nth, after=nth % 2 == 0)
            try:
                ops.recover(site)
            except Crash:
                mended(site)
                assert committed_keys(site) <= stored_keys(site.tier("hot"))
                ops.recover(site)
                assert_sound(site)
            else:
                assert_sound_without_faults(site)
                break
    else:
        pytest.fail("the recovery never came to its end")


def assert_sound_without_faults(site: ops.Site) -> None:
    mended(site)
    assert_sound(site)


def test_recovery_leaves_what_lives_alone(tmp_path: Path) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site, ops.open_site(tmp_path / "site") as other:
        seen: list[ops.Recovered] = []
        faulty(site, Rule(RunAfter(lambda: seen.append(ops.recover(other))), verb=Verb.STREAM, times=100))
        (result,) = ingest(site, slide)
        assert result.status == "ingested"
        assert seen
        assert set(seen) == {ops.Recovered(0, 0, 0)}
        mended(site)
        assert_sound(site)


def test_one_taken_for_dead_removes_what_it_wrote_since(tmp_path: Path) -> None:
    # Another machine's clock or a very slow share: the lease ran out while the attempt was alive.
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site, ops.open_site(tmp_path / "site") as other:
        site.owner = DEAD

        def take_for_dead() -> None:
            assert ops.recover(other).removed == 1

        faulty(site, Rule(RunBefore(take_for_dead), verb=Verb.PUT, nth=5))
        (result,) = _try(site, slide)
        assert result.status == "failed"
        mended(site)
        site.owner = str(Owner.current())
        assert_sound(site)
        assert stored_keys(site.tier("hot")) == {MARKER_KEY}


# --- real processes, real disks ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bigger_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a slide that takes long enough to be killed at many moments."""
    return next(p for p in synthetic_set(tmp_path_factory.mktemp("in"), seed=3) if p.suffix == ".svs")


# The process ends itself while it writes a slide: others are killed by the clock, and may be over before.
DIES = """
import itertools, os, signal
from wsistore.storage.local import LocalStorage
put, calls = LocalStorage.put, itertools.count(1)
LocalStorage.put = lambda *args, **options: (
    os.kill(os.getpid(), signal.SIGKILL) if next(calls) == 12 else put(*args, **options)
)
"""


@pytest.mark.slow
def test_kill_9_at_many_moments(tmp_path: Path, bigger_slide: Path) -> None:
    site_folder = new_site(tmp_path / "site")
    outcomes = set()
    for turn in range(8):
        arguments = command(site_folder, "ingest", bigger_slide, "--json")
        if turn == 0:
            arguments[2] = DIES + arguments[2]
        victim = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        tier = site_folder / "tiers" / "hot"
        started = time.monotonic()
        if turn > 0:
            while victim.poll() is None and not (tier / "store").exists() and time.monotonic() - started < 60:
                time.sleep(0.005)
            time.sleep(0.012 * turn)
            victim.send_signal(signal.SIGKILL)
        out, err = victim.communicate(timeout=240)
        assert turn > 0 or victim.returncode == -signal.SIGKILL, err
        outcomes.add(bool(out))
        shown = cli(site_folder, "ls", "--json").lines
        assert len(shown) <= 1
        if out:
            break
    done = run(site_folder, "ingest", bigger_slide, "--json")
    assert done.code == 0, done
    assert outcomes != {True}, "it was never killed before its end"
    with ops.open_site(site_folder) as site:
        assert_sound(site)
        assert_all_restore(site, {bigger_slide.name: files_of(bigger_slide)})


@pytest.mark.slow
def test_ctrl_c_stops_soon_and_leaves_nothing(tmp_path: Path, bigger_slide: Path) -> None:
    site_folder = new_site(tmp_path / "site")
    slides = [tmp_path / f"{n}.svs" for n in range(40)]
    for number, path in enumerate(slides):
        shutil.copyfile(bigger_slide, path)
        with path.open("ab") as file:
            file.write(bytes([number]))  # slides of their own
    victim = subprocess.Popen(
        command(site_folder, "ingest", *slides, "--json", "--jobs", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert victim.stdout is not None
    first = victim.stdout.readline()
    assert '"ingested"' in first
    victim.send_signal(signal.SIGINT)
    rest, err = victim.communicate(timeout=240)
    assert victim.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    count = 1 + len(rest.splitlines())
    assert count < len(slides)
    with ops.open_site(site_folder) as site:
        # What was under way cleaned up behind itself already; recovery finds nothing left to do.
        assert site.catalog.open_attempts() == []
        assert_sound(site)
        assert count <= len(site.catalog.slides()) <= count + 2
    again = run(site_folder, "ingest", *slides[:4], "--json")
    assert again.code == 0
    with ops.open_site(site_folder) as site:
        assert_sound(site)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 200 kB; skip where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_disk(tmp_path: Path, bigger_slide: Path, small_disk: Path) -> None:
    site_folder = new_site(tmp_path / "site")
    settings = site_folder / "wsistore.toml"
    hot = site_folder / "tiers" / "hot"
    shutil.move(hot / "wsistore-tier.json", small_disk / "wsistore-tier.json")
    settings.write_text(settings.read_text().replace('"tiers/hot"', f'"{small_disk}"'))
    small = tiny_tiff(tmp_path / "in" / "small.tiff")
    done = cli(site_folder, "ingest", bigger_slide, small, "--json", "--jobs", "1")
    assert done.code == 6
    first, second = done.lines
    assert (first["status"], first["error"]["kind"]) == ("failed", "storage-full")
    assert "room" in first["error"]["message"]
    # The next slide would fail for the same reason: it is not even begun, and said so.
    assert (second["status"], second["error"]["kind"]) == ("failed", "storage-full")
    assert second["source"] == str(small)
    left = [path.relative_to(small_disk).as_posix() for path in small_disk.rglob("*") if path.is_file()]
    assert left == ["wsistore-tier.json"]
    assert cli(site_folder, "ls", "--json").lines == []
    assert cli(site_folder, "ingest", small, "--json").code == 0
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert cli(site_folder, "ingest", bigger_slide, small, "--json").code == 0
    assert len(cli(site_folder, "verify", "--all", "--json").lines) == 2
    with ops.open_site(site_folder) as site:
        assert site.catalog.open_attempts() == []
        assert stored_keys(site.tier("hot")) == committed_keys(site)
