"""From ``wsistore.toml`` to settings, or to a message that says what is wrong with it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from wsistore.errors import SiteError
from wsistore.model import Preset
from wsistore.settings.find import site_missing
from wsistore.settings.values import (
    FILE_NAME,
    FORMAT_VERSION,
    TIER_NAME,
    Settings,
    TierSettings,
    absolute,
    did_you_mean,
)

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")
_SQLITE = "sqlite:///"


def load(folder: Path) -> Settings:
    """Read the settings of the site in `folder`.

    Raises
    ------
    SiteError
        If there are none, or they cannot be read or are wrong; the message names file, key and what is expected.

    """
    path = folder / FILE_NAME
    try:
        text = path.read_bytes().decode("utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        raise site_missing(folder, f"{folder} is no site: it has no {FILE_NAME}.") from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})."
        raise SiteError(msg, remedy="Make the file readable.") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        msg = f"{path}: is no valid TOML: {error}."
        raise SiteError(msg, remedy="Mend the line; text values need double quotes.") from error
    return Reader(path).settings(absolute(folder), document)


_TOP = ("version", "name", "catalog", "work", "tiers")
_CATALOG = ("url",)
_WORK = ("jobs", "retries")
_TIER = ("id", "url", "preset")


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns a parsed document into settings, or says what is wrong with it."""

    path: Path

    def settings(self, folder: Path, document: Mapping[str, Any]) -> Settings:
        """Return what `document` says, for a site in `folder` (absolute)."""
        version = self._integer(document, "", "version", FORMAT_VERSION, 1, 1_000_000)
        if version > FORMAT_VERSION:
            msg = f"{self.path}: key 'version' is {version}; this release knows {FORMAT_VERSION}."
            raise SiteError(msg, remedy="Upgrade wsistore.")
        self._known(document, "", _TOP)
        catalog = self._table(document, "", "catalog", _CATALOG)
        work = self._table(document, "", "work", _WORK)
        url = self._text(catalog, "catalog", "url", "sqlite:///catalog.db")
        return Settings(
            folder=folder,
            name=self._text(document, "", "name", folder.name or "wsistore"),
            catalog_url=self._catalog_url(folder, url),
            tiers=self._tiers(folder, document),
            retries=self._integer(work, "work", "retries", 5, 0, 100),
            jobs=self._integer(work, "work", "jobs", 0, 0, 1024),
        )

    def _tiers(self, folder: Path, document: Mapping[str, Any]) -> tuple[TierSettings, ...]:
        tables = document.get("tiers", {})
        if not isinstance(tables, dict) or not tables:
            raise self._wrong(tables, "at least one table such as [tiers.hot]", "", "tiers")
        found: list[TierSettings] = []
        for name in tables:
            tier = self._tier(folder, tables, name)
            for other in found:
                for key in ("id", "url"):
                    if getattr(tier, key) == getattr(other, key):
                        taken = getattr(tier, key)
                        expected = f"another value than that of tier {other.name!r}; each tier is a place of its own"
                        raise self._wrong(taken, expected, f"tiers.{name}", key)
            found.append(tier)
        return tuple(found)

    def _tier(self, folder: Path, tables: Mapping[str, Any], name: str) -> TierSettings:
        if not TIER_NAME.fullmatch(name):
            expected = "a tier's name of up to 32 lower-case letters, digits, '-' and '_'"
            raise self._wrong(name, expected, "tiers", name)
        prefix = f"tiers.{name}"
        table = self._table(tables, "tiers", name, _TIER)
        identity = self._text(table, prefix, "id", None)
        if not re.fullmatch(r"[0-9a-z]{8,64}", identity):
            raise self._wrong(identity, "the id that 'wsistore init' gave: 8 to 64 of 0-9 and a-z", prefix, "id")
        return TierSettings(
            name=name,
            id=identity,
            url=self._tier_url(folder, prefix, self._text(table, prefix, "url", None)),
            preset=self._choice(table, prefix, "preset", Preset.KEEP),
        )

    def _tier_url(self, folder: Path, prefix: str, url: str) -> str:
        scheme = _SCHEME.match(url)
        if "\x00" in unquote(url):
            raise self._wrong(url, "a path without NUL characters", prefix, "url")
        if scheme and scheme[1] != "file":
            return url
        if not scheme:
            return _file_url(folder / os.path.expanduser(url))  # noqa: PTH111 - Path's own raises without a home
        rest = unquote(url[len("file://") :])
        # file://localhost/x is /x; file://tiers/hot, which strictly names a host, is a relative path here.
        return _file_url(folder / (rest.removeprefix("localhost") if rest.startswith("localhost/") else rest))

    def _catalog_url(self, folder: Path, url: str) -> str:
        if not url.startswith(_SQLITE):
            if not _SCHEME.match(url) or url.startswith("sqlite"):
                raise self._wrong(url, "a URL such as 'sqlite:///catalog.db'", "catalog", "url")
            return url
        name = url[len(_SQLITE) :]
        if not name or "\x00" in name or name == ":memory:":
            raise self._wrong(url, "the name of a file after 'sqlite:///'", "catalog", "url")
        return _SQLITE + str(absolute(folder / name))

    def _known(self, table: Mapping[str, Any], prefix: str, keys: Sequence[str]) -> None:
        for key in table:
            if key not in keys:
                msg = f"{self.path}: unknown key {_dotted(prefix, key)!r}{did_you_mean(key, keys)}."
                raise SiteError(msg, remedy=f"Here the keys may be: {', '.join(keys)}.")

    def _table(self, parent: Mapping[str, Any], prefix: str, key: str, keys: Sequence[str]) -> Mapping[str, Any]:
        table = parent.get(key, {})
        if not isinstance(table, dict):
            raise self._wrong(table, f"a table, written as [{_dotted(prefix, key)}]", prefix, key)
        self._known(table, _dotted(prefix, key), keys)
        return table

    def _text(self, table: Mapping[str, Any], prefix: str, key: str, default: str | None) -> str:
        value = table.get(key, default)
        if value is None:
            msg = f"{self.path}: key {_dotted(prefix, key)!r} is missing."
            raise SiteError(msg, remedy=f'Add a line: {key} = "…" under [{prefix}].')
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(value, "a text in double quotes that is not empty", prefix, key)
        return value

    def _integer(self, table: Mapping[str, Any], prefix: str, key: str, default: int, least: int, most: int) -> int:
        value = table.get(key, default)
        # TOML's true is Python's 1.
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(value, f"a whole number from {least} to {most}", prefix, key)
        return value

    def _choice(self, table: Mapping[str, Any], prefix: str, key: str, default: Preset) -> Preset:
        value = self._text(table, prefix, key, str(default))
        try:
            return Preset(value)
        except ValueError as error:
            names = [str(choice) for choice in Preset]
            expected = f"one of: {', '.join(names)}{did_you_mean(value, names)}"
            raise self._wrong(value, expected, prefix, key) from error

    def _wrong(self, value: object, expected: str, prefix: str, key: str) -> SiteError:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "…"
        return SiteError(
            f"{self.path}: key {_dotted(prefix, key)!r} is {shown}; expected {expected}.",
            remedy="Mend the settings file.",
        )


def _file_url(path: Path) -> str:
    return absolute(path).as_uri()


def _dotted(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
