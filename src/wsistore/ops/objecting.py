"""Patients who do not want their slides used for research: out of every project from the next request on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from wsistore.catalog import objections
from wsistore.errors import InputError, Kind, MissingError
from wsistore.ops import recall_lists
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.targets import translated


def object_to_research(site: Site, numbers: Iterable[str]) -> int:
    """Note that patients object, by the hospital's numbers (IPP), known here or not; return how many are new.

    Raises
    ------
    InputError
        If there is no number.
    SiteError
        If the catalogue seals identities, and the keys are not at hand.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    return objections.object_for(site.catalog, _numbers(numbers), site.actor)


def withdraw_objection(site: Site, numbers: Iterable[str]) -> int:
    """Note that patients do not object any more; return how many did; raises as `object_to_research`."""
    if site.catalog.read_only:
        raise read_only_error(site)
    return objections.withdraw(site.catalog, _numbers(numbers), site.actor)


def count_objections(site: Site) -> int:
    """Return how many patients object."""
    return objections.count(site.catalog)


def read_numbers(path: Path) -> list[str]:
    """Return the numbers in the first column of a list: CSV or text, with or without a line of headers.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no list.

    """
    if not path.exists():
        msg = f"There is nothing at {path}."
        raise MissingError(msg, remedy="Check the path.")
    with translated(path):
        data = path.read_bytes()
    lines = recall_lists.parse(recall_lists.decode(data))
    body = lines[1:] if lines and lines[0].is_header else lines
    return [line.cells[0] for line in body]


def _numbers(numbers: Iterable[str]) -> Sequence[str]:
    found = [number for number in (number.strip() for number in numbers) if number]
    if not found:
        msg = "No patient was named."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give a number (IPP), or a list with --file.")
    return found
