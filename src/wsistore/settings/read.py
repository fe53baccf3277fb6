"""From ``wsistore.toml`` to settings, or to a message that says what is wrong with it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from wsistore.errors import SiteError
from wsistore.settings.archive import MOST_ATTESTED_DAYS
from wsistore.settings.find import site_missing
from wsistore.settings.read_approvals import ApprovalReader
from wsistore.settings.read_flows import FlowsReader
from wsistore.settings.read_intake import IntakeReader
from wsistore.settings.read_serve import ServeReader
from wsistore.settings.read_tier import TierReader
from wsistore.settings.table import TableReader
from wsistore.settings.tiers import MOST_COPIES, TierSettings
from wsistore.settings.values import FILE_NAME, FORMAT_VERSION, EvidenceAges, Settings, absolute

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


_TOP = (
    *("version", "name", "required_copies", "catalog", "work", "evidence", "recall", "keys", "tiers"),
    *("encrypt_identities", "identity_columns", "rules", "approvals", "intake", "flows", "serve"),
)
_CATALOG = ("url",)
_WORK = ("jobs", "retries")
_EVIDENCE = ("begin_hours", "begun_days", "attested_days")
_RECALL = ("max_eur",)
_RULES = ("file",)
_MOST_EUR = 1e9
_BEGIN_HOURS, _BEGUN_DAYS = (1, 30 * 24), (1, 3650)
"""From an hour on, so that a move's own verification still counts at its end, to a month: a scrub's rhythm."""


class Reader(TableReader):
    """Turns a parsed document into settings, or says what is wrong with it."""

    def settings(self, folder: Path, document: Mapping[str, Any]) -> Settings:
        """Return what `document` says, for a site in `folder` (absolute)."""
        version = self.integer(document, "", "version", FORMAT_VERSION, 1, 1_000_000)
        if version > FORMAT_VERSION:
            msg = f"{self.path}: key 'version' is {version}; this release knows {FORMAT_VERSION}."
            raise SiteError(msg, remedy="Upgrade wsistore.")
        self.known(document, "", _TOP)
        catalog = self.table(document, "", "catalog", _CATALOG)
        work = self.table(document, "", "work", _WORK)
        url = self.text(catalog, "catalog", "url", "sqlite:///catalog.db")
        copies = self.integer(document, "", "required_copies", 1, 1, MOST_COPIES)
        tiers = self._tiers(folder, document, copies)
        return Settings(
            folder=folder,
            name=self.text(document, "", "name", folder.name or "wsistore"),
            catalog_url=self._catalog_url(folder, url),
            tiers=tiers,
            retries=self.integer(work, "work", "retries", 5, 0, 100),
            jobs=self.integer(work, "work", "jobs", 0, 0, 1024),
            required_copies=copies,
            evidence=self._evidence(document),
            recall_max_eur=self._recall_max_eur(document),
            keys_folder=self._keys(folder, document),
            rules_file=self._rules(folder, document),
            approvals=ApprovalReader(self.path).approvals(folder, document),
            encrypt_identities=self.flag(document, "", "encrypt_identities", False),
            identity_columns=self._identity_columns(document),
            intake=IntakeReader(self.path).shares(folder, document, [tier.name for tier in tiers]),
            flows=FlowsReader(self.path).flows(folder, document),
            serve=ServeReader(self.path).serve(folder, document),
        )

    def _keys(self, folder: Path, document: Mapping[str, Any]) -> str:
        return self._path(folder, self.text(document, "", "keys", ""), "a folder", "", "keys")

    def _rules(self, folder: Path, document: Mapping[str, Any]) -> str:
        table = self.table(document, "", "rules", _RULES)
        return self._path(folder, self.text(table, "rules", "file", ""), "a file", "rules", "file")

    def _path(self, folder: Path, name: str, what: str, prefix: str, key: str) -> str:
        if "\x00" in name or "://" in name:
            raise self.wrong(name, f"the path of {what} of this machine", prefix, key)
        return str(absolute(folder / os.path.expanduser(name))) if name else ""  # noqa: PTH111 - Path's own may raise

    def _identity_columns(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        names = document.get("identity_columns", [])
        expected = "a list of names of metadata columns"
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise self.wrong(names, expected, "", "identity_columns")
        if any(re.sub(r"[\W_]+", "", name).casefold() == "caseid" for name in names):
            expected += " other than case_id, by which slides are joined to cases: give cases numbers that tell nothing"
            raise self.wrong(names, expected, "", "identity_columns")
        return tuple(names)

    def _evidence(self, document: Mapping[str, Any]) -> EvidenceAges:
        table, default = self.table(document, "", "evidence", _EVIDENCE), EvidenceAges()
        hours = default.begin // timedelta(hours=1)
        begin = timedelta(hours=self.integer(table, "evidence", "begin_hours", hours, *_BEGIN_HOURS))
        begun = timedelta(days=self.integer(table, "evidence", "begun_days", default.begun.days, *_BEGUN_DAYS))
        if begun < begin:
            expected = f"no less than begin_hours, which is {begin // timedelta(hours=1)}"
            raise self.wrong(begun.days, expected, "evidence", "begun_days")
        attested = self.integer(table, "evidence", "attested_days", default.attested.days, 0, MOST_ATTESTED_DAYS)
        return EvidenceAges(begin, attested=timedelta(days=attested), begun=begun)

    def _recall_max_eur(self, document: Mapping[str, Any]) -> float | None:
        value = self.table(document, "", "recall", _RECALL).get("max_eur")
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST_EUR:
            raise self.wrong(value, "a number of euros", "recall", "max_eur")
        return float(value)

    def _tiers(self, folder: Path, document: Mapping[str, Any], copies: int) -> tuple[TierSettings, ...]:
        tables = document.get("tiers", {})
        if not isinstance(tables, dict) or not tables:
            raise self.wrong(tables, "at least one table such as [tiers.hot]", "", "tiers")
        found: list[TierSettings] = []
        reader = TierReader(self.path)
        for name in tables:
            tier = reader.tier(folder, tables, name, required_copies=copies)
            for other in found:
                # Buckets of two services may have the same name.
                same = "id" if tier.id == other.id else "url"
                if same == "id" or (tier.url, tier.endpoint) == (other.url, other.endpoint):
                    expected = f"another value than that of tier {other.name!r}; each tier is a place of its own"
                    raise self.wrong(getattr(tier, same), expected, f"tiers.{name}", same)
            found.append(tier)
        return tuple(found)

    def _catalog_url(self, folder: Path, url: str) -> str:
        if not url.startswith(_SQLITE):
            if not _SCHEME.match(url) or url.startswith("sqlite"):
                raise self.wrong(url, "a URL such as 'sqlite:///catalog.db'", "catalog", "url")
            return url
        name = url[len(_SQLITE) :]
        if not name or "\x00" in name or name == ":memory:":
            raise self.wrong(url, "the name of a file after 'sqlite:///'", "catalog", "url")
        return _SQLITE + str(absolute(folder / name))
