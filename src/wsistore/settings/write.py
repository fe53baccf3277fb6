"""A new site's ``wsistore.toml``, with comments that teach."""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path

from wsistore.errors import Kind, SiteError
from wsistore.model import random_key
from wsistore.settings.read import Reader
from wsistore.settings.values import FILE_NAME, FORMAT_VERSION, TIER_NAME, Settings, absolute

_HEAD = """\
# Settings of a wsistore site. Relative paths start at this file's folder.
# Every command looks for this file: in the folder given with -C, else in $WSISTORE_HOME, else in the current folder
# and those above it.

version = {version}

# What the site is called in reports and messages.
name = {name}

# Where the site's keys lie, if it has any ('wsistore keys init'): never within a tier. docs/keys.md tells what for.
# keys = "keys"

# Whether what identifies patients is encrypted in the catalogue, its backups and the tiers' ledgers (the site's keys).
# encrypt_identities = true

[catalog]
# The catalogue knows which slide is where. A SQLite file needs no server and serves all processes of one machine;
# keep it on a local disk, not on a network share.
url = {catalog_url}

[work]
# How many slides are worked on at once; 0: as many as the machine has processors.
jobs = 0
# How often a tier's transient failure is tried again, with growing pauses, before the slide counts as failed.
retries = 5

# [evidence] says how long ago copies may have been read back that the drop of another one rests on: begin_hours = 24
# when it begins, begun_days = 90 once it has begun. docs/tiers.md tells why. [recall] max_eur is what a recall from an
# archive may cost without being confirmed. [rules] file names the file of rules (docs/rules.md), which otherwise is
# rules.yaml in this folder.

# Tiers: named places for copies of slides. The first is where 'wsistore ingest' puts slides unless told otherwise.
#   id      random, and kept in the tier as well: a disk mounted in the wrong place is noticed. Never change it.
#   url     a path (relative to this folder, or absolute) or a file:// URL. To move a tier, move its folder, then
#           change this line.
#   preset  how copies are encoded; "keep": as the scanner wrote them.
#   prices  what the tier costs: a name that comes with wsistore, or a path such as "prices/our-san.toml"; by default
#           what the tier's name suggests. 'wsistore tune' chooses by it; docs/tuning.md tells more.
# 'wsistore tier add' adds a tier, 'wsistore tier check' proves what it can do; docs/tiers.md has all keys (buckets,
# capacity, certificates, bandwidth, ...) with examples. Keys and passwords never stand here.
"""

_TIER_TEXT = """
[tiers.{name}]
id = {id}
url = {url}
preset = "keep"
"""


def write_new(
    folder: Path,
    *,
    name: str = "",
    tiers: Mapping[str, str] | None = None,
    catalog_url: str = "sqlite:///catalog.db",
) -> Settings:
    """Make `folder` a site: write a commented ``wsistore.toml`` and return what it says.

    The folder is made if need be and may hold other files. The file appears whole or not at all.

    Parameters
    ----------
    folder, name, catalog_url
        As in `Settings`; the name is the folder's by default.
    tiers
        Names and URLs (or relative paths); by default hot, warm and cold under ``tiers/``. Each gets a random id.

    Raises
    ------
    SiteError
        If `folder` is a site already (`Kind.SITE_EXISTS`), cannot be written (`Kind.SITE_READ_ONLY`), or a value is
        not allowed (`Kind.SETTINGS_INVALID`).

    """
    path = folder / FILE_NAME
    places = tiers if tiers is not None else {tier: f"tiers/{tier}" for tier in ("hot", "warm", "cold")}
    whole = absolute(folder)
    text = _render(name or whole.name or "wsistore", catalog_url, places)
    try:
        settings = Reader(path).settings(whole, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        msg = f"{path}: cannot be written with these names or URLs: {error}."
        raise SiteError(msg, remedy="Use printable characters.") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_exclusively(path, text.encode("utf-8"))
    except FileExistsError as error:
        exists = path.exists()
        msg = f"{folder} is a site already: {path} exists." if exists else f"{folder} is not a folder."
        kind = Kind.SITE_EXISTS if exists else Kind.SITE_READ_ONLY
        raise SiteError(msg, kind=kind, remedy="Choose another folder, or use the site as it is.") from error
    except (OSError, UnicodeEncodeError) as error:
        msg = f"{path}: cannot be written ({error})."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Choose a folder that can be written.") from error
    return settings


def _write_exclusively(path: Path, content: bytes) -> None:
    """Write a file that must not exist: whole or not at all, even when the power fails."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: two inits in the same instant are the lesser worry
            if path.exists():
                raise FileExistsError(path) from None
            draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _render(name: str, catalog_url: str, tiers: Mapping[str, str]) -> str:
    head = _HEAD.format(version=FORMAT_VERSION, name=_quoted(name), catalog_url=_quoted(catalog_url))
    return head + "".join(
        _TIER_TEXT.format(name=_key(tier), id=_quoted(random_key()), url=_quoted(url)) for tier, url in tiers.items()
    )


def _key(name: str) -> str:
    return name if TIER_NAME.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """Return `text` as a TOML basic string."""
    return '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda match: f"\\u{ord(match[0]):04x}", text) + '"'
