"""From the tables ``[intake.NAME]`` of ``wsistore.toml`` to settings."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from wsistore.settings.intake import SHARE_NAME, TEMPORARY, IntakeSettings, Release
from wsistore.settings.table import TableReader
from wsistore.settings.tiers import MOST_COPIES
from wsistore.settings.values import absolute, did_you_mean

_KEYS = (
    *("path", "tier", "settle_seconds", "marker", "temporary", "ignore", "metadata"),
    *("release", "release_to", "release_after_hours", "release_copies", "evidence_hours", "rehash"),
)
_MOST_SETTLE = 7 * 24 * 3600
_MOST_AFTER, _MOST_EVIDENCE = 3650 * 24, 365 * 24


class IntakeReader(TableReader):
    """Reads the tables ``[intake.NAME]``."""

    def shares(self, folder: Path, document: Mapping[str, Any], tiers: Collection[str]) -> tuple[IntakeSettings, ...]:
        """Return what `document` says of shares, for a site in `folder` (absolute) with these tiers."""
        tables = document.get("intake", {})
        if not isinstance(tables, dict):
            raise self.wrong(tables, "tables such as [intake.scanner-1]", "", "intake")
        found: list[IntakeSettings] = []
        for name in tables:
            share = self._share(folder, tables, name, tiers)
            for other in found:
                if _overlap(share.path, other.path):
                    expected = f"a folder that is neither that of {other.name!r}, nor within it, nor around it"
                    raise self.wrong(share.path, expected, f"intake.{name}", "path")
            found.append(share)
        return tuple(found)

    def _share(self, folder: Path, tables: Mapping[str, Any], name: str, tiers: Collection[str]) -> IntakeSettings:
        if not SHARE_NAME.fullmatch(name):
            raise self.wrong(name, "a name of small letters, digits, - and _, 32 at most", "intake", name)
        where, table = f"intake.{name}", self.table(tables, "intake", name, _KEYS)
        path = self._path(folder, table, where, "path", None)
        tier = self.text(table, where, "tier", "")
        if tier and tier not in tiers:
            raise self.wrong(tier, f"one of: {', '.join(tiers)}{did_you_mean(tier, tiers)}", where, "tier")
        default = IntakeSettings(name, path)
        seconds = self.integer(table, where, "settle_seconds", int(default.settle.total_seconds()), 0, _MOST_SETTLE)
        hours = default.release_after // timedelta(hours=1)
        after = self.integer(table, where, "release_after_hours", hours, 0, _MOST_AFTER)
        release, target = self._release(folder, table, where, path)
        return IntakeSettings(
            name=name,
            path=path,
            tier=tier,
            settle=timedelta(seconds=seconds),
            marker=self._name(table, where, "marker", ""),
            temporary=self._patterns(table, where, "temporary", TEMPORARY),
            ignore=self._patterns(table, where, "ignore", ()),
            metadata=self._name(table, where, "metadata", default.metadata),
            release=release,
            release_to=target,
            release_after=timedelta(hours=after),
            release_copies=self._optional(table, where, "release_copies", MOST_COPIES),
            evidence=_hours(self._optional(table, where, "evidence_hours", _MOST_EVIDENCE)),
            rehash=self.flag(table, where, "rehash", False),
        )

    def _release(self, folder: Path, table: Mapping[str, Any], where: str, path: str) -> tuple[Release, str]:
        release = Release(self.one_of(table, where, "release", Release.LEAVE, [str(one) for one in Release]))
        target = self._path(folder, table, where, "release_to", "")
        if release is Release.MOVE and not target:
            self.text(table, where, "release_to", None)
        if release is not Release.MOVE and target:
            raise self.wrong(str(release), '"move", for there is a release_to', where, "release")
        if target and (target == path or path.startswith(target.rstrip("/") + "/")):
            raise self.wrong(target, "a folder other than the share, and not around it", where, "release_to")
        return release, target

    def _path(self, folder: Path, table: Mapping[str, Any], where: str, key: str, default: str | None) -> str:
        name = self.text(table, where, key, default)
        if "\x00" in name or "://" in name:
            raise self.wrong(name, "the path of a folder, as this machine has it mounted", where, key)
        return str(absolute(folder / os.path.expanduser(name))) if name else ""  # noqa: PTH111 - Path's own may raise

    def _name(self, table: Mapping[str, Any], where: str, key: str, default: str) -> str:
        name = self.text(table, where, key, default)
        if "/" in name or "\x00" in name:
            raise self.wrong(name, "a name without a folder", where, key)
        return name

    def _patterns(self, table: Mapping[str, Any], where: str, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = table.get(key)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(one, str) and one and "/" not in one for one in value):
            raise self.wrong(value, 'a list of patterns of names such as ["*.tmp"]', where, key)
        return tuple(value)

    def _optional(self, table: Mapping[str, Any], where: str, key: str, most: int) -> int | None:
        return self.integer(table, where, key, 1, 1, most) if key in table else None


def _hours(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(hours=count)


def _overlap(one: str, other: str) -> bool:
    first, second = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return first.startswith(second) or second.startswith(first)
