"""A real S3 server for one benchmark: Ceph RGW on free ports of this machine, started by deploy/dev/s3-up.sh."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session
from botocore.config import Config

from bench.support.places import REPOSITORY

_SCRIPTS = REPOSITORY / "deploy" / "dev"
_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "curl", "monmaptool", "radosgw", "radosgw-admin")
_PACKAGES = "radosgw ceph-mon ceph-mgr ceph-osd ceph-common curl"
_START_SECONDS = 150
_TRIES = 3
"""A port may be taken between asking and binding."""


class NoServerError(Exception):
    """There is no S3 server here, and why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "default"

    def environment(self) -> dict[str, str]:
        """Return the variables by which programs find keys, region and endpoint, and nothing else of S3."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def make_bucket(self, name: str) -> None:
        """Make a bucket; it goes with the server."""
        client = botocore.session.Session().create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=name)
        client.close()


def missing_programs() -> str:
    """Return what is missing for a server and how to get it; nothing if it can be started."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)} not found: run scripts/install-test-packages, or as root: apt-get install {_PACKAGES}"


@contextmanager
def s3_server(folder: Path, *, kept_in: str, size_gb: int) -> Iterator[Server]:
    """Start a server that is gone when the block ends, or this process.

    Parameters
    ----------
    folder
        For its files; made.
    kept_in
        ``memstore`` (memory) or ``bluestore`` (a file in `folder`, on the disk that is measured).
    size_gb
        How much it can keep.

    Raises
    ------
    NoServerError
        If it cannot be started.

    """
    missing = missing_programs()
    if missing:
        raise NoServerError(missing)
    said = ""
    for turn in range(_TRIES):
        place = folder / f"s3-{turn}"
        try:
            found, said = _start(place, kept_in, size_gb)
            if found is None:
                continue
            yield found
            return
        finally:
            command = [str(_SCRIPTS / "s3-down.sh"), "--wipe"]
            subprocess.run(command, env={**os.environ, "WSI_S3_DIR": str(place)}, check=False, capture_output=True)
    msg = f"the S3 server does not start: {said}"
    raise NoServerError(msg)


def _start(place: Path, kept_in: str, size_gb: int) -> tuple[Server | None, str]:
    port = _free_port()
    place.mkdir(parents=True)
    settings = {
        "DIR": place,
        "PORT": port,
        "MON_PORT": port + 1,
        "STORE": kept_in,
        "SIZE_GB": size_gb,
        "OWNER": os.getpid(),
    }
    env = os.environ | {f"WSI_S3_{name}": str(value) for name, value in settings.items()}
    try:
        done = subprocess.run(
            [str(_SCRIPTS / "s3-up.sh")], env=env, check=False, capture_output=True, text=True, timeout=_START_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_START_SECONDS} seconds"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"s3-up.sh ended with {done.returncode}"
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return Server(found["AWS_ENDPOINT_URL"], found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]), ""


def _free_port() -> int:
    """Return a port that is free with those that the server takes behind it, outside the range of outgoing ones."""
    while True:
        first = random.SystemRandom().randrange(20_000, 30_000)
        with suppress(OSError):
            for port in (first, first + 1, first + 2, *range(first + 11, first + 20)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
