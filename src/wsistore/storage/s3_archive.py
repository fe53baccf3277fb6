"""Archive classes of an S3 service: restores, and moves to another class that the service makes itself.

A move is a copy of the object onto itself (CopyObject, or UploadPartCopy where that takes no more). An object that was
uploaded in parts is copied in the same parts: then its ETag stays the same, and proves that the service has the same
bytes in the new class. Some services (Ceph RGW 16) ignore the condition that a copy carries, so the object is looked at
before and after.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from wsistore.clock import Clock
from wsistore.errors import StorageError
from wsistore.storage._errors import object_archived
from wsistore.storage.archive import Retrieval, check_restore
from wsistore.storage.base import ArchiveState, ObjectInfo, Readiness
from wsistore.storage.retry import Retrier
from wsistore.storage.s3_control import S3Control
from wsistore.storage.s3_options import S3Options
from wsistore.storage.s3_providers import Provider, provider_of
from wsistore.storage.s3_signing import S3Signing
from wsistore.storage.s3_upload import MAX_PARTS, part_bytes
from wsistore.units import MIB

WHOLE_BYTES = 5_000_000_000
"""The largest object that a service copies in one request."""

_STANDARD = "STANDARD"
_COPIED_PART_BYTES = 512 * MIB
_RESTORE = re.compile(r'\s*ongoing-request="(true|false)"\s*(?:,\s*expiry-date="([^"]*)"\s*)?')
_PARTS = re.compile(r'"?[0-9a-f]{32}-(\d{1,5})"?')


class S3Archive(S3Signing):
    """What `wsistore.storage.s3.S3Storage` can do with archive classes; see `SupportsArchive`."""

    _options: S3Options
    _clock: Clock
    _writers: Executor
    _part_retrier: Retrier

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is."""

    @property
    @abstractmethod
    def _control(self) -> S3Control: ...

    @abstractmethod
    def _versioning(self) -> str | None: ...

    def retrievals(self, storage_class: str | None) -> tuple[Retrieval, ...]:
        """Return the ways back from a class; see `wsistore.storage.archive.SupportsArchive.retrievals`."""
        return self._provider.classes.get(storage_class or _STANDARD, ())

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Return an object's class and state; see `wsistore.storage.archive.SupportsArchive.look`."""
        return self._looked(key, version)[0]

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Ask for a temporary copy; see `wsistore.storage.archive.SupportsArchive.begin_restore`."""
        info = self.look(key, version=version)
        if info.archive.readiness is Readiness.READABLE:
            return info.archive
        check_restore(self.url, key, days, retrieval, self.retrievals(info.storage_class))
        if info.archive.readiness is Readiness.RESTORING or self._lasts(info.archive, days):
            return info.archive
        request: dict[str, Any] = {"Days": days}
        if self._provider.is_tier_sent:
            request["GlacierJobParameters"] = {"Tier": retrieval.value.capitalize()}
        full = self._full(key)
        self._control.request(
            self._control.asked(full, "restored", version=version),
            "restore_object",
            # Somebody else asked a moment ago, or brought it back for good: what is asked next tells.
            ignore=("RestoreAlreadyInProgress", "InvalidObjectState"),
            Key=full,
            RestoreRequest=request,
            **_of(version),
        )
        state = self.look(key, version=version).archive
        return state if state.readiness is not Readiness.ARCHIVED else ArchiveState(Readiness.RESTORING)

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Move an object to another class; see `wsistore.storage.archive.SupportsArchive.transition`."""
        before, metadata = self._looked(key, version)
        if etag is not None and etag != before.etag:
            msg = f"{key!r} in {self.url} is no longer what it was: its ETag is {before.etag}, not {etag}."
            raise StorageError(msg, remedy="Look at what replaced it; nothing was moved.")
        newest = before if version is None else self.look(key)
        if _is_moved(before, newest, storage_class):
            return newest
        if not before.archive.is_readable:
            raise object_archived(self.url, key)
        spans = _spans(before)
        if spans:
            made = self._copy_parts(key, before, storage_class, spans, metadata)
        else:
            made = self._copy_whole(key, before, storage_class)
        after = self.look(key, version=made)
        if after.size_bytes != before.size_bytes or (after.storage_class or _STANDARD) != storage_class:
            msg = f"{key!r} in {self.url} was to be moved to {storage_class}, but is not what it was: {after}."
            raise StorageError(msg, remedy="Look at the service's log before you trust it with slides.")
        return after

    # --- how ---------------------------------------------------------------------------------------------------------

    @property
    def _provider(self) -> Provider:
        return provider_of(self._options.provider, self._control.endpoint)

    def _looked(self, key: str, version: str | None) -> tuple[ObjectInfo, dict[str, Any]]:
        """Return what a HEAD says, and what has to be said again when the object is written anew."""
        full = self._full(key)
        asked = self._control.asked(full, "looked at", version=version)
        answer = self._control.request(asked, "head_object", Key=full, **_of(version))
        found = answer.get("StorageClass")
        storage_class = None if found == _STANDARD else found
        info = ObjectInfo(
            key,
            answer["ContentLength"],
            answer["LastModified"].astimezone(UTC),
            answer.get("ETag"),
            answer.get("VersionId"),
            storage_class,
            self._state(storage_class, answer.get("Restore")),
            _locked_until(answer),
        )
        if info.version is None and self._versioning() is not None:
            info = replace(info, version="null")  # written while no versions were kept
        return info, {name: answer[name] for name in ("Metadata", "ContentType") if answer.get(name)}

    def _state(self, storage_class: str | None, restore: str | None) -> ArchiveState:
        match = _RESTORE.fullmatch(restore or "")
        if match and match[1] == "true":
            return ArchiveState(Readiness.RESTORING)
        if match:
            return ArchiveState(Readiness.RESTORED, _moment(match[2]))
        return ArchiveState(Readiness.ARCHIVED if self.retrievals(storage_class) else Readiness.READABLE)

    def _lasts(self, state: ArchiveState, days: int) -> bool:
        return state.until is not None and state.until >= self._clock.now() + timedelta(days=days)

    def _source(self, key: str, before: ObjectInfo) -> dict[str, Any]:
        """Return what names the source of a copy: this version, in this state."""
        source: dict[str, Any] = {"Bucket": self._options.bucket, "Key": self._full(key)}
        if before.version is not None:
            source["VersionId"] = before.version
        return {"CopySource": source} | ({"CopySourceIfMatch": before.etag} if before.etag else {})

    def _copy_whole(self, key: str, before: ObjectInfo, storage_class: str) -> str | None:
        """Copy an object onto itself in one request and return the new version."""
        full = self._full(key)
        how = self._control.written_as() | {"StorageClass": storage_class, "MetadataDirective": "COPY"}
        asked = self._control.asked(full, "moved to another class")
        answer = self._control.request(asked, "copy_object", Key=full, **how, **self._source(key, before))
        made: str | None = answer.get("VersionId")
        return made

    def _copy_parts(
        self, key: str, before: ObjectInfo, storage_class: str, spans: list[tuple[int, int]], metadata: dict[str, Any]
    ) -> str | None:
        """Copy an object onto itself part by part, a few at once, and return the new version."""
        full, control = self._full(key), self._control
        asked = control.asked(full, "moved to another class")
        how = control.written_as() | {"StorageClass": storage_class} | metadata
        upload_id = str(control.request(asked, "create_multipart_upload", Key=full, **how)["UploadId"])
        which: dict[str, Any] = {"Key": full, "UploadId": upload_id, **self._source(key, before)}

        def copy(number: int, start: int, end: int) -> str:
            there: dict[str, Any] = {"PartNumber": number, "CopySourceRange": f"bytes={start}-{end - 1}"}
            answer = self._part_retrier.call(lambda: control.request(asked, "upload_part_copy", **which, **there))
            return str(answer["CopyPartResult"]["ETag"])

        try:
            waiting = [self._writers.submit(copy, number, *span) for number, span in enumerate(spans, 1)]
            try:
                etags = [future.result() for future in waiting]
            finally:
                for future in waiting:
                    future.cancel()
                wait(waiting)  # a part that arrives after the abort would stay for good
            _, made = control.complete(full, upload_id, etags)
        except BaseException:
            control.abort(full, upload_id)
            raise
        control.retain(full, made)
        return made


def _of(version: str | None) -> dict[str, Any]:
    return {} if version is None else {"VersionId": version}


def _is_moved(before: ObjectInfo, newest: ObjectInfo, storage_class: str) -> bool:
    """Return whether an earlier attempt whose reply was lost has moved the object."""
    is_same = newest.size_bytes == before.size_bytes and newest.etag == before.etag
    return is_same and (newest.storage_class or _STANDARD) == storage_class


def _locked_until(answer: Mapping[str, Any]) -> datetime | None:
    """Return until when an object cannot be deleted, from the answer to a HEAD."""
    if answer.get("ObjectLockLegalHoldStatus") == "ON":
        return datetime.max.replace(tzinfo=UTC)
    until: datetime | None = answer.get("ObjectLockRetainUntilDate")
    return None if until is None else until.astimezone(UTC)


def _moment(text: str | None) -> datetime | None:
    """Return the end of a copy; a service that says it in no form that is known says nothing."""
    try:
        found = parsedate_to_datetime(text or "")
    except (TypeError, ValueError):
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)


def _spans(info: ObjectInfo) -> list[tuple[int, int]]:
    """Return start and end of the parts in which an object is copied; none where it is copied in one request."""
    match = _PARTS.fullmatch(info.etag or "")
    if match is not None:
        ours = list(_own_spans(info.size_bytes))
        if len(ours) == int(match[1]):
            return ours
    if info.size_bytes <= WHOLE_BYTES:
        return []
    step = max(_COPIED_PART_BYTES, -(-info.size_bytes // MAX_PARTS))
    return [(start, min(start + step, info.size_bytes)) for start in range(0, info.size_bytes, step)]


def _own_spans(size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the parts that `wsistore.storage.s3_upload.S3Upload` makes of an object of this size."""
    start = 0
    for number in range(MAX_PARTS):
        if start >= size_bytes:
            return
        end = min(start + part_bytes(number), size_bytes)
        yield start, end
        start = end
