"""What the settings say of a tier's archive: ``[tiers.NAME.archive]``."""

from __future__ import annotations

from dataclasses import dataclass

PROVIDERS = ("aws", "ovh", "scaleway", "other")
"""Whose manners a service's archive classes have; see `wsistore.storage.s3_providers`."""
MOST_ATTESTED_DAYS = 36500
RETRIEVALS = ("expedited", "standard", "bulk")


@dataclass(frozen=True, slots=True)
class TapeSettings:
    """How a folder with a tape library behind it is asked; commands are lists of arguments, never a shell's line."""

    recall: tuple[str, ...]
    """Brings a file back; ``{path}`` in an argument stands for the file."""
    offline: tuple[str, ...] = ("blocks",)
    """How a file is known to be on tape only: ``("blocks",)`` (it has a size and no blocks), ``("xattr", NAME)`` (it
    has this extended attribute), or ``("command", …)`` (exit status 1; 0 says that it is on disk)."""
    release: tuple[str, ...] = ()
    """Sends a file to tape; by default the library decides when."""


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """Where a tier's verified objects go, and how they come back."""

    storage_class: str = ""
    """Class that the service moves objects to once they are verified in the class that they were written in; by default
    they stay there."""
    provider: str = ""
    """One of `PROVIDERS`; by default what the endpoint's host says."""
    retrieval: str = ""
    """One of `RETRIEVALS`, for recalls that have no deadline; by default the cheapest."""
    restore_days: int = 7
    """How long a copy stays readable, where nobody says otherwise."""
    attested_days: int | None = None
    """How long ago copies in the archive class may have been read back that drops rest on, 0: they never count; by
    default as the site's ``[evidence]`` says."""
    simulated_speed: float | None = None
    """Set for rehearsals: the tier behaves like an archive whose hours are so many times shorter."""
    tape: TapeSettings | None = None
