"""Which site a command works on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wsistore.errors import Kind, SiteError
from wsistore.settings.values import FILE_NAME, HOME_VARIABLE, absolute


def find_site(explicit: Path | None, environment: Mapping[str, str], start: Path | None = None) -> Path:
    """Return the folder of the site to work on.

    Parameters
    ----------
    explicit
        What the user named with ``-C``; nothing else is looked at then.
    environment
        The process's environment; ``WSISTORE_HOME`` comes next.
    start
        Where to look last, with all its parents; the current folder by default.

    Raises
    ------
    SiteError
        If there is no ``wsistore.toml`` (`Kind.SITE_MISSING`).

    """
    home = environment.get(HOME_VARIABLE)
    named = explicit if explicit is not None else Path(home) if home else None
    try:
        if named is not None:
            folder = absolute(named.expanduser())
            if (folder / FILE_NAME).is_file():
                return folder
            origin = "" if explicit is not None else f" ({HOME_VARIABLE})"
            raise site_missing(named, f"{folder}{origin} is no site: it has no {FILE_NAME}.")
        begin = Path.cwd() if start is None else start
        for folder in (begin, *begin.parents):
            if (folder / FILE_NAME).is_file():
                return folder
    except (OSError, RuntimeError, ValueError) as error:
        raise site_missing(None, f"No site was found: {error}.") from error
    raise site_missing(None, f"Neither {begin} nor a folder above it is a site: there is no {FILE_NAME}.")


def site_missing(folder: Path | None, message: str) -> SiteError:
    """Return the error that says how to come to a site."""
    remedy = f"Make one with 'wsistore init {folder or 'DIR'}', or name one with -C or {HOME_VARIABLE}."
    return SiteError(message, kind=Kind.SITE_MISSING, remedy=remedy)
