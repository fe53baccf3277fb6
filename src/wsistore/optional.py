"""Guarded imports: what an installation without an extra lacks is said with the name of that extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wsistore.errors import Kind, SiteError


@contextmanager
def needing(what: str, extra: str | None) -> Iterator[None]:
    """Run imports that need an extra.

    Parameters
    ----------
    what
        What cannot be done without, as the subject of a sentence.
    extra
        Of wsistore, e.g. ``client``; None for packages that are in none.

    Raises
    ------
    SiteError
        If a package that is not ours is not installed, of kind ``dependency-missing``.

    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in {"", "wsistore", "wsistore_flows"}:
            raise  # a mistake of ours, which no extra mends
        msg = f"{what} needs the package {name}, which is not installed."
        wanted = name if extra is None else f"'wsistore[{extra}]'"
        remedy = f"Install it: pip install {wanted}."
        raise SiteError(msg, kind=Kind.DEPENDENCY_MISSING, remedy=remedy) from error
