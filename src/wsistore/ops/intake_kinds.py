"""What each file on a share is: a picture, an instance of DICOM, a table about slides, or nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from wsistore.catalog.intake import IntakeFile, IntakeState
from wsistore.clock import iso
from wsistore.errors import InputError, Kind, MissingError
from wsistore.ops.intake_look import Look
from wsistore.ops.intake_walk import matches, parts
from wsistore.slides.boundary import translated
from wsistore.slides.dicom.discovery import identify
from wsistore.slides.discover import kind_of
from wsistore.slides.whole import FOLDER_OF, files_of

IMAGE, DICOM, PART, UNNAMED = "image", "dicom", "part", "unnamed"
_TEMPORARY = "its name is a temporary one: it is taken when it is renamed"
_INDEX = {".vms", ".vmu"}
_PASSING = {Kind.SOURCE_UNREADABLE, Kind.PATH_MISSING}


def owners(look: Look) -> dict[str, str]:
    """Return the files that belong to another, their slide's main file; by path."""
    folders: dict[str, str] = {}
    found: dict[str, str] = {}
    for path in look.files:
        folder, stem, suffix = parts(path)
        own = FOLDER_OF.get(suffix.lower())
        if own is not None:
            folders[f"{folder}/{own(stem)}" if folder else own(stem)] = path
        elif suffix.lower() in _INDEX:
            found.update(_named(look, path))
    if folders:
        for path in look.files:
            main = next((folders[str(one)] for one in PurePosixPath(path).parents if str(one) in folders), None)
            if main is not None and main != path:
                found[path] = main
    return found


def _named(look: Look, path: str) -> Iterator[tuple[str, str]]:
    """Yield the files that an index file names, those that are there."""
    try:
        files = files_of(Path(look.share.path, path))[1:]
    except (InputError, MissingError):
        return
    for one in files:
        name = one.path.relative_to(look.share.path).as_posix()
        if name in look.files:
            yield name, path


def classify(look: Look, owned: Mapping[str, str]) -> None:
    """Find out what the files are of which that is not known; a file is opened once it has stopped changing.

    Of DICOM the header is read at once: which series is still growing is known only by that.
    """
    for path, one in list(look.files.items()):
        if path in look.unseen or one.state in {IntakeState.RELEASING, IntakeState.INGESTED}:
            continue
        if path in owned:
            if one.kind != PART:
                look.put(replace(one, kind=PART, state=IntakeState.WAITING))
            continue
        after = _named_kind(look, one) if not one.kind or one.kind == PART else one
        if after.kind == DICOM and after.series is None and after.state is IntakeState.WAITING:
            after = _identified(look, after)
        elif not after.kind and path in look.settled and after.state is IntakeState.WAITING:
            after = _opened(look, after)
        if after != one:
            look.put(after)


def _named_kind(look: Look, one: IntakeFile) -> IntakeFile:
    """Say what a file is by its name, as far as that tells."""
    if one.state is not IntakeState.WAITING:
        return one
    pure, now = PurePosixPath(one.path), iso(look.now)
    if matches(pure.name, look.share.ignore):
        reason = "the settings of the share say to ignore it"
        return replace(one, state=IntakeState.FOREIGN, reason=reason, state_at=now)
    if matches(pure.name, look.share.temporary):
        return replace(one, kind=UNNAMED, reason=_TEMPORARY)
    if pure.name == look.share.metadata or slide_of_sidecar(look, one.path):
        return replace(one, state=IntakeState.METADATA, reason="", state_at=now)
    return replace(one, kind=kind_of(Path(pure.name), by_name=True))


def slide_of_sidecar(look: Look, path: str) -> str:
    """Return the picture that a file such as ``a.svs.json`` or ``a.json`` beside ``a.svs`` speaks of; or nothing."""
    pure = PurePosixPath(path)
    if pure.suffix.lower() != ".json":
        return ""
    whole = str(pure.with_suffix(""))
    if whole in look.files:
        return whole
    beside = (f"{whole}{suffix}" for suffix in _SUFFIXES)
    return next((one for one in beside if one in look.files), "")


_SUFFIXES = (".svs", ".ndpi", ".tif", ".tiff", ".mrxs", ".scn", ".bif", ".vsi", ".czi", ".svslide", ".vms", ".isyntax")


def _identified(look: Look, one: IntakeFile) -> IntakeFile:
    try:
        found = identify(Path(look.share.path, one.path))
    except (InputError, MissingError) as error:
        if one.path not in look.settled:
            return one
        if error.kind in _PASSING:
            return replace(one, reason=error.message, error=str(error.kind))
        return _refused(look, one, error)
    if found is None:
        reason = "a DICOM directory, which names slides but is none"
        return replace(one, state=IntakeState.FOREIGN, reason=reason, state_at=iso(look.now))
    return replace(one, series=found.series, instance=found.sop_instance)


def _opened(look: Look, one: IntakeFile) -> IntakeFile:
    path = Path(look.share.path, one.path)
    try:
        with translated(path), path.open("rb"):
            kind = kind_of(path)
    except (InputError, MissingError) as error:
        return replace(one, reason=error.message, error=str(error.kind))
    if kind == DICOM:
        return _identified(look, replace(one, kind=DICOM))
    if kind:
        return replace(one, kind=kind)
    reason = "no slide, by its name and its first bytes"
    return replace(one, state=IntakeState.FOREIGN, reason=reason, state_at=iso(look.now))


def _refused(look: Look, one: IntakeFile, error: InputError | MissingError) -> IntakeFile:
    return replace(one, state=IntakeState.REFUSED, reason=str(error), error=str(error.kind), state_at=iso(look.now))
