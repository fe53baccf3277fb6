"""Originals go from a share: only once their slide is safely kept, and as they were when that was proven."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from wsistore.catalog.drops import Lack, NotProven
from wsistore.catalog.intake import IntakeFile, IntakeState
from wsistore.catalog.records import DropRule
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, StorageError, WsistoreError
from wsistore.ops.busy import is_being_written
from wsistore.ops.drop_rules import drop_rule
from wsistore.ops.intake_look import Look
from wsistore.ops.intake_taking import hash_of, is_as_seen
from wsistore.ops.intake_units import Unit
from wsistore.ops.intake_walk import HIDDEN
from wsistore.ops.site import Site
from wsistore.ops.verifying import verify_one
from wsistore.settings import Release

_LONGEST_NAME = 200
"""Bytes of a name that are kept in the hidden one: file systems allow 255."""


@dataclass(frozen=True, slots=True)
class Released:
    """What became of the original of one slide."""

    unit: Unit
    done: bool
    reason: str = ""
    """Why it stays."""


def begun(look: Look) -> list[Unit]:
    """Return the originals whose release was interrupted."""
    found: dict[str, list[IntakeFile]] = defaultdict(list)
    for one in look.files.values():
        if one.state is IntakeState.RELEASING and one.path not in look.unseen:
            found[one.slide or ""].append(one)
    return [Unit(files[0].path, tuple(sorted(files, key=lambda one: one.path))) for files in found.values()]


def reason_to_stay(look: Look, unit: Unit) -> str:
    """Say why the original of a kept slide stays on its share for now; nothing if it may be asked for."""
    share = look.share
    if share.release is Release.LEAVE:
        return ""
    from_ = release_from(look, unit)
    if from_ > look.now:
        return f"until {iso(from_)[:16].replace('T', ' ')} UTC at least"
    return unit.waits


def release_from(look: Look, unit: Unit) -> datetime:
    """Return when the delay of a kept slide's original is over."""
    return max(datetime.fromisoformat(one.state_at) for one in unit.files) + look.share.release_after


def release(site: Site, look: Look, unit: Unit) -> Released:
    """Take the original of a kept slide from its share; may be interrupted and repeated.

    Nothing is done, with the reason, unless all its files are as they were taken in and the slide has good copies in as
    many tiers as are required, read back recently enough; where that is too long ago they are verified now.
    """
    if look.share.release is Release.LEAVE:
        return Released(_given_back(site, look, unit.files), False, "the settings say now that originals stay")
    try:
        _check(site, look, unit)
        files = _proven(site, look, unit)
    except NotProven as error:
        return Released(unit, False, error.message.partition(": ")[0] if error.lack is Lack.HELD else _few(error))
    except WsistoreError as error:
        return Released(unit, False, error.message)
    try:
        for one in files:
            _put_away(look, one)
    except (WsistoreError, OSError) as error:
        reason = error.message if isinstance(error, WsistoreError) else f"it cannot be removed: {error.strerror}"
        return Released(_given_back(site, look, files), False, reason)
    _remove_empty(look, unit)
    how = "deleted" if look.share.release is Release.DELETE else "moved"
    detail = {
        "share": look.share.name,
        "how": how,
        "files": len(files),
        "bytes": sum(one.size for one in files),
        "version": files[0].version,
    }
    site.catalog.finish_release(files, site.actor, detail)
    for one in files:
        look.files.pop(one.path, None)
    return Released(replace(unit, files=tuple(files)), True)


def _few(error: NotProven) -> str:
    if error.lack is Lack.FEW:
        return "there are not enough good copies of its slide yet" + _counted(error.message)
    return "the copies of its slide were not read back recently enough, and cannot be now"


def _counted(message: str) -> str:
    _, _, found = message.partition("good copies in ")
    return f" (in {found.rstrip('.')})".replace(" other tiers", " tiers") if found else ""


def _check(site: Site, look: Look, unit: Unit) -> None:
    """Refuse to release files that are not as they were taken in.

    Raises
    ------
    WsistoreError
        Why.

    """
    share, kept = look.share, None
    for one in unit.files:
        path = Path(share.path, one.path)
        if one.state is IntakeState.RELEASING and not os.path.lexists(path):
            continue  # it was put away before the pass was killed
        if not is_as_seen(look, one):
            msg = f"{one.path} is not as it was taken in."
            raise ConflictError(msg, kind=Kind.SOURCE_CHANGED, remedy="The next pass looks again.")
        if is_being_written(path):
            msg = f"{one.path} is open for writing."
            raise ConflictError(msg, kind=Kind.SOURCE_BUSY, remedy="The next pass looks again.")
        if share.rehash:
            kept = kept or {file.sha256 for file in site.catalog.source(one.slide or "").files}
            if hash_of(look, one) not in kept:
                msg = f"{one.path} has other bytes than what is kept, though its size and time are the same."
                raise ConflictError(msg, kind=Kind.SOURCE_CHANGED, remedy="Find out what changed it.")


def _proven(site: Site, look: Look, unit: Unit) -> list[IntakeFile]:
    """Write down that the original goes, with the proof; stale evidence is renewed first.

    Raises
    ------
    WsistoreError
        If it must stay.

    """
    verified: set[str] = set()
    while True:
        try:
            return site.catalog.start_release(unit.files, rule_of(site, look))[1]
        except NotProven as error:
            waiting = [attempt for attempt in error.stale if attempt not in verified]
            if error.lack is not Lack.STALE or not waiting:
                raise
            verified.add(waiting[0])
            for copy in site.catalog.copies(unit.files[0].slide or ""):
                if copy.attempt == waiting[0]:
                    verify_one(site, copy)


def rule_of(site: Site, look: Look) -> DropRule:
    """Return what has to be kept of a slide whose original goes from a share now."""
    share, now = look.share, site.clock.now()
    rule = drop_rule(site, [tier.name for tier in site.settings.tiers])
    required = share.release_copies or site.settings.required_copies
    fresh = rule.fresh_from if share.evidence is None else iso(now - share.evidence)
    return replace(rule, required=required, fresh_from=fresh)


# --- the files --------------------------------------------------------------------------------------------------------


def hidden_name(name: str) -> str:
    """Return the name that a file has for the moment between its last check and its deletion."""
    return HIDDEN + os.fsdecode(os.fsencode(name)[-_LONGEST_NAME:])


def show_again(look: Look, path: str) -> None:
    """Give a file its name back that a killed pass has hidden; another name where somebody else has it by now.

    Raises
    ------
    OSError
        If it cannot be done.

    """
    hidden = Path(look.share.path, path)
    plain = hidden.with_name(hidden.name.removeprefix(HIDDEN))
    for number in range(1, 1000):
        place = plain if number == 1 else plain.with_name(f"{plain.stem} ({number}){plain.suffix}")
        try:
            _link_back(hidden, place)
        except FileExistsError:
            continue
        return


def _put_away(look: Look, one: IntakeFile) -> None:
    """Delete or move one file; what is found to be another file than the one that was checked stays.

    Raises
    ------
    OSError, WsistoreError
        If it cannot be done; the file is under its own name then.

    """
    path = Path(look.share.path, one.path)
    if look.share.release is Release.MOVE:
        _move(path, Path(look.share.release_to, one.path), one)
        return
    # Under a name that nobody else uses it is the very file that is looked at and deleted.
    hidden = path.with_name(hidden_name(path.name))
    if os.path.lexists(path) and not os.path.lexists(hidden):
        path.rename(hidden)
    elif not os.path.lexists(hidden):
        return
    now = hidden.lstat()
    if (now.st_size, now.st_mtime_ns) != (one.size, one.mtime_ns):
        show_again(look, str(hidden.relative_to(look.share.path)))
        msg = f"{one.path} changed at the last moment."
        raise ConflictError(msg, kind=Kind.SOURCE_CHANGED, remedy="The next pass looks again.")
    hidden.unlink()
    if os.path.lexists(path):  # a pass was killed between the two names of one file
        _put_away(look, one)


def _link_back(hidden: Path, path: Path) -> None:
    """Give a file its name back, unless another has it by now."""
    try:
        path.hardlink_to(hidden)
        hidden.unlink()
    except FileExistsError:
        raise
    except OSError as error:  # a share without hard links
        if os.path.lexists(path):
            raise FileExistsError(error.errno, error.strerror) from error
        hidden.rename(path)


def _move(path: Path, target: Path, one: IntakeFile) -> None:
    if not os.path.lexists(path):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1000):
        place = target if not number else target.with_name(f"{target.name}.{number}")
        try:
            place.hardlink_to(path)
        except FileExistsError:
            if place.samefile(path):  # linked by a pass that was killed
                path.unlink()
                return
            continue
        except OSError:
            if os.path.lexists(place):
                continue
            path.rename(place)  # a share without hard links; another file system is the caller's to hear of
            return
        now = place.lstat()
        if (now.st_size, now.st_mtime_ns) != (one.size, one.mtime_ns):
            place.unlink()  # the share still has it under its own name
            msg = f"{one.path} changed at the last moment."
            raise ConflictError(msg, kind=Kind.SOURCE_CHANGED, remedy="The next pass looks again.")
        path.unlink()
        return
    msg = f"{target} has a thousand namesakes."
    raise StorageError(msg, remedy="Clear the folder that originals are moved to.")


def _given_back(site: Site, look: Look, files: Sequence[IntakeFile]) -> Unit:
    """Note that an original stays, if all of it is still there; else the next pass goes on with it."""
    for one in files:
        hidden = PurePosixPath(one.path).with_name(hidden_name(PurePosixPath(one.path).name))
        if os.path.lexists(Path(look.share.path, hidden)):
            with suppress(OSError):
                show_again(look, str(hidden))
    if all(is_as_seen(look, one) for one in files):
        back = [replace(one, state=IntakeState.INGESTED, detail={}) for one in files]
        with suppress(WsistoreError):
            site.catalog.put_intake(zip(files, back, strict=True))
        files = back
    look.files.update({one.path: one for one in files})
    return Unit(files[0].path, tuple(files))


def _remove_empty(look: Look, unit: Unit) -> None:
    """Remove the slide's own folders that are empty now: that of a series, and those beside a main file."""
    base = PurePosixPath(unit.name).parent
    for one in sorted(unit.files, key=lambda one: one.path.count("/"), reverse=True):
        for folder in PurePosixPath(one.path).parents:
            if str(folder) != unit.folder and (unit.series is not None or folder == base or base not in folder.parents):
                break
            with suppress(OSError):
                Path(look.share.path, folder).rmdir()
