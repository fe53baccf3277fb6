"""Archives: what others make of them, and what damaged ones are taken for."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.compress import zips
from wsistore.compress.archive import PackedView, open_stored, pack, private_archive, store_archive
from wsistore.compress.keys import Place
from wsistore.compress.recording import Recorder
from wsistore.compress.zips import Entry, ListFile, ZipDirectory, write_ozx, write_zip
from wsistore.errors import IntegrityError, Kind, ObjectMissingError, StorageError, WsistoreError
from wsistore.model import ObjectRecord
from wsistore.storage.base import Span, Tail
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage

PLACE = Place("slide0key", "attempt0key")
FILES = {"zarr.json": b"{}", "0/zarr.json": b"{}", "0/image/c/0/10/0": b"ten" * 500, "0/image/c/0/9/0": b"nine",
         "0/image/zarr.json": b"{ }", "icc/c/0": b""}  # fmt: skip


class Taking:
    """A sink that cannot seek."""

    def __init__(self, most: int = 2**60) -> None:
        self.data, self.most = bytearray(), most

    def write(self, data: memoryview, /) -> None:
        if len(self.data) + len(data) > self.most:
            raise StorageError("no room")
        self.data += data


def entries(files: dict[str, bytes] = FILES) -> list[Entry]:
    return [Entry(name, len(data), [data[:5], memoryview(data)[5:]]) for name, data in files.items()]


def written(files: dict[str, bytes] = FILES, *, ozx: bool = False) -> bytes:
    sink = Taking()
    write_ozx(sink, entries(files)) if ozx else write_zip(sink, entries(files))
    return bytes(sink.data)


def broken(what: str) -> WsistoreError:
    return IntegrityError(what)


def directory(data: bytes, tail: int = 100) -> ZipDirectory:
    def ranges(start: int, length: int) -> bytes:
        return data[start : start + length]

    return ZipDirectory(cast("BinaryIO", ListFile(len(data), data[-tail:], ranges)), ranges, broken)


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ozx", [False, True])
def test_others_read_what_is_written(ozx: bool, tmp_path: Path) -> None:
    data = written(ozx=ozx)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    unzip = shutil.which("unzip")
    if unzip:
        (tmp_path / "a.zip").write_bytes(data)
        subprocess.run([unzip, "-tq", tmp_path / "a.zip"], check=True, capture_output=True)


def test_a_store_has_its_documents_first_and_its_chunks_in_the_order_of_their_numbers() -> None:
    with zipfile.ZipFile(io.BytesIO(written(ozx=True))) as archive:
        names, comment = archive.namelist(), archive.comment
    assert names[:3] == ["zarr.json", "0/zarr.json", "0/image/zarr.json"]
    assert names.index("0/image/c/0/9/0") < names.index("0/image/c/0/10/0")
    assert b'"version": "0.5"' in comment


def test_equal_entries_give_equal_bytes_in_whatever_order_they_come() -> None:
    backwards = dict(reversed(FILES.items()))
    assert written(ozx=True) == written(backwards, ozx=True)


def test_a_file_that_can_seek_gets_the_sizes_before_the_data() -> None:
    out = io.BytesIO()
    write_ozx(out, entries())
    with zipfile.ZipFile(out) as archive:
        assert not any(info.flag_bits & 8 for info in archive.infolist())
        assert {name: archive.read(name) for name in archive.namelist()} == FILES


def test_an_entry_of_more_than_four_gigabytes_is_zip64(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit lowered, as four gigabytes take too long."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    data = written()
    assert directory(data).starts()["0/image/c/0/10/0"] == data.index(b"tenten")


@pytest.mark.parametrize("length", [0, 4, 6, 5000])
def test_an_entry_that_is_not_as_large_as_it_says_is_refused(length: int) -> None:
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        write_zip(Taking(), [Entry("a.bin", 5, [bytes(length)])])


def test_nothing_is_written_after_an_error() -> None:
    for most in (0, 10, 60, 200, 1000):
        sink = Taking(most)
        with pytest.raises(StorageError, match="no room"):
            write_zip(sink, entries())
        assert b"PK\5\6" not in sink.data, "no list of entries makes a whole of it"

    def failing() -> object:
        yield b"some"
        raise KeyboardInterrupt

    sink = Taking()
    with pytest.raises(KeyboardInterrupt):
        write_zip(sink, [Entry("a", 1000, failing())])  # type: ignore[arg-type]
    assert b"PK\5\6" not in sink.data


# --- reading ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.dictionaries(st.text("abc/.ü", min_size=1, max_size=8), st.binary(max_size=60), max_size=6),
    st.booleans(),
    st.integers(1, 400),
)
def test_starts_are_known_without_reading(files: dict[str, bytes], ozx: bool, tail: int) -> None:
    files = {name: data for name, data in files.items() if not name.endswith("/") and not name.startswith("/")}
    data = written(files, ozx=ozx)
    found = directory(data, tail)
    assert found.starts() == {name: found.start(entry) for name, entry in found.entries.items()}
    for name, start in found.starts().items():
        assert data[start : start + len(files[name])] == files[name]


def test_what_wsistore_did_not_write_is_not_guessed_at() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1000))
    with pytest.raises(IntegrityError, match="not as wsistore writes it"):
        directory(packed.getvalue()).starts()
    odd = io.BytesIO()
    with zipfile.ZipFile(odd, "w") as archive:
        info = zipfile.ZipInfo("a")
        info.extra = b"\x99\x99\x04\x00abcd"
        archive.writestr(info, b"data")
    with pytest.raises(IntegrityError, match="not as wsistore writes it"):
        directory(odd.getvalue()).starts()


def test_a_list_of_a_hostile_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written({str(number): b"" for number in range(100)})
    monkeypatch.setattr(zips, "MOST_LIST_BYTES", 1000)
    with pytest.raises(IntegrityError, match="list of entries"):
        directory(data)


@settings(max_examples=300)
@given(st.data())
def test_garbled_archives_are_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(written(ozx=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(max(0, len(content) - 700), len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    try:
        starts = directory(bytes(content)).starts()
    except IntegrityError:
        return
    assert all(0 <= start <= len(content) for start in starts.values())


# --- a packed attempt -------------------------------------------------------------------------------------------------


@pytest.fixture
def tier() -> MemoryStorage:
    storage = MemoryStorage()
    recorded = []
    for name, data in FILES.items():
        for tree in (PLACE.store, PLACE.private):
            storage.put(tree + name, data)
            recorded.append(tree + name)
    storage.put("store/other/x", b"other")
    with Recorder(storage) as recorder:
        records = [_record(storage, key) for key in recorded]
        pack(storage, PLACE, records, recorder)
    for key in recorded:
        storage.delete(key)
    assert [record.key for record in recorder.records] == [private_archive(PLACE), store_archive(PLACE)]
    assert all(record == _record(storage, record.key) for record in recorder.records)
    return storage


def _record(storage: MemoryStorage, key: str) -> ObjectRecord:
    data = storage.get(key)
    return ObjectRecord(key, len(data), hashlib.sha256(data).hexdigest())


def test_a_packed_attempt_looks_as_if_it_were_not(tier: MemoryStorage) -> None:
    view = PackedView(tier, PLACE)
    for tree in (PLACE.store, PLACE.private):
        assert {info.key: info.size_bytes for info in view.list(tree)} == {tree + n: len(d) for n, d in FILES.items()}
        for name, data in FILES.items():
            key = tree + name
            assert view.get(key) == data
            assert view.get(key, Span(2, 10)) == data[2:12]
            assert view.get(key, Span(len(data) + 5, 10)) == b""
            assert view.get(key, Tail(3)) == data[-3:]
            assert view.get_many(key, [Span(1, 4), Span(0, 2), Span(0, 99999)]) == [data[1:5], data[:2], data]
            assert b"".join(map(bytes, view.stream(key, block_bytes=7))) == data
            assert view.head(key).size_bytes == len(data)
            holder, start = view.resolve(key)
            assert tier.get(holder)[start : start + len(data)] == data
    assert [info.key for info in view.list(PLACE.store + "0/", after=PLACE.store + "0/image/c/0/9/0")] == [
        PLACE.store + "0/image/zarr.json", PLACE.store + "0/zarr.json"
    ]  # fmt: skip


def test_other_keys_are_passed_on(tier: MemoryStorage) -> None:
    view = PackedView(tier, PLACE)
    assert view.get("store/other/x") == b"other"
    assert view.get(store_archive(PLACE)) == tier.get(store_archive(PLACE))
    assert view.resolve("store/other/x") == ("store/other/x", 0)
    with pytest.raises(ObjectMissingError, match="nothing"):
        view.get(PLACE.store + "nothing")
    with pytest.raises(StorageError) as caught:
        view.put("store/other/y", b"")
    assert caught.value.kind is Kind.STORAGE_DENIED


@pytest.mark.parametrize("archive", [store_archive(PLACE), private_archive(PLACE)])
def test_a_damaged_list_or_a_missing_archive_is_named(tier: MemoryStorage, archive: str) -> None:
    key = archive.rsplit("/", 1)[0] + "/zarr.json"
    data = tier.get(archive)
    for damaged in (data[:-150], data[:-200], b"", data[:100], data.replace(b"PK\1\2", b"PK\1\3", 1)):
        tier.put(archive, damaged)
        with pytest.raises(IntegrityError, match=archive):
            PackedView(tier, PLACE).get(key)
    tier.delete(archive)
    with pytest.raises(IntegrityError, match=f"{archive} is missing"):
        PackedView(tier, PLACE).get(key)


def test_a_view_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    local = LocalStorage(tmp_path, durable=False)
    local.put(store_archive(PLACE), written(ozx=True))
    view = PackedView(local, PLACE)
    assert view.get(PLACE.store + "zarr.json") == b"{}"
    again = pickle.loads(pickle.dumps(view))
    assert again.get(PLACE.store + "0/image/c/0/9/0") == b"nine"


def test_an_object_that_is_not_what_was_recorded_is_not_packed() -> None:
    storage = MemoryStorage()
    storage.put(PLACE.store + "zarr.json", b"{}")
    record = ObjectRecord(PLACE.store + "zarr.json", 2, "0" * 64)
    with pytest.raises(IntegrityError, match="not what was recorded"), Recorder(storage) as recorder:
        pack(storage, PLACE, [record], recorder)
    with pytest.raises(IntegrityError, match="missing"), Recorder(storage) as recorder:
        pack(storage, PLACE, [ObjectRecord(PLACE.store + "gone", 2, "0" * 64)], recorder)
    assert [info.key for info in storage.list()] == [PLACE.store + "zarr.json"], "no archive appears"


def test_a_slide_that_is_not_there_is_said_to_be_missing_as_before() -> None:
    for packed in (None, False, True):
        with pytest.raises(IntegrityError, match="missing"):
            open_stored(MemoryStorage(), PLACE, packed=packed)


def test_an_entry_without_a_name_is_damage() -> None:
    sink = Taking()
    write_ozx(sink, [Entry("a", 3, [b"abc"])])
    data = bytes(sink.data)
    at = data.index(b"PK\1\2") + 46
    data = data[:at] + b"\0" + data[at + 1 :]  # a name ends where there is a zero

    def ranges(start: int, length: int) -> bytes:
        return data[start : start + length]

    with pytest.raises(IntegrityError, match="damaged"):
        ZipDirectory(
            cast(BinaryIO, ListFile(len(data), data, ranges)), ranges, lambda what: IntegrityError(f"damaged: {what}")
        )
