"""What many attempts have to be told of a tier: looked up once for all of them, instead of once for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from threading import Lock

from wsistore.catalog.records import Attempt
from wsistore.compress.keys import Place
from wsistore.errors import WsistoreError
from wsistore.ops.site import Site
from wsistore.storage.base import KeepsParts, Storage
from wsistore.storage.wrapper import WrappedStorage
from wsistore.tiers import commits

_FEW = 4
"""So many attempts are looked up each by itself."""
_WORTH = 50
"""Commits that are listed in the time that one attempt would take by itself."""


class Look:
    """One look at tiers for many attempts. Threads may share it.

    A tier is looked at when the first attempt asks, so never before this was made. Whoever is about to delete takes a
    new one once the catalogue lets nobody go on with the attempts: what it does not show then, comes no more.

    Parameters
    ----------
    site
        An open site.
    attempts
        All that will ask.

    """

    def __init__(self, site: Site, attempts: Iterable[Attempt]) -> None:
        self._site = site
        self._names: dict[str, set[str]] = defaultdict(set)
        for attempt in attempts:
            self._names[attempt.tier].add(attempt.attempt)
        self._locks = {tier: Lock() for tier in self._names}
        self._commits: dict[str, Mapping[str, Sequence[str]] | WsistoreError | None] = {}
        self._cleared: set[str] = set()

    def commits_of(self, tier: str, slide: str) -> Sequence[str]:
        """Return the keys of a slide's commits.

        Raises
        ------
        WsistoreError
            If the tier cannot be listed; what failed for one attempt fails for all.

        """
        with self._locks[tier]:
            if tier not in self._commits:
                try:
                    self._commits[tier] = self._listed(tier)
                except WsistoreError as error:  # the others need not wait for it, too
                    self._commits[tier] = error
            found = self._commits[tier]
        if isinstance(found, WsistoreError):
            raise found
        if found is None:
            return list(commits.find(self._site.tier(tier), slide))
        return found.get(slide, ())

    def abort_uploads(self, tier: str, place: Place) -> None:
        """Throw away the parts of what dead processes were just writing, for all of the attempts at once."""
        with self._locks[tier]:
            names = self._names[tier]
            if len(names) <= _FEW:
                abort_uploads(self._site, tier, place)
            elif tier not in self._cleared:
                storage = innermost(self._site, tier)
                if isinstance(storage, KeepsParts):
                    storage.abort_uploads("", spares=lambda key: names.isdisjoint(key.split("/")))
                self._cleared.add(tier)

    def _listed(self, tier: str) -> Mapping[str, Sequence[str]] | None:
        """Return the keys of all commits of a tier by slide; None if looking for each slide's takes less."""
        most = len(self._names[tier]) * _WORTH
        if len(self._names[tier]) <= _FEW:
            return None
        keys = list(islice(commits.find(self._site.tier(tier)), most + 1))
        if len(keys) > most:
            return None
        found: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            found[key.split("/")[1]].append(key)
        return found


def abort_uploads(site: Site, tier: str, place: Place) -> None:
    """Throw away the parts of what a dead process was just writing for an attempt, where a tier keeps such."""
    storage = innermost(site, tier)
    if isinstance(storage, KeepsParts):
        for prefix in (place.store, place.private):
            storage.abort_uploads(prefix)


def innermost(site: Site, tier: str) -> Storage:
    """Return a tier's back end."""
    storage = site.tier(tier)
    while isinstance(storage, WrappedStorage):
        storage = storage.inner
    return storage
