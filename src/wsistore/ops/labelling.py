"""Collections and tags of slides: given, taken back, listed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wsistore.catalog.collections import Label
from wsistore.catalog.recalls import slides_meant
from wsistore.errors import InputError, Kind, MissingError
from wsistore.model import LabelKind
from wsistore.ops.site import Site, read_only_error

_NAME = re.compile(r"\w(?:[\w .:+-]{0,62}\w)?")


def label(
    site: Site, kind: LabelKind, name: str, slides: Sequence[str] = (), *, cases: Sequence[str] = ()
) -> list[str]:
    """Put slides into a collection, or give them a tag; a new name makes a new one.

    Parameters
    ----------
    site
        An open site.
    kind
        Collection or tag.
    name
        1 to 64 letters, digits, and ``_ . : + -`` or spaces between them; capitals matter.
    slides
        Keys, unique beginnings or names.
    cases
        Numbers of cases: all of their slides.

    Returns
    -------
    list of str
        Keys of the slides that did not have it.

    Raises
    ------
    MissingError
        If a slide or a case is not there: then nothing is done.
    InputError
        If the name is none.
    SiteError
        If the site cannot be written.

    """
    return site.catalog.add_label(kind, _checked(site, name), _keys(site, slides, cases), site.actor)


def unlabel(
    site: Site, kind: LabelKind, name: str, slides: Sequence[str] | None, *, cases: Sequence[str] = ()
) -> list[str]:
    """Take slides out of a collection, or a tag from them; return those that had it. Raises as `label`.

    With None for `slides` all of them: the name is gone then.
    """
    keys = None if slides is None else _keys(site, slides, cases)
    if site.catalog.read_only:
        raise read_only_error(site)
    return site.catalog.remove_label(kind, name, keys, site.actor)


def list_labels(site: Site, kind: LabelKind, name: str) -> list[Label]:
    """Return the slides that are in a collection, or have a tag.

    Raises
    ------
    MissingError
        If no slide has it.

    """
    found = site.catalog.labels(kind, name)
    if not found:
        msg = f"No slide has the {kind} {name!r}."
        raise MissingError(msg, remedy=f"'wsistore {kind} ls' lists those that there are.")
    return found


def _checked(site: Site, name: str) -> str:
    if site.catalog.read_only:
        raise read_only_error(site)
    if not _NAME.fullmatch(name):
        msg = f"{name[:80]!r} is no name: 1 to 64 letters, digits, and '_ . : + -' or spaces between them."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give another name.")
    return name


def _keys(site: Site, slides: Sequence[str], cases: Sequence[str]) -> list[str]:
    keys = [site.catalog.resolve(slide) for slide in slides]
    meant = slides_meant(site.catalog, cases) if cases else {}
    for case in cases:
        found = meant.get(case, {}).get("case", [])
        if not found:
            msg = f"There is no slide of a case {case!r}."
            raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="'wsistore ls' lists the slides.")
        keys += [one.slide for one in found]
    return list(dict.fromkeys(keys))
