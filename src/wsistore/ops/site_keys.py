"""The site's keys in its folder: made, shown, put on recovery sheets, and brought back from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsistore.clock import Clock, iso
from wsistore.errors import ConflictError, Kind, SiteError
from wsistore.keys import folder as files
from wsistore.keys import sheets, signing, site_keys
from wsistore.keys.sheets import Secrets
from wsistore.keys.signing import Signer
from wsistore.keys.site_keys import SiteKeys, key_name
from wsistore.settings import Settings

_SHEET, _SHEET_KIND = "sheet.json", "wsistore-recovery-sheets"


@dataclass(frozen=True, slots=True)
class ShownVersion:
    """One version of the site key."""

    version: int
    name: str
    """Tells versions apart, and nothing of them."""
    made: str
    current: bool


@dataclass(frozen=True, slots=True)
class ShownKeys:
    """What there is in a folder of keys, without any secret."""

    folder: Path
    site: str
    """Random name of the site, as on its recovery sheets; nothing where there is no site key."""
    versions: tuple[ShownVersion, ...]
    signing: str
    """Id of the signing key; nothing where there is none."""
    public: tuple[str, ...]
    """Ids of all public keys, also of those that are not in use any more."""
    sheets_made: str
    """When the last recovery sheets were made; nothing if never."""
    sheets_fit: bool
    """Whether they hold all keys that are there now."""


def init_keys(settings: Settings, clock: Clock) -> ShownKeys:
    """Make the keys that a site does not have yet: a signing key, and the first version of a site key.

    Raises
    ------
    SiteError
        If the folder cannot be written, or lies within a tier.

    """
    check_apart(settings)
    signing.make_signer(settings.keys, clock)
    site_keys.make(settings.keys, clock)
    return show_keys(settings)


def show_keys(settings: Settings) -> ShownKeys:
    """Return what there is.

    Raises
    ------
    SiteError
        If a key is damaged, or others may read it.
    IntegrityError
        If a public key is another than its name says.

    """
    folder = settings.keys
    signer, keys = signing.open_signer(folder), site_keys.load(folder)
    covered = _covered(folder)
    versions = () if keys is None else keys.versions
    return ShownKeys(
        folder=folder,
        site="" if keys is None else keys.site,
        versions=tuple(
            ShownVersion(version, keys.name(version), keys.made[version], version == keys.current)
            for version in versions
            if keys is not None
        ),
        signing="" if signer is None else signer.key_id,
        public=tuple(signing.public_keys(folder)),
        sheets_made="" if covered is None else str(covered.get("made", "")),
        sheets_fit=covered is not None and set(_names(keys, signer)) <= set(covered.get("names", ())),
    )


def check_apart(settings: Settings) -> None:
    """Refuse a folder of keys that lies in a tier, or around one.

    Raises
    ------
    SiteError
        If it does: whoever gets at the tier would have the keys to it.

    """
    folder = settings.keys.resolve()
    for tier in settings.tiers:
        place = None if tier.path is None else tier.path.resolve()
        if place is not None and (folder.is_relative_to(place) or place.is_relative_to(folder)):
            msg = f"The folder of keys {folder} and the tier {tier.name!r} at {place} lie one inside the other."
            raise SiteError(msg, remedy='Give the keys a place of their own: keys = "…" in wsistore.toml.')


def write_sheets(settings: Settings, target: Path, clock: Clock) -> list[Path]:
    """Write a new pair of recovery sheets, as text and as pages to print; return the files, none of which was there.

    Raises
    ------
    SiteError
        If the site has no site key.
    ConflictError
        If one of the files is there.

    """
    keys, signer = _required(settings), signing.open_signer(settings.keys)
    kept = Secrets(
        keys.site,
        {version: keys.secret(version) for version in keys.versions},
        b"" if signer is None else signer.secret(),
    )
    now = clock.now()
    pages = {}
    for number, text in enumerate(sheets.split(kept, now), start=1):
        pages[target / f"recovery-sheet-{number}.txt"] = text
        pages[target / f"recovery-sheet-{number}.html"] = sheets.as_html(text)
    taken = [path for path in pages if path.exists()]
    if taken:
        msg = f"{taken[0]} is there already."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Print and delete it, or give another folder.")
    if not target.is_dir():
        files.make_folder(target)
    for path, text in pages.items():
        if not files.write_new(path, text.encode()):
            msg = f"{path} is there already."
            raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Give another folder.")
    names = list(_names(keys, signer))
    files.replace(settings.keys / _SHEET, files.encode(_SHEET_KIND, {"made": iso(now), "names": names}))
    return list(pages)


def recover_keys(settings: Settings, texts: Sequence[str], clock: Clock) -> ShownKeys:
    """Bring the site's keys back from the texts of two recovery sheets. May be repeated; keys that are there stay.

    Raises
    ------
    InputError
        If a sheet was mistyped, or the two are no pair.
    ConflictError
        If the folder has other keys than the sheets: nothing is written then.
    SiteError
        If the folder cannot be written.

    """
    one, other = texts
    kept = sheets.join(one, other)
    folder = settings.keys
    _check_fits(folder, kept)
    check_apart(settings)
    files.make_folder(folder)
    for version, key in sorted(kept.versions.items()):
        site_keys.put(folder, kept.site, version, key, clock)
    if kept.signing:
        signing.put_signer(folder, Signer(kept.signing), clock)
    if not (folder / _SHEET).exists():
        names = [*map(key_name, kept.versions.values()), *([key_name(kept.signing)] if kept.signing else [])]
        content = files.encode(_SHEET_KIND, {"made": iso(clock.now()), "names": names})
        files.replace(folder / _SHEET, content)
    return show_keys(settings)


def _check_fits(folder: Path, kept: Secrets) -> None:
    keys = site_keys.load(folder)
    if keys is None:
        return
    same = {version: kept.versions.get(version, keys.secret(version)) for version in keys.versions}
    if keys.site != kept.site or any(key != keys.secret(version) for version, key in same.items()):
        msg = f"{folder} holds other keys than these sheets."
        remedy = "Move that folder away, or take the sheets of this site."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy=remedy)


def _required(settings: Settings) -> SiteKeys:
    keys = site_keys.load(settings.keys)
    if keys is None:
        msg = f"There is no site key in {settings.keys}."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Make keys: wsistore keys init.")
    return keys


def _covered(folder: Path) -> dict[str, Any] | None:
    path = folder / _SHEET
    content = files.read(path)
    return None if content is None else files.decode(path, content, _SHEET_KIND)


def _names(keys: SiteKeys | None, signer: Signer | None) -> list[str]:
    """Return the names of all secrets, by which a sheet is told to hold them."""
    names = [] if keys is None else [keys.name(version) for version in keys.versions]
    return names if signer is None else [*names, key_name(signer.secret())]
