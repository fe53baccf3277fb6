"""A real S3 server for the demonstration, where its packages are installed: started while other things are shown."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.config import Config

SCRIPTS = Path(__file__).resolve().parent.parent / "deploy" / "dev"
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "curl", "monmaptool", "radosgw", "radosgw-admin")
_START_SECONDS = 90.0
_BUCKET = "slides"


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a tier in the server's bucket is told."""

    values: dict[str, Any]
    """Keys of ``[tiers.NAME]``."""


class Server:
    """A server that is starting, in memory only. Should this process be killed, it is stopped all the same.

    Parameters
    ----------
    folder
        For its files; removed by `stop`.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.why_not = ""
        """Why there is none, in words."""
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if os.environ.get("S3") == "0":
            self.why_not = "S3=0 was asked for"
        elif missing:
            self.why_not = f"{missing[0]} is not installed (scripts/install-test-packages installs it)"
        else:
            folder.mkdir(mode=0o755)
            self._process = subprocess.Popen(
                [str(SCRIPTS / "s3-up.sh")],
                env={**os.environ, **_settings(folder / "server")},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

    def bucket(self) -> Bucket | None:
        """Wait until the server answers, and make a bucket; None if there is no server."""
        if self._process is None:
            return None
        try:
            said, _ = self._process.communicate(timeout=_START_SECONDS)
            found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
            endpoint, key = found["AWS_ENDPOINT_URL"], found["AWS_ACCESS_KEY_ID"]
            secret = found["AWS_SECRET_ACCESS_KEY"]
            _make_bucket(endpoint, key, secret)
        except (OSError, KeyError, subprocess.TimeoutExpired, botocore.exceptions.BotoCoreError):
            self.why_not = "it did not start"
            return None
        keys = self._folder / "keys"
        keys.touch(mode=0o600)
        keys.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        place = {"url": f"s3://{_BUCKET}/wsistore", "endpoint": endpoint, "region": "default"}
        return Bucket({**place, "allow_http": True, "key_file": str(keys)})

    def stop(self) -> None:
        """Stop the server and remove what it kept."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if (self._folder / "server").exists():
            command = [str(SCRIPTS / "s3-down.sh"), "--wipe"]
            where = {"WSI_S3_DIR": str(self._folder / "server")}
            subprocess.run(command, env={**os.environ, **where}, check=False, capture_output=True)


def _settings(folder: Path) -> dict[str, str]:
    port = _free_port()
    names = {"DIR": folder, "PORT": port, "MON_PORT": port + 1, "STORE": "memstore", "SIZE_GB": 4, "OWNER": os.getpid()}
    return {f"WSI_S3_{name}": str(value) for name, value in names.items()}


def _free_port() -> int:
    """Return a port that is free with those that the server takes behind it."""
    while True:
        first = random.SystemRandom().randrange(20_000, 30_000)
        with suppress(OSError):
            for port in (first, first + 1, first + 2, *range(first + 11, first + 20)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first


def _make_bucket(endpoint: str, key: str, secret: str) -> None:
    client = botocore.session.Session().create_client(
        "s3",
        region_name="default",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=_BUCKET)
    client.close()
