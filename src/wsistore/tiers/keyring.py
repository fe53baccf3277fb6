"""The data keys of a tier: small objects under ``keyring/``, wrapped by the site key.

Each companion has one, and each object of the tier's ledger, which names slides too (``keyring/ledger/``); the site's
identity keys lie there, too (``keyring/identities/``). A data key is written before the first object that is encrypted
by it. So an object that lies there without a data key was never encrypted, or its key is lost; which of both, its first
bytes tell.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from wsistore.clock import Clock, iso
from wsistore.compress.keys import KEYRING, PRIVATE, Place
from wsistore.errors import IntegrityError, Kind, ObjectExistsError, ObjectMissingError, SiteError, StorageError
from wsistore.keys import site_keys
from wsistore.keys.site_keys import SiteKeys, WrappedKey
from wsistore.storage.base import Span, Storage
from wsistore.storage.encrypted import EncryptedStorage
from wsistore.storage.erasing import erase, versions_of
from wsistore.tiers.ledger import LEDGER

_PRIVATE_KEY = re.compile(rf"{PRIVATE}/([0-9a-z]+)/([0-9a-z]+)/.+", re.DOTALL)
_LEDGER_KEY = re.compile(rf"{LEDGER}/(segments|heads)/(\d{{12}})\.json(?:\.zst)?")
_RING_KEY = re.compile(rf"{KEYRING}/([0-9a-z]+)/([0-9a-z]+)\.json")
_MOST_BYTES = 1 << 16
_MOST_CACHED = 4096
_MAKE = "Make keys for the site: wsistore keys init."


class TierKeys:
    """The data keys of one tier, for `wsistore.storage.encrypted.EncryptedStorage`. Threads share it.

    It pickles without keys: a copy reads the site key from the folder of the machine that it is on.

    Parameters
    ----------
    storage
        The tier as it is, for the objects under ``keyring/``. They must be deletable: it locks nothing.
    folder
        Where the site's keys lie; read when a key is first needed.
    is_on
        Whether new companions are encrypted. Those that are there are read in either case.

    """

    def __init__(self, storage: Storage, folder: Path, *, is_on: bool) -> None:
        self._storage, self._folder, self._is_on = storage, folder, is_on
        self._lock = threading.Lock()
        self._site: SiteKeys | None = None
        self._known: dict[Place, bytes] = {}
        self._as_it_is: set[Place] = set()
        """Attempts of this process that are written without encryption."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (self._storage, self._folder, self._is_on))

    def __repr__(self) -> str:
        return f"TierKeys({self._storage!r})"

    # --- what EncryptedStorage asks ----------------------------------------------------------------------------------

    def covers(self, key: str) -> bool:
        """Say whether the object is part of a companion, or of the ledger."""
        return (_PRIVATE_KEY.fullmatch(key) or _LEDGER_KEY.fullmatch(key)) is not None

    def reading(self, key: str) -> bytes | None:
        """Return the data key of a companion's object; None if the companion has none.

        Raises
        ------
        StorageError
            If it was destroyed (`Kind.KEY_DESTROYED`), or the tier fails.
        SiteError
            If the site key is not at hand (`Kind.KEY_MISSING`).
        IntegrityError
            If it is damaged.

        """
        return self.find(_place(key))

    def writing(self, key: str) -> bytes | None:
        """Return the data key for a companion's object to be written; None if it is to lie as it is.

        Raises
        ------
        WsistoreError
            As `reading`; also if the tier cannot write conditionally.

        """
        place = _place(key)
        found = self._known.get(place)
        if found is not None or place in self._as_it_is:
            return found
        found = self.find(place)
        if found is None and self._is_on:
            found = self._make(place)
        elif found is None:
            with self._lock:
                if len(self._as_it_is) >= _MOST_CACHED:
                    self._as_it_is.clear()
                self._as_it_is.add(place)
        return found

    def is_sealed(self, key: str) -> bool:
        """Say whether a companion's object is encrypted, also where its key was destroyed."""
        place = _place(key)
        return place in self._known or self.look(place) is not None

    def sealed_within(self, prefix: str, after: str) -> Callable[[str], bool]:
        """Return what `is_sealed` says, for ascending keys; with one listing where `prefix` names no attempt."""
        if _PRIVATE_KEY.fullmatch(prefix + "x") and prefix.count("/") > 2:
            answers: dict[Place, bool] = {}

            def one(key: str) -> bool:
                place = _place(key)
                if place not in answers:
                    answers[place] = self.is_sealed(key)
                return answers[place]

            return one
        return _Beside(self._storage, prefix, after)

    # --- the rest ----------------------------------------------------------------------------------------------------

    def look(self, place: Place) -> WrappedKey | None:
        """Return what lies on the tier for a companion, wrapped as it is, or the note that it was destroyed."""
        try:
            data = self._storage.get(place.data_key, Span(0, _MOST_BYTES))
        except ObjectMissingError:
            return None
        return WrappedKey.decode(data, place.slide, place.attempt, where=f"{place.data_key} in {self._storage.url}")

    def find(self, place: Place) -> bytes | None:
        """Return a companion's data key; raises as `reading`."""
        found = self._known.get(place)
        if found is not None:
            return found
        wrapped = self.look(place)
        return None if wrapped is None else self._learn(place, wrapped)

    def places(self, slide: str = "") -> Iterator[Place]:
        """Yield the companions, of a slide or all, for which a data key or the note of its end lies on the tier."""
        return _found(self._storage, f"{slide}/" if slide else "")

    def put_wrapped(self, place: Place, wrapped: bytes) -> None:
        """Lay down a key that is wrapped already, unless there is one."""
        try:
            self._storage.head(place.data_key)
        except ObjectMissingError:
            with suppress(ObjectExistsError):  # another process was faster
                self._storage.put(place.data_key, wrapped, if_absent=True)

    def rewrap(self, place: Place, keys: SiteKeys) -> bool:
        """Wrap a companion's data key by the current version of `keys`; say whether it was not before.

        Killed at any point it leaves the one or the other, both of which `keys` can unwrap.
        """
        wrapped = self.look(place)
        if wrapped is None or wrapped.destroyed or wrapped.site_key == keys.current:
            return False
        key = place.data_key
        data_key = keys.unwrap(wrapped, where=f"{key} in {self._storage.url}")
        new = keys.wrap(data_key, place.slide, place.attempt).encode()
        self._storage.put(key, new)
        if self._storage.get(key) != new:
            msg = f"{key} in {self._storage.url} is not what was just written."
            raise IntegrityError(msg, remedy="See who else writes to this tier.")
        self._forget_older(key)
        return True

    def destroy(self, place: Place, clock: Clock) -> bool:
        """Destroy a companion's data key, with all versions of it; say whether there was one. May be repeated."""
        wrapped = self.look(place)
        if wrapped is None:
            return False
        key = place.data_key
        if not wrapped.destroyed:
            note = WrappedKey(place.slide, place.attempt, 0, destroyed=iso(clock.now()))
            self._storage.put(key, note.encode())
        self._forget_older(key)
        with self._lock:
            self._known.pop(place, None)
        return not wrapped.destroyed

    def remove(self, place: Place) -> None:
        """Remove the data key of a companion that is gone."""
        erase(self._storage, place.data_key)
        with self._lock:
            self._known.pop(place, None)

    def _forget_older(self, key: str) -> None:
        """Delete all versions of an object but its newest."""
        newest = self._storage.head(key).version
        for version in versions_of(self._storage, key):
            if version is not None and version != newest:
                self._storage.delete(key, version=version)

    def _learn(self, place: Place, wrapped: WrappedKey) -> bytes:
        what = f"The {LEDGER}" if place.slide == LEDGER else f"The companion of slide {place.slide}"
        where = f"{what} in {self._storage.url}"
        if wrapped.destroyed:
            msg = f"{where} cannot be read: its key was destroyed on {wrapped.destroyed}, which erased it."
            remedy = "Its pixels can be read; its files, label and metadata cannot be brought back."
            raise StorageError(msg, kind=Kind.KEY_DESTROYED, remedy=remedy)
        data_key = self._site_keys(wrapped.site_key, where).unwrap(wrapped, where=where)
        with self._lock:
            if len(self._known) >= _MOST_CACHED:
                self._known.clear()
            self._known[place] = data_key
        return data_key

    def _make(self, place: Place) -> bytes:
        if not self._storage.properties.conditional_put:
            msg = (
                f"{self._storage.url} cannot write conditionally: of two data keys for one companion one would be lost."
            )
            raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Leave encrypt_companions out for this tier.")
        # Read anew for each: after a rotation nothing more is wrapped by an old version.
        keys = self._reload(f"{self._storage.url} encrypts companions")
        wrapped = keys.wrap(site_keys.new_data_key(), place.slide, place.attempt)
        try:
            self._storage.put(place.data_key, wrapped.encode(), if_absent=True)
        except ObjectExistsError:
            found = self.look(place)  # another process was faster
            if found is None:
                raise
            return self._learn(place, found)
        return self._learn(place, wrapped)

    def _site_keys(self, version: int, where: str) -> SiteKeys:
        with self._lock:
            found = self._site
        return found if found is not None and version in found.versions else self._reload(where)

    def _reload(self, where: str) -> SiteKeys:
        found = site_keys.load(self._folder)
        if found is None:
            msg = f"{where}, and there is no site key in {self._folder}."
            remedy = f"{_MAKE} If it had keys, bring them back: wsistore keys recover."
            raise SiteError(msg, kind=Kind.KEY_MISSING, remedy=remedy)
        with self._lock:
            self._site = found
        return found


class _Beside:
    """Says of ascending keys whether they are encrypted, going through the data keys beside them."""

    def __init__(self, storage: Storage, prefix: str, after: str) -> None:
        self._storage = storage
        self._ledger: set[Place] | None = None
        self._ring: Iterator[Place] = iter(())
        tree = f"{PRIVATE}/"
        if prefix.startswith(tree) or tree.startswith(prefix):
            inside = prefix.removeprefix(tree) if prefix.startswith(tree) else ""
            slide, _, rest = (after.removeprefix(tree) if after.startswith(tree) else "").partition("/")
            # Where the listing starts within an attempt, that one's data key counts.
            self._ring = _found(storage, inside, after=f"{KEYRING}/{slide}/{rest.partition('/')[0]}" if slide else "")
        self._next: Place | None = Place("", "")

    def __call__(self, key: str) -> bool:
        mine = _place(key)
        if mine.slide == LEDGER:
            if self._ledger is None:
                self._ledger = set(_found(self._storage, f"{LEDGER}/"))
            return mine in self._ledger
        while self._next is not None and (self._next.slide, self._next.attempt) < (mine.slide, mine.attempt):
            self._next = next(self._ring, None)
        return self._next == mine


def _found(storage: Storage, inside: str = "", *, after: str = "") -> Iterator[Place]:
    for info in storage.list(f"{KEYRING}/{inside}", after=after):
        match = _RING_KEY.fullmatch(info.key)
        if match is not None:
            yield Place(match[1], match[2])


def keys_of(storage: Storage) -> TierKeys | None:
    """Return the data keys of a tier that was opened with keys; None for others."""
    found = storage.keys if isinstance(storage, EncryptedStorage) else None
    return found if isinstance(found, TierKeys) else None


def remove_data_key(storage: Storage, place: Place) -> None:
    """Remove the data key of an attempt whose objects were deleted, if its tier has such."""
    keys = keys_of(storage)
    if keys is not None:
        keys.remove(place)


def _place(key: str) -> Place:
    tree, slide, rest = key.split("/", 2)
    if tree == LEDGER:
        return Place(LEDGER, f"{slide[0]}{rest[:12]}")  # s000000000001 for the segment 1, h… for its head
    return Place(slide, rest.partition("/")[0])


def _rebuilt(storage: Storage, folder: Path, is_on: bool) -> TierKeys:
    return TierKeys(storage, folder, is_on=is_on)
