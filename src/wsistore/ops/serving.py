"""The copy of a slide that a gateway answers from: where its shared objects lie, and what decodes its pixels.

Of a slide in tiles only the store is opened: its companion is neither read nor within reach. A slide that is kept whole
has its pixels in the vendor's files, which are opened here and never handed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override
from zarr.abc.store import ByteRequest

from wsistore.catalog.records import CopyRow
from wsistore.client.slide import Slide
from wsistore.compress import bounded, threads
from wsistore.compress.archive import PackedView
from wsistore.compress.keys import Place
from wsistore.compress.zarr_store import ReadOnlyStore, TierStore, cut
from wsistore.errors import IntegrityError, Kind, MissingError, StorageError
from wsistore.model import Mode, Preset
from wsistore.ops.opening import open_stored
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, current_copies, place_of
from wsistore.storage.base import Storage
from wsistore.units import MIB

_DOCUMENT = "zarr.json"
_CACHE_BYTES = 8 * MIB
"""Of decoded tiles that were used in part: who serves many slides asks for whole ones."""
_REQUESTS = 8
"""Documents that are read at once."""

Standing = tuple[tuple[str, str, str], ...]
"""Attempt, state and evidence of each copy that a slide could be answered from: changes when one comes, goes, is moved,
encoded anew, or doubted."""


@dataclass(frozen=True)
class ServedCopy:
    """A copy, opened for reading. Threads may share it."""

    place: Place
    storage: Storage
    """Where the objects of the store lie; of a packed copy, as if they lay there one by one."""
    tier: str
    preset: Preset
    mode: Mode
    sizes: Mapping[str, int]
    """Bytes of each object of the store, by name within it."""
    store: ReadOnlyStore
    """The stored hierarchy, for Zarr; its documents are in memory."""
    documents: Mapping[str, Mapping[str, Any]]
    """The ``zarr.json`` of each of its nodes as it lies, by path: empty for the root. Not yet fit to be shown."""
    slide: Slide
    """Its levels; of a slide kept whole, through its vendor's library."""
    standing: Standing
    """How the slide stood when this copy was chosen."""

    def close(self) -> None:
        """Free what the slide holds open, once nobody reads any more."""
        self.slide.close()


def open_served(site: Site, slide: str) -> ServedCopy:
    """Open the first copy of a slide's current version whose pixels can be read at once.

    Parameters
    ----------
    site
        Where the slide is looked up.
    slide
        Its key.

    Raises
    ------
    MissingError
        If the slide has no copy.
    ObjectArchivedError
        If all its copies lie in archives and must be recalled first.
    StorageError, IntegrityError
        If no copy can be read: what is wrong with the last one.

    """
    failure: StorageError | IntegrityError | None = None
    copies = current_copies(site, slide)
    for copy in copies:
        try:
            return _open(site, copy, _standing(copies))
        except (StorageError, IntegrityError) as error:
            failure = error
    if failure is not None:
        raise failure
    msg = f"The slide {slide} has no committed copy."
    raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="Ingest its source again.")


def is_current(site: Site, served: ServedCopy) -> bool:
    """Say whether a slide still stands as it did when a copy of it was opened, so that it need not be chosen anew.

    Raises
    ------
    SiteError
        If the catalogue fails.

    """
    return _standing(current_copies(site, served.place.slide)) == served.standing


def _standing(copies: Sequence[CopyRow]) -> Standing:
    return tuple((copy.attempt, str(copy.state), str(copy.evidence)) for copy in copies)


def _open(site: Site, copy: CopyRow, standing: Standing) -> ServedCopy:
    storage, commit, place = site.tier(copy.tier), commit_of(copy), place_of(copy)
    objects = {record.key: record.size_bytes for record in commit.objects}
    if copy.preset is Preset.PACK:
        storage = PackedView(storage, place)
        objects = {info.key: info.size_bytes for info in storage.list(place.store)}
    start = len(place.store)
    sizes = {key[start:]: size for key, size in objects.items() if key.startswith(place.store)}
    store = _Remembering(TierStore(storage, place.store, required=frozenset(objects)), sizes)
    pixels = open_stored(site, copy.slide) if commit.mode is Mode.WHOLE else Slide(store, place.slide)
    pixels.threads, pixels.cache_bytes = 1, _CACHE_BYTES
    documents = store.documents()
    return ServedCopy(place, storage, copy.tier, copy.preset, commit.mode, sizes, store, documents, pixels, standing)


class _Remembering(ReadOnlyStore):
    """A store whose documents were all read when it was opened, and which asks for nothing that is not there."""

    def __init__(self, inner: TierStore, names: Iterable[str]) -> None:
        super().__init__()
        self._inner, self._names = inner, frozenset(names)
        self._read: dict[str, bytes] = {}
        keys = sorted(name for name in self._names if name.rpartition("/")[2] == _DOCUMENT)
        threads.for_each(threads.shared_pool("documents", _REQUESTS), self._remember, keys)

    def _remember(self, key: str) -> None:
        found = self._inner.read(key, None)
        if found is not None:
            self._read[key] = found

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return the documents by path of their nodes."""
        start = -len(_DOCUMENT) - 1
        return {key[:start]: bounded.json_object(data, where=key) for key, data in self._read.items()}

    @override
    def __eq__(self, value: object) -> bool:
        return self is value

    def __hash__(self) -> int:
        return id(self)

    @override
    def __str__(self) -> str:
        return str(self._inner)

    @override
    def read(self, key: str, request: ByteRequest | None) -> bytes | None:
        known = self._read.get(key)
        if known is not None:
            return cut(known, request)
        return self._inner.read(key, request) if key in self._names else None

    @override
    def read_many(self, key: str, parts: Any) -> list[bytes] | None:
        return self._inner.read_many(key, parts) if key in self._names else None

    @override
    def names(self, prefix: str) -> Iterable[str]:
        return (name for name in self._names if name.startswith(prefix))
