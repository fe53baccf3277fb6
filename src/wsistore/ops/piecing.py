"""Copies pieced together: what is damaged in one is taken from others, which are damaged elsewhere.

Copies that were made of each other as they are have the same objects but for the companion's description, which names
the attempt. So none of them has to be whole, as long as every object is in one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wsistore.catalog.records import CopyRow
from wsistore.compress import archive
from wsistore.compress.object_check import damaged_objects
from wsistore.errors import IntegrityError, StorageError
from wsistore.model import CopyState, ObjectRecord
from wsistore.ops.scrub_plan import is_archived
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, current_copies, place_of
from wsistore.storage.pieced import Elsewhere, PiecedStorage


@dataclass(frozen=True, slots=True)
class Pieced:
    """A copy of which every object is somewhere."""

    copy: CopyRow
    """Whose keys the objects have."""
    storage: PiecedStorage
    taken: Mapping[str, int]
    """How many objects are read from other tiers, by tier; nothing if the copy itself has all of them."""


def piece_together(site: Site, slide: str) -> Pieced | None:
    """Return a whole copy of a slide made of damaged ones, or None if some object is in none of them.

    All objects of all suspect copies that can be read at once are read. What comes of it is to be proven like any copy.
    """
    found = [_Read(site, copy) for copy in _readable(site, slide)]
    for base in found:
        taken: dict[str, tuple[_Read, str]] = {}
        for record in base.damaged:
            holder = next(((one, key) for one in found if (key := one.holds(base, record))), None)
            if holder is None:
                break
            taken[record.key] = holder
        else:
            elsewhere: dict[str, Elsewhere] = {key: (one.storage, there) for key, (one, there) in taken.items()}
            counts = Counter(one.copy.tier for one, _ in taken.values())
            return Pieced(base.copy, PiecedStorage(base.storage, elsewhere), dict(sorted(counts.items())))
    return None


def _readable(site: Site, slide: str) -> Iterator[CopyRow]:
    for copy in current_copies(site, slide):
        if copy.state is CopyState.SUSPECT and not is_archived(site.tier_settings(copy.tier)):
            try:
                site.tier(copy.tier)
            except StorageError:
                continue
            yield copy


class _Read:
    """A copy, all of whose objects were read."""

    def __init__(self, site: Site, copy: CopyRow) -> None:
        self.copy, self.storage = copy, site.tier(copy.tier)
        self._records = commit_of(copy).objects
        self.damaged = [record for record in self._records if not self._reads(record)]
        bad = {record.key for record in self.damaged}
        self._good = {
            (_name(copy, record.key), record.sha256): record.key for record in self._records if record.key not in bad
        }

    def _reads(self, record: ObjectRecord) -> bool:
        """Say whether an object can be read, and is what was recorded; each by itself, for a sector may be bad."""
        try:
            return not damaged_objects(self.storage, [record])
        except (IntegrityError, StorageError):
            return False

    def holds(self, base: _Read, record: ObjectRecord) -> str | None:
        """Return the key under which this copy has an object of `base`, the same bytes; None if it has not."""
        return self._good.get((_name(base.copy, record.key), record.sha256))


def _name(copy: CopyRow, key: str) -> str:
    """Return what an object is called in every copy that was made as it is."""
    place = place_of(copy)
    names = {archive.store_archive(place): "store", archive.private_archive(place): "private"}
    return names.get(key) or key.replace(f"/{place.attempt}/", "/", 1)
