"""What is counted while a gateway serves: bytes by grant and month, and when tokens were last used."""

from __future__ import annotations

import logging
from collections import Counter
from threading import Event, Lock, Thread

from wsistore.catalog import grants, tokens
from wsistore.clock import iso
from wsistore.errors import WsistoreError
from wsistore.ops.site import Site

WRITTEN_EVERY_SECONDS = 5.0
_NOTED_EVERY_SECONDS = 60.0
"""A token's last use is told to the minute."""
_log = logging.getLogger(__name__)


class Usage:
    """Counts. Thread-safe; whoever counts waits for no disk.

    Parameters
    ----------
    site
        Where it is written; nothing is, where it is open for reading only.

    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = Lock()
        self._bytes: Counter[tuple[str, str, str]] = Counter()
        self._uses: dict[str, str] = {}
        self._noted: dict[str, float] = {}
        self._base: dict[str, int] = {}
        self._base_of = ""
        self._base_at = 0.0
        self._writer: Thread | None = None
        self._closing = Event()

    def use(self, token: str) -> None:
        """Note that a token is used."""
        now = self._site.clock.monotonic_seconds()
        with self._lock:
            if now - self._noted.get(token, -_NOTED_EVERY_SECONDS) < _NOTED_EVERY_SECONDS:
                return
            self._noted[token] = now
            self._uses[token] = iso(self._site.clock.now())
            self._begin()

    def spend(self, grant: str, user: str, size_bytes: int) -> None:
        """Count bytes that were sent."""
        month = self._month()
        with self._lock:
            self._bytes[grant, user, month] += size_bytes
            self._begin()

    def spent(self, grant: str) -> int:
        """Return the bytes that were sent in this month; what other processes sent some seconds ago is missing."""
        month, now = self._month(), self._site.clock.monotonic_seconds()
        with self._lock:
            is_old = self._base_of != month or now - self._base_at >= WRITTEN_EVERY_SECONDS
            if is_old:
                self._base = grants.usage(self._site.catalog, month)
                self._base_of, self._base_at = month, now
            waiting = sum(count for (one, _, when), count in self._bytes.items() if (one, when) == (grant, month))
            return self._base.get(grant, 0) + waiting

    def write(self) -> None:
        """Write what was counted; what cannot be written now is kept for the next time."""
        with self._lock:
            counted, uses = self._bytes, self._uses
            self._bytes, self._uses = Counter(), {}
        if self._site.catalog.read_only:
            return
        try:
            for month in sorted({month for _, _, month in counted}):
                used = {(grant, user): count for (grant, user, when), count in counted.items() if when == month}
                grants.add_usage(self._site.catalog, month, used)
                with self._lock:
                    for (grant, _), count in used.items():
                        if month == self._base_of:
                            self._base[grant] = self._base.get(grant, 0) + count
                for grant, user in used:
                    del counted[grant, user, month]
            if uses:
                tokens.note_use(self._site.catalog, uses)
        except WsistoreError as error:
            _log.warning("what the gateway counted cannot be written now: %s", error)
            with self._lock:
                self._bytes.update(counted)
                self._uses = {**uses, **self._uses}

    def close(self) -> None:
        """Write what was counted, and end."""
        self._closing.set()
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.join()
        self.write()

    def _begin(self) -> None:
        if self._writer is None and not self._closing.is_set():
            self._writer = Thread(target=self._write_on, name="gateway-usage", daemon=True)
            self._writer.start()

    def _write_on(self) -> None:
        while not self._closing.wait(WRITTEN_EVERY_SECONDS):
            self.write()

    def _month(self) -> str:
        return iso(self._site.clock.now())[:7]
