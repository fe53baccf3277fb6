"""Buckets behind a network that fails: what is reported as done is done, and what failed in passing comes through."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.s3_kit import S3Bucket
from tests.s3_proxy import Action, Answer, CutBody, Delay, FlipSent, LoseReply, Proxy, Refuse, Rule, proxy
from wsistore.errors import FullError, Kind, ObjectExistsError, ObjectMissingError, StorageError, TransientError
from wsistore.storage.base import Span, Storage, Tail
from wsistore.storage.retry import RetryStorage
from wsistore.storage.s3 import S3Storage
from wsistore.testing.clock import ManualClock
from wsistore.units import MIB

DATA = np.random.default_rng(7).bytes(20 * MIB + 321)
SMALL = DATA[:100_000]

PASSING: dict[str, Action] = {
    "500": Answer(500, "InternalError"),
    "502": Answer(502),
    "503": Answer(503, "SlowDown"),
    "429": Answer(429, "TooManyRequests"),
    "504": Answer(504),
    "refused": Refuse(),
    "lost-reply": LoseReply(),
}


@pytest.fixture
def faulty(s3_bucket: S3Bucket) -> Iterator[Proxy]:
    with proxy(s3_bucket.server.endpoint) as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def bare(s3_bucket: S3Bucket, faulty: Proxy, clock: ManualClock) -> S3Storage:
    return S3Storage(s3_bucket.options("tier", endpoint=faulty.endpoint), clock=clock)


@pytest.fixture
def storage(bare: S3Storage, clock: ManualClock) -> Storage:
    return RetryStorage(bare, clock=clock, rng=random.Random(1))


# --- deleting many ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [*PASSING.values(), Answer(501, "NotImplemented"), Answer(403, "AccessDenied")])
def test_what_cannot_be_deleted_at_once_is_deleted_one_by_one(
    bare: S3Storage, faulty: Proxy, s3_bucket: S3Bucket, action: Action
) -> None:
    keys = ["a", "b c&<x>é", "d/e", "nothing"]
    for key in (*keys[:3], "stays"):
        s3_bucket.put(f"tier/{key}", b"x")
    faulty.rules += [Rule("^POST", action)]
    bare.delete_many(keys)
    assert s3_bucket.keys() == {"tier/stays"}


def test_deletion_that_is_refused_says_so(bare: S3Storage, faulty: Proxy, s3_bucket: S3Bucket) -> None:
    for key in ("a", "b"):
        s3_bucket.put(f"tier/{key}", b"x")
    no = Answer(403, "AccessDenied")
    faulty.rules += [Rule("^POST", no), Rule(r"^DELETE .*/b(\?|$)", no)]
    with pytest.raises(StorageError) as caught:
        bare.delete_many(["a", "b"])
    assert caught.value.kind is Kind.STORAGE_DENIED
    assert "'b'" in caught.value.message
    assert s3_bucket.keys() == {"tier/b"}


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("if_absent", [False, True])
def test_put_comes_through(storage: Storage, faulty: Proxy, s3_bucket: S3Bucket, name: str, if_absent: bool) -> None:
    faulty.rules += [Rule("PUT .*/a", PASSING[name], times=2)]
    info = storage.put("a", SMALL, if_absent=if_absent)
    assert s3_bucket.get("tier/a") == SMALL
    assert replace(info, modified=storage.head("a").modified) == storage.head("a")
    assert faulty.count("^PUT") == 3


def test_conditional_put_whose_reply_was_lost_knows_its_own_from_another(
    storage: Storage, faulty: Proxy, s3_bucket: S3Bucket
) -> None:
    s3_bucket.put("tier/a", b"another's")
    faulty.rules += [Rule("PUT", LoseReply())]
    with pytest.raises(ObjectExistsError):
        storage.put("a", b"mine", if_absent=True)
    assert s3_bucket.get("tier/a") == b"another's"


def test_put_that_never_arrives_is_no_success(storage: Storage, faulty: Proxy, s3_bucket: S3Bucket) -> None:
    faulty.rules += [Rule("PUT", Refuse(), times=100)]
    with pytest.raises(TransientError):
        storage.put("a", SMALL)
    assert s3_bucket.keys() == set()


def test_put_damaged_on_its_way_is_refused_and_sent_again(bare: S3Storage, faulty: Proxy, s3_bucket: S3Bucket) -> None:
    for size in (100_000, 9 * MIB):  # one through each library
        faulty.rules[:] = [Rule("PUT", FlipSent())]
        with pytest.raises(TransientError):
            bare.put("a", DATA[:size])
        assert s3_bucket.keys() == set()
        faulty.rules[:] = [Rule("PUT", FlipSent())]
        RetryStorage(bare, clock=ManualClock(), rng=random.Random(1)).put("a", DATA[:size])
        assert s3_bucket.get("tier/a") == DATA[:size]
        bare.delete("a")


@pytest.mark.parametrize("name", [*PASSING, "damaged"])
@pytest.mark.parametrize("step", ["POST .*uploads", "PUT .*partNumber=2", "POST .*uploadId"])
def test_upload_comes_through(storage: Storage, faulty: Proxy, s3_bucket: S3Bucket, step: str, name: str) -> None:
    faulty.rules += [Rule(step, PASSING.get(name, FlipSent()), times=2)]
    with storage.upload("a") as upload:
        for start in range(0, len(DATA), 3 * MIB):
            upload.write(DATA[start : start + 3 * MIB])
        if name == "damaged" and step == "POST .*uploadId":
            # The list of parts is no body that a checksum guards: the server finds it malformed, which is final.
            with suppress(StorageError):
                upload.complete()
            return
        info = upload.complete()
    assert info == storage.head("a")
    assert info.size_bytes == len(DATA)
    assert s3_bucket.get("tier/a") == DATA
    lost_starts = 2 if name == "lost-reply" and step == "POST .*uploads" else 0
    assert len(s3_bucket.uploads()) == lost_starts  # what nobody knows of is found by its age


def test_small_upload_is_one_put(storage: Storage, faulty: Proxy, s3_bucket: S3Bucket) -> None:
    with storage.upload("a") as upload:
        upload.write(DATA[: 8 * MIB])
        upload.complete()
    assert s3_bucket.get("tier/a") == DATA[: 8 * MIB]
    assert faulty.count("^PUT") == 1
    assert faulty.count("^POST") == 0


def test_upload_that_cannot_be_sent_leaves_nothing(storage: Storage, faulty: Proxy, s3_bucket: S3Bucket) -> None:
    faulty.rules += [Rule("PUT .*partNumber=2", Answer(403, "AccessDenied"), times=100)]
    with pytest.raises(StorageError) as caught, storage.upload("a") as upload:  # noqa: PT012 - any of its calls
        upload.write(DATA)
        upload.complete()
    assert caught.value.kind is Kind.STORAGE_DENIED
    assert s3_bucket.keys() == set()


def test_completing_another_object_than_ones_own_is_no_success(
    storage: Storage, faulty: Proxy, s3_bucket: S3Bucket
) -> None:
    """The reply to the first attempt is lost, the upload gone before the second, and the key another's object."""
    faulty.rules += [Rule("POST .*uploadId", Refuse())]
    with pytest.raises(StorageError), storage.upload("a") as upload:  # noqa: PT012 - the last of its calls
        upload.write(DATA)
        with pytest.raises(TransientError):
            upload._inner.complete()  # type: ignore[attr-defined]
        for key, upload_id in s3_bucket.uploads():
            s3_bucket.client.abort_multipart_upload(Bucket=s3_bucket.name, Key=key, UploadId=upload_id)
        s3_bucket.put("tier/a", DATA)
        upload.complete()
    assert s3_bucket.get("tier/a") == DATA


def test_sixteen_threads_race_for_twenty_keys(s3_bucket: S3Bucket) -> None:
    _race(s3_bucket)


def test_sixteen_threads_race_where_versions_are_kept(s3_bucket: S3Bucket) -> None:
    """Ceph RGW 16 ignores If-None-Match there, so that this shows what is done about it."""
    s3_bucket.client.put_bucket_versioning(Bucket=s3_bucket.name, VersioningConfiguration={"Status": "Enabled"})
    _race(s3_bucket)


def _race(bucket: S3Bucket) -> None:
    storage = RetryStorage(S3Storage(bucket.options()), clock=ManualClock(), rng=random.Random(1))
    start = threading.Barrier(16)

    def race(number: int) -> list[str]:
        start.wait()
        won = []
        for turn in range(20):
            with suppress(ObjectExistsError):
                storage.put(f"commits/{turn}/1.json", f"{number}".encode() * 100, if_absent=True)
                won.append(f"commits/{turn}/1.json")
        return won

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(race, range(16)))
    assert sorted(key for keys in won for key in keys) == sorted(f"commits/{turn}/1.json" for turn in range(20))
    for number, keys in enumerate(won):
        for key in keys:
            assert bucket.get(key) == f"{number}".encode() * 100


# --- reading ---------------------------------------------------------------------------------------------------------

READS: dict[str, tuple[Callable[[Storage], object], object]] = {
    "get": (lambda storage: storage.get("a"), DATA),
    "range": (lambda storage: storage.get("a", Span(9 * MIB, 50)), DATA[9 * MIB : 9 * MIB + 50]),
    "tail": (lambda storage: storage.get("a", Tail(77_777)), DATA[-77_777:]),
    "get_many": (
        lambda storage: storage.get_many("a", [Span(0, 5), Span(15 * MIB, 6)]),
        [DATA[:5], DATA[15 * MIB : 15 * MIB + 6]],
    ),
    "stream": (lambda storage: b"".join(bytes(block) for block in storage.stream("a", block_bytes=5 * MIB)), DATA),
    "head": (lambda storage: storage.head("a").size_bytes, len(DATA)),
    "list": (lambda storage: [info.key for info in storage.list()], ["a"]),
}


@pytest.mark.parametrize("name", [*PASSING, "cut"])
@pytest.mark.parametrize("read", READS)
def test_reading_comes_through(storage: Storage, faulty: Proxy, s3_bucket: S3Bucket, read: str, name: str) -> None:
    s3_bucket.put("tier/a", DATA)
    act, expected = READS[read]
    assert storage.properties.conditional_put  # asks the bucket, once
    faulty.rules += [Rule("(GET|HEAD)", PASSING.get(name, CutBody()), times=2)]
    assert act(storage) == expected


def test_service_that_is_silent_is_not_waited_for(bare: S3Storage, faulty: Proxy, s3_bucket: S3Bucket) -> None:
    s3_bucket.put("tier/a", SMALL)
    faulty.rules += [Rule("GET", Delay(8.0))]
    impatient = S3Storage(s3_bucket.options("tier", endpoint=faulty.endpoint, read_timeout_seconds=2.0))
    with pytest.raises(TransientError, match="in time"):
        impatient.get("a")
    assert bare.get("a") == SMALL


def test_stream_repeats_its_own_pieces_only(storage: Storage, faulty: Proxy, s3_bucket: S3Bucket) -> None:
    s3_bucket.put("tier/a", DATA)
    faulty.rules += [Rule("GET", CutBody(), skip=1)]
    assert b"".join(bytes(block) for block in storage.stream("a")) == DATA
    assert faulty.count("GET .*/tier/a") == 4  # three pieces, one of them twice


def test_object_that_changes_under_a_stream_is_an_error(bare: S3Storage, s3_bucket: S3Bucket) -> None:
    big = DATA * 3
    s3_bucket.put("tier/a", big)
    stream = bare.stream("a")
    assert bytes(next(stream)) == big[: 8 * MIB]
    s3_bucket.put("tier/a", big[::-1])
    with pytest.raises(TransientError, match="replaced"):
        for _ in stream:
            pass


# --- what the answers mean -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_retry_after_is_honoured(
    storage: Storage, faulty: Proxy, s3_bucket: S3Bucket, clock: ManualClock, method: str, status: int
) -> None:
    s3_bucket.put("tier/a", SMALL)
    faulty.rules += [Rule("(GET|PUT)", Answer(status, "SlowDown", retry_after="17"), times=2)]
    before = clock.now()
    if method == "GET":
        assert storage.get("a") == SMALL
    else:
        storage.put("a", SMALL)
    assert clock.now() - before >= timedelta(seconds=17)


ANSWERS: list[tuple[Answer, type[StorageError], Kind, str]] = [
    (Answer(403, "AccessDenied"), StorageError, Kind.STORAGE_DENIED, "403 AccessDenied"),
    (Answer(403, "RequestTimeTooSkewed"), StorageError, Kind.STORAGE_DENIED, "clock"),
    (Answer(403, "SignatureDoesNotMatch"), StorageError, Kind.STORAGE_DENIED, "access key"),
    (Answer(403, "QuotaExceeded"), FullError, Kind.STORAGE_FULL, "quota"),
    (Answer(507, ""), FullError, Kind.STORAGE_FULL, "507"),
    (Answer(301, "PermanentRedirect"), StorageError, Kind.SETTINGS_INVALID, "region"),
    (Answer(400, "AuthorizationHeaderMalformed"), StorageError, Kind.SETTINGS_INVALID, "region"),
    (Answer(404, "NoSuchBucket"), StorageError, Kind.TIER_MISSING, "bucket"),
    (Answer(400, "RequestTimeout"), TransientError, Kind.STORAGE_TRANSIENT, "400"),
    (Answer(409, "OperationAborted"), TransientError, Kind.STORAGE_TRANSIENT, "409"),
    (Answer(501, "NotImplemented"), StorageError, Kind.STORAGE_FAILED, "501"),
]


def _upload(storage: Storage) -> None:
    with storage.upload("a") as upload:
        upload.write(SMALL)
        upload.complete()


ACTS: dict[str, Callable[[Storage], object]] = {
    "get": lambda storage: storage.get("a"),
    "head": lambda storage: storage.head("a"),
    "put": lambda storage: storage.put("a", SMALL),
    "upload": _upload,
    "list": lambda storage: list(storage.list()),
    "delete": lambda storage: storage.delete("a"),
}


@pytest.mark.parametrize(("answer", "error", "kind", "words"), ANSWERS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("act", ACTS)
def test_answers_mean_the_same_for_every_call(
    bare: S3Storage,
    faulty: Proxy,
    s3_bucket: S3Bucket,
    act: str,
    answer: Answer,
    error: type[StorageError],
    kind: Kind,
    words: str,
) -> None:
    s3_bucket.put("tier/a", SMALL)
    assert not bare.properties.versions  # asks the bucket, once
    faulty.rules += [Rule("", answer, times=1000)]
    with pytest.raises(error) as caught:
        ACTS[act](bare)
    assert type(caught.value) is error
    assert caught.value.kind is kind
    assert words in str(caught.value)
    assert s3_bucket.server.access_key not in str(caught.value)


def test_conflict_of_a_conditional_put_is_no_proof_of_an_object(bare: S3Storage, faulty: Proxy) -> None:
    """AWS answers so when a deletion and a write meet: then there may be no object, and only asking again tells."""
    faulty.rules += [Rule("PUT", Answer(409, "ConditionalRequestConflict"))]
    with pytest.raises(TransientError):
        bare.put("a", SMALL, if_absent=True)
    with pytest.raises(ObjectMissingError):
        bare.head("a")
    bare.put("a", SMALL, if_absent=True)
