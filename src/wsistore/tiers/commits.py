"""Commits: the one small object that makes a slide be there. Written once, by a single conditional PUT."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from wsistore.compress import bounded
from wsistore.compress.keys import COMMITS, Place, commit_key
from wsistore.compress.metadata import FORMAT
from wsistore.errors import ConflictError, IntegrityError, Kind, ObjectExistsError, StorageError
from wsistore.model import Evidence, Mode, ObjectRecord, Preset
from wsistore.storage.base import Span, Storage, check_key

_NAME = re.compile(r"[0-9a-z]{1,64}")
_KEY = re.compile(rf"{COMMITS}/[^/]+/([0-9]{{8,18}})\.json")
_HASH = re.compile(r"[0-9a-f]{64}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_REMEDY = "Verify the slide's other copies."


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit says: which attempt is the slide's copy in this tier, and all of its objects."""

    slide: str
    number: int
    """Counts the commits of the slide in this tier from 1; the highest holds."""
    version: int
    """Of the slide's source, from 1."""
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
    fence: int = 0
    """Fencing number of the attempt: of two that are made of a slide's copies, the later has the greater; 0 for an
    ingest."""
    expires_at: str = ""
    """Of a copy that is temporary: when it may go, ISO 8601, UTC, as was known when it was committed; else nothing."""

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
    for name in ("fence", "expires_at"):
        if not document[name]:
            del document[name]
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
            # The first commits had no version: there was one commit of each.
            "version": bounded.count(document.get("version", document["number"]), 1),
            "mode": Mode(document["mode"]),
            "preset": Preset(document["preset"]),
            "fingerprint": _hash(document["fingerprint"]),
            "bytes_source": bounded.count(document["bytes_source"]),
            "evidence": Evidence(document["evidence"]),
            "verified_at": bounded.text(document["verified_at"]),
            "objects": objects,
            "fence": bounded.count(document.get("fence", 0)),
            "expires_at": _moment(document.get("expires_at", "")),
        }
    )


def _name(value: Any) -> str:
    if not _NAME.fullmatch(bounded.text(value)):
        msg = f"{value!r:.80} is not the key of a slide or attempt"
        raise ValueError(msg)
    return str(value)


def _moment(value: Any) -> str:
    text = bounded.text(value)
    if text:
        if not _MOMENT.fullmatch(text):
            msg = f"{value!r:.80} is not a moment"
            raise ValueError(msg)
        datetime.fromisoformat(text)  # raises ValueError for the 31st of February
    return text


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
        If another attempt holds this number.

    """
    data = encode(commit)
    try:
        storage.put(commit.key, data, if_absent=True)
    except ObjectExistsError as error:
        if storage.get(commit.key, Span(0, len(data) + 1)) != data:
            msg = f"Commit {commit.number} of slide {commit.slide} was written by somebody else."
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


def next_number(storage: Storage, slide: str) -> int:
    """Return the number of a slide's next commit in a tier, from the keys that are there.

    Two that ask at once get the same: the conditional PUT decides between them.
    """
    numbers = [_number(key) for key in find(storage, slide)]
    return max(numbers, default=0) + 1


def _number(key: str) -> int:
    match = _KEY.fullmatch(key)
    return int(match[1]) if match else 0


def find(storage: Storage, slide: str = "") -> Iterator[str]:
    """Yield the keys of a slide's commits, or of all slides', in order."""
    prefix = f"{COMMITS}/{slide}/" if slide else f"{COMMITS}/"
    return (info.key for info in storage.list(prefix))
