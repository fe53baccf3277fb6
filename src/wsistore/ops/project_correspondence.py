"""Pseudonyms that the site was given, as a table: what the research data warehouse calls patients, cases and slides."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from wsistore.catalog import projects, projects_state
from wsistore.catalog.clinical_identity import folded
from wsistore.errors import InputError, Kind, MissingError, WsistoreError
from wsistore.keys import pseudonyms, pseudonyms_given
from wsistore.keys.pseudonyms import Subject
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.targets import translated

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_REQUIRED = ("ours", "theirs")
_MOST_BYTES = 256 * 1024 * 1024
_REMEDY = "Nothing was taken in. The columns are kind, ours and theirs; docs/research.md tells more."


def import_correspondence(site: Site, project: str, path: Path) -> int:
    """Let a project show pseudonyms that the site was given, in the place of its own; return how many.

    They take the place of those that were given before. Whoever is not in the table keeps the keyed pseudonym.

    Parameters
    ----------
    site
        Open for writing.
    project
        Its name.
    path
        CSV with the columns ``kind`` (``patient`` where it is absent; ``case``, ``block``, ``slide``), ``ours`` (IPP,
        case number, case number/block, slide) and ``theirs``.

    Raises
    ------
    MissingError
        If there is no such project, file or slide.
    InputError
        If the table cannot be understood, names two by one pseudonym, or would show our own numbers; the message names
        the line and neither number.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    projects.one(site.catalog, project)
    if not path.is_file():
        msg = f"There is no file {path}."
        raise MissingError(msg, remedy="Check the path.")
    with translated(path), path.open("rb") as file:
        data = file.read(_MOST_BYTES)
    given: dict[tuple[Subject, str], str] = {}
    used: dict[tuple[Subject, str], str] = {}
    for line, row in _rows(path, data):
        subject, identity = _ours(site, path, line, row)
        name = row["theirs"].strip()
        _check(path, line, row["ours"], name)
        taken = used.setdefault((subject, name.casefold()), identity)
        if taken != identity or given.get((subject, identity), name) != name:
            raise _wrong(path, line, "gives one pseudonym to two, or two to one")
        given[subject, identity] = name
    keys = pseudonyms.load(site.settings.keys, project)
    pseudonyms_given.put(site.settings.keys, keys, given)
    projects_state.count_change(site.catalog)
    return len(given)


def _rows(path: Path, data: bytes) -> list[tuple[int, Mapping[str, str]]]:
    try:
        text = data.decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
        columns = [(name or "").strip().casefold() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows: list[tuple[int, Mapping[str, str]]] = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} is no CSV table."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=_REMEDY) from error
    if not set(_REQUIRED) <= set(columns) or len(set(columns)) != len(columns):
        msg = f"{path} lacks a column of: {', '.join(_REQUIRED)}."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=_REMEDY)
    for line, row in rows:
        if None in row or any(not isinstance(row.get(name), str) or not row[name].strip() for name in _REQUIRED):
            raise _wrong(path, line, "lacks a cell, or has one too many")
    return rows


def _ours(site: Site, path: Path, line: int, row: Mapping[str, str]) -> tuple[Subject, str]:
    said, kind = row["ours"].strip(), (row.get("kind") or Subject.PATIENT).strip().casefold()
    if kind not in list(Subject):
        raise _wrong(path, line, f"has a kind that is none of {', '.join(Subject)}")
    subject = Subject(kind)
    if subject is Subject.PATIENT:
        return subject, folded(said)
    if subject is Subject.SLIDE:
        try:
            return subject, site.catalog.resolve(said)
        except WsistoreError as error:
            raise _wrong(path, line, "names a slide that is not there, or that could be several") from error
    if subject is Subject.BLOCK:
        case, slash, block = said.rpartition("/")
        if not slash or not case or not block:
            raise _wrong(path, line, "names a block otherwise than as case/block")
        return subject, f"{case}\0{block}"
    return subject, said


def _check(path: Path, line: int, ours: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _wrong(path, line, "has a pseudonym that is none: 64 letters, digits, - and _ at most")
    if name.casefold() in {part.casefold() for part in re.split(r"[/\s]", ours.strip())}:
        raise _wrong(path, line, "would show our own number as a pseudonym")


def _wrong(path: Path, line: int, what: str) -> InputError:
    return InputError(f"{path}, line {line}, {what}.", kind=Kind.METADATA_INVALID, remedy=_REMEDY)
