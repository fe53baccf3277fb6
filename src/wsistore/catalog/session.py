"""What all methods of the catalogue stand on: an open database and a clock."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from wsistore.catalog.engine import BUSY_TIMEOUT_SECONDS, Database, open_database
from wsistore.catalog.identities import CLEAR, Identities
from wsistore.clock import Clock, SystemClock, iso


class Session:
    """An open catalogue.

    Parameters
    ----------
    database
        See `Session.open`.
    clock
        Where the time comes from.

    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock | None = None,
        read_only: bool = False,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
        identities: Identities = CLEAR,
    ) -> Self:
        """Open the catalogue at `url` (``sqlite:///`` and a path, to the letter).

        Without `identities`, what is sealed stays so, and what is written is not sealed.

        Raises
        ------
        SiteError
            If it is not there, damaged, of another release's schema, or not writable though `read_only` is false.

        """
        database = open_database(
            url, read_only=read_only, busy_timeout_seconds=busy_timeout_seconds, identities=identities
        )
        return cls(database, clock or SystemClock())

    def close(self) -> None:
        """Close idle connections. The catalogue may be used again."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    @property
    def read_only(self) -> bool:
        """Whether writing is refused."""
        return self._database.read_only

    def _now(self) -> str:
        return iso(self._clock.now())
