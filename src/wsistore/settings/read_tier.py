"""From one table ``[tiers.NAME]`` of ``wsistore.toml`` to a tier's settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wsistore.model import Preset
from wsistore.settings.read_archive import ArchiveReader
from wsistore.settings.table import TableReader
from wsistore.settings.tiers import MOST_COPIES, MOST_SCRUB_DAYS, Certificate, Encryption, ObjectLock, TierSettings
from wsistore.settings.values import TIER_NAME, absolute

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")
_S3_KEYS = (
    "endpoint", "region", "profile", "key_file", "path_style", "allow_http", "ca_bundle", "storage_class", "encryption",
    "object_lock",
)  # fmt: skip
_KEYS = (
    "id", "url", "preset", "prices", "energy", *_S3_KEYS, "archive", "options", "required_copies",
    "minimum_storage_days", "scrub_days", "capacity", "high_watermark", "low_watermark", "location", "hds_certificate",
    "closed", "bandwidth_up", "bandwidth_down", "encrypt_companions",
)  # fmt: skip
_DEFAULT: dict[str, Any] = {field.name: field.default for field in fields(TierSettings)}
_SECRET = re.compile(r"pass(word|wd|phrase)?|secret|token|credential|(^|_)key$|sas|connection_string", re.IGNORECASE)
"""What options are called that hold secrets in fsspec's file systems."""
_MOST_DAYS = 36_500


class TierReader(TableReader):
    """Turns the table of a tier into its settings, or says what is wrong with it."""

    def tier(self, folder: Path, tables: Mapping[str, Any], name: str, *, required_copies: int) -> TierSettings:
        """Return what the table `name` of `tables` says.

        Parameters
        ----------
        folder
            The site's, absolute; relative paths start there.
        tables, name
            The tiers' tables, and which of them.
        required_copies
            What the site says, where the tier says nothing.

        Raises
        ------
        SiteError
            If something is unknown or wrong; the message names file, key and what is expected.

        """
        if not TIER_NAME.fullmatch(name):
            expected = "a tier's name of up to 32 lower-case letters, digits, '-' and '_'"
            raise self.wrong(name, expected, "tiers", name)
        prefix = f"tiers.{name}"
        table = self.table(tables, "tiers", name, _KEYS)
        identity = self.text(table, prefix, "id", None)
        if not re.fullmatch(r"[0-9a-z]{8,64}", identity):
            raise self.wrong(identity, "the id that 'wsistore init' gave: 8 to 64 of 0-9 and a-z", prefix, "id")
        url = self._url(folder, prefix, self.text(table, prefix, "url", None))
        self._only_where_known(table, prefix, url)
        high, low = (self.percent(table, prefix, key, _DEFAULT[key]) for key in _MARKS)
        if not low < high:
            raise self.wrong(table.get("low_watermark", f"{low:.0%}"), _LOWER, prefix, "low_watermark")
        days = self.integer(table, prefix, "minimum_storage_days", 0, 0, _MOST_DAYS)
        return TierSettings(
            name=name,
            id=identity,
            url=url,
            preset=Preset(self.one_of(table, prefix, "preset", Preset.KEEP, map(str, Preset))),
            prices=self.text(table, prefix, "prices", ""),
            energy=self._energy(folder, table, prefix),
            options=self._options(table, prefix),
            archive=ArchiveReader(self.path).archive(table, prefix, url.partition("://")[0]),
            required_copies=self.integer(table, prefix, "required_copies", required_copies, 1, MOST_COPIES),
            minimum_storage_days=days if "minimum_storage_days" in table else None,
            scrub_days=self.integer(table, prefix, "scrub_days", _DEFAULT["scrub_days"], 1, MOST_SCRUB_DAYS),
            capacity_bytes=self.size(table, prefix, "capacity"),
            high_watermark=high,
            low_watermark=low,
            location=self.text(table, prefix, "location", ""),
            certificate=self._certificate(table, prefix),
            closed=self.text(table, prefix, "closed", ""),
            encrypt_companions=self.flag(table, prefix, "encrypt_companions", False),
            bandwidth_up=self.rate(table, prefix, "bandwidth_up"),
            bandwidth_down=self.rate(table, prefix, "bandwidth_down"),
            **self._s3(folder, table, prefix),
        )

    def _url(self, folder: Path, prefix: str, url: str) -> str:
        scheme = _SCHEME.match(url)
        if "\x00" in unquote(url):
            raise self.wrong(url, "a path without NUL characters", prefix, "url")
        if scheme and scheme[1] != "file":
            user = url[scheme.end() :].partition("/")[0].rpartition("@")[0]
            if ":" in user or (user and scheme[1] == "s3"):
                expected = "a URL without a password or a key: name a profile or a key_file instead"
                raise self.wrong(url, expected, prefix, "url")
            return url
        if not scheme:
            return _file_url(folder / os.path.expanduser(url))  # noqa: PTH111 - Path's own raises without a home
        rest = unquote(url[len("file://") :])
        # file://localhost/x is /x; file://tiers/hot, which strictly names a host, is a relative path here.
        return _file_url(folder / (rest.removeprefix("localhost") if rest.startswith("localhost/") else rest))

    def _only_where_known(self, table: Mapping[str, Any], prefix: str, url: str) -> None:
        scheme = url.partition("://")[0]
        for key in table:
            if key in _S3_KEYS and scheme != "s3":
                raise self.wrong(table[key], "no such key here: it is for tiers whose url is s3://…", prefix, key)
            if key == "options" and scheme in {"s3", "file", "memory"}:
                raise self.wrong(table[key], f"no such key here: {scheme}:// takes none", prefix, key)

    def _s3(self, folder: Path, table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        allow_http = self.flag(table, prefix, "allow_http", False)
        return {
            "endpoint": self._endpoint(table, prefix, allow_http=allow_http),
            "allow_http": allow_http,
            "region": self.matching(table, prefix, "region", r"[A-Za-z0-9_.-]{1,64}", "a region such as 'eu-west-3'"),
            "profile": self.text(table, prefix, "profile", ""),
            "key_file": self._file(folder, table, prefix, "key_file"),
            "ca_bundle": self._file(folder, table, prefix, "ca_bundle"),
            "path_style": self.flag(table, prefix, "path_style", True),
            "storage_class": self.matching(
                table, prefix, "storage_class", r"[A-Z][A-Z0-9_-]{0,63}", "a class such as 'STANDARD_IA'"
            ),
            "encryption": self._encryption(table, prefix),
            "object_lock": self._lock(table, prefix),
        }

    def _endpoint(self, table: Mapping[str, Any], prefix: str, *, allow_http: bool) -> str:
        endpoint = self.text(table, prefix, "endpoint", "")
        if not endpoint:
            return ""
        try:
            parts = urlsplit(endpoint)
            is_plain = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment)
        except ValueError:
            is_plain = False
        if not is_plain or parts.scheme not in {"http", "https"} or parts.path.strip("/") or "@" in parts.netloc:
            expected = "a service's URL such as 'https://s3.example.org:8443', without bucket, path and credentials"
            raise self.wrong(endpoint, expected, prefix, "endpoint")
        if parts.scheme == "http" and not allow_http:
            expected = "https://…, or allow_http = true beside it if data may travel in the clear"
            raise self.wrong(endpoint, expected, prefix, "endpoint")
        return endpoint

    def _file(self, folder: Path, table: Mapping[str, Any], prefix: str, key: str) -> str:
        name = self.text(table, prefix, key, "")
        if "\x00" in name:
            raise self.wrong(name, "a path without NUL characters", prefix, key)
        return str(absolute(folder / os.path.expanduser(name))) if name else ""  # noqa: PTH111 - as above

    def _energy(self, folder: Path, table: Mapping[str, Any], prefix: str) -> str:
        name = self.text(table, prefix, "energy", "")
        return self._file(folder, table, prefix, "energy") if "/" in name or name.endswith(".toml") else name

    def _options(self, table: Mapping[str, Any], prefix: str) -> tuple[tuple[str, str | int | float | bool], ...]:
        options = table.get("options", {})
        if not isinstance(options, dict):
            raise self.wrong(options, f"a table, written as [{prefix}.options]", prefix, "options")
        for key, value in options.items():
            if _SECRET.search(key):
                expected = "no secret in this file: give it to the file system by its environment or its own files"
                hidden = "…"
                raise self.wrong(hidden, expected, f"{prefix}.options", key)
            if not isinstance(value, str | int | float):
                raise self.wrong(value, "a text, a number, true or false", f"{prefix}.options", key)
        return tuple(options.items())

    def _encryption(self, table: Mapping[str, Any], prefix: str) -> Encryption | None:
        value = table.get("encryption", "none")
        if isinstance(value, str):
            table, within, key = {"encryption": {"method": value}}, prefix, "encryption"
        else:
            within, key = f"{prefix}.encryption", "method"
        inner = self.table(table, prefix, "encryption", ("method", "key"))
        method = inner.get("method", "none")
        methods = ("none", "AES256", "aws:kms")
        self.one_of({key: method}, within, key, None, methods)
        name = self.text(inner, f"{prefix}.encryption", "key", "")
        if name and method != "aws:kms":
            raise self.wrong(name, "no key unless method is 'aws:kms'", f"{prefix}.encryption", "key")
        return None if method == "none" else Encryption(method, name)

    def _lock(self, table: Mapping[str, Any], prefix: str) -> ObjectLock | None:
        if "object_lock" not in table:
            return None
        inner = self.table(table, prefix, "object_lock", ("mode", "days"))
        within = f"{prefix}.object_lock"
        mode = self.one_of(inner, within, "mode", None, ("governance", "compliance"))
        return ObjectLock(mode, self.integer(inner, within, "days", 0, 1, _MOST_DAYS))

    def _certificate(self, table: Mapping[str, Any], prefix: str) -> Certificate | None:
        if "hds_certificate" not in table:
            return None
        inner = self.table(table, prefix, "hds_certificate", ("number", "valid_until"))
        within = f"{prefix}.hds_certificate"
        return Certificate(self.text(inner, within, "number", None), self.day(inner, within, "valid_until"))


_MARKS = ("high_watermark", "low_watermark")
_LOWER = "less than high_watermark (by default they are 75 % and 85 %)"


def _file_url(path: Path) -> str:
    return absolute(path).as_uri()
