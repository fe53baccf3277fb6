"""Which files on a share make one slide, and whether all of them are there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsistore.catalog.intake import IntakeFile, IntakeState
from wsistore.clock import iso
from wsistore.errors import InputError, Kind, MissingError
from wsistore.ops.intake_kinds import DICOM, IMAGE, UNNAMED
from wsistore.ops.intake_look import Look
from wsistore.ops.intake_walk import parts
from wsistore.slides.whole import FOLDER_OF, files_of

_LOCKS = (".lock", ".lck")
_NAMES_OTHERS = {*FOLDER_OF, ".vms", ".vmu"}


@dataclass(frozen=True, slots=True)
class Unit:
    """The files of one slide, as far as they are on the share."""

    name: str
    """Path of its main file or its folder, relative to the share: what people call it."""
    files: tuple[IntakeFile, ...]
    waits: str = ""
    """Why it cannot be taken yet; nothing if it can."""
    series: str | None = None
    """Of DICOM."""
    folder: str | None = None
    """The folder that holds nothing but this series; None if there is none."""

    @property
    def is_kept(self) -> bool:
        """Whether all of it was taken in, as one slide."""
        first = self.files[0].slide
        return all(one.state is IntakeState.INGESTED and one.slide == first for one in self.files)

    @property
    def is_refused(self) -> bool:
        """Whether it was tried, is as it was, and cannot be taken."""
        return all(one.state is IntakeState.REFUSED for one in self.files)

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(one.size for one in self.files)

    @property
    def first_at(self) -> str:
        """When the first of it was seen."""
        return min(one.first_at for one in self.files)


def units(look: Look, owned: Mapping[str, str]) -> list[Unit]:
    """Return the slides on a share, in the order of their first files' coming.

    Parameters
    ----------
    look
        The share's files, classified.
    owned
        Files that belong to another, with that one; see `wsistore.ops.intake_kinds.owners`.

    """
    others: dict[str, list[IntakeFile]] = defaultdict(list)
    locks = _locks(look)
    dicom: list[IntakeFile] = []
    found: list[Unit] = []
    for path, one in look.files.items():
        if one.state in {IntakeState.RELEASING, IntakeState.FOREIGN, IntakeState.METADATA}:
            continue
        if path in owned:
            others[owned[path]].append(one)
        elif one.kind == DICOM and one.series is not None:
            dicom.append(one)
    for path, one in look.files.items():
        if one.kind == IMAGE and one.state in _STATES and path not in owned:
            found.append(_checked(look, _image(look, one, others.pop(path, [])), locks))
        elif one.kind == DICOM and one.series is None and one.state in _STATES:
            found.append(_checked(look, Unit(path, (one,), "its header cannot be read yet"), locks))
    found += (_checked(look, unit, locks) for unit in _series(look, dicom))
    return sorted(found, key=lambda unit: (unit.first_at, unit.name))


_STATES = {IntakeState.WAITING, IntakeState.INGESTED, IntakeState.REFUSED}


def _image(look: Look, main: IntakeFile, others: Iterable[IntakeFile]) -> Unit:
    """Return the slide of a main file and what belongs to it."""
    files = (main, *sorted(others, key=lambda one: one.path))
    _, stem, suffix = parts(main.path)
    suffix, waits = suffix.lower(), ""
    if suffix in FOLDER_OF and len(files) == 1:
        waits = f"the folder {FOLDER_OF[suffix](stem)} beside it is not there, or empty"
    elif suffix in _NAMES_OTHERS and main.path in look.settled and main.state is IntakeState.WAITING:
        try:
            files_of(Path(look.share.path, main.path))
        except (InputError, MissingError) as error:
            waits = error.message
    return Unit(main.path, files, waits)


def _series(look: Look, instances: list[IntakeFile]) -> list[Unit]:
    """Return the slides of a share's DICOM instances: by series, also where one lies in several folders."""
    by_series: dict[str, dict[str, list[IntakeFile]]] = defaultdict(lambda: defaultdict(list))
    for one in instances:
        by_series[one.series or ""][_folder(one.path)].append(one)
    alone = _only_series(look)
    vague = {_folder(one.path) for one in look.files.values() if _is_vague(look, one)}
    found = []
    for series, folders in by_series.items():
        groups = [folders] if _is_one_slide(folders.values()) else [{name: part} for name, part in folders.items()]
        for group in groups:
            files = tuple(sorted((one for part in group.values() for one in part), key=lambda one: one.path))
            only = next(iter(group)) if len(group) == 1 and alone.get(next(iter(group))) == {series} else None
            waits = "another file beside it is just coming, and may be part of it" if vague & set(group) else ""
            found.append(Unit(only or files[0].path, files, waits, series, only))
    return found


def _is_vague(look: Look, one: IntakeFile) -> bool:
    """Say whether a file may turn out to be an instance of any series."""
    is_new = one.state is IntakeState.WAITING and one.path not in look.settled
    return is_new and one.series is None and (one.kind in {"", DICOM} or _is_dicom_to_be(one))


def _is_dicom_to_be(one: IntakeFile) -> bool:
    """Say whether a file with a temporary name will be DICOM: ``0003.dcm.part``."""
    return one.kind == UNNAMED and ".dcm" in one.path.lower()


def _is_one_slide(folders: Iterable[list[IntakeFile]]) -> bool:
    """Say whether what folders hold of a series are parts of it, and not the same twice."""
    seen: set[str | None] = set()
    for part in folders:
        names = {one.instance for one in part}
        if names & seen:
            return False
        seen |= names
    return True


def _only_series(look: Look) -> dict[str, set[str]]:
    """Return which series each folder holds; where it holds other pictures too, they are named as one."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in look.files.values():
        if one.kind:
            found[_folder(one.path)].add(one.series or "others")
    found.pop("", None)  # slides should not be named after the share
    return found


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _checked(look: Look, unit: Unit, locks: Mapping[str, str]) -> Unit:
    """Add why a slide has to wait, where its files say so."""
    waits = unit.waits
    if unit.is_kept and not waits and all(one.path in look.settled for one in unit.files) and not locks:
        return unit
    moving = sum(one.path not in look.settled for one in unit.files)
    if any(one.path in look.unseen for one in unit.files):
        waits = "its folder cannot be looked into now"
    elif locks and (lock := _lock(locks, unit)):
        waits = f"it is locked by {lock}"
    elif moving:
        of = f"{moving} of its {len(unit.files)} files are" if len(unit.files) > 1 else "it is"
        waits = f"{of} still changing, or new"
    elif not waits and (again := _again(look, unit)):
        waits = again
    return Unit(unit.name, unit.files, waits, unit.series, unit.folder)


def _locks(look: Look) -> dict[str, str]:
    """Return the locks on a share by what they lock: a name, or a name without its suffix."""
    return {path[: -len(end)]: path for path in look.files for end in _LOCKS if path.lower().endswith(end)}


def _lock(locks: Mapping[str, str], unit: Unit) -> str:
    """Return the name of the lock of a slide; nothing if there is none."""
    for one in unit.files[:1] if unit.series is None else unit.files:
        folder, stem, _ = parts(one.path)
        lock = locks.get(one.path) or locks.get(f"{folder}/{stem}" if folder else stem)
        if lock is not None:
            return lock.rpartition("/")[2]
    return ""


def _again(look: Look, unit: Unit) -> str:
    """Say why a slide that could not be read waits for a while before it is tried again."""
    later = [one for one in unit.files if one.again_at is not None and one.again_at > iso(look.now)]
    return later[0].reason if later else ""


def is_passing(kind: str) -> bool:
    """Say whether what went wrong with a source may pass by itself, without its files changing."""
    return kind in {str(Kind.SOURCE_UNREADABLE), str(Kind.PATH_MISSING)}
