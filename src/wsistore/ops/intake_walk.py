"""Looking at a scanner's share: which files lie there, and which folders could be looked into."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from wsistore.errors import Kind, StorageError
from wsistore.settings import IntakeSettings

HIDDEN = ".wsistore-released-"
"""Beginning of the name that an original has for the moment between its last check and its deletion."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as a look at the share found it."""

    path: str
    """Relative to the share, forward slashes."""
    size: int
    mtime_ns: int
    odd: str = ""
    """Why it can be no slide: a symbolic link, a device; empty for a file."""


@dataclass(slots=True)
class Walk:
    """What one look at a share found."""

    files: dict[str, SeenFile] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)
    """Folders that could not be listed, and why: nothing is known of what lies in them."""

    hidden: list[str] = field(default_factory=list)
    """Originals that a pass was just about to delete when it was killed."""

    def knows(self, path: str) -> bool:
        """Say whether a file that was not seen is certainly not there."""
        if not self.unlisted:
            return True
        return path not in self.unlisted and not any(str(one) in self.unlisted for one in PurePosixPath(path).parents)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Say whether a name fits one of some patterns, whatever its capitals."""
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def walk(share: IntakeSettings) -> Walk:
    """Look at all files of a share; hidden files and folders are passed over, and links are not followed.

    Raises
    ------
    StorageError
        If the share is not there (`Kind.TIER_MISSING`), as when it is not mounted.

    """
    top = Path(share.path)
    found = Walk()
    try:
        if share.marker and not os.path.lexists(top / share.marker):
            msg = f"The share {share.name} is not there: {top} has no {share.marker}."
            raise StorageError(msg, kind=Kind.TIER_MISSING, remedy="Mount it, or make the marker.")
        entries = _entries(share.path)
    except OSError as error:
        msg = f"The share {share.name} cannot be looked at: {top}: {error.strerror or error}."
        raise StorageError(
            msg, kind=Kind.TIER_MISSING, remedy="Mount it, or mend its path in wsistore.toml."
        ) from error
    waiting: list[tuple[str, list[os.DirEntry[str]]]] = [("", entries)]
    while waiting:
        folder, entries = waiting.pop()
        for inner in _look(share, folder, entries, found):
            try:
                waiting.append((inner, _entries(os.path.join(share.path, inner))))  # noqa: PTH118 - 10 000 times
            except OSError as error:
                found.unlisted[inner] = error.strerror or str(error)
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _look(share: IntakeSettings, folder: str, entries: list[os.DirEntry[str]], found: Walk) -> Iterator[str]:
    """Note the files of a folder; yield its subfolders."""
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith(HIDDEN):
            found.hidden.append(path)
        if entry.name.startswith(".") or entry.path == share.release_to or (not folder and entry.name == share.marker):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield path
                continue
            now = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # renamed or taken away since the folder was listed
        except OSError as error:
            found.unlisted[path] = error.strerror or str(error)
            continue
        key = known_path(path)
        odd = "its name is not UTF-8: it could not be given back under it" if key != path else _odd(now.st_mode)
        found.files[key] = SeenFile(key, now.st_size, now.st_mtime_ns, odd)


def _odd(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return "a symbolic link, which is not followed" if stat.S_ISLNK(mode) else "neither a file nor a folder"


def parts(path: str) -> tuple[str, str, str]:
    """Return folder, name without suffix, and suffix as written; `PurePosixPath` takes ten times as long."""
    folder, _, name = path.rpartition("/")
    dot = name.rfind(".")
    return (folder, name[:dot], name[dot:]) if dot > 0 else (folder, name, "")


def known_path(path: str) -> str:
    """Return a path as the catalogue can keep it: bytes that are no UTF-8 as escapes, marked so that it is no other."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "//" + path.encode("utf-8", "backslashreplace").decode("utf-8")
    return path
