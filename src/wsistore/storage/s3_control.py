"""What only botocore can ask of an S3 service: numbered parts, versions, listings by string prefix, abilities.

obstore moves the bytes of small objects and of ranges, several times faster (see `wsistore.storage.s3`). Its listings
know prefixes by whole path segments only and stumble over keys that other programs made (``a//b``), its multipart
uploads take no Content-MD5, and it knows no versions' listings.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.loaders
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from wsistore.clock import Clock
from wsistore.errors import Kind, StorageError
from wsistore.storage.base import ObjectInfo
from wsistore.storage.s3_errors import Answer, Asked, meaning, of_botocore
from wsistore.storage.s3_options import S3Options
from wsistore.storage.s3_values import BucketAbilities, Unfinished, info_of

TOKEN = "wsistore-upload"  # noqa: S105  (a name, not a secret)
"""User metadata by which a multipart upload knows its own object again after a lost reply."""

_UNSIGNED_BODY = Config(s3={"payload_signing_enabled": False})


class S3Control:
    """One bucket, through botocore. Threads may share it. Keys are those of the bucket, with the tier's prefix.

    Parameters
    ----------
    options
        The place and how it is spoken to.
    clock
        For the end of locks, for Retry-After and for the difference to the service's clock.

    Raises
    ------
    StorageError
        If the options do not fit (unknown profile, no credentials, no region).

    """

    def __init__(self, options: S3Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._versioning: str | None = None
        self._is_versioning_known = False
        self._credentials: Any = None
        try:
            self._client, self._session = self._connect()
        except (boto.BotoCoreError, ValueError) as error:
            raise meaning(of_botocore(error, clock.now()), self.asked("", "opened")) from None
        weakref.finalize(self, self._client.close)

    @property
    def endpoint(self) -> str:
        """URL of the service, as it came out of options, environment and profile."""
        return str(self._client.meta.endpoint_url)

    @property
    def region(self) -> str:
        """Region, as it came out of options, environment and profile."""
        return str(self._client.meta.region_name)

    @property
    def ca_bundle(self) -> str | None:
        """File of the certificates to trust, if one is named."""
        found = self._options.ca_bundle or self._session.get_config_variable("ca_bundle")
        return str(found) if found else None

    def credentials(self) -> Any:
        """Return an access key, its secret and perhaps a token, as fresh as botocore keeps them."""
        return self._credentials.get_frozen_credentials()

    # --- objects -----------------------------------------------------------------------------------------------------

    def put(
        self, key: str, data: bytes | bytearray, *, if_absent: bool = False, lock: bool = True
    ) -> tuple[str | None, str | None]:
        """Write an object in one request, guarded by Content-MD5; return its ETag and version."""
        more: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        asked = self.asked(key, "written", if_absent=if_absent)
        answer = self._ask(
            asked,
            self._client.put_object,
            Key=key,
            Body=data,
            ContentMD5=md5(data),
            **self.written_as(lock=lock),
            **more,
        )
        return answer.get("ETag"), answer.get("VersionId")

    def delete(self, key: str, version: str | None = None) -> None:
        """Delete an object (in a bucket with versions: hide it), or one version of it for good."""
        which: dict[str, Any] = {} if version is None else {"VersionId": version}
        self._ask(self.asked(key, "deleted", version=version), self._client.delete_object, Key=key, **which)

    def explain(self, key: str, act: str, version: str | None = None) -> None:
        """Ask for an object's first byte, so that the error that this raises tells what a HEAD's answer could not."""
        which: dict[str, Any] = {} if version is None else {"VersionId": version}
        asked = self.asked(key, act, version=version)
        self._ask(asked, self._client.get_object, Key=key, Range="bytes=0-0", **which)["Body"].close()

    def token(self, key: str) -> str | None:
        """Return what `start` wrote into the object's metadata."""
        metadata: Mapping[str, str] = self._ask(self.asked(key, "looked at"), self._client.head_object, Key=key)[
            "Metadata"
        ]
        return metadata.get(TOKEN)

    # --- listings ----------------------------------------------------------------------------------------------------

    def list(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix` and sort after `after`."""
        more: dict[str, Any] = {"StartAfter": after} if after else {}
        while True:
            page = self._ask(self.asked(prefix, "listed"), self._client.list_objects_v2, Prefix=prefix, **more)
            for entry in page.get("Contents", ()):
                yield info_of(entry, None)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def versions(self, prefix: str, after: str = "", *, latest_only: bool = False) -> Iterator[ObjectInfo]:
        """Yield all versions of objects, newest first within a key; not the marks that deletions left."""
        for entry in self._version_entries(prefix, after):
            if entry.get("IsLatest") or not latest_only:
                yield info_of(entry, entry.get("VersionId"))

    def lineage(self, key: str) -> tuple[tuple[str, ...], bool]:
        """Return the ids of all versions of one object, newest first, and whether the newest is not hidden.

        This is what the bucket's index says. Right after a write a HEAD may not know of it yet (Ceph RGW).
        """
        ids: tuple[str, ...] = ()
        is_there = False
        for entry in self._version_entries(key, ""):
            if entry["Key"] == key:
                ids = (*ids, entry.get("VersionId") or "null")
                is_there |= bool(entry.get("IsLatest"))
        return ids, is_there

    # --- multipart uploads -------------------------------------------------------------------------------------------

    def start(self, key: str, token: str) -> str:
        """Start a multipart upload and return its id."""
        asked = self.asked(key, "written")
        how = self.written_as()
        return str(
            self._ask(asked, self._client.create_multipart_upload, Key=key, Metadata={TOKEN: token}, **how)["UploadId"]
        )

    def part(self, key: str, upload_id: str, number: int, data: bytes | bytearray) -> str:
        """Write one part, guarded by Content-MD5, and return its ETag. May be repeated."""
        asked = self.asked(key, "written")
        which: dict[str, Any] = {"Key": key, "UploadId": upload_id, "PartNumber": number}
        return str(self._ask(asked, self._client.upload_part, Body=data, ContentMD5=md5(data), **which)["ETag"])

    def complete(self, key: str, upload_id: str, etags: Sequence[str]) -> tuple[str | None, str | None]:
        """Join the parts into the object; return its ETag and version. There is no condition that could guard it."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        asked = self.asked(key, "completed")
        answer = self._ask(
            asked,
            self._client.complete_multipart_upload,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
        )
        return answer.get("ETag"), answer.get("VersionId")

    def retain(self, key: str, version: str | None) -> None:
        """Lock an object as the options say, if they do: some services (Ceph RGW 16) take no lock with its parts."""
        if self._options.lock_mode == "none":
            return
        which: dict[str, Any] = {} if version is None else {"VersionId": version}
        how = self.written_as()
        retention = {"Mode": how["ObjectLockMode"], "RetainUntilDate": how["ObjectLockRetainUntilDate"]}
        asked = self.asked(key, "locked", version=version)
        self._ask(asked, self._client.put_object_retention, Key=key, Retention=retention, **which)

    def abort(self, key: str, upload_id: str) -> None:
        """Throw the parts of an upload away. No error if there is none."""
        act = self._client.abort_multipart_upload
        asked = self.asked(key, "aborted")
        self._ask(asked, act, ignore=lambda answer: answer.code == "NoSuchUpload", Key=key, UploadId=upload_id)

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Yield the multipart uploads under `prefix` that were neither completed nor aborted."""
        more: dict[str, Any] = {}
        while True:
            page = self._ask(self.asked(prefix, "listed"), self._client.list_multipart_uploads, Prefix=prefix, **more)
            for entry in page.get("Uploads", ()):
                yield Unfinished(entry["Key"], entry["UploadId"], entry["Initiated"].astimezone(UTC))
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")}

    # --- the bucket --------------------------------------------------------------------------------------------------

    def versioning(self) -> str | None:
        """Return ``Enabled``, ``Suspended``, or None where the bucket never kept versions; asked once."""
        if not self._is_versioning_known:
            self._versioning = self._asked_versioning()
            self._is_versioning_known = True
        return self._versioning

    def abilities(self) -> BucketAbilities:
        """Return what the bucket is set to do, asked anew."""
        head = self._ask(self.asked("", "looked at"), self._client.head_bucket)
        date = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        skew = (parsedate_to_datetime(date) - self._clock.now()).total_seconds() if date else None
        lock = self._lock_configuration()
        rule = lock.get("Rule", {}).get("DefaultRetention", {})
        span = f"{rule['Days']} days" if "Days" in rule else f"{rule.get('Years', 0)} years"
        return BucketAbilities(
            versions=self._asked_versioning() is not None,
            object_lock=lock.get("ObjectLockEnabled") == "Enabled",
            default_lock=f"{rule['Mode']} {span}" if rule else None,
            skew_seconds=skew,
        )

    def _version_entries(self, prefix: str, after: str) -> Iterator[Mapping[str, Any]]:
        more: dict[str, Any] = {"KeyMarker": after} if after else {}
        while True:
            page = self._ask(self.asked(prefix, "listed"), self._client.list_object_versions, Prefix=prefix, **more)
            yield from page.get("Versions", ())
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextVersionIdMarker"):
                more["VersionIdMarker"] = page["NextVersionIdMarker"]

    def _asked_versioning(self) -> str | None:
        asked = self.asked("", "asked whether it keeps versions")
        status: str | None = self._ask(asked, self._client.get_bucket_versioning).get("Status")
        return status

    def _lock_configuration(self) -> dict[str, Any]:
        # Each service says "there is none" in its own words, and some know no such question.
        answer = self._ask(
            self.asked("", "asked for its lock"),
            self._client.get_object_lock_configuration,
            ignore=lambda answer: answer.status in {400, 404, 405, 409, 501},
        )
        found: dict[str, Any] = answer.get("ObjectLockConfiguration", {})
        return found

    def request(self, asked: Asked, operation: str, *, ignore: tuple[str, ...] = (), **arguments: Any) -> Any:
        """Make the request that botocore calls `operation`; with an error of a code to `ignore` return nothing."""
        act = getattr(self._client, operation)
        return self._ask(asked, act, ignore=lambda answer: answer.code in ignore, **arguments)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _connect(self) -> tuple[Any, Any]:
        options = self._options
        session = botocore.session.Session(profile=options.profile)
        session.register_component("data_loader", _loader())
        if options.credentials_file is not None:
            session.set_config_variable("credentials_file", os.path.expanduser(options.credentials_file))
            if options.profile is None:  # else variables of the environment would win over the file that was named
                session.set_config_variable("profile", "default")
        for path in (options.credentials_file, options.ca_bundle):
            if path is not None and not os.access(os.path.expanduser(path), os.R_OK):
                msg = f"The file {path!r}, named for {options.url}, cannot be read."
                raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Check its path and its permissions.")
        self._credentials = session.get_credentials()
        if self._credentials is None:
            raise boto.NoCredentialsError
        client = session.create_client(
            "s3",
            region_name=options.region or session.get_config_variable("region") or "us-east-1",
            endpoint_url=options.endpoint,
            verify=options.ca_bundle,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if options.path_style else "virtual"},
                retries={"total_max_attempts": 1},  # whoever calls repeats, and knows what may be repeated
                connect_timeout=options.connect_timeout_seconds,
                read_timeout=options.read_timeout_seconds,
                max_pool_connections=options.concurrency,
                # The newer default sends checksums as trailers, which real servers refuse or ignore.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        client.meta.events.register_last("before-parameter-build.s3", _stay)
        for operation in ("UploadPart", "PutObject"):
            client.meta.events.register(f"before-sign.s3.{operation}", _leave_body_unsigned)
        if client.meta.endpoint_url.lower().startswith("http://") and not options.allow_http:
            client.close()
            msg = f"{options.url} would be spoken to without TLS, at an endpoint that the environment names."
            raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Write endpoint = http://… if that is meant.")
        return client, session

    def written_as(self, *, lock: bool = True) -> dict[str, Any]:
        """Return what each new object is to be."""
        options = self._options
        how: dict[str, Any] = {}
        if options.encryption != "none":
            how["ServerSideEncryption"] = options.encryption
        if options.kms_key is not None:
            how["SSEKMSKeyId"] = options.kms_key
        if options.storage_class is not None:
            how["StorageClass"] = options.storage_class
        if lock and options.lock_mode != "none":
            how["ObjectLockMode"] = options.lock_mode.upper()
            how["ObjectLockRetainUntilDate"] = self._clock.now() + timedelta(days=options.lock_days)
        return how

    def asked(self, key: str, act: str, *, version: str | None = None, if_absent: bool = False) -> Asked:
        """Describe a request; the tier's prefix is left out of the key, as people know it."""
        prefix = f"{self._options.prefix}/" if self._options.prefix else ""
        return Asked(self._options.url, key.removeprefix(prefix), act, version, if_absent)

    def _ask(
        self,
        asked: Asked,
        act: Callable[..., Any],
        *,
        ignore: Callable[[Answer], bool] = lambda _: False,
        **arguments: Any,
    ) -> Any:
        """Make a request; with an answer of the kind to `ignore` return nothing."""
        try:
            return act(Bucket=self._options.bucket, **arguments)
        except (boto.BotoCoreError, boto.ClientError, ResponseParserError) as error:
            answer = of_botocore(error, self._clock.now())
            if ignore(answer):
                return {}
            # Without its cause: that may quote the signed request, with the access key in it.
            raise meaning(answer, asked) from None


def _stay(context: dict[str, Any], **_: Any) -> None:
    """Keep botocore from looking for a bucket in other regions, which it does without end where all say "not here"."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _leave_body_unsigned(request: Any, **_: Any) -> None:
    """Keep botocore from hashing a body for the signature where Content-MD5, which is signed, guards it already.

    With TLS it leaves bodies unsigned by itself. Without, one hash of each byte is saved on both sides.
    """
    if "Content-MD5" in request.headers:
        request.context["client_config"] = _UNSIGNED_BODY


@functools.cache
def _loader() -> Any:
    """Return botocore's descriptions of the service, which take long to parse: once for all sessions."""
    return botocore.loaders.create_loader()


def md5(data: bytes | bytearray) -> str:
    """Return the value of Content-MD5: the only check of a body that all services make."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
