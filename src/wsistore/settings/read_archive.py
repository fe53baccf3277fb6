"""From one table ``[tiers.NAME.archive]`` of ``wsistore.toml`` to the settings of an archive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wsistore.settings.archive import MOST_ATTESTED_DAYS, PROVIDERS, RETRIEVALS, ArchiveSettings, TapeSettings
from wsistore.settings.table import TableReader

_KEYS = (
    *("class", "provider", "retrieval", "restore_days", "attested_days", "simulated_speed"),
    *("offline", "recall", "release"),
)
_TAPE_KEYS = ("offline", "recall", "release")
_MOST_DAYS = 3650
_MOST_ARGUMENTS = 64
_CLASS = r"[A-Z][A-Z0-9_-]{0,63}"


class ArchiveReader(TableReader):
    """Turns a tier's table ``archive`` into its settings, or says what is wrong with it."""

    def archive(self, tier: Mapping[str, Any], prefix: str, scheme: str) -> ArchiveSettings | None:
        """Return what the table says, None where there is none.

        Raises
        ------
        SiteError
            If something is unknown, wrong, or not for tiers of this `scheme`.

        """
        if "archive" not in tier:
            return None
        table = self.table(tier, prefix, "archive", _KEYS)
        within = f"{prefix}.archive"
        speed = self._speed(table, within)
        self._only_where_known(table, within, scheme, is_simulated=speed is not None)
        return ArchiveSettings(
            storage_class=self.matching(table, within, "class", _CLASS, "a class such as 'DEEP_ARCHIVE'"),
            provider=self.one_of(table, within, "provider", "", ("", *PROVIDERS)),
            retrieval=self.one_of(table, within, "retrieval", "", ("", *RETRIEVALS)),
            restore_days=self.integer(table, within, "restore_days", 7, 1, _MOST_DAYS),
            attested_days=self._attested_days(table, within),
            simulated_speed=speed,
            tape=self._tape(table, within),
        )

    def _only_where_known(self, table: Mapping[str, Any], within: str, scheme: str, *, is_simulated: bool) -> None:
        for key in table:
            if key in _TAPE_KEYS and (scheme != "file" or is_simulated):
                raise self.wrong(table[key], "no such key here: it is for folders with a tape library", within, key)
            if key == "provider" and scheme != "s3":
                raise self.wrong(table[key], "no such key here: it is for tiers whose url is s3://…", within, key)
            if key == "class" and scheme != "s3" and not is_simulated:
                raise self.wrong(table[key], "no such key here: folders have no storage classes", within, key)
            if key == "simulated_speed" and scheme == "s3":
                raise self.wrong(table[key], "no such key here: buckets are not rehearsed", within, key)

    def _attested_days(self, table: Mapping[str, Any], within: str) -> int | None:
        if "attested_days" not in table:
            return None
        return self.integer(table, within, "attested_days", 0, 0, MOST_ATTESTED_DAYS)

    def _speed(self, table: Mapping[str, Any], within: str) -> float | None:
        value = table.get("simulated_speed")
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1e9:
            raise self.wrong(
                value, "how many times faster than the clock it runs, such as 3600", within, "simulated_speed"
            )
        return float(value)

    def _tape(self, table: Mapping[str, Any], within: str) -> TapeSettings | None:
        if not any(key in table for key in _TAPE_KEYS):
            return None
        recall = self._command(table, within, "recall")
        if not recall:
            expected = "a command as a list, such as ['dsmrecall', '{path}']"
            raise self.wrong(table.get("recall", ""), expected, within, "recall")
        return TapeSettings(recall, self._offline(table, within), self._command(table, within, "release"))

    def _offline(self, table: Mapping[str, Any], within: str) -> tuple[str, ...]:
        value = table.get("offline", "blocks")
        if isinstance(value, list):
            return ("command", *self._command(table, within, "offline"))
        if value == "blocks":
            return ("blocks",)
        if isinstance(value, str) and re.fullmatch(r"xattr:[A-Za-z0-9_.-]{1,200}", value):
            return ("xattr", value.removeprefix("xattr:"))
        raise self.wrong(value, "'blocks', 'xattr:user.NAME', or a command as a list", within, "offline")

    def _command(self, table: Mapping[str, Any], within: str, key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        good = isinstance(value, list) and all(isinstance(part, str) and part and "\0" not in part for part in value)
        if key in table and not (good and 1 <= len(value) <= _MOST_ARGUMENTS and any("{path}" in p for p in value[1:])):
            raise self.wrong(value, "a command as a list of texts, one of which has {path} in it", within, key)
        return tuple(value)
