"""One scrub of a tier at a time, and when the last one ended: a small file per tier in the site's folder.

The lock is the operating system's: it ends with its process, however that ends. Where the file system has no locks,
two scrubs at once do some work twice, and no harm.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from wsistore.clock import iso
from wsistore.ops.process_lock import process_lock
from wsistore.ops.site import Site

_MOST_BYTES = 64


class ScrubLock:
    """The lock of one tier.

    Parameters
    ----------
    site
        An open site.
    tier
        Name.

    """

    def __init__(self, site: Site, tier: str) -> None:
        self._site, self._path = site, site.folder / f"scrub-{tier}.lock"

    def held(self) -> AbstractContextManager[bool]:
        """Hold the lock for as long as the block lasts, if nobody else does; say whether that is so.

        Raises
        ------
        SiteError
            If the site's folder cannot be written.

        """
        return process_lock(self._path)

    def elapsed(self) -> timedelta | None:
        """Return how long ago the last scrub ended; None if that is not known."""
        try:
            with self._path.open("r", encoding="ascii") as file:
                then = datetime.fromisoformat(file.read(_MOST_BYTES).strip())
            passed = self._site.clock.now() - then
        except (OSError, ValueError, TypeError):
            return None
        return passed if passed >= timedelta(0) else None

    def note(self) -> None:
        """Write down that a scrub ends now. Called by its holder; losing it does no harm."""
        try:
            self._path.write_text(iso(self._site.clock.now()) + "\n", "ascii")
        except OSError:
            return
