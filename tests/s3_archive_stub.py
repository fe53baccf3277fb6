"""A small S3 service with archive classes, as the API reference of S3 documents them, on a manual clock.

It has what Ceph RGW has not: RestoreObject, x-amz-restore, and reads of archived objects that fail. It knows PUT, GET
with ranges, HEAD, DELETE, listings of one page, CopyObject, multipart uploads with UploadPartCopy, RestoreObject and
versions, and nothing else; signatures are not looked at. `requests` is the trace of what was asked.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from wsistore.storage.s3_options import S3Options
from wsistore.testing.clock import ManualClock

HOURS = {
    ("GLACIER", "Expedited"): 5 / 60,
    ("GLACIER", "Standard"): 5,
    ("GLACIER", "Bulk"): 12,
    ("DEEP_ARCHIVE", "Standard"): 12,
    ("DEEP_ARCHIVE", "Bulk"): 48,
}
"""Until a restore is done; other pairs of class and tier do not exist."""
ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}


@dataclass(frozen=True)
class Kept:
    """One version of an object."""

    data: bytes
    etag: str
    version: str
    modified: datetime
    storage_class: str = "STANDARD"
    headers: dict[str, str] = field(default_factory=dict)
    ready: datetime | None = None
    until: datetime | None = None


@dataclass(eq=False)
class RefusedError(Exception):
    """An answer that is an error."""

    status: int
    code: str


class Service:
    """Buckets in memory, one set of versions for all keys."""

    def __init__(self, clock: ManualClock, *, versions: bool) -> None:
        self.clock = clock
        self.versions = versions
        self.kept: dict[str, list[Kept]] = {}
        self.hidden: set[str] = set()
        self.uploads: dict[str, tuple[str, dict[str, str], dict[int, bytes]]] = {}
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.has_expedited_capacity = True
        self.lose_replies_of: set[str] = set()
        self.numbers = 0
        self.lock = threading.RLock()

    def state(self, kept: Kept) -> str:
        """Return readable, archived, restoring or restored."""
        now = self.clock.now()
        if kept.storage_class not in ARCHIVES:
            return "readable"
        if kept.ready is None or (kept.until is not None and now >= kept.until):
            return "archived"
        return "restored" if now >= kept.ready else "restoring"

    def find(self, key: str, version: str | None) -> Kept:
        found = self.kept.get(key, [])
        if version is not None:
            found = [kept for kept in found if kept.version == version]
        if not found or (version is None and key in self.hidden):
            raise RefusedError(404, "NoSuchVersion" if version else "NoSuchKey")
        return found[-1]

    def read(self, key: str, version: str | None, refusal: str = "InvalidObjectState") -> Kept:
        kept = self.find(key, version)
        if self.state(kept) not in {"readable", "restored"}:
            raise RefusedError(403, refusal)
        return kept

    def write(self, key: str, data: bytes, headers: dict[str, str], etag: str | None = None) -> Kept:
        self.numbers += 1
        version = f"v{self.numbers:06d}" if self.versions else "null"
        tag = etag or hashlib.md5(data, usedforsecurity=False).hexdigest()
        storage_class = headers.get("x-amz-storage-class", "STANDARD")
        own = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        if "content-type" in headers:
            own["content-type"] = headers["content-type"]
        kept = Kept(data, f'"{tag}"', version, self.clock.now().replace(microsecond=0), storage_class, own)
        self.kept[key] = [*self.kept.get(key, []), kept] if self.versions else [kept]
        self.hidden.discard(key)
        return kept

    def delete(self, key: str, version: str | None) -> None:
        if version is not None:
            self.kept[key] = [kept for kept in self.kept.get(key, []) if kept.version != version]
        elif self.versions and key in self.kept:
            self.hidden.add(key)
        else:
            self.kept.pop(key, None)

    def restore(self, key: str, version: str | None, body: bytes) -> int:
        kept = self.find(key, version)
        request = {part.tag.rpartition("}")[2]: part.text or "" for part in ElementTree.fromstring(body).iter()}
        tier, days, state = request.get("Tier", "Standard"), int(request["Days"]), self.state(kept)
        if state == "readable":
            raise RefusedError(403, "InvalidObjectState")
        if state == "restoring":
            raise RefusedError(409, "RestoreAlreadyInProgress")
        if tier == "Expedited" and not self.has_expedited_capacity:
            raise RefusedError(503, "GlacierExpeditedRetrievalNotAvailable")
        hours = HOURS.get((kept.storage_class, tier))
        if hours is None or days < 1:
            raise RefusedError(400, "InvalidArgument")
        now = self.clock.now()
        ready = now if state == "restored" else now + timedelta(hours=hours)
        start = kept.ready if state == "restored" else ready
        self.put_back(key, kept, replace(kept, ready=start, until=ready + timedelta(days=days)))
        return 200 if state == "restored" else 202

    def put_back(self, key: str, old: Kept, new: Kept) -> None:
        self.kept[key] = [new if kept is old else kept for kept in self.kept[key]]

    def source(self, headers: dict[str, str]) -> Kept:
        """Return what a copy copies, under its condition."""
        name, _, version = unquote(headers["x-amz-copy-source"]).partition("?versionId=")
        kept = self.read(name.lstrip("/").partition("/")[2], version or None, "ObjectNotInActiveTierError")
        wanted = headers.get("x-amz-copy-source-if-match")
        if wanted is not None and wanted.strip('"') != kept.etag.strip('"'):
            raise RefusedError(412, "PreconditionFailed")
        return kept


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        _, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        with self.service.lock:
            operation, act = self._operation(key, query, headers, body)
            self.service.requests.append(operation)
            try:
                status, more, content = act()
            except RefusedError as refused:
                text = f"<Error><Code>{refused.code}</Code><Message>no</Message></Error>"
                status, more, content = refused.status, {"Content-Type": "application/xml"}, text.encode()
            if operation in self.service.lose_replies_of:
                self.service.lose_replies_of.discard(operation)
                self.close_connection = True
                return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def _operation(self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> tuple[str, Any]:
        service, version = self.service, query.get("versionId")
        is_copy = "x-amz-copy-source" in headers
        match self.command:
            case "GET" if "versioning" in query:
                return "GetBucketVersioning", self._versioning
            case "GET" if not key:
                name = "ListObjectVersions" if "versions" in query else "ListObjectsV2"
                return name, lambda: self._list(query["prefix"], with_versions="versions" in query)
            case "GET" | "HEAD":
                read = self.command == "GET"
                return f"{self.command.title()}Object", lambda: self._object(key, version, headers, read=read)
            case "POST" if "restore" in query:
                service.bodies.append(body)
                return "RestoreObject", lambda: (service.restore(key, version, body), {}, b"")
            case "POST" if "uploads" in query:
                return "CreateMultipartUpload", lambda: self._start(key, headers)
            case "POST":
                return "CompleteMultipartUpload", lambda: self._complete(key, query["uploadId"])
            case "DELETE" if "uploadId" in query:
                return "AbortMultipartUpload", lambda: self._abort(query["uploadId"])
            case "DELETE":
                return "DeleteObject", lambda: self._delete(key, version)
            case "PUT" if "uploadId" in query:
                name = "UploadPartCopy" if is_copy else "UploadPart"
                return name, lambda: self._part(query, headers, body)
            case "PUT" if is_copy:
                return "CopyObject", lambda: self._copy(key, headers)
            case "PUT":
                return "PutObject", lambda: self._written(service.write(key, body, headers))
        return "Unknown", lambda: (501, {}, b"<Error><Code>NotImplemented</Code></Error>")

    def _versioning(self) -> tuple[int, dict[str, str], bytes]:
        status = "<Status>Enabled</Status>" if self.service.versions else ""
        return 200, {}, f"<VersioningConfiguration>{status}</VersioningConfiguration>".encode()

    def _list(self, prefix: str, *, with_versions: bool) -> tuple[int, dict[str, str], bytes]:
        tag = "Version" if with_versions else "Contents"
        entries = []
        for key, versions in sorted(self.service.kept.items()):
            newest = versions[-1] if versions and key not in self.service.hidden else None
            found = reversed(versions) if with_versions else [newest] if newest else []
            for kept in found if key.startswith(prefix) else ():
                latest = f"<IsLatest>{str(kept is newest).lower()}</IsLatest><VersionId>{kept.version}</VersionId>"
                entries.append(
                    f"<{tag}><Key>{key}</Key>{latest if with_versions else ''}<ETag>{kept.etag}</ETag>"
                    f"<LastModified>{kept.modified.isoformat()}</LastModified><Size>{len(kept.data)}</Size>"
                    f"<StorageClass>{kept.storage_class}</StorageClass></{tag}>"
                )
        return 200, {}, f"<R><IsTruncated>false</IsTruncated>{''.join(entries)}</R>".encode()

    def _object(self, key: str, version: str | None, headers: dict[str, str], *, read: bool) -> Any:
        service = self.service
        kept = service.read(key, version) if read else service.find(key, version)
        more = {**kept.headers, "ETag": kept.etag, "Last-Modified": format_datetime(kept.modified, usegmt=True)}
        if service.versions:
            more["x-amz-version-id"] = kept.version
        if kept.storage_class != "STANDARD":
            more["x-amz-storage-class"] = kept.storage_class
        match service.state(kept):
            case "restoring":
                more["x-amz-restore"] = 'ongoing-request="true"'
            case "restored":
                assert kept.until is not None
                end = format_datetime(kept.until, usegmt=True)
                more["x-amz-restore"] = f'ongoing-request="false", expiry-date="{end}"'
        wanted = headers.get("range", "")
        if wanted.startswith("bytes=-"):
            wanted = f"bytes={max(len(kept.data) - int(wanted[7:]), 0)}-{len(kept.data) - 1}"
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if not read or found is None:
            return 200, {**more, "Content-Length": str(len(kept.data))}, kept.data
        start, stop = int(found[1]), min(int(found[2]) + 1, len(kept.data))
        return 206, {**more, "Content-Range": f"bytes {start}-{stop - 1}/{len(kept.data)}"}, kept.data[start:stop]

    def _written(self, kept: Kept) -> tuple[int, dict[str, str], bytes]:
        return 200, {"ETag": kept.etag, "x-amz-version-id": kept.version}, b""

    def _copy(self, key: str, headers: dict[str, str]) -> Any:
        service, source = self.service, self.service.source(headers)
        given = {"x-amz-storage-class": headers.get("x-amz-storage-class", "STANDARD")}
        is_same = given["x-amz-storage-class"] == source.storage_class
        if is_same and headers.get("x-amz-metadata-directive") != "REPLACE":
            raise RefusedError(400, "InvalidRequest")  # nothing would change
        kept = service.write(key, source.data, source.headers | given)
        text = f"<CopyObjectResult><ETag>{kept.etag}</ETag></CopyObjectResult>"
        return 200, {"x-amz-version-id": kept.version}, text.encode()

    def _start(self, key: str, headers: dict[str, str]) -> Any:
        upload_id = f"upload-{len(self.service.uploads)}"
        self.service.uploads[upload_id] = (key, headers, {})
        return 200, {}, f"<R><UploadId>{upload_id}</UploadId></R>".encode()

    def _part(self, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        _, _, parts = self._upload(query["uploadId"])
        if "x-amz-copy-source" not in headers:
            parts[int(query["partNumber"])] = body
            return 200, {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'}, b""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", headers["x-amz-copy-source-range"])
        assert found is not None
        data = self.service.source(headers).data[int(found[1]) : int(found[2]) + 1]
        parts[int(query["partNumber"])] = data
        tag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return 200, {}, f'<CopyPartResult><ETag>"{tag}"</ETag></CopyPartResult>'.encode()

    def _complete(self, key: str, upload_id: str) -> Any:
        _, headers, parts = self._upload(upload_id)
        del self.service.uploads[upload_id]
        data = [parts[number] for number in sorted(parts)]
        tags = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in data)
        etag = f"{hashlib.md5(tags, usedforsecurity=False).hexdigest()}-{len(data)}"
        kept = self.service.write(key, b"".join(data), headers, etag)
        text = f"<R><ETag>{kept.etag}</ETag></R>"
        return 200, {"x-amz-version-id": kept.version}, text.encode()

    def _delete(self, key: str, version: str | None) -> Any:
        self.service.delete(key, version)
        return 204, {}, b""

    def _abort(self, upload_id: str) -> Any:
        self._upload(upload_id)
        del self.service.uploads[upload_id]
        return 204, {}, b""

    def _upload(self, upload_id: str) -> tuple[str, dict[str, str], dict[int, bytes]]:
        if upload_id not in self.service.uploads:
            raise RefusedError(404, "NoSuchUpload")
        return self.service.uploads[upload_id]


@contextmanager
def archive_service(clock: ManualClock, *, versions: bool = False) -> Iterator[tuple[Service, S3Options]]:
    """Run a service; yield it, and what opens its bucket."""
    service = Service(clock, versions=versions)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        settings = {"endpoint": f"http://127.0.0.1:{server.server_port}", "region": "eu-west-3", "provider": "aws"}
        yield service, S3Options.of("s3://archive", settings)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
