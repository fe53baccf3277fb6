"""Tiers that encrypt companions: slides go there, are read, encoded anew, verified, given back; nothing shows."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from unittest import mock

import pytest

from tests.keys_kit import bytes_of, encrypting, innermost, set_encrypting
from tests.site_kit import PATIENT, cli, restored, tiny_series, tiny_svs
from wsistore import ops
from wsistore.errors import StorageError
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.storage.sealing import MAGIC, sealed_size


def move(site: ops.Site, slide: str, to: str, preset: Preset | None = None) -> ops.MoveResult:
    (result,) = ops.move(site, [slide], to, preset=preset, executor=SerialExecutor())
    assert result.error is None, result.error
    return result


def ingest(site: ops.Site, path: Path, tier: str) -> str:
    (result,) = ops.ingest(site, [path], tier=tier)
    assert result.error is None, result.error
    assert result.slide is not None
    return result.slide


@pytest.mark.parametrize("preset", list(Preset))
def test_slide_goes_in_and_out_and_comes_back_identical(tmp_path: Path, preset: Preset) -> None:
    folder = encrypting(tmp_path / "site", ["warm", "cold"])
    source = tiny_svs(tmp_path / "a.svs")
    files = {"a.svs": source.read_bytes()}
    with ops.open_site(folder) as site:
        slide = ingest(site, source, "hot")
        for tier in ("warm", "cold", "hot", "warm"):
            move(site, slide, tier, preset)
            assert restored(site, slide) == files
            assert [result.ok for result in ops.verify(site, [slide])] == [True]
            assert site.catalog.check_chains() == []
    for tier, is_sealed in (("hot", None), ("warm", True), ("cold", None)):
        private = bytes_of(folder, tier, "private")
        ring = {key for key in bytes_of(folder, tier, "keyring") if "/ledger/" not in key}
        if is_sealed is None:
            assert (private, ring) == ({}, set()), "what was moved away leaves no data key behind"
        else:
            assert private
            assert len(ring) == 1
            assert all(data.startswith(MAGIC) for data in private.values())


def test_nothing_on_an_encrypted_tier_names_anybody(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ["hot", "warm"])
    series = tiny_series(tmp_path / "series")
    words = [PATIENT.encode(), b"series", b"files.json", b"layout.parquet"]
    with ops.open_site(folder) as site:
        slide = ingest(site, series, "hot")
        names = [file.name.encode() for file in site.catalog.source(slide).files]
        assert PATIENT.encode() in b"".join(path.read_bytes() for path in series.iterdir())
        (result,) = ops.copy(site, [slide], "warm", executor=SerialExecutor())
        assert result.error is None
        assert restored(site, slide) == {p.relative_to(series).as_posix(): p.read_bytes() for p in series.iterdir()}
    for tier in ("hot", "warm"):
        found = bytes_of(folder, tier)
        assert {key.partition("/")[0] for key in found} >= {"private", "ledger", "keyring"}
        for key, data in found.items():
            if key.startswith(("private/", "ledger/")):
                assert data.startswith(MAGIC)
                with pytest.raises(zlib.error):
                    zlib.decompress(data)
            for word in [PATIENT.encode(), *names]:
                assert word not in data, key
            if key.startswith(("private/", "store/", "keyring/")):
                assert not any(word in data for word in words if word != b"series"), key


def test_commits_speak_of_what_is_decrypted(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ["hot"])
    with ops.open_site(folder) as site:
        slide = ingest(site, tiny_svs(tmp_path / "a.svs"), "hot")
        storage = site.tier("hot")
        (commit,) = [json.loads(storage.get(info.key)) for info in storage.list("commits/")]
        for name, size, sha256 in commit["objects"]["private"]:
            key = f"private/{slide}/{commit['attempt']}/{name}"
            assert hashlib.sha256(storage.get(key)).hexdigest() == sha256
            assert storage.head(key).size_bytes == size
            assert innermost(storage).head(key).size_bytes == sealed_size(size)
        listed = {info.key: info.size_bytes for info in storage.list()}
        assert listed == {info.key: storage.head(info.key).size_bytes for info in storage.list()}


def test_setting_may_be_changed_at_any_time(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ["hot"])
    sources = {name: tiny_svs(tmp_path / name, seed) for seed, name in enumerate(("a.svs", "b.svs", "c.svs"), 1)}
    slides = {}
    for name, is_on in (("a.svs", True), ("b.svs", False), ("c.svs", True)):
        set_encrypting(folder, "hot", is_on=is_on)
        with ops.open_site(folder) as site:
            slides[name] = ingest(site, sources[name], "hot")
    for is_on in (True, False):
        set_encrypting(folder, "hot", is_on=is_on)
        with ops.open_site(folder) as site:
            for name, slide in slides.items():
                assert restored(site, slide) == {name: sources[name].read_bytes()}
            assert [result.ok for result in ops.verify(site, list(slides.values()))] == [True] * 3
            storage = site.tier("hot")
            listed = {info.key: info.size_bytes for info in storage.list("private/")}
            assert (
                listed
                == {key: storage.head(key).size_bytes for key in listed}
                == {key: len(storage.get(key)) for key in listed}
            )
    private = bytes_of(folder, "hot", "private")
    for name, slide in slides.items():
        mine = [data for key, data in private.items() if slide in key]
        assert mine
        assert all(data.startswith(MAGIC) == (name != "b.svs") for data in mine)


def test_export_with_private_and_commands_work(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ["hot"])
    assert cli(folder, "ingest", tiny_svs(tmp_path / "a.svs")).code == 0
    assert cli(folder, "export", "a.svs", "--to", tmp_path / "out.ozx", "--with-private").code == 0
    assert (tmp_path / "out.private").is_dir()
    assert cli(folder, "tier", "check", "hot", "--size", "1 MiB").code == 0
    assert cli(folder, "reencode", "a.svs", "--preset", "fold").code == 0
    assert cli(folder, "verify", "a.svs").code == 0
    assert cli(folder, "recover").code == 0
    assert len([key for key in bytes_of(folder, "hot", "keyring") if "/ledger/" not in key]) == 1


def test_attempt_that_failed_leaves_no_data_key(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ["hot"])
    source = tiny_svs(tmp_path / "a.svs")
    with ops.open_site(folder) as site:
        with mock.patch("wsistore.ops.ingesting._commit", side_effect=StorageError("broken")) as broken:
            (result,) = ops.ingest(site, [source])
        assert broken.called
        assert result.error is not None
        ops.recover_all(site)
    left = {key.partition("/")[0] for key in bytes_of(folder, "hot") if "ledger" not in key}
    assert left == {"wsistore-tier.json"}


def test_lost_catalogue_is_made_anew_from_encrypted_tiers(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ["hot", "warm", "cold"])
    source = tiny_svs(tmp_path / "a.svs")
    assert cli(folder, "ingest", source).code == 0
    with ops.open_site(folder) as site:
        before = site.catalog.events()
    for path in folder.glob("catalog.db*"):
        path.unlink()
    done = cli(folder, "catalog", "rebuild", "--from", "hot")
    assert done.code == 0, done.err
    with ops.open_site(folder) as site:
        assert site.catalog.events()[: len(before)] == before
        assert restored(site, site.catalog.resolve("a.svs")) == {"a.svs": source.read_bytes()}
        storage = site.tier("hot")
        for prefix in ("", "ledger/", "ledger/segments/", "private/", "keyring/"):
            infos = list(storage.list(prefix))
            assert [info.size_bytes for info in infos] == [storage.head(info.key).size_bytes for info in infos]
            assert [info.size_bytes for info in infos] == [len(storage.get(info.key)) for info in infos]


def test_a_site_that_should_have_keys_and_has_none_says_so(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ["hot"], keys=False)
    done = cli(folder, "ingest", tiny_svs(tmp_path / "a.svs"), "--json")
    assert done.code == 8
    assert "wsistore keys init" in done.out
    assert bytes_of(folder, "hot", "private") == {}
