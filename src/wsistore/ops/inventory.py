"""What lies in a tier against what should: its listing and the catalogue, both in the order of keys, go side by side.

The tier is listed once. Neither it nor the catalogue is ever held as a whole; only the commit of one copy is. As others
work meanwhile, everything that seems wrong is looked at once more before it is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Protocol

from wsistore.catalog import scrubs
from wsistore.catalog.records import CopyRow
from wsistore.catalog.scrubs import CommitRow
from wsistore.compress.keys import COMMITS, KEYRING, PRIVATE, STORE, Place
from wsistore.errors import ObjectMissingError, WsistoreError
from wsistore.model import CopyState, ObjectRecord
from wsistore.ops import orphans
from wsistore.ops.adopting import find_commit
from wsistore.ops.scrub_plan import is_archived
from wsistore.ops.scrub_results import Finding, What
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of
from wsistore.storage.base import MARKER_KEY, ObjectInfo, Storage
from wsistore.tiers import commits
from wsistore.tiers.ledger import LEDGER

_MUST = frozenset({CopyState.COMMITTED, CopyState.SUSPECT, CopyState.SUPERSEDED})
"""States in which all objects of a copy must be there; in others some are still being written, or deleted."""
_OURS = re.compile(rf"({PRIVATE}|{STORE})/([0-9a-hjkmnp-tv-z]{{20}})/([0-9a-hjkmnp-tv-z]{{20}})/.+")
SITES_OWN = re.compile(
    rf"{re.escape(MARKER_KEY)}|{LEDGER}/(segments|heads)/\d{{12}}\.json(\.zst)?|{KEYRING}/[0-9a-z]+/[0-9a-z]+\.json"
)
"""Keys that belong to no copy."""
_SEEN_EVERY = 1000
_SHOWN = 3
_ASKED = 16
"""Objects of a copy that seem to be missing and are asked for one by one."""


class _Expected(Protocol):
    """What the catalogue says should lie in one group of keys."""

    @property
    def prefix(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Commit:
    row: CommitRow

    @property
    def prefix(self) -> str:
        return self.row.key


@dataclass(frozen=True, slots=True)
class _Tree:
    """One of the two trees of a copy."""

    copy: CopyRow
    prefix: str

    def records(self) -> list[ObjectRecord]:
        mine = [record for record in commit_of(self.copy).objects if record.key.startswith(self.prefix)]
        return sorted(mine, key=lambda record: record.key.encode())


def take_inventory(site: Site, tier: str, *, seen: Callable[[int], None] = lambda _: None) -> Iterator[Finding]:
    """Compare what lies in a tier with what the catalogue expects there.

    What lies there without a commit and without an attempt is removed after the time of grace, as `recover` does.
    Nothing else is deleted, nor written down.

    Parameters
    ----------
    site
        An open site.
    tier
        Its name.
    seen
        Gets the number of objects seen so far, now and then.

    Yields
    ------
    Finding
        In the order of keys; at last the copies of which there are too many.

    Raises
    ------
    StorageError
        If the tier fails.

    """
    work = _Inventory(site, tier, site.tier(tier))
    groups = groupby(_counted(work.storage.list(), seen), key=lambda info: _group_of(info.key))
    for prefix, infos, expected in _side_by_side(groups, _expected(site, tier)):
        if expected is None:
            yield from work.unknown(prefix, infos)
        elif isinstance(expected, _Commit):
            yield from work.commit(expected.row, next(infos, None))
        elif isinstance(expected, _Tree) and expected.copy.state in _MUST:
            yield from work.tree(expected, infos)
    for double in scrubs.twice(site.catalog, tier):
        yield from work.twice(double)


def _group_of(key: str) -> str:
    """Return the prefix that the objects of a copy share in a tree; of any other object its key."""
    match = _OURS.fullmatch(key)
    return key if match is None else "/".join((*match.groups(), ""))


def _counted(infos: Iterator[ObjectInfo], seen: Callable[[int], None]) -> Iterator[ObjectInfo]:
    for count, info in enumerate(infos, 1):
        if not count % _SEEN_EVERY:
            seen(count)
        yield info


def _expected(site: Site, tier: str) -> Iterator[_Expected]:
    """Yield what should be there, in the order of keys: commits, private, store."""
    yield from map(_Commit, scrubs.commits_by_key(site.catalog, tier))
    for copy in scrubs.copies_by_place(site.catalog, tier):
        yield _Tree(copy, Place(copy.slide, copy.attempt).private)
    for copy in scrubs.copies_by_place(site.catalog, tier):
        yield _Tree(copy, Place(copy.slide, copy.attempt).store)


def _side_by_side(
    groups: Iterator[tuple[str, Iterator[ObjectInfo]]], expected: Iterator[_Expected]
) -> Iterator[tuple[str, Iterator[ObjectInfo], _Expected | None]]:
    """Yield each group of keys once: what lies there, and what should."""
    group, wanted = next(groups, None), next(expected, None)
    while group is not None or wanted is not None:
        there = None if group is None else group[0].encode()
        wish = None if wanted is None else wanted.prefix.encode()
        if wanted is not None and (there is None or (wish is not None and wish < there)):
            yield wanted.prefix, iter(()), wanted
            wanted = next(expected, None)
        elif group is not None:
            is_wanted = wish == there
            yield group[0], group[1], wanted if is_wanted else None
            wanted = next(expected, None) if is_wanted else wanted
            group = next(groups, None)


class _Inventory:
    """Looks at one group of keys after the other."""

    def __init__(self, site: Site, tier: str, storage: Storage) -> None:
        self.site, self.tier, self.storage = site, tier, storage
        self._removed: set[str] = set()
        self._is_archived = is_archived(site.tier_settings(tier))

    # --- what should be there

    def commit(self, row: CommitRow, info: ObjectInfo | None) -> Iterator[Finding]:
        """Compare a commit with what was listed of it."""
        if row.state in _MUST and (info is None or info.size_bytes != row.size_bytes):
            record = ObjectRecord(row.key, row.size_bytes, "")
            yield from self._lacking(row.attempt, row.slide, {record: None if info is None else info.size_bytes})

    def tree(self, tree: _Tree, infos: Iterator[ObjectInfo]) -> Iterator[Finding]:
        """Compare a copy's objects in one tree with those listed."""
        lacking: dict[ObjectRecord, int | None] = {}
        extra: list[ObjectInfo] = []
        info = next(infos, None)
        for record in tree.records():
            while info is not None and info.key.encode() < record.key.encode():
                extra.append(info)
                info = next(infos, None)
            size = info.size_bytes if info is not None and info.key == record.key else None
            if size != record.size_bytes:
                lacking[record] = size
            if size is not None:
                info = next(infos, None)
        extra += [] if info is None else [info, *infos]
        yield from self._lacking(tree.copy.attempt, tree.copy.slide, lacking)
        for one in extra:
            yield self._foreign(
                one, f"It lies among the objects of copy {tree.copy.attempt}, whose commit has no such."
            )

    def _lacking(self, attempt: str, slide: str, listed: Mapping[ObjectRecord, int | None]) -> Iterator[Finding]:
        """Yield what a copy really lacks: a listing may lag behind, and the copy may have gone meanwhile."""
        missing: list[ObjectRecord] = []
        wrong: list[tuple[ObjectRecord, int]] = []
        for record, size in listed.items():
            # Where so many are found to be as listed the others are, too: a whole bucket may be gone.
            found = size if len(missing) + len(wrong) >= _ASKED else self._size(record.key)
            if found is None:
                missing.append(record)
            elif found != record.size_bytes:
                wrong.append((record, found))
        if not missing and not wrong:
            return
        now = self.site.catalog.copy_of_attempt(attempt)
        if now is None or now.state not in _MUST:
            return
        past = "" if now.state is not CopyState.SUPERSEDED else " It belongs to a version that was superseded."
        if missing:
            text = f"Missing: {_named([record.key for record in missing])}.{past}"
            yield self._finding(What.MISSING, missing[0].key, text, slide, attempt, missing)
        if wrong:
            first, size = wrong[0]
            text = f"{first.key} has {size} bytes, not the {first.size_bytes} recorded.{past}"
            yield self._finding(What.TRUNCATED, first.key, text, slide, attempt, [record for record, _ in wrong])

    def _size(self, key: str) -> int | None:
        try:
            return self.storage.head(key).size_bytes
        except ObjectMissingError:
            return None

    def twice(self, double: scrubs.Twice) -> Iterator[Finding]:
        """Tell of a version of a slide that has several copies here; the oldest are too many."""
        for attempt in double.attempts[:-1]:
            copy = self.site.catalog.copy_of_attempt(attempt)
            if copy is not None:
                text = f"Version {double.version} of slide {double.slide} has {len(double.attempts)} copies here."
                yield Finding(
                    tier=self.tier,
                    what=What.DUPLICATE,
                    key=copy.commit_key,
                    slide=double.slide,
                    attempt=attempt,
                    objects=copy.objects,
                    size_bytes=copy.bytes_stored,
                    message=text,
                )

    # --- what nobody expects

    def unknown(self, prefix: str, infos: Iterator[ObjectInfo]) -> Iterator[Finding]:
        """Look at what the catalogue does not expect."""
        match = _OURS.fullmatch(f"{prefix}x")
        if match is not None:
            yield from self._unknown_attempt(prefix, Place(match[2], match[3]), infos)
            return
        for info in infos:
            if SITES_OWN.fullmatch(info.key):
                continue
            if info.key.startswith(f"{COMMITS}/"):
                yield from self._unknown_commit(info)
            else:
                yield self._foreign(info, "wsistore does not write such a key.")

    def _unknown_attempt(self, prefix: str, place: Place, infos: Iterator[ObjectInfo]) -> Iterator[Finding]:
        count, size, newest = 0, 0, datetime.min.replace(tzinfo=self.site.clock.now().tzinfo)
        for info in infos:
            count, size, newest = count + 1, size + info.size_bytes, max(newest, info.modified)
        if self.site.catalog.known_attempts([place.attempt]) or place.attempt in self._removed:
            return
        if newest >= self.site.clock.now() - orphans.GRACE or self._has_commit(place):
            return  # its writer may be at work; or its commit was told of
        try:
            removed = orphans.remove_unknown(self.site, self.tier, place)
            text = f"Nobody knows attempt {place.attempt}."
        except WsistoreError as error:
            removed, text = 0, f"Nobody knows attempt {place.attempt}, and it cannot be removed now: {error}"
        if removed:
            self._removed.add(place.attempt)
        yield Finding(
            tier=self.tier,
            what=What.ORPHANED,
            key=prefix,
            slide=place.slide,
            attempt=place.attempt,
            objects=count,
            size_bytes=size,
            removed=removed,
            message=text,
        )

    def _has_commit(self, place: Place) -> bool:
        try:
            return find_commit(self.site, self.tier, place) is not None
        except WsistoreError:
            return True  # that cannot be told now: nothing is done to it

    def _unknown_commit(self, info: ObjectInfo) -> Iterator[Finding]:
        known = scrubs.commits_under(self.site.catalog, self.tier, info.key)
        if any(row.state is not CopyState.DROPPED for row in known):
            return  # it came while the tier was listed
        if known:
            yield self._late_commit(info, known[0])
            return
        if self._is_archived:
            yield self._foreign(info, "The catalogue does not know this commit.")
            return
        try:
            commit = commits.read(self.storage, info.key)
        except ObjectMissingError:
            return
        except WsistoreError as error:
            yield self._foreign(info, f"It is no commit: {error.message}")
            return
        if not scrubs.has_copy(self.site.catalog, self.tier, commit.slide, commit.version):
            yield self._foreign(info, "The catalogue does not know this commit. It may be of a lost catalogue.")
            return
        text = (
            f"The catalogue does not know it, and has another copy of version {commit.version} of slide {commit.slide}."
        )
        yield self._finding(What.DUPLICATE, info.key, text, commit.slide, commit.attempt, commit.objects)

    def _late_commit(self, info: ObjectInfo, row: CommitRow) -> Finding:
        """Remove the commit of a copy that is dropped: a process that slept had still to write it."""
        text = f"It is the commit of copy {row.attempt}, which is dropped."
        try:
            removed = orphans.remove_late_commits(self.site, self.tier, self.storage, [info.key])
        except WsistoreError as error:
            removed, text = 0, f"{text} It cannot be removed now: {error}"
        record = ObjectRecord(info.key, info.size_bytes, "")
        return self._finding(What.ORPHANED, info.key, text, row.slide, row.attempt, [record], removed=removed)

    def _foreign(self, info: ObjectInfo, text: str) -> Finding:
        return self._finding(What.FOREIGN, info.key, text, "", "", [ObjectRecord(info.key, info.size_bytes, "")])

    def _finding(
        self,
        what: What,
        key: str,
        text: str,
        slide: str,
        attempt: str,
        records: Sequence[ObjectRecord],
        removed: int = 0,
    ) -> Finding:
        return Finding(
            tier=self.tier,
            what=what,
            key=key,
            slide=slide or None,
            attempt=attempt or None,
            objects=len(records),
            size_bytes=sum(record.size_bytes for record in records),
            removed=removed,
            message=text,
        )


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
