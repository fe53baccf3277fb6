"""Values that every layer shares: frozen, slotted, standard library only."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no letter that looks like another."""


class Mode(StrEnum):
    """How a slide is kept."""

    TILES = "tiles"
    """Its compressed tiles are Zarr chunks, the rest of its files is the skeleton."""
    WHOLE = "whole"
    """Its files are kept as they are."""


class Preset(StrEnum):
    """How the tiles of a copy are encoded."""

    KEEP = "keep"
    """As the scanner wrote them."""
    FOLD = "fold"
    """Several tiles to a chunk, recompressed without loss: smaller, and still quick to read."""
    PACK = "pack"
    """Many tiles to a chunk, store and companion one zip each: smallest, and few objects."""


class Evidence(StrEnum):
    """What proves that a copy is good."""

    READ_BACK = "read-back"
    """Objects were read from where they lie, the source was rebuilt, every SHA-256 agreed."""
    ATTESTED = "attested-before-freeze"
    """Read back in a class that can be read; then the tier itself moved every object into its archive class, and said
    before and after that it is the same: size, and ETag or time of the last change."""


class CopyState(StrEnum):
    """Where a copy is in its life."""

    CLAIMED = "claimed"
    """Written and verified; its commit object is about to be written."""
    COMMITTED = "committed"
    SUPERSEDED = "superseded"
    """A newer version of the same slide was committed."""
    SUSPECT = "suspect"
    """Committed, but its last verification failed; a later one that succeeds makes it committed again."""
    DROPPING = "dropping"
    """Another copy has taken its place; its objects are being deleted, its commit first. Read by nobody."""
    DROPPED = "dropped"
    """Its objects are gone; what is known of it stays for history."""
    DELETING = "deleting"
    """The whole slide is deleted for good: its objects are being deleted in all tiers, and no proof asks for others."""


class LabelKind(StrEnum):
    """What a name that people give to slides is."""

    COLLECTION = "collection"
    """A set of slides that is kept together for a purpose, such as teaching."""
    TAG = "tag"
    """A remark about one slide."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a source, as it was at ingest."""

    name: str
    """Path relative to the source's folder, with forward slashes."""
    size_bytes: int
    sha256: str
    """Lower-case hexadecimal."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One stored object with the hash that was read back from where it lies."""

    key: str
    """Key relative to the tier."""
    size_bytes: int
    sha256: str
    """Lower-case hexadecimal."""


def fingerprint(files: Iterable[FileRecord]) -> str:
    """Return the identity of a source's content: SHA-256 over the sorted hashes and sizes of its files.

    Names do not count: the same bytes under another name are the same source.
    """
    lines = sorted(f"{f.sha256} {f.size_bytes}\n" for f in files)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def random_key(length: int = 20) -> str:
    """Return a random key of `length` characters, 5 bits each, that says nothing about what it names."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
