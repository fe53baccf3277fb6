"""The contract suite of back ends that archive: every rule of `wsistore.storage.archive`, as tests.

A back end is right if its tests subclass `ArchiveContract`, give the fixtures, and pass. The module needs pytest, which
is not installed with wsistore.
"""

# Tests: their names say what they test, and they assert.
# ruff: noqa: D102, S101

from __future__ import annotations

from collections.abc import Callable

import pytest

from wsistore.errors import Kind, ObjectArchivedError, ObjectMissingError, StorageError
from wsistore.storage.archive import Retrieval, SupportsArchive, archive_of
from wsistore.storage.base import Readiness, Span, Storage, Tail

DATA = bytes(range(256)) * 5
KEY = "store/key/attempt.ozx"


class ArchiveContract:
    """What holds of every archive.

    Subclasses give `storage`, `archive_class`, `finish` and, where copies end by themselves, `expire`.
    """

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    @pytest.fixture
    def archive_class(self) -> str:
        """Return the name of a class that is not read at once."""
        raise NotImplementedError

    @pytest.fixture
    def finish(self) -> Callable[[], None]:
        """Return what lets restores that were asked for come to their end."""
        raise NotImplementedError

    @pytest.fixture
    def expire(self) -> Callable[[], None]:
        """Return what lets copies end that were asked for a day."""
        return pytest.skip("its copies do not end by themselves")

    @pytest.fixture
    def archive(self, storage: Storage) -> SupportsArchive:
        found = archive_of(storage)
        assert found is not None
        return found

    @pytest.fixture
    def way(self, archive: SupportsArchive, archive_class: str) -> Retrieval:
        return archive.retrievals(archive_class)[-1]

    @pytest.fixture
    def archived(self, storage: Storage, archive: SupportsArchive, archive_class: str) -> str:
        storage.put(KEY, DATA)
        archive.transition(KEY, archive_class)
        return KEY

    def test_what_was_written_is_readable(self, storage: Storage, archive: SupportsArchive) -> None:
        storage.put(KEY, DATA)
        info = archive.look(KEY)
        assert info == storage.head(KEY)
        assert info.archive.readiness is Readiness.READABLE
        assert archive.retrievals(info.storage_class) == ()

    def test_a_transition_keeps_what_is_known(
        self, storage: Storage, archive: SupportsArchive, archive_class: str
    ) -> None:
        before = storage.put(KEY, DATA)
        after = archive.transition(KEY, archive_class, version=before.version, etag=before.etag)
        assert (after.size_bytes, after.etag, after.storage_class) == (len(DATA), before.etag, archive_class)
        assert after.archive.readiness is Readiness.ARCHIVED
        assert archive.transition(KEY, archive_class) == after

    def test_an_archived_object_is_named_and_not_read(self, storage: Storage, archived: str) -> None:
        reads: list[Callable[[], object]] = [
            lambda: storage.get(archived),
            lambda: storage.get(archived, Span(0, 1)),
            lambda: storage.get(archived, Tail(1)),
            lambda: storage.get_many(archived, [Span(1, 2), Span(7, 2)]),
            lambda: list(storage.stream(archived)),
            lambda: list(storage.stream(archived, uncached=True)),
        ]
        for read in reads:
            with pytest.raises(ObjectArchivedError) as caught:
                read()
            assert caught.value.kind is Kind.OBJECT_ARCHIVED
            assert archived in caught.value.message
        assert storage.head(archived).size_bytes == len(DATA)
        assert [info.key for info in storage.list()] == [archived]
        assert {info.key for info in storage.versions()} == {archived}

    def test_a_restored_object_is_read_whole(
        self,
        storage: Storage,
        archive: SupportsArchive,
        archived: str,
        way: Retrieval,
        finish: Callable[[], None],
    ) -> None:
        state = archive.begin_restore(archived, days=1, retrieval=way)
        assert state.readiness is Readiness.RESTORING
        assert archive.look(archived).archive.readiness is Readiness.RESTORING
        with pytest.raises(ObjectArchivedError):
            storage.get(archived)
        finish()
        assert archive.look(archived).archive.is_readable
        assert storage.get(archived) == DATA
        assert b"".join(bytes(block) for block in storage.stream(archived)) == DATA
        assert storage.get_many(archived, [Span(3, 4)]) == [DATA[3:7]]

    def test_a_restore_may_be_asked_for_again(
        self, archive: SupportsArchive, archived: str, way: Retrieval, finish: Callable[[], None]
    ) -> None:
        first = archive.begin_restore(archived, days=1, retrieval=way)
        assert archive.begin_restore(archived, days=1, retrieval=way) == first
        finish()
        assert archive.begin_restore(archived, days=1, retrieval=way).is_readable

    def test_a_copy_ends_and_can_be_had_again(
        self,
        storage: Storage,
        archive: SupportsArchive,
        archived: str,
        way: Retrieval,
        finish: Callable[[], None],
        expire: Callable[[], None],
    ) -> None:
        archive.begin_restore(archived, days=1, retrieval=way)
        finish()
        state = archive.look(archived).archive
        assert state.readiness is Readiness.RESTORED
        assert state.until is not None
        expire()
        assert archive.look(archived).archive.readiness is Readiness.ARCHIVED
        with pytest.raises(ObjectArchivedError):
            storage.get(archived)
        archive.begin_restore(archived, days=1, retrieval=way)
        finish()
        assert storage.get(archived) == DATA

    def test_a_longer_copy_is_longer_and_a_shorter_one_is_not(
        self,
        archive: SupportsArchive,
        archived: str,
        way: Retrieval,
        finish: Callable[[], None],
        expire: Callable[[], None],
    ) -> None:
        archive.begin_restore(archived, days=1, retrieval=way)
        finish()
        longer = archive.begin_restore(archived, days=30, retrieval=way)
        assert archive.begin_restore(archived, days=2, retrieval=way) == longer
        expire()
        assert archive.look(archived).archive == longer

    def test_what_is_readable_is_not_restored(self, storage: Storage, archive: SupportsArchive, way: Retrieval) -> None:
        storage.put(KEY, DATA)
        assert archive.begin_restore(KEY, days=1, retrieval=way).readiness is Readiness.READABLE

    def test_what_is_not_there_is_missing(self, archive: SupportsArchive, archive_class: str, way: Retrieval) -> None:
        acts: list[Callable[[], object]] = [
            lambda: archive.look("absent"),
            lambda: archive.begin_restore("absent", days=1, retrieval=way),
            lambda: archive.transition("absent", archive_class),
        ]
        for act in acts:
            with pytest.raises(ObjectMissingError):
                act()

    def test_no_days_are_no_restore(self, archive: SupportsArchive, archived: str, way: Retrieval) -> None:
        with pytest.raises(StorageError, match="0 days"):
            archive.begin_restore(archived, days=0, retrieval=way)
        assert archive.look(archived).archive.readiness is Readiness.ARCHIVED

    def test_an_archived_object_can_be_deleted_and_written_anew(self, storage: Storage, archived: str) -> None:
        storage.delete(archived)
        assert list(storage.list()) == []
        storage.put(archived, b"new")
        assert storage.get(archived) == b"new"

    def test_an_archived_object_can_be_replaced(
        self, storage: Storage, archive: SupportsArchive, archived: str
    ) -> None:
        storage.put(archived, b"replaced")
        assert archive.look(archived).archive.readiness is Readiness.READABLE
        assert storage.get(archived) == b"replaced"
