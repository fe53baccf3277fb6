"""Commits: the one small object that makes a slide be there. Written once, by a single conditional PUT."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from wsistore.compress import bounded
from wsistore.compress.keys import COMMITS, Place, commit_key
from wsistore.compress.metadata import FORMAT
from wsistore.errors import ConflictError, IntegrityError, Kind, ObjectExistsError, StorageError
from wsistore.model import Evidence, Mode, ObjectRecord, Preset
from wsistore.storage.base import Span, Storage, check_key

_NAME = re.compile(r"[0-9a-z]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_REMEDY = "Verify the slide's other copies."


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
    """Return the commit object.

    Raises
    ------
    IntegrityError
        If an object does not lie in the attempt's own trees: nothing would ever find it again.

    """
    trees: dict[str, list[list[Any]]] = {}
    for tree, prefix in _trees(commit.place):
        mine = [record for record in commit.objects if record.key.startswith(prefix)]
        trees[tree] = [[record.key.removeprefix(prefix), record.size_bytes, record.sha256] for record in mine]
    if sum(map(len, trees.values())) != len(commit.objects):
        msg = f"An object of slide {commit.slide} does not lie under attempt {commit.attempt}."
        raise IntegrityError(msg, kind=Kind.INTERNAL)
    document = {"format": FORMAT, **asdict(commit), "objects": trees}
    return json.dumps(document, separators=(",", ":")).encode()


def _trees(place: Place) -> tuple[tuple[str, str], ...]:
    return ("store", place.store), ("private", place.private)


def decode(data: bytes, *, where: str) -> Commit:
    """Return the commit at key `where`.

    Every key that it names lies in the trees of the slide and attempt that it is of.

    Raises
    ------
    IntegrityError
        If it is damaged, not that of its key, or of a format that this version does not know.

    """
    document = bounded.json_object(data, where=where)
    version = document.pop("format", None)
    if version != FORMAT:
        msg = f"{where} has format {version!r:.80}; this wsistore reads format {FORMAT}."
        raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Read it with a newer wsistore.")
    try:
        commit = _from_json(document)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        msg = f"{where} is damaged ({str(error)[:200]})."
        raise IntegrityError(msg, remedy=_REMEDY) from error
    if commit.key != where:
        msg = f"{where} is the commit {commit.key}."
        raise IntegrityError(msg, remedy=_REMEDY)
    return commit


def _from_json(document: dict[str, Any]) -> Commit:
    place = Place(_name(document["slide"]), _name(document["attempt"]))
    trees = bounded.mapping(document["objects"])
    objects = tuple(
        ObjectRecord(_key(prefix + bounded.text(name)), bounded.count(size), _hash(sha256))
        for tree, prefix in _trees(place)
        for name, size, sha256 in trees[tree]
    )
    return Commit(
        **{
            **document,
            "number": bounded.count(document["number"], 1),
            "mode": Mode(document["mode"]),
            "preset": Preset(document["preset"]),
            "fingerprint": _hash(document["fingerprint"]),
            "bytes_source": bounded.count(document["bytes_source"]),
            "evidence": Evidence(document["evidence"]),
            "verified_at": bounded.text(document["verified_at"]),
            "objects": objects,
        }
    )


def _name(value: Any) -> str:
    if not _NAME.fullmatch(bounded.text(value)):
        msg = f"{value!r:.80} is not the key of a slide or attempt"
        raise ValueError(msg)
    return str(value)


def _hash(value: Any) -> str:
    if not _HASH.fullmatch(bounded.text(value)):
        msg = f"{value!r:.80} is not a SHA-256"
        raise ValueError(msg)
    return str(value)


def _key(key: str) -> str:
    try:
        return check_key(key)
    except StorageError as error:
        raise ValueError(error.message) from error


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
        if storage.get(commit.key, Span(0, len(data) + 1)) != data:
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
    return decode(storage.get(key, Span(0, bounded.MOST_JSON_BYTES + 1)), where=key)


def find(storage: Storage, slide: str = "") -> Iterator[str]:
    """Yield the keys of a slide's commits, or of all slides', in order."""
    prefix = f"{COMMITS}/{slide}/" if slide else f"{COMMITS}/"
    return (info.key for info in storage.list(prefix))
