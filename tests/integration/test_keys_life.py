"""The life of keys: made, rotated, killed while rotating, lost, found to be lost, brought back, destroyed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from tests.keys_kit import bytes_of, encrypting, set_encrypting
from tests.site_kit import Ran, cli, restored, tiny_svs
from wsistore import ops
from wsistore.cli.main import app
from wsistore.compress.keys import Place
from wsistore.errors import ConflictError, IntegrityError, Kind, SiteError, StorageError
from wsistore.execute import SerialExecutor
from wsistore.keys import folder as files
from wsistore.keys import site_keys
from wsistore.keys.signing import open_signer, public_keys
from wsistore.model import Preset
from wsistore.ops.key_check import is_sound
from wsistore.ops.key_rotation import SETTLED
from wsistore.storage.base import ObjectInfo, Storage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import WrappedStorage
from wsistore.testing.clock import ManualClock
from wsistore.tiers.keyring import TierKeys, keys_of


class Crash(BaseException):
    """The process ends."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Return a site with two slides in a tier that encrypts, and their bytes."""
    folder = tmp_path_factory.mktemp("made")
    site = encrypting(folder / "site", ["hot"])
    sources = [tiny_svs(folder / name, seed) for seed, name in enumerate(("a.svs", "b.svs"), 1)]
    with ops.open_site(site) as opened:
        assert all(result.error is None for result in ops.ingest(opened, sources))
    return site, {path.name: path.read_bytes() for path in sources}


@pytest.fixture
def folder(made: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Path:
    """Return a copy of it."""
    shutil.copytree(made[0], tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def sources(made: tuple[Path, dict[str, bytes]]) -> dict[str, bytes]:
    return made[1]


def assert_all_there(folder: Path, sources: dict[str, bytes]) -> None:
    with ops.open_site(folder) as site:
        for name, data in sources.items():
            assert restored(site, site.catalog.resolve(name)) == {name: data}
        assert is_sound(list(ops.check_keys(site)))


def data_keys(folder: Path) -> list[Path]:
    """Return the data keys of the companions in the tier."""
    found = sorted((folder / "tiers/hot/keyring").rglob("*.json"))
    return [path for path in found if path.parent.name != "ledger"]


def results(done: Ran) -> dict[str, str]:
    """Return the worst result of each check over all tiers."""
    worst = ("no", "ok", "warning", "failed")
    return {line["check"]: line["result"] for line in sorted(done.lines, key=lambda line: worst.index(line["result"]))}


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_rotation_wraps_anew_and_writes_no_companion(folder: Path, sources: dict[str, bytes]) -> None:
    private, ring = bytes_of(folder, "hot", "private"), bytes_of(folder, "hot", "keyring")
    old = open_signer(folder / "keys")
    with ops.open_site(folder) as site:
        done = ops.rotate_keys(site, signing_too=True)
        assert (done.version, done.rewrapped, done.resumed, done.failures) == (2, len(ring), False, ())
    assert bytes_of(folder, "hot", "private") == private
    after = bytes_of(folder, "hot", "keyring")
    assert after.keys() == ring.keys()
    assert {json.loads(data)["site_key"] for data in after.values()} == {2}
    new = open_signer(folder / "keys")
    assert old is not None
    assert new is not None
    assert old.key_id != new.key_id
    assert set(public_keys(folder / "keys")) == {old.key_id, new.key_id}
    assert_all_there(folder, sources)
    (folder / "keys/site-key-0001.key").unlink()
    assert_all_there(folder, sources)


def test_old_versions_are_forgotten_when_nothing_needs_them(folder: Path, sources: dict[str, bytes]) -> None:
    clock = ManualClock()
    with ops.open_site(folder, clock=clock) as site:
        assert ops.rotate_keys(site, forget_old=True).forgotten == ()
        ops.rotate_keys(site)
        with pytest.raises(ConflictError, match="is new"):
            ops.rotate_keys(site, forget_old=True)
        clock.advance(SETTLED.total_seconds() + 1)
        with pytest.raises(ConflictError, match="sheets"):
            ops.rotate_keys(site, forget_old=True)
        ops.write_sheets(site.settings, folder / "sheets", clock)
        # A writer that had read the old keys only puts its data key now.
        ring = keys_of(site.tier("hot"))
        assert ring is not None
        place = next(found for found in ring.places() if found.slide != "ledger")
        keys = site_keys.load(folder / "keys")
        assert keys is not None
        data_key = ring.find(place)
        assert data_key is not None
        late = site_keys.SiteKeys(keys.site, {1: keys.secret(1)}, {1: ""}).wrap(data_key, place.slide, place.attempt)
        site.tier("hot").put(place.data_key, late.encode())
        done = ops.rotate_keys(site, forget_old=True)
        assert (done.forgotten, done.rewrapped) == ((1,), 1)
    assert not (folder / "keys/site-key-0001.key").exists()
    assert_all_there(folder, sources)


def _dying(act: Callable[[], object], nth: int, *, after: bool) -> bool:
    """Do something in a process that ends at its `nth` write of a key's file or of a data key; say whether it did."""
    count = 0
    is_dead = False

    def counted(original: Callable) -> Callable:
        def step(*args: object, **kwargs: object) -> object:
            nonlocal count, is_dead
            if is_dead:
                raise Crash
            count += 1
            if count == nth and not after:
                is_dead = True
                raise Crash
            result = original(*args, **kwargs)
            if count == nth:
                is_dead = True
                raise Crash
            return result

        return step

    class Ring(WrappedStorage):
        def put(self, key: str, data: object, *, if_absent: bool = False) -> ObjectInfo:
            put = counted(self.inner.put)
            return put(key, data, if_absent=if_absent)

    @contextmanager
    def faulty() -> Iterator[None]:
        original = TierKeys.rewrap

        def rewrap(self: TierKeys, place: object, keys: object) -> bool:
            ring: Storage = self._storage
            self._storage = ring if isinstance(ring, Ring) else Ring(ring)
            return original(self, place, keys)  # type: ignore[arg-type]

        with (
            mock.patch.object(TierKeys, "rewrap", rewrap),
            mock.patch.object(files, "replace", counted(files.replace)),
            mock.patch.object(files, "write_new", counted(files.write_new)),
            mock.patch.object(files, "remove", counted(files.remove)),
            mock.patch("wsistore.ops.side_by_side._WORKERS", 1),
        ):
            yield

    with faulty():
        try:
            act()
        except Crash:
            return True
    return False


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step_it_goes_on_and_nothing_is_lost(
    made: tuple[Path, dict[str, bytes]], tmp_path: Path, after: bool
) -> None:
    steps = 0
    for nth in range(1, 30):
        folder = tmp_path / str(nth)
        shutil.copytree(made[0], folder)
        with ops.open_site(folder) as site:
            is_dead = _dying(lambda site=site: ops.rotate_keys(site, signing_too=True), nth, after=after)  # type: ignore[misc]
        with ops.open_site(folder) as site:
            for name, data in made[1].items():
                assert restored(site, site.catalog.resolve(name)) == {name: data}, "readable half-way"
            if not is_dead:
                break
            steps += 1
            done = ops.rotate_keys(site)
            assert done.failures == ()
            keys = site_keys.load(folder / "keys")
            assert keys is not None
            # Killed when all was done but for saying so, the next run is a rotation of its own.
            assert keys.current in ({2} if done.resumed or nth == 1 else {2, 3})
            (folder / "keys" / f"site-key-{keys.current - 1:04d}.key").unlink()
        assert_all_there(folder, made[1])
        shutil.rmtree(folder)
    assert steps >= 7, "state, signing key twice, site key, two data keys, state"


def test_a_tier_that_fails_leaves_the_rotation_unfinished(folder: Path, sources: dict[str, bytes]) -> None:
    broken, *others = data_keys(folder)
    whole = broken.read_bytes()
    broken.write_bytes(whole[:20])
    done = cli(folder, "keys", "rotate", "--json")
    assert done.code == 6
    assert done.lines[0]["failures"][0]["tier"] == "hot"
    assert done.lines[0]["rewrapped"] == len(bytes_of(folder, "hot", "keyring")) - 1
    assert all(json.loads(other.read_bytes())["site_key"] == 2 for other in others)
    assert results(cli(folder, "keys", "check", "--json"))["rotation"] == "warning"
    broken.write_bytes(whole)
    done = cli(folder, "keys", "rotate", "--json")
    assert (done.code, done.lines[0]["version"], done.lines[0]["resumed"]) == (0, 2, True)
    assert_all_there(folder, sources)


# --- loss -------------------------------------------------------------------------------------------------------------


def test_drill_lost_keys_come_back_from_two_sheets(folder: Path, sources: dict[str, bytes]) -> None:
    assert cli(folder, "keys", "init").code == 0
    sheets = folder.parent / "sheets"
    assert cli(folder, "keys", "sheet", "--to", sheets).code == 0
    assert results(cli(folder, "keys", "check", "--json"))["sheets"] == "ok"
    for path in sheets.iterdir():
        assert path.stat().st_mode & 0o077 == 0
    signed_by = open_signer(folder / "keys")
    shutil.rmtree(folder / "keys")
    lost = cli(folder, "keys", "check", "--json")
    assert lost.code == 8
    assert results(lost)["site-key"] == "failed"
    done = cli(folder, "restore", "a.svs", "--to", folder.parent / "back", "--json")
    assert done.code == 8
    assert done.error["kind"] == "key-missing"
    assert "keys recover" in done.error["message"]
    one, two = sheets / "recovery-sheet-1.txt", sheets / "recovery-sheet-2.txt"
    assert cli(folder, "keys", "recover", one, one, "--json").error["kind"] == "sheet-invalid"
    assert cli(folder, "keys", "recover", two, one).code == 0
    assert cli(folder, "keys", "check").code == 0
    again = open_signer(folder / "keys")
    assert again is not None
    assert signed_by is not None
    assert again.key_id == signed_by.key_id
    assert_all_there(folder, sources)
    assert cli(folder, "keys", "recover", one, two).code == 0, "may be repeated"


def test_sheets_of_another_site_are_refused(folder: Path, tmp_path: Path) -> None:
    other = encrypting(tmp_path / "other", ["hot"])
    assert cli(other, "keys", "sheet", "--to", tmp_path / "sheets").code == 0
    paths = [tmp_path / f"sheets/recovery-sheet-{number}.txt" for number in (1, 2)]
    before = sorted((p.name, p.read_bytes()) for p in (folder / "keys").iterdir() if p.is_file())
    assert cli(folder, "keys", "recover", *paths, "--json").error["kind"] == "target-exists"
    assert sorted((p.name, p.read_bytes()) for p in (folder / "keys").iterdir() if p.is_file()) == before


def test_losing_a_data_key_is_loud(folder: Path) -> None:
    data_keys(folder)[0].unlink()
    done = cli(folder, "keys", "check", "--json")
    assert done.code == 8
    assert results(done)["copies"] == "failed"
    codes = [cli(folder, "verify", name).code for name in ("a.svs", "b.svs")]
    assert sorted(codes) == [0, 7]


def test_a_site_key_that_data_keys_need_is_missed(folder: Path, sources: dict[str, bytes]) -> None:
    with ops.open_site(folder) as site:
        ops.rotate_keys(site)
    kept = (folder / "keys/site-key-0002.key").read_bytes()
    (folder / "keys/site-key-0002.key").unlink()
    assert results(cli(folder, "keys", "check", "--json"))["data-keys"] == "failed"
    with ops.open_site(folder) as site, pytest.raises(SiteError, match="version 2") as caught:
        restored(site, site.catalog.resolve("a.svs"))
    assert caught.value.kind is Kind.KEY_MISSING
    files.write_new(folder / "keys/site-key-0002.key", kept)
    assert_all_there(folder, sources)


def test_keys_that_others_may_read_are_refused(folder: Path) -> None:
    (folder / "keys/site-key-0001.key").chmod(0o644)
    done = cli(folder, "keys", "check", "--json")
    assert (done.code, results(done)["folder"]) == (8, "failed")
    assert "chmod 600" in done.out


def test_keys_are_never_kept_in_a_tier(folder: Path) -> None:
    path = folder / "wsistore.toml"
    path.write_text(path.read_text("utf-8").replace('# keys = "keys"', 'keys = "tiers/hot/keys"'), "utf-8")
    done = cli(folder, "keys", "init", "--json")
    assert done.code == 8
    assert "one inside the other" in done.error["message"]
    assert not (folder / "tiers/hot/keys").exists()


def test_data_keys_of_another_companion_or_site_do_not_fit(folder: Path) -> None:
    one, two = data_keys(folder)
    document, other = json.loads(one.read_bytes()), json.loads(two.read_bytes())
    for forged in (two.read_bytes(), json.dumps({**other, "slide": document["slide"], "attempt": document["attempt"]})):
        one.write_bytes(forged if isinstance(forged, bytes) else forged.encode())
        with ops.open_site(folder) as site, pytest.raises(IntegrityError):
            restored(site, document["slide"])


# --- destroying -------------------------------------------------------------------------------------------------------


def test_destroyed_companion_is_gone_and_pixels_are_not(folder: Path, sources: dict[str, bytes]) -> None:
    with ops.open_site(folder) as site:
        slide = site.catalog.resolve("a.svs")
        with ops.open_slide(slide, site=site) as opened:
            pixels = opened.read_region(0, 0, 0, 64, 64)
            assert "label" in opened.associated
    done = cli(folder, "keys", "destroy", "a.svs", "--json")
    assert (done.code, done.error["kind"]) == (3, "metadata-invalid")
    assert cli(folder, "keys", "destroy", "a.svs", "--yes", "--json").lines[0]["destroyed"] == 1
    done = cli(folder, "restore", "a.svs", "--to", folder.parent / "back", "--json")
    assert (done.code, done.error["kind"]) == (6, "key-destroyed")
    assert "destroyed on" in done.error["message"]
    assert cli(folder, "keys", "check").code == 0, "what was destroyed on purpose is not lost"
    assert cli(folder, "keys", "destroy", "a.svs", "--yes", "--json").lines[0]["destroyed"] == 0
    with ops.open_site(folder) as site:
        with ops.open_slide(slide, site=site) as opened:
            assert (opened.read_region(0, 0, 0, 64, 64) == pixels).all()
            assert set(opened.associated) == {"thumbnail"}
        kinds = [event.kind for event in site.catalog.events(slide)]
        assert kinds[-4:] == ["companion-erasing", "companion-erased"] * 2
        assert site.catalog.check_chains() == []
        assert [result.ok for result in ops.verify(site, ["a.svs", "b.svs"])] == [False, True]
        assert [copy.state for copy in site.catalog.copies(slide)] == ["committed"], "it is not damaged"
        assert ops.rotate_keys(site).failures == ()
        with pytest.raises(StorageError):
            restored(site, slide)
        assert restored(site, site.catalog.resolve("b.svs")) == {"b.svs": sources["b.svs"]}


def test_packed_pixels_stay_readable(folder: Path) -> None:
    with ops.open_site(folder) as site:
        slide = site.catalog.resolve("a.svs")
        (result,) = ops.reencode(site, [slide], preset=Preset.PACK, executor=SerialExecutor())
        assert result.error is None
        with ops.open_slide(slide, site=site) as opened:
            pixels = opened.read_region(0, 0, 0, 64, 64)
        (erased,) = ops.destroy_keys(site, [slide])
        assert erased.destroyed == 1
        with ops.open_slide(slide, site=site) as opened:
            assert (opened.read_region(0, 0, 0, 64, 64) == pixels).all()


def test_what_is_held_or_not_encrypted_everywhere_is_not_destroyed(folder: Path, sources: dict[str, bytes]) -> None:
    assert cli(folder, "hold", "add", "a.svs", "--reason", "asked for").code == 0
    done = cli(folder, "keys", "destroy", "b.svs", "a.svs", "--yes", "--json")
    assert done.error["kind"] == "held"
    assert_all_there(folder, sources)
    assert cli(folder, "hold", "release", "a.svs").code == 0
    assert cli(folder, "copy", "a.svs", "--to", "warm").code == 0
    done = cli(folder, "keys", "destroy", "a.svs", "--yes", "--json")
    assert (done.code, done.error["kind"]) == (5, "key-missing")
    assert_all_there(folder, sources)
    assert cli(folder, "drop", "a.svs", "--from", "warm").code == 0
    assert cli(folder, "keys", "destroy", "a.svs", "--yes").code == 0


def test_no_version_of_a_destroyed_key_is_left() -> None:
    clock = ManualClock()
    storage = MemoryStorage(versions=True, clock=clock)
    keys = site_keys.SiteKeys("site", {1: b"k" * 32}, {1: ""})
    new = site_keys.SiteKeys("site", {1: b"k" * 32, 2: b"n" * 32}, {1: "", 2: ""})
    ring = TierKeys(storage, Path("nowhere"), is_on=True)
    place = Place("s", "a")
    storage.put(place.data_key, keys.wrap(b"d" * 32, "s", "a").encode())
    assert ring.rewrap(place, new)
    assert len(list(storage.versions("keyring/"))) == 1, "what the old version wrapped is gone"
    storage.put(place.data_key, keys.wrap(b"d" * 32, "s", "a").encode())
    assert ring.destroy(place, clock)
    (left,) = storage.versions("keyring/")
    assert "wrapped" not in json.loads(storage.get(left.key, version=left.version))
    assert not ring.destroy(place, clock)
    assert not ring.rewrap(place, new)


def test_setting_taken_back_is_told(folder: Path) -> None:
    set_encrypting(folder, "warm", is_on=False)
    assert cli(folder, "copy", "a.svs", "--to", "warm").code == 0
    set_encrypting(folder, "warm", is_on=True)
    lines = {(line["check"], line["tier"]): line for line in cli(folder, "keys", "check", "--json").lines}
    assert lines["copies", "warm"]["result"] == "warning"
    assert "1 of 1" in lines["copies", "warm"]["figure"]


def test_typed_sheets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheets = folder.parent / "sheets"
    assert cli(folder, "keys", "sheet", "--to", sheets).code == 0
    shutil.rmtree(folder / "keys")
    typed = "".join((sheets / f"recovery-sheet-{n}.txt").read_text("utf-8").lower() + "\n.\n" for n in (2, 1))
    done = CliRunner().invoke(app, ["-C", str(folder), "keys", "recover"], input=typed)
    assert done.exit_code == 0, done.output
    assert cli(folder, "keys", "check").code == 0
