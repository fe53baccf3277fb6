"""A real S3 server for tests: Ceph RGW on free ports of 127.0.0.1, in memory, one for a whole test run.

The first test that asks starts it (deploy/dev/s3-up.sh), the process that started the test run stops it, and should
that be killed, a watch that the script leaves beside the server stops it instead.
"""

from __future__ import annotations

import fcntl
import functools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import botocore.session
import pytest
from botocore.config import Config

from wsistore.storage.s3_options import S3Options

SCRIPTS = Path(__file__).resolve().parent.parent / "deploy" / "dev"
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "curl", "monmaptool", "radosgw", "radosgw-admin")
_START_SECONDS = 150


class Run(NamedTuple):
    """One test run: where its server's files are, and whose it is."""

    folder: str
    owner: int


RUN = pytest.StashKey[Run]()


def new_run() -> Run:
    """Return a place for a server; nothing is created yet."""
    return Run(str(Path(tempfile.gettempdir()) / f"wsistore-s3-{os.getpid()}-{uuid.uuid4().hex[:8]}"), os.getpid())


@functools.cache
def start(run: Run) -> S3Server:
    """Return the run's server, started if it is not running yet."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no S3 server here, {', '.join(missing)} is missing: run scripts/install-test-packages")
    folder = Path(run.folder)
    folder.mkdir(mode=0o755, exist_ok=True)
    with (folder / "test.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of all the workers of the run one starts it
        known, failed = folder / "test.env", folder / "test.failed"
        if failed.exists():
            pytest.fail(failed.read_text())
        if not known.exists():
            try:
                known.write_text(_started(run))
            except RuntimeError as error:
                failed.write_text(str(error))
                pytest.fail(str(error))
        found = dict(line.split("=", 1) for line in known.read_text().splitlines() if "=" in line)
    return S3Server(found["AWS_ENDPOINT_URL"], found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])


def stop(run: Run) -> None:
    """Stop the run's server and remove its files, if there are any."""
    folder = Path(run.folder)
    if folder.exists():
        for server in filter(Path.is_dir, folder.iterdir()):
            command = [str(SCRIPTS / "s3-down.sh"), "--wipe"]
            subprocess.run(command, env={**os.environ, "WSI_S3_DIR": str(server)}, check=True, capture_output=True)
        shutil.rmtree(folder)


def _started(run: Run) -> str:
    """Start the server and return what the script prints; a port may be taken between asking and binding."""
    said = ""
    for attempt in range(3):
        port = free_port()
        names = {
            "DIR": f"{run.folder}/{attempt}",
            "PORT": port,
            "MON_PORT": port + 1,
            "STORE": "memstore",
            "SIZE_GB": 8,
            "OWNER": run.owner,
        }
        env = {**os.environ, **{f"WSI_S3_{name}": str(value) for name, value in names.items()}}
        try:
            done = subprocess.run(
                [str(SCRIPTS / "s3-up.sh")],
                env=env,
                check=False,
                capture_output=True,
                text=True,
                timeout=_START_SECONDS,
            )
        except subprocess.TimeoutExpired:
            said = f"no answer within {_START_SECONDS} seconds"
            continue
        if done.returncode == 0:
            return done.stdout
        said = done.stderr[-2000:]
    msg = f"The S3 server could not be started: {said}"
    raise RuntimeError(msg)


def free_port() -> int:
    """Return a port that is free, with those that the server takes behind it; outgoing and Prefect's are others."""
    while True:
        first = random.SystemRandom().randrange(25_000, 30_000)
        with suppress(OSError):
            for port in (first, first + 1, first + 2, *range(first + 11, first + 20)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)

    @contextmanager
    def credentials(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Put the credentials, and nothing else about S3, into the environment."""
        with patch.context() as inner:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                inner.delenv(name)
            inner.setenv("AWS_ACCESS_KEY_ID", self.access_key)
            inner.setenv("AWS_SECRET_ACCESS_KEY", self.secret_key)
            inner.setenv("AWS_EC2_METADATA_DISABLED", "true")
            inner.setenv("AWS_CONFIG_FILE", os.devnull)
            inner.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
            yield

    @contextmanager
    def bucket(self, *, versions: bool = False, lock: bool = False) -> Iterator[S3Bucket]:
        """Make a bucket; remove it with all that lies in it, versions and unfinished uploads included."""
        client = _client(self)
        bucket = S3Bucket(self, f"test-{uuid.uuid4().hex}", client)
        client.create_bucket(Bucket=bucket.name, ObjectLockEnabledForBucket=lock)
        if versions and not lock:
            client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
        try:
            yield bucket
        finally:
            bucket.remove()


@functools.cache
def _client(server: S3Server) -> Any:
    """Return a client that is not the code under test: one for all buckets, for making one takes long."""
    return botocore.session.Session().create_client(
        "s3",
        region_name="default",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """A bucket, looked at without the code under test."""

    server: S3Server
    name: str
    client: Any = field(repr=False)

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def options(self, prefix: str = "", **settings: Any) -> S3Options:
        """Return what opens the bucket."""
        settings = {"endpoint": self.server.endpoint, "region": "default", **settings}
        return S3Options.of(f"{self.url}/{prefix}" if prefix else self.url, settings)

    def get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def keys(self) -> set[str]:
        """Return the keys of all versions of all objects, and of uploads that were not finished."""
        return {key for key, _ in self._versions(marks=False)} | {key for key, _ in self.uploads()}

    def uploads(self) -> list[tuple[str, str]]:
        """Return keys and ids of the multipart uploads that were neither completed nor aborted."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name)
        return [(one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", ())]

    def remove(self) -> None:
        for key, upload_id in self.uploads():
            self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
        found = [{"Key": key, "VersionId": version} for key, version in self._versions(marks=True)]
        for start in range(0, len(found), 1000):
            self.client.delete_objects(
                Bucket=self.name,
                Delete={"Objects": found[start : start + 1000], "Quiet": True},
                BypassGovernanceRetention=True,
            )
        with suppress(self.client.exceptions.ClientError):  # what is locked for good goes with the server
            self.client.delete_bucket(Bucket=self.name)

    def _versions(self, *, marks: bool) -> list[tuple[str, str]]:
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
        kinds = ("Versions", "DeleteMarkers") if marks else ("Versions",)
        return [(one["Key"], one["VersionId"]) for page in pages for kind in kinds for one in page.get(kind, ())]
