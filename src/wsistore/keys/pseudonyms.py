r"""Keys of research projects, and the pseudonyms that they make: kept in the folder of keys, never in the catalogue.

A pseudonym is the first 128 bits of HMAC-SHA256 over kind, NUL and identity, in small letters of base 32: 26 of them.
Without the project's key nobody can tell whose it is, nor whether two projects speak of the same patient. A project's
key has generations: the newest makes the pseudonyms that are shown, the others answer until they are retired.

::

    keys/project-NAME.key     0600   JSON: the generations, 256 bits each
    keys/project-NAME.table   0600   pseudonyms that the site was given, sealed by a key that the first generation gives
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from wsistore.errors import ConflictError, Kind, SiteError
from wsistore.keys import folder as files

_KIND = "wsistore-project-key"
_KEY_BYTES = 32
_BITS = 128
_MOST_GENERATIONS = 200
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
SHIFT_DAYS = 180
"""Days are moved by up to so many, to either side."""


class Subject(StrEnum):
    """What a pseudonym stands for."""

    PATIENT = "patient"
    CASE = "case"
    BLOCK = "block"
    SLIDE = "slide"


Given = Mapping[tuple[Subject, str], str]
"""Pseudonyms that the site was given, by what they stand for."""


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """One generation of a project's key."""

    number: int
    key: bytes
    made: str
    """ISO 8601."""
    retired: str = ""
    """When its pseudonyms ceased to answer; nothing: they do."""

    def pseudonym(self, subject: Subject, identity: str) -> str:
        """Return what stands for a patient, case, block or slide."""
        found = hmac.digest(self.key, f"{subject}\0{identity}".encode("utf-8", "surrogatepass"), "sha256")
        return base64.b32encode(found[: _BITS // 8]).decode().rstrip("=").lower()

    def shift_days(self, identity: str) -> int:
        """Return by how many days what happened to a patient is moved: never none, and as many for all of theirs."""
        found = hmac.digest(self.key, f"shift\0{identity}".encode("utf-8", "surrogatepass"), "sha256")
        number = int.from_bytes(found[:8], "big") % (2 * SHIFT_DAYS) - SHIFT_DAYS
        return number + 1 if number >= 0 else number


@dataclass(frozen=True, slots=True, repr=False)
class ProjectKeys:
    """A project's key, and the pseudonyms that it was given."""

    project: str
    generations: tuple[Generation, ...]
    given: Given = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ProjectKeys({self.project}, {len(self.generations)} generations)"

    def __reduce__(self) -> tuple[Any, ...]:
        msg = "Keys are not pickled: they are read from the folder of keys of the machine that needs them."
        raise TypeError(msg)

    @property
    def current(self) -> Generation:
        """The generation that makes the pseudonyms that are shown."""
        return self.generations[-1]

    @property
    def answering(self) -> tuple[Generation, ...]:
        """The generations whose pseudonyms answer."""
        return tuple(one for one in self.generations if not one.retired)

    def pseudonym(self, subject: Subject, identity: str) -> str:
        """Return the pseudonym that is shown: the one that the site was given, else one of the current generation."""
        return self.given.get((subject, identity)) or self.current.pseudonym(subject, identity)

    def pseudonyms(self, subject: Subject, identity: str) -> list[str]:
        """Return all pseudonyms that answer, the one that is shown first."""
        older = [one.pseudonym(subject, identity) for one in reversed(self.answering)]
        return list(dict.fromkeys([self.pseudonym(subject, identity), *older]))

    def digest(self) -> str:
        """Return what differs whenever a pseudonym may."""
        told = hashlib.sha256()
        for one in self.generations:
            told.update(hmac.digest(one.key, b"digest" + one.retired.encode(), "sha256"))
        for (subject, identity), name in sorted(self.given.items()):
            told.update(f"{subject}\0{identity}\0{name}\n".encode("utf-8", "surrogatepass"))
        return told.hexdigest()


def make(folder: Path, project: str, now: str) -> ProjectKeys:
    """Make a project's key, which must not be there yet.

    Raises
    ------
    ConflictError
        If it is: pseudonyms of an older project of this name would come back (`Kind.PROJECT_EXISTS`).
    SiteError
        If the folder cannot be written, or others may read it.

    """
    files.make_folder(folder)
    keys = ProjectKeys(project, (Generation(1, secrets.token_bytes(_KEY_BYTES), now),))
    if not files.write_new(_path(folder, project), _encode(keys)):
        msg = f"There is a key of a project {project!r} already: {_path(folder, project)}."
        raise ConflictError(msg, kind=Kind.PROJECT_EXISTS, remedy="Choose another name.")
    return keys


def load(folder: Path, project: str) -> ProjectKeys:
    """Return a project's key, without the pseudonyms that the site was given.

    Raises
    ------
    SiteError
        If it is not there or damaged (`Kind.KEY_MISSING`), or others may read it.

    """
    path = _path(folder, project)
    content = files.read(path)
    if content is None:
        msg = f"The key of the project {project!r} is not there: {path}."
        remedy = "Restore the folder of keys from its backup; without it the project's pseudonyms are lost."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy=remedy)
    files.check_private(path)
    document = files.decode(path, content, _KIND)
    try:
        found = tuple(_generation(one) for one in document["generations"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise files.damaged(path) from error
    if not found or document.get("project") != project or [one.number for one in found] != [*range(1, len(found) + 1)]:
        raise files.damaged(path)
    return ProjectKeys(project, found)


def rotate(folder: Path, project: str, now: str) -> ProjectKeys:
    """Make a new generation; raises as `load`, and `SiteError` if the folder cannot be written."""
    with files.locked(folder):
        keys = load(folder, project)
        if len(keys.generations) >= _MOST_GENERATIONS:
            msg = f"The key of the project {project!r} has {_MOST_GENERATIONS} generations."
            raise SiteError(msg, remedy="Make a new project.")
        new = Generation(keys.current.number + 1, secrets.token_bytes(_KEY_BYTES), now)
        return _replaced(folder, replace(keys, generations=(*keys.generations, new)))


def retire(folder: Path, project: str, now: str) -> ProjectKeys:
    """Let no pseudonyms answer but those of the newest generation; raises as `rotate`."""
    with files.locked(folder):
        keys = load(folder, project)
        older = tuple(replace(one, retired=one.retired or now) for one in keys.generations[:-1])
        return _replaced(folder, replace(keys, generations=(*older, keys.current)))


def _replaced(folder: Path, keys: ProjectKeys) -> ProjectKeys:
    files.replace(_path(folder, keys.project), _encode(keys))
    return keys


def _path(folder: Path, project: str) -> Path:
    if not _NAME.fullmatch(project):  # it becomes part of a path
        msg = f"{project!r:.60} is no name of a project."
        raise SiteError(msg, remedy="Names are small letters, digits and hyphens, 40 at most.")
    return folder / f"project-{project}.key"


def _encode(keys: ProjectKeys) -> bytes:
    generations: Sequence[Mapping[str, Any]] = [
        {"number": one.number, "key": one.key.hex(), "made": one.made, "retired": one.retired}
        for one in keys.generations
    ]
    return files.encode(_KIND, {"project": keys.project, "generations": generations})


def _generation(said: Mapping[str, Any]) -> Generation:
    number, key, made, retired = said["number"], bytes.fromhex(said["key"]), said["made"], said["retired"]
    if type(number) is not int or len(key) != _KEY_BYTES or not isinstance(made, str) or not isinstance(retired, str):
        msg = "no generation"
        raise ValueError(msg)
    return Generation(number, key, made, retired)
