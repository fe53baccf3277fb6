"""Commits: the one small object that makes a slide be there. Written once, by a single conditional PUT."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from wsistore.compress.keys import COMMITS, Place, commit_key
from wsistore.compress.metadata import FORMAT
from wsistore.errors import ConflictError, IntegrityError, Kind, ObjectExistsError
from wsistore.model import Evidence, Mode, ObjectRecord, Preset
from wsistore.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit says: which attempt is the slide's copy in this tier, and all of its objects."""

    slide: str
    number: int
    """Counts the versions of the slide from 1."""
    attempt: str
    mode: Mode
    preset: Preset
    fingerprint: str
    """Identity of the source's content."""
    bytes_source: int
    evidence: Evidence
    verified_at: str
    """ISO 8601, UTC."""
    objects: tuple[ObjectRecord, ...]

    @property
    def place(self) -> Place:
        """Where the copy lies."""
        return Place(self.slide, self.attempt)

    @property
    def key(self) -> str:
        """Key of the commit object."""
        return commit_key(self.slide, self.number)

    @property
    def bytes_stored(self) -> int:
        """Bytes of all objects, without the commit."""
        return sum(record.size_bytes for record in self.objects)


def encode(commit: Commit) -> bytes:
    """Return the commit object."""
    place = commit.place
    document: dict[str, Any] = {"format": FORMAT, **asdict(commit)}
    document["objects"] = {
        tree: [[r.key.removeprefix(prefix), r.size_bytes, r.sha256] for r in commit.objects if r.key.startswith(prefix)]
        for tree, prefix in (("store", place.store), ("private", place.private))
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode(data: bytes, *, where: str) -> Commit:
    """Return the commit; `where` is its key, for messages.

    Raises
    ------
    IntegrityError
        If it is damaged, or of a format that this version does not know.

    """
    try:
        document = json.loads(data)
        version = document.pop("format")
        if version != FORMAT:
            msg = f"{where} has format {version}; this wsistore reads format {FORMAT}."
            raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Read it with a newer wsistore.")
        place = Place(document["slide"], document["attempt"])
        trees = document.pop("objects")
        objects = tuple(
            ObjectRecord(prefix + name, size, sha256)
            for tree, prefix in (("store", place.store), ("private", place.private))
            for name, size, sha256 in trees[tree]
        )
        kinds = {"mode": Mode(document["mode"]), "preset": Preset(document["preset"])}
        return Commit(**{**document, **kinds, "evidence": Evidence(document["evidence"]), "objects": objects})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{where} is damaged ({error!r})."
        raise IntegrityError(msg, remedy="Verify the slide's other copies.") from error


def write(storage: Storage, commit: Commit) -> int:
    """Make the slide be there; return the size of the commit object.

    May be repeated: finding this very commit in place is success, as a lost reply leaves it.

    Raises
    ------
    ConflictError
        If another attempt holds this version of the slide.

    """
    data = encode(commit)
    try:
        storage.put(commit.key, data, if_absent=True)
    except ObjectExistsError as error:
        if storage.get(commit.key) != data:
            msg = f"Version {commit.number} of slide {commit.slide} was committed by somebody else."
            raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.") from error
    return len(data)


def read(storage: Storage, key: str) -> Commit:
    """Return a commit.

    Raises
    ------
    ObjectMissingError
        If there is none under `key`.
    IntegrityError
        If it is damaged.

    """
    return decode(storage.get(key), where=key)


def find(storage: Storage, slide: str = "") -> Iterator[str]:
    """Yield the keys of a slide's commits, or of all slides', in order."""
    prefix = f"{COMMITS}/{slide}/" if slide else f"{COMMITS}/"
    return (info.key for info in storage.list(prefix))
