"""Data keys: one for each companion whoever races, none in a pickle, few requests; uploads that break stay broken."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.keys_kit import encrypting
from wsistore import ops
from wsistore.compress.keys import Place
from wsistore.errors import IntegrityError, Kind, SiteError, StorageError, TransientError
from wsistore.keys import site_keys
from wsistore.ops.workers import tier_ref
from wsistore.settings import load
from wsistore.storage.base import Properties, Span
from wsistore.storage.encrypted import EncryptedStorage
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.meter import MeterStorage
from wsistore.storage.sealing import MAGIC
from wsistore.storage.wrapper import Verb, WrappedStorage
from wsistore.testing.clock import ManualClock
from wsistore.tiers.keyring import TierKeys

SLIDE, ATTEMPT = "0123456789abcdefghjk", "kjhgfedcba9876543210"
KEY = f"private/{SLIDE}/{ATTEMPT}/skeleton.zst"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    site_keys.make(tmp_path / "keys", ManualClock())
    return tmp_path / "keys"


def opened(
    inner: WrappedStorage | MemoryStorage | LocalStorage, folder: Path, *, is_on: bool = True
) -> EncryptedStorage:
    return EncryptedStorage(inner, TierKeys(inner, folder, is_on=is_on))


def test_racing_writers_agree_on_one_data_key(folder: Path) -> None:
    inner = MemoryStorage()
    writers = [opened(inner, folder) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: writers[number].put(f"{KEY}.{number}", b"data"), range(8)))
    reader = opened(inner, folder)
    assert {reader.get(f"{KEY}.{number}") for number in range(8)} == {b"data"}
    assert len(list(inner.list("keyring/"))) == 1


def test_what_is_not_private_passes_through(folder: Path) -> None:
    inner = MemoryStorage()
    storage = opened(inner, folder)
    for key in ("store/s/a/zarr.json", "commits/s/1.json", "private/x", "privates/s/a/x", "a/private/s/a/x"):
        storage.put(key, b"plain")
        assert inner.get(key) == storage.get(key) == b"plain"
        assert storage.head(key).size_bytes == 5
    assert list(inner.list("keyring/")) == []


def test_tier_without_conditional_writes_is_refused(folder: Path) -> None:
    class Unconditional(WrappedStorage):
        @property
        def properties(self) -> Properties:
            return replace(super().properties, conditional_put=False)

    inner = MemoryStorage()
    with pytest.raises(StorageError, match="conditionally") as caught:
        opened(Unconditional(inner), folder).put(KEY, b"data")
    assert caught.value.kind is Kind.SETTINGS_INVALID
    assert list(inner.list()) == []


def test_worker_gets_no_key_and_reads_its_own_folder(tmp_path: Path) -> None:
    site_folder = encrypting(tmp_path / "site", ["hot"])
    with ops.open_site(site_folder) as site:
        storage = site.tier("hot")
        storage.put(KEY, b"data")
        keys = site_keys.load(site_folder / "keys")
        assert keys is not None
        assert isinstance(storage, EncryptedStorage)
        data_key = storage.keys.reading(KEY)
        assert data_key is not None
        for thing in (tier_ref(site, "hot"), storage):
            sent = pickle.dumps(thing)
            assert keys.secret(1) not in sent
            assert data_key not in sent
        copy = pickle.loads(pickle.dumps(storage))
        assert copy.get(KEY) == b"data"
        with pytest.raises(TypeError):
            pickle.dumps(keys)
        reference = pickle.loads(pickle.dumps(tier_ref(site, "hot")))
    assert reference().get(KEY) == b"data"
    (site_folder / "keys").rename(site_folder / "elsewhere")
    with pytest.raises(SiteError) as caught:
        reference().get(KEY)
    assert caught.value.kind is Kind.KEY_MISSING
    with pytest.raises(SiteError):
        reference().put(KEY.replace(ATTEMPT, SLIDE), b"data")
    assert len(list(reference().list("private/"))) == 1


def test_range_reads_ask_for_header_and_data_key_once(folder: Path) -> None:
    inner = MeterStorage(MemoryStorage())
    opened(inner, folder).put(KEY, bytes(300_000))
    storage = opened(inner, folder)
    before = inner.reading()
    for start in range(0, 200_000, 1000):
        assert storage.get(KEY, Span(start, 100)) == bytes(100)
    after = inner.reading()
    assert after[Verb.GET].requests - before[Verb.GET].requests == 1, "the data key"
    assert after[Verb.GET_MANY].requests - before[Verb.GET_MANY].requests == 200
    assert after[Verb.GET_MANY].bytes_read - before[Verb.GET_MANY].bytes_read < 210 * (65_536 + 16)


def test_object_that_another_process_replaced_is_read_anew(folder: Path) -> None:
    inner = MemoryStorage()
    storage, other = opened(inner, folder), opened(inner, folder)
    storage.put(KEY, b"old" * 1000)
    assert storage.get(KEY, Span(3, 3)) == b"old"
    other.put(KEY, b"new" * 2000)
    assert storage.get(KEY, Span(3, 3)) == b"new"


def test_lost_data_key_is_not_taken_for_no_encryption(folder: Path) -> None:
    inner = MemoryStorage()
    opened(inner, folder).put(KEY, b"data" * 100)
    place = Place(SLIDE, ATTEMPT)
    inner.delete(place.data_key)
    for is_on in (True, False):
        storage = opened(inner, folder, is_on=is_on)
        for read in (
            lambda s=storage: s.get(KEY),
            lambda s=storage: s.get(KEY, Span(50, 3)),
            lambda s=storage: s.get_many(KEY, [Span(50, 3)]),
            lambda s=storage: list(s.stream(KEY)),
        ):
            with pytest.raises(IntegrityError) as caught:
                read()
            assert caught.value.kind is Kind.KEY_MISSING


def test_plain_object_in_an_encrypted_companion_is_refused(folder: Path) -> None:
    inner = MemoryStorage()
    storage = opened(inner, folder)
    storage.put(KEY, b"data")
    inner.put(KEY, b"somebody else's")
    for read in (lambda: storage.get(KEY), lambda: storage.get(KEY, Span(0, 3)), lambda: list(storage.stream(KEY))):
        with pytest.raises(IntegrityError):
            read()


def test_upload_of_which_a_part_was_lost_cannot_be_completed(folder: Path) -> None:
    memory = MemoryStorage()
    faulty = FaultStorage(memory, [Rule(FailBefore(TransientError("lost")), verb=Verb.UPLOAD_WRITE)])
    storage = opened(faulty, folder)
    upload = storage.upload(KEY)
    with pytest.raises(TransientError):
        upload.write(bytes(3 << 20))
    with pytest.raises(StorageError):
        upload.complete()
    upload.abort()
    assert list(memory.list("private/")) == []


def test_last_part_that_was_lost_is_not_left_out(folder: Path) -> None:
    memory = MemoryStorage()
    faulty = FaultStorage(memory, [Rule(FailBefore(TransientError("lost")), verb=Verb.UPLOAD_WRITE)])
    upload = opened(faulty, folder).upload(KEY)
    upload.write(b"data")
    for _ in range(2):
        with pytest.raises(StorageError):
            upload.complete()
    upload.abort()
    assert list(memory.list("private/")) == []


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"null", b'{"format": 1}', b"\xff" * 100, b"[" * 60_000])
def test_damaged_data_key_is_an_integrity_error(folder: Path, garbage: bytes) -> None:
    inner = MemoryStorage()
    opened(inner, folder).put(KEY, b"data")
    inner.put(Place(SLIDE, ATTEMPT).data_key, garbage)
    with pytest.raises(IntegrityError):
        opened(inner, folder).get(KEY)


def test_files_are_not_offered_past_the_decryption(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tier").mkdir()
    storage = opened(LocalStorage(tmp_path / "tier"), folder)
    storage.put(KEY, b"data")
    assert not storage.properties.local_files
    with pytest.raises(StorageError):
        storage.local_path(KEY)
    assert (tmp_path / "tier" / KEY).read_bytes().startswith(MAGIC)


def test_wrapped_key_fits_its_companion_and_version_only() -> None:
    keys = site_keys.SiteKeys("site", {1: b"k" * 32, 2: b"k" * 32}, {1: "", 2: ""})
    wrapped = keys.wrap(b"d" * 32, SLIDE, ATTEMPT)
    assert keys.unwrap(wrapped, where="x") == b"d" * 32
    for other in (
        replace(wrapped, slide=ATTEMPT),
        replace(wrapped, attempt=SLIDE),
        replace(wrapped, site_key=1),
        replace(wrapped, nonce=bytes(12)),
        replace(wrapped, wrapped=wrapped.wrapped[::-1]),
    ):
        with pytest.raises(IntegrityError, match="altered"):
            keys.unwrap(other, where="x")
    with pytest.raises(SiteError, match="version 3"):
        keys.unwrap(replace(wrapped, site_key=3), where="x")
    other_site = site_keys.SiteKeys("other", {2: b"o" * 32}, {2: ""})
    with pytest.raises(IntegrityError):
        other_site.unwrap(wrapped, where="x")


def test_damaged_site_key_is_not_taken_for_another(folder: Path) -> None:
    path = folder / "site-key-0001.key"
    whole = path.read_text()
    for wrong in (
        "",
        "{}",
        whole[:-20],
        whole.replace('"version": 1', '"version": 2'),
        whole.replace('"name"', '"nam"'),
    ):
        path.write_text(wrong)
        with pytest.raises(SiteError) as caught:
            site_keys.load(folder)
        assert caught.value.kind is Kind.KEY_MISSING
        with pytest.raises(SiteError):
            site_keys.make(folder, ManualClock())
    path.write_text(whole)
    site_keys.put(folder, "another-site", 2, b"k" * 32, ManualClock())
    with pytest.raises(SiteError, match="several sites"):
        site_keys.load(folder)


def test_settings_name_the_folder_of_keys(tmp_path: Path) -> None:
    path = encrypting(tmp_path / "site", ["cold"], keys=False) / "wsistore.toml"
    loaded = load(path.parent)
    assert loaded.keys == path.parent / "keys"
    assert [tier.encrypt_companions for tier in loaded.tiers] == [False, False, True]
    text = path.read_text("utf-8")
    for written, expected in (("../elsewhere", tmp_path / "elsewhere"), ("/srv/keys", Path("/srv/keys"))):
        path.write_text(text.replace('# keys = "keys"', f'keys = "{written}"'), "utf-8")
        assert load(path.parent).keys == expected
    for wrong in ("keys = 5", 'keys = ""', 'keys = "s3://bucket/keys"'):
        path.write_text(text.replace('# keys = "keys"', wrong), "utf-8")
        with pytest.raises(SiteError, match="'keys'"):
            load(path.parent)
