"""Peers' own virtual environments, made once from their lock files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

from bench.support.places import MADE, REPOSITORY

_LOCKS = REPOSITORY / "bench" / "peers"
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}


class UnavailableError(Exception):
    """A peer cannot be installed here."""


def environment(name: str) -> Path:
    """Return the interpreter of a peer's environment, which is made if it is not there or its lock file changed.

    Parameters
    ----------
    name
        Of the peer: ``bench/peers/<name>.txt`` is its lock file.

    Raises
    ------
    UnavailableError
        If it cannot be installed.

    """
    lock = _LOCKS / f"{name}.txt"
    version = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = MADE / "peers" / f"{name}-{version}"
    python, complete = folder / "bin" / "python", folder / ".complete"
    with _alone(folder):
        if not complete.exists():
            print(f"Installing {name} into {folder.relative_to(REPOSITORY)} (once)", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
            _run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(folder)], name)
            install = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
            _run([*install, "--require-hashes", "--no-deps", "-r", str(lock)], name)
            complete.touch()
    return python


def require_library(library: str, package: str) -> None:
    """Make sure that a shared library is there; install Debian's package of it where that is allowed.

    Raises
    ------
    UnavailableError
        If it is not there and cannot be installed.

    """
    _require(lambda: find_library(library), f"lib{library}", package)


def require_program(program: str, package: str) -> Path:
    """Return where a program is; install Debian's package of it where that is allowed.

    Raises
    ------
    UnavailableError
        If it is not there and cannot be installed.

    """
    return Path(_require(lambda: shutil.which(program), program, package))


def _require(find: Callable[[], str | None], what: str, package: str) -> str:
    found = find()
    if found:
        return found
    as_root = [] if os.getuid() == 0 else ["sudo", "-n"]
    install = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "install", package]
    try:
        _run(install, package)
    except UnavailableError:
        # The package lists may be old or absent.
        _run([*as_root, "apt-get", "-qq", "update"], package)
        _run(install, package)
    found = find()
    if found:
        return found
    msg = f"{package} is installed, but {what} is not found"
    raise UnavailableError(msg)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep two benchmarks from making one environment at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env=_ENVIRONMENT | {"PYTHONNOUSERSITE": "1"},
        )  # fmt: skip
    except OSError as error:
        msg = f"{what} cannot be installed: {error}"
        raise UnavailableError(msg) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        msg = f"{what} cannot be installed: {said[-1] if said else f'{command[0]} ended with {done.returncode}'}"
        raise UnavailableError(msg)
