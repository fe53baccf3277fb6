"""What tables and small files on a share say of the slides beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from wsistore.catalog.intake import IntakeFile, IntakeState
from wsistore.clock import iso
from wsistore.errors import InputError, Kind, MissingError, WsistoreError
from wsistore.events import EventKind, NewEvent
from wsistore.ops.intake_kinds import slide_of_sidecar
from wsistore.ops.intake_look import Look
from wsistore.ops.intake_units import Unit
from wsistore.ops.metadata import Metadata, read_metadata
from wsistore.ops.site import Site

_MOST_BYTES = 1 << 20
_APPLIED = "applied"


@dataclass(slots=True)
class Said:
    """All that is said on a share."""

    look: Look
    tables: dict[str, Metadata] = field(default_factory=dict)
    """By folder."""
    sidecars: dict[str, dict[str, str]] = field(default_factory=dict)
    """By the slide's main file."""
    new: list[IntakeFile] = field(default_factory=list)
    """Files whose content was not yet given to slides that are kept already."""

    def of(self, unit: Unit) -> dict[str, str]:
        """Return what is said of a slide; what lies nearest to it counts."""
        found: dict[str, str] = {}
        for folder in reversed(PurePosixPath(unit.name).parents):
            table = self.tables.get("" if str(folder) == "." else str(folder))
            if table is not None:
                found.update(table.of(Path(self.look.share.path, unit.name)))
        return found | self.sidecars.get(unit.name, {})


def read_said(look: Look, units: Sequence[Unit]) -> Said:
    """Read the tables and sidecars of a share that have stopped changing; one that is wrong is refused."""
    said = Said(look)
    for path, one in list(look.files.items()):
        if one.state is not IntakeState.METADATA or path not in look.settled:
            continue
        try:
            _read(said, one, units)
        except (InputError, MissingError) as error:
            state = IntakeState.REFUSED
            look.put(replace(one, state=state, reason=str(error), error=str(error.kind), state_at=iso(look.now)))
            continue
        if not one.detail.get(_APPLIED):
            said.new.append(one)
    return said


def _read(said: Said, one: IntakeFile, units: Iterable[Unit]) -> None:
    path, slide = Path(said.look.share.path, one.path), slide_of_sidecar(said.look, one.path)
    if slide:
        said.sidecars[slide] = _sidecar(path)
        return
    folder = one.path.rpartition("/")[0]
    table = read_metadata(path)
    within = [unit for unit in units if not folder or unit.name.startswith(f"{folder}/")]
    table.check([Path(said.look.share.path, unit.name) for unit in within])
    said.tables[folder] = table


def _sidecar(path: Path) -> dict[str, str]:
    """Read what is said of one slide: a flat JSON object of texts and numbers.

    Raises
    ------
    InputError
        If it is anything else.

    """
    remedy = 'A file beside a slide holds one JSON object of texts, such as {"case_id": "CASE-0001"}.'
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MOST_BYTES + 1).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path} cannot be read: {error}."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=remedy) from error
    flat = isinstance(document, dict) and all(
        name and isinstance(value, str | int | float) and not isinstance(value, bool)
        for name, value in document.items()
    )
    if not flat:
        msg = f"{path} is no flat JSON object."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=remedy)
    return {name: str(value).strip() for name, value in document.items() if str(value).strip()}


def apply_late(site: Site, said: Said, units: Sequence[Unit]) -> list[str]:
    """Give what came after its slides were taken in to those slides; return what is wrong with it.

    Slides that were refused because of what was said of them are tried again.
    """
    if not said.new:
        return []
    changes, again = {}, []
    for unit in units:
        words = said.of(unit)
        if unit.is_kept and words and unit.files[0].slide is not None:
            changes[unit.files[0].slide] = words
        again += [one for one in unit.files if one.error == Kind.METADATA_INVALID]
    problems = []
    for slide, words in changes.items():
        event = NewEvent(EventKind.METADATA_CHANGED, site.actor, {"columns": sorted(words)})
        try:
            site.catalog.put_metadata({slide: words}, event)
        except WsistoreError as error:
            problems.append(error.message)
    look = said.look
    look.put(*(replace(one, state=IntakeState.WAITING, error="", reason="", state_at=iso(look.now)) for one in again))
    look.put(*(replace(one, detail={_APPLIED: True}) for one in said.new))
    return problems
