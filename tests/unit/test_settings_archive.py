"""Settings of a tier's archive: what they say, what is refused by its key, and docs/archive.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wsistore.errors import SiteError
from wsistore.settings import TierSettings, load
from wsistore.settings.archive import PROVIDERS, RETRIEVALS, ArchiveSettings, TapeSettings
from wsistore.settings.read_archive import _KEYS
from wsistore.storage import s3_providers
from wsistore.storage.archive import Retrieval
from wsistore.storage.archive_sim import ArchiveStorage
from wsistore.storage.open import open_storage
from wsistore.storage.s3_options import S3Options
from wsistore.storage.tape import TapeCommands, TapeStorage

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "archive.md").read_text("utf-8")


def tier(folder: Path, table: str, url: str = "tiers/cold") -> TierSettings:
    (folder / "wsistore.toml").write_text(f'version = 1\n[tiers.cold]\nid = "0123456789"\nurl = "{url}"\n{table}')
    return load(folder).tiers[0]


def test_without_a_table_there_is_no_archive(tmp_path: Path) -> None:
    assert tier(tmp_path, "").archive is None
    assert tier(tmp_path, "").storage_options == {}


def test_a_bucket(tmp_path: Path) -> None:
    text = '[tiers.cold.archive]\nclass = "DEEP_ARCHIVE"\nretrieval = "bulk"\nrestore_days = 14\nprovider = "ovh"'
    found = tier(tmp_path, text, "s3://bucket/prefix")
    assert found.archive == ArchiveSettings("DEEP_ARCHIVE", "ovh", "bulk", 14)
    assert S3Options.of(found.url, found.storage_options).provider == "ovh"
    assert S3Options.of(found.url, found.storage_options).storage_class is None  # written where it can be read back


def test_a_rehearsal(tmp_path: Path) -> None:
    found = tier(tmp_path, '[tiers.cold.archive]\nclass = "GLACIER"\nsimulated_speed = 3600')
    assert found.archive == ArchiveSettings("GLACIER", simulated_speed=3600.0)
    assert isinstance(open_storage(found.url, found.storage_options), ArchiveStorage)


@pytest.mark.parametrize(
    ("offline", "shows"),
    [("", ("blocks",)), ('offline = "blocks"', ("blocks",)), ('offline = "xattr:user.hsm"', ("xattr", "user.hsm")),
     ('offline = ["state", "{path}"]', ("command", "state", "{path}"))],
)  # fmt: skip
def test_a_tape_library(tmp_path: Path, offline: str, shows: tuple[str, ...]) -> None:
    found = tier(tmp_path, f'[tiers.cold.archive]\nrecall = ["recall", "-q", "{{path}}"]\n{offline}')
    assert found.archive is not None
    assert found.archive.tape == TapeSettings(("recall", "-q", "{path}"), shows)
    assert TapeCommands(**found.storage_options) == TapeCommands(("recall", "-q", "{path}"), shows)
    assert isinstance(open_storage(found.url, found.storage_options), TapeStorage)


@pytest.mark.parametrize(
    ("line", "url", "key"),
    [
        ('class = "deep"', "s3://b", "class"),
        ('class = "GLACIER"', "tiers/cold", "class"),
        ('provider = "amazon"', "s3://b", "provider"),
        ('provider = "aws"', "tiers/cold", "provider"),
        ('retrieval = "fast"', "s3://b", "retrieval"),
        ("restore_days = 0", "s3://b", "restore_days"),
        ("simulated_speed = 0", "tiers/cold", "simulated_speed"),
        ("simulated_speed = true", "tiers/cold", "simulated_speed"),
        ("simulated_speed = 2", "s3://b", "simulated_speed"),
        ('offline = "blocks"', "tiers/cold", "recall"),
        ('recall = "dsmrecall {path}"', "tiers/cold", "recall"),
        ('recall = ["dsmrecall"]', "tiers/cold", "recall"),
        ('recall = ["{path}"]', "tiers/cold", "recall"),
        ('recall = ["a", "{path}", 1]', "tiers/cold", "recall"),
        ('recall = ["a", "{path}"]', "s3://b", "recall"),
        ('recall = ["a", "{path}"]\nsimulated_speed = 2', "tiers/cold", "recall"),
        ('recall = ["a", "{path}"]\noffline = "attr"', "tiers/cold", "offline"),
        ('recall = ["a", "{path}"]\nrelease = []', "tiers/cold", "release"),
        ("speed = 2", "tiers/cold", "speed"),
    ],
)
def test_what_is_wrong_is_refused_by_its_key(tmp_path: Path, line: str, url: str, key: str) -> None:
    with pytest.raises(SiteError) as caught:
        tier(tmp_path, f"[tiers.cold.archive]\n{line}", url)
    assert f"tiers.cold.archive.{key}'" in caught.value.message


def test_names_are_those_of_the_storage() -> None:
    assert tuple(s3_providers.PROVIDERS) == PROVIDERS
    assert tuple(Retrieval) == RETRIEVALS


def test_the_table_of_the_docs_names_every_key_and_no_other() -> None:
    section = DOCS.partition("| key of")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(key for row in rows for key in re.findall(r"`([a-z_]+)`", row)) == sorted(_KEYS)


@pytest.mark.parametrize("example", re.findall(r"^```toml\n(\[tiers.*?)^```", DOCS, re.MULTILINE | re.DOTALL))
def test_examples_of_the_docs_load(tmp_path: Path, example: str) -> None:
    (tmp_path / "wsistore.toml").write_text("version = 1\n" + example.replace("url =", 'id = "0123456789"\nurl =', 1))
    (found,) = load(tmp_path).tiers
    assert found.archive is not None
