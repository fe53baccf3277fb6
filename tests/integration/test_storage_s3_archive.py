"""Archive classes of S3: the calls of the API reference against a service that keeps to it, and copies on Ceph RGW."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.s3_archive_stub import Service, archive_service
from tests.s3_kit import S3Bucket, S3Server
from wsistore.errors import Kind, ObjectArchivedError, ObjectMissingError, StorageError, TransientError
from wsistore.storage import s3_archive
from wsistore.storage.archive import Retrieval, archive_of, same_bytes
from wsistore.storage.base import ArchiveState, Readiness, Span
from wsistore.storage.retry import RetryPolicy, RetryStorage
from wsistore.storage.s3 import S3Storage
from wsistore.storage.s3_options import S3Options
from wsistore.storage.s3_providers import PROVIDERS, provider_of
from wsistore.testing.clock import ManualClock
from wsistore.units import MIB

HOUR = 3600.0
DATA = b"a slide's bytes"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(params=[False, True], ids=["plain", "versions"])
def stub(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[tuple[Service, S3Options]]:
    with archive_service(clock, versions=request.param) as started:
        yield started


@pytest.fixture
def service(stub: tuple[Service, S3Options]) -> Service:
    return stub[0]


@pytest.fixture
def storage(stub: tuple[Service, S3Options], clock: ManualClock) -> S3Storage:
    return S3Storage(stub[1], clock=clock)


def archived(storage: S3Storage, key: str = "store/a/b.ozx", storage_class: str = "GLACIER") -> str:
    storage.put(key, DATA)
    storage.transition(key, storage_class)
    return key


class TestRestore:
    def test_an_object_comes_back_for_the_days_that_were_asked_for(
        self, storage: S3Storage, clock: ManualClock
    ) -> None:
        key = archived(storage)
        assert storage.look(key).archive == ArchiveState(Readiness.ARCHIVED)

        assert storage.begin_restore(key, days=2, retrieval=Retrieval.STANDARD).readiness is Readiness.RESTORING
        clock.advance(5 * HOUR - 1)
        assert storage.look(key).archive.readiness is Readiness.RESTORING
        clock.advance(1)
        assert storage.look(key).archive == ArchiveState(Readiness.RESTORED, clock.now() + timedelta(days=2))
        assert storage.get(key) == DATA
        clock.advance(48 * HOUR)
        assert storage.look(key).archive == ArchiveState(Readiness.ARCHIVED)

    def test_reading_what_is_archived_says_so_at_once_and_is_not_repeated(
        self, storage: S3Storage, service: Service, clock: ManualClock
    ) -> None:
        key = archived(storage)
        tried = RetryStorage(storage, clock=clock, rng=random.Random(1))

        def stream() -> bytes:
            return b"".join(map(bytes, tried.stream(key)))

        for read in (lambda: tried.get(key), lambda: tried.get_many(key, [Span(0, 1)]), stream):
            before = len(service.requests)
            with pytest.raises(ObjectArchivedError) as caught:
                read()
            assert caught.value.kind is Kind.OBJECT_ARCHIVED
            assert key in caught.value.message
            assert "wsistore recall" in caught.value.remedy
            assert service.requests[before:].count("GetObject") == 1
        assert tried.head(key).size_bytes == len(DATA)

    @pytest.mark.parametrize(
        ("storage_class", "retrieval", "hours"),
        [("GLACIER", "expedited", 5 / 60), ("GLACIER", "bulk", 12), ("DEEP_ARCHIVE", "standard", 12),
         ("DEEP_ARCHIVE", "bulk", 48)],
    )  # fmt: skip
    def test_the_retrieval_is_asked_for_by_its_name(
        self, storage: S3Storage, clock: ManualClock, storage_class: str, retrieval: str, hours: float
    ) -> None:
        key = archived(storage, storage_class=storage_class)
        storage.begin_restore(key, days=1, retrieval=Retrieval(retrieval))
        clock.advance(hours * HOUR - 1)
        assert not storage.look(key).archive.is_readable
        clock.advance(1)
        assert storage.look(key).archive.is_readable

    def test_a_way_that_the_class_has_not_is_refused_before_anything_is_asked(
        self, storage: S3Storage, service: Service
    ) -> None:
        key = archived(storage, storage_class="DEEP_ARCHIVE")
        with pytest.raises(StorageError, match="expedited") as caught:
            storage.begin_restore(key, days=1, retrieval=Retrieval.EXPEDITED)
        assert "standard, bulk" in caught.value.remedy
        with pytest.raises(StorageError, match="0 days"):
            storage.begin_restore(key, days=0, retrieval=Retrieval.BULK)
        assert "RestoreObject" not in service.requests

    def test_asking_twice_costs_one_request(self, storage: S3Storage, service: Service, clock: ManualClock) -> None:
        key = archived(storage)
        for _ in range(3):
            state = storage.begin_restore(key, days=1, retrieval=Retrieval.BULK)
            assert state.readiness is Readiness.RESTORING
        assert service.requests.count("RestoreObject") == 1
        clock.advance(12 * HOUR)
        assert storage.begin_restore(key, days=1, retrieval=Retrieval.BULK).readiness is Readiness.RESTORED
        assert service.requests.count("RestoreObject") == 1

    def test_a_longer_time_is_asked_for_and_a_shorter_one_is_not(self, storage: S3Storage, clock: ManualClock) -> None:
        key = archived(storage)
        storage.begin_restore(key, days=1, retrieval=Retrieval.BULK)
        clock.advance(13 * HOUR)
        longer = storage.begin_restore(key, days=9, retrieval=Retrieval.BULK)
        assert longer == ArchiveState(Readiness.RESTORED, clock.now() + timedelta(days=9))
        assert storage.begin_restore(key, days=2, retrieval=Retrieval.BULK) == longer

    def test_somebody_else_was_faster(self, storage: S3Storage, service: Service) -> None:
        key = archived(storage)
        real = storage.look
        first = real(key)
        storage.begin_restore(key, days=1, retrieval=Retrieval.BULK)
        answers = iter([first])  # as it was before the other asked
        storage.look = lambda key, *, version=None: next(answers, None) or real(key, version=version)  # type: ignore[method-assign]
        state = storage.begin_restore(key, days=1, retrieval=Retrieval.BULK)
        assert service.requests.count("RestoreObject") == 2  # the second was answered RestoreAlreadyInProgress
        assert state.readiness is Readiness.RESTORING

    def test_no_capacity_for_expedited_retrievals_may_pass(
        self, storage: S3Storage, service: Service, clock: ManualClock
    ) -> None:
        key = archived(storage)
        service.has_expedited_capacity = False
        with pytest.raises(TransientError, match="GlacierExpeditedRetrievalNotAvailable") as caught:
            storage.begin_restore(key, days=1, retrieval=Retrieval.EXPEDITED)
        assert "standard" in caught.value.remedy

    def test_a_lost_reply_is_repeated(self, storage: S3Storage, service: Service, clock: ManualClock) -> None:
        key = archived(storage)
        service.lose_replies_of.add("RestoreObject")
        tried = RetryStorage(storage, clock=clock, rng=random.Random(1), policy=RetryPolicy(attempts=2))
        assert tried.begin_restore(key, days=1, retrieval=Retrieval.BULK).readiness is Readiness.RESTORING
        assert service.requests.count("RestoreObject") == 1

    def test_what_is_readable_anyway_is_left_alone(self, storage: S3Storage, service: Service) -> None:
        storage.put("a", DATA)
        assert storage.begin_restore("a", days=1, retrieval=Retrieval.BULK) == ArchiveState()
        storage.transition("a", "STANDARD_IA")
        assert storage.begin_restore("a", days=1, retrieval=Retrieval.BULK) == ArchiveState()
        assert "RestoreObject" not in service.requests

    def test_what_is_not_there_is_missing(self, storage: S3Storage) -> None:
        with pytest.raises(ObjectMissingError):
            storage.begin_restore("nothing", days=1, retrieval=Retrieval.BULK)
        with pytest.raises(ObjectMissingError):
            storage.look("nothing")
        with pytest.raises(ObjectMissingError):
            storage.transition("nothing", "GLACIER")

    def test_scaleway_is_not_told_a_tier(self, stub: tuple[Service, S3Options], clock: ManualClock) -> None:
        storage = S3Storage(replace(stub[1], provider="scaleway"), clock=clock)
        key = archived(storage)
        assert storage.retrievals("GLACIER") == (Retrieval.STANDARD,)
        storage.begin_restore(key, days=3, retrieval=Retrieval.STANDARD)
        assert b"Tier" not in stub[0].bodies[-1]
        assert b"<Days>3</Days>" in stub[0].bodies[-1]


class TestTransition:
    def test_bytes_metadata_and_etag_stay(self, storage: S3Storage, service: Service) -> None:
        before = storage.put("a", DATA)
        service.put_back("a", service.kept["a"][-1], replace(service.kept["a"][-1], headers={"x-amz-meta-own": "1"}))
        after = storage.transition("a", "STANDARD_IA", version=before.version, etag=before.etag)
        assert same_bytes(before, after)
        assert (after.storage_class, after.archive) == ("STANDARD_IA", ArchiveState())
        assert (after.version != before.version) == service.versions
        assert storage.get("a") == DATA
        assert service.kept["a"][-1].headers == {"x-amz-meta-own": "1"}
        assert storage.look("a") == after

    def test_parts_are_copied_as_they_were_so_that_the_etag_stays(self, storage: S3Storage, service: Service) -> None:
        data = random.Random(5).randbytes(17 * MIB)
        with storage.upload("big") as upload:
            upload.write(data)
            before = upload.complete()
        kept = service.kept["big"][-1]
        after = storage.transition("big", "DEEP_ARCHIVE")
        assert service.requests.count("UploadPartCopy") == 3
        assert before.etag is not None
        assert before.etag.endswith('-3"')
        assert same_bytes(before, after)
        assert service.kept["big"][-1].data == data
        assert service.kept["big"][-1].headers == kept.headers
        assert not service.uploads

    def test_what_is_too_large_for_one_copy_goes_in_parts(
        self, storage: S3Storage, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_archive, "WHOLE_BYTES", 10)
        monkeypatch.setattr(s3_archive, "_COPIED_PART_BYTES", 4)
        before = storage.put("a", DATA)
        after = storage.transition("a", "GLACIER")
        assert service.kept["a"][-1].data == DATA
        assert service.requests.count("UploadPartCopy") == 4
        assert after.size_bytes == before.size_bytes
        assert not same_bytes(before, after)  # a whole object's ETag says nothing of parts: the caller must not believe

    def test_moving_twice_moves_once(self, storage: S3Storage, service: Service) -> None:
        before = storage.put("a", DATA)
        first = storage.transition("a", "GLACIER", version=before.version)
        again = storage.transition("a", "GLACIER", version=before.version)
        assert again == first
        assert service.requests.count("CopyObject") == 1

    @pytest.mark.parametrize("lost", ["CopyObject", "CompleteMultipartUpload", "UploadPartCopy"])
    def test_a_lost_reply_makes_no_second_version(
        self, storage: S3Storage, service: Service, clock: ManualClock, lost: str
    ) -> None:
        with storage.upload("a") as upload:
            upload.write(DATA if lost == "CopyObject" else bytes(9 * MIB))
            before = upload.complete()
        service.lose_replies_of.add(lost)
        tried = RetryStorage(storage, clock=clock, rng=random.Random(1))
        after = tried.transition("a", "GLACIER", version=before.version, etag=before.etag)
        assert same_bytes(before, after)
        assert len(service.kept["a"]) == (2 if service.versions else 1)
        assert not service.uploads

    def test_another_object_than_was_meant_is_not_moved(self, storage: S3Storage, service: Service) -> None:
        before = storage.put("a", DATA)
        storage.put("a", b"something else")
        with pytest.raises(StorageError, match="no longer what it was"):
            storage.transition("a", "GLACIER", etag=before.etag)
        assert "CopyObject" not in service.requests

    def test_what_is_replaced_while_it_is_moved_is_not_moved(
        self, storage: S3Storage, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.put("a", DATA)
        real = storage._source

        def source(key: str, before: object) -> dict[str, object]:
            if not service.versions:
                service.write("a", b"something else", {})
            return real(key, before)  # type: ignore[arg-type]

        monkeypatch.setattr(storage, "_source", source)
        if service.versions:  # the version is named: nobody can replace it
            assert storage.transition("a", "GLACIER").size_bytes == len(DATA)
        else:
            with pytest.raises(TransientError, match="replaced"):
                storage.transition("a", "GLACIER")
            assert service.kept["a"][-1].storage_class == "STANDARD"

    def test_from_one_archive_to_another_it_must_be_restored_first(
        self, storage: S3Storage, service: Service, clock: ManualClock
    ) -> None:
        key = archived(storage)
        with pytest.raises(ObjectArchivedError):
            storage.transition(key, "DEEP_ARCHIVE")
        storage.begin_restore(key, days=1, retrieval=Retrieval.BULK)
        clock.advance(12 * HOUR)
        back = storage.transition(key, "STANDARD")
        assert (back.storage_class, back.archive) == (None, ArchiveState())
        assert storage.get(key) == DATA

    def test_an_unfinished_move_leaves_no_parts(self, storage: S3Storage, service: Service) -> None:
        with storage.upload("a") as upload:
            upload.write(bytes(17 * MIB))
            upload.complete()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "_part_retrier", _Never())
            with pytest.raises(TransientError, match="part"):
                storage.transition("a", "GLACIER")
        assert not service.uploads
        assert service.kept["a"][-1].storage_class == "STANDARD"


class _Never:
    def call(self, _: object) -> None:
        msg = "No part came through."
        raise TransientError(msg)


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [("https://s3.eu-west-3.amazonaws.com", "aws"), ("https://s3.fr-par.scw.cloud", "scaleway"),
     ("https://s3.eu-west-par.io.cloud.ovh.net", "ovh"), ("https://rgw.hospital.example", "other"),
     ("https://amazonaws.com.hospital.example", "other")],
)  # fmt: skip
def test_an_endpoint_tells_the_provider(endpoint: str, name: str) -> None:
    assert provider_of(None, endpoint) is PROVIDERS[name]
    assert provider_of("scaleway", endpoint) is PROVIDERS["scaleway"]


@pytest.mark.parametrize("versions", [False, True], ids=["plain", "versions"])
class TestRealServer:
    @pytest.fixture
    def bucket(self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, versions: bool) -> Iterator[S3Bucket]:
        with s3_server.bucket(versions=versions) as bucket, s3_server.credentials(monkeypatch):
            yield bucket

    def test_a_copy_to_another_class_keeps_the_bytes(self, bucket: S3Bucket, versions: bool) -> None:
        storage = S3Storage(bucket.options("tier"))
        assert archive_of(storage) is storage
        data = random.Random(7).randbytes(17 * MIB)
        with storage.upload("big") as upload:
            upload.write(data)
            upload.complete()
        storage.put("small", DATA)
        for key, content in (("big", data), ("small", DATA)):
            before = storage.look(key)
            after = storage.transition(key, "GLACIER", version=before.version, etag=before.etag)
            assert same_bytes(before, after)
            assert after.storage_class == "GLACIER"
            assert after.archive == ArchiveState()  # another pool of disks: read at once
            assert storage.get(key) == content
            assert storage.transition(key, "GLACIER", version=before.version) == after
            assert len(list(storage.versions(key))) == (2 if versions else 1)
            if versions:
                assert storage.get(key, version=before.version) == content
        assert bucket.uploads() == []

    def test_it_has_no_restores(self, bucket: S3Bucket) -> None:
        storage = S3Storage(bucket.options(provider="aws"))
        storage.put("a", DATA)
        storage.transition("a", "GLACIER")
        with pytest.raises(StorageError, match="501") as caught:
            storage.begin_restore("a", days=1, retrieval=Retrieval.BULK)
        assert "does not offer" in caught.value.remedy
