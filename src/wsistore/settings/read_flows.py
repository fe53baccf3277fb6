"""From the tables ``[flows]`` and ``[flows.NAME]`` of ``wsistore.toml`` to settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from wsistore.settings.flows import FLOW_NAMES, FlowSettings, FlowsSettings, MailSettings
from wsistore.settings.table import TableReader
from wsistore.settings.values import absolute

_KEYS = ("time_zone", "api_url", "scheduler", "workers", "retry_seconds", "webhook", "webhook_file", "mail")
_FLOW = ("cron", "paused", "timeout_minutes", "parameters")
_MAIL = ("to", "from", "server", "port", "tls", "login_file")
_TLS = ("none", "starttls", "tls")
_HTTP = r"https?://[^\s/@]+(/\S*)?"
_DASK = r"(tcp|tls|ucx|ws|wss|inproc)://\S+"
_CRON = r"\s*([0-9A-Za-z*/,\-#?]+\s+){4}[0-9A-Za-z*/,\-#?]+\s*"
_ADDRESS = r"[^@\s<>,;]+@[^@\s<>,;]+"
_MOST_MINUTES, _MOST_RETRY, _MOST_RETRIES = 31 * 24 * 60, 24 * 3600, 10


class FlowsReader(TableReader):
    """Reads the table ``[flows]``."""

    def flows(self, folder: Path, document: Mapping[str, Any]) -> FlowsSettings:
        """Return what `document` says of flows, for a site in `folder` (absolute)."""
        table = self.table(document, "", "flows", (*_KEYS, *FLOW_NAMES))
        default = FlowsSettings()
        webhook = self.matching(table, "flows", "webhook", _HTTP, "an address that begins with http:// or https://")
        webhook_file = self._path(folder, table, "flows", "webhook_file")
        if webhook and webhook_file:
            raise self.wrong(webhook_file, "nothing, for there is 'webhook'; one of both", "flows", "webhook_file")
        return FlowsSettings(
            time_zone=self._time_zone(table),
            api_url=self.matching(table, "flows", "api_url", _HTTP, "an address such as 'http://127.0.0.1:4200/api'"),
            scheduler=self.matching(table, "flows", "scheduler", _DASK, "an address such as 'tcp://10.0.0.5:8786'"),
            workers=self.integer(table, "flows", "workers", default.workers, 0, 1024),
            retry_seconds=self._retry_seconds(table, default.retry_seconds),
            webhook=webhook,
            webhook_file=webhook_file,
            mail=self._mail(folder, table) if "mail" in table else None,
            flows={name: self._flow(table, name) for name in FLOW_NAMES if name in table},
        )

    def _time_zone(self, table: Mapping[str, Any]) -> str:
        name = self.text(table, "flows", "time_zone", "")
        try:
            return ZoneInfo(name).key if name else ""
        except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            raise self.wrong(name, "the name of a time zone such as 'Europe/Paris'", "flows", "time_zone") from None

    def _retry_seconds(self, table: Mapping[str, Any], default: tuple[int, ...]) -> tuple[int, ...]:
        value = table.get("retry_seconds", list(default))
        is_list = isinstance(value, list) and len(value) <= _MOST_RETRIES
        if not is_list or any(
            not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= _MOST_RETRY for one in value
        ):
            expected = f"a list of at most {_MOST_RETRIES} pauses in seconds such as [60, 300, 900], or [] for none"
            raise self.wrong(value, expected, "flows", "retry_seconds")
        return tuple(value)

    def _flow(self, flows: Mapping[str, Any], name: str) -> FlowSettings:
        where, table = f"flows.{name}", self.table(flows, "flows", name, _FLOW)
        minutes = self.integer(table, where, "timeout_minutes", 1, 1, _MOST_MINUTES)
        parameters = table.get("parameters", {})
        if not isinstance(parameters, dict) or "site" in parameters:
            raise self.wrong(parameters, f"a table [{where}.parameters], without 'site'", where, "parameters")
        return FlowSettings(
            cron=self.matching(table, where, "cron", _CRON, "five fields such as '0 20 * * *'").strip(),
            paused=self.flag(table, where, "paused", False),
            timeout=timedelta(minutes=minutes) if "timeout_minutes" in table else None,
            parameters=dict(parameters),
        )

    def _mail(self, folder: Path, flows: Mapping[str, Any]) -> MailSettings:
        where, table = "flows.mail", self.table(flows, "flows", "mail", _MAIL)
        to = table.get("to")
        if not isinstance(to, list) or not to or not all(isinstance(o, str) and re.fullmatch(_ADDRESS, o) for o in to):
            raise self.wrong(to, 'a list of addresses such as ["storage@hospital.example"]', where, "to")
        sender = self.matching(table, where, "from", _ADDRESS, "an address such as 'wsistore@hospital.example'")
        tls = self.one_of(table, where, "tls", "none", _TLS)
        login = self._path(folder, table, where, "login_file")
        if login and tls == "none":
            raise self.wrong(tls, "'starttls' or 'tls', for a password is sent", where, "tls")
        return MailSettings(
            to=tuple(to),
            sender=sender or to[0],
            server=self.matching(table, where, "server", r"[A-Za-z0-9.:_-]+", "the name of a host") or "localhost",
            port=self.integer(table, where, "port", {"none": 25, "starttls": 587, "tls": 465}[tls], 1, 65535),
            tls=tls,
            login_file=login,
        )

    def _path(self, folder: Path, table: Mapping[str, Any], where: str, key: str) -> str:
        name = self.text(table, where, key, "")
        if "\x00" in name or "://" in name:
            raise self.wrong(name, "the path of a file of this machine", where, key)
        return str(absolute(folder / os.path.expanduser(name))) if name else ""  # noqa: PTH111 - Path's own may raise
