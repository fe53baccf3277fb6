"""Exporting: the pixels and nothing else, whole or not at all, as RFC-9 wants a zip to be."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import wsistore
from tests.site_kit import PATIENT, as_nobody, cli, ingest, listing, memory_site, new_site, picture, tiny_svs
from wsistore import ops
from wsistore.compress import recode
from wsistore.errors import (
    BrokenError,
    ConflictError,
    InputError,
    IntegrityError,
    Kind,
    MissingError,
    ObjectMissingError,
    StorageError,
    UnsupportedError,
    WsistoreError,
)
from wsistore.ops import exporting
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with memory_site(tmp_path / "site") as opened:
        slides = [
            tiny_svs(tmp_path / "in" / "a.svs"),
            write_generic_tiff(tmp_path / "in" / "lzw.tiff", [picture(96, 128, 4)], tile=(64, 64), codec="lzw"),
            write_ndpi(tmp_path / "in" / "strips.ndpi", [picture(128, 256, 5)], macro=picture(64, 128, 6)),
            write_flat_tiff(tmp_path / "in" / "flat.tiff", picture(200, 300, 7)),
        ]
        ingest(opened, *slides)
        yield opened


def pixels(place: Path | str) -> list[np.ndarray]:
    """Return the levels of a store, read by plain Zarr."""
    store: Any = zarr.storage.ZipStore(place, mode="r") if str(place).endswith(".ozx") else place
    group = zarr.open_group(store, mode="r")
    paths = [dataset["path"] for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]]  # type: ignore[index, call-overload, union-attr]
    return [np.asarray(group[path][:]) for path in paths]  # type: ignore[index]


def source_pixels(site: ops.Site, name: str) -> list[np.ndarray]:
    with ops.open_slide(name, site=site) as slide:
        return [
            np.moveaxis(slide.read_region(n, 0, 0, level.height, level.width), -1, 0)
            for n, level in enumerate(slide.levels)
        ]


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ozx", ".zarr"])
@pytest.mark.parametrize("codec", list(ops.ExportCodec), ids=str)
@pytest.mark.parametrize("name", ["a.svs", "lzw.tiff", "strips.ndpi", "flat.tiff"])
def test_pixels_are_the_same(site: ops.Site, tmp_path: Path, name: str, codec: ops.ExportCodec, suffix: str) -> None:
    target = tmp_path / "out" / f"x{suffix}"
    possible = {
        "a.svs": set(ops.ExportCodec),
        "strips.ndpi": set(ops.ExportCodec),
        "lzw.tiff": {ops.ExportCodec.AS_STORED, ops.ExportCodec.ZSTD},
        "flat.tiff": {ops.ExportCodec.ZSTD},
    }
    if codec not in possible[name]:
        with pytest.raises(UnsupportedError) as caught:
            ops.export(site, name, target, codec=codec)
        assert "zstd" in caught.value.remedy
        assert list(target.parent.iterdir()) == []
        return
    done = ops.export(site, name, target, codec=codec)
    assert done.bytes_written == sum(p.stat().st_size for p in (target, *target.rglob("*")) if p.is_file())
    for got, expected in zip(pixels(target), source_pixels(site, name), strict=True):
        np.testing.assert_array_equal(got, expected)
    with wsistore.open_slide(target) as slide:
        np.testing.assert_array_equal(np.moveaxis(slide.read_region(0, 3, 5, 40, 50), -1, 0), got_region(target))


def got_region(target: Path) -> np.ndarray:
    return pixels(target)[0][:, 3:43, 5:55]


@pytest.mark.parametrize("codec", ["as-stored", "zstd"])
def test_zip_is_as_rfc_9_recommends(site: ops.Site, tmp_path: Path, codec: str) -> None:
    target = tmp_path / "x.ozx"
    ops.export(site, "a.svs", target, codec=ops.ExportCodec(codec))
    with zipfile.ZipFile(target) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
        comment = archive.comment
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    names = [entry.filename for entry in entries]
    assert names[0] == "zarr.json"
    documents = [name for name in names if name.endswith("zarr.json")]
    assert names[: len(documents)] == documents
    depths = [name.count("/") for name in documents]
    assert depths == sorted(depths)  # breadth first
    assert [entry.header_offset for entry in entries] == sorted(entry.header_offset for entry in entries)
    assert entries[0].header_offset == 0
    assert not any(name.endswith("/") or name.startswith(("/", ".")) for name in names)
    assert comment.endswith(b"\0")
    document = json.loads(comment.rstrip(b"\0"))
    assert document["ome"]["version"] == "0.5"
    assert document["ome"]["zipFile"]["centralDirectory"]["jsonFirst"] is True
    # ZIP64 in every entry: version 4.5 is needed to read it, and the extra field 0x0001 is there.
    data = target.read_bytes()
    for entry in entries:
        local = data[entry.header_offset : entry.header_offset + 30]
        assert int.from_bytes(local[4:6], "little") >= 45
        extra = data[entry.header_offset + 30 + len(entry.filename) :][: int.from_bytes(local[28:30], "little")]
        assert extra[:2] == b"\x01\x00"


def test_equal_exports_are_equal_files(site: ops.Site, tmp_path: Path) -> None:
    for number in range(2):
        ops.export(site, "a.svs", tmp_path / f"{number}.ozx")
    assert (tmp_path / "0.ozx").read_bytes() == (tmp_path / "1.ozx").read_bytes()


def test_identity_only_when_asked_and_beside_the_store(site: ops.Site, tmp_path: Path) -> None:
    for codec in ops.ExportCodec:
        target = tmp_path / "plain" / f"{codec}.ome.zarr"
        done = ops.export(site, "a.svs", target, codec=codec)
        assert done.private is None
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == sorted(
        f"{c}.ome.zarr" for c in ops.ExportCodec
    )
    for path in (tmp_path / "plain").rglob("*"):
        assert not path.is_file() or (PATIENT.encode() not in path.read_bytes() and b"a.svs" not in path.read_bytes())

    for name in ("case.1.ome.zarr", "case.2.ozx", "case.3.zarr"):
        target = tmp_path / "with" / name
        done = ops.export(site, "a.svs", target, with_private=True)
        private = Path(str(done.private))
        assert private == tmp_path / "with" / f"{name[:6]}.private"
        assert {path.name for path in private.iterdir()} >= {"label.png", "macro.png", "metadata.json"}
        document = json.loads((private / "metadata.json").read_text())
        assert PATIENT in json.dumps(document["identifying"])
        assert document["files"][0]["name"] == "a.svs"
        for path in (target, *target.rglob("*")):
            assert not path.is_file() or PATIENT.encode() not in path.read_bytes()
    assert len(list((tmp_path / "with").iterdir())) == 6


@pytest.mark.parametrize("name", ["x", "x.tiff", "x.zip", "x.ozx.tmp", ".zarr", "x.ome"])
def test_other_suffixes_are_refused(site: ops.Site, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        ops.export(site, "a.svs", tmp_path / "out" / name)
    assert ".ozx" in caught.value.remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ozx"])
@pytest.mark.parametrize("what", ["file", "folder", "link", "private"])
def test_nothing_is_replaced(site: ops.Site, tmp_path: Path, suffix: str, what: str) -> None:
    target = tmp_path / "out" / f"x{suffix}"
    target.parent.mkdir()
    if what == "file":
        target.write_bytes(b"precious")
    elif what == "folder":
        target.mkdir()
    elif what == "link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        (target.parent / "x.private").mkdir()
    before = listing(target.parent)
    with pytest.raises(ConflictError) as caught:
        ops.export(site, "a.svs", target, with_private=True)
    assert caught.value.kind is Kind.TARGET_EXISTS
    assert listing(target.parent) == before
    assert len(list(target.parent.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ozx"])
def test_target_appearing_meanwhile_is_kept(site: ops.Site, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / "out" / f"x{suffix}"

    def appear(_: int) -> None:
        if not target.exists():
            target.write_bytes(b"precious")

    with pytest.raises(ConflictError):
        ops.export(site, "a.svs", target, with_private=True, progress=appear)
    assert {path.name for path in target.parent.iterdir()} == {target.name}
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("suffix", "step"),
    [
        (suffix, step)
        for suffix in (".ome.zarr", ".ozx")
        for step in ("_write_store", "_write_private", "_zip", "_publish")
        if (suffix, step) != (".ome.zarr", "_zip")
    ],
)
def test_failure_leaves_nothing(
    site: ops.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, step: str
) -> None:
    original = getattr(exporting, step)

    def fail(*args: Any, **kwargs: Any) -> None:
        if step != "_publish":
            original(*args, **kwargs)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, step, fail)
    with pytest.raises(StorageError) as caught:
        ops.export(site, "a.svs", tmp_path / "out" / f"x{suffix}", with_private=True)
    assert caught.value.kind is Kind.STORAGE_FULL
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("codec", list(ops.ExportCodec), ids=str)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_copy_is_not_handed_on(site: ops.Site, tmp_path: Path, codec: ops.ExportCodec, damage: str) -> None:
    key = site.catalog.resolve("a.svs")
    storage = site.tier("hot")
    keys = [info.key for info in storage.list(f"store/{key}/")]
    for number, victim in enumerate(keys):
        data = storage.get(victim)
        if damage == "flip":
            storage.put(victim, data[:-1] + bytes([data[-1] ^ 1]))
        elif damage == "cut":
            storage.put(victim, data[:-1])
        else:
            storage.delete(victim)
        out = tmp_path / str(number)
        with pytest.raises(IntegrityError) as caught:
            ops.export(site, key, out / "x.ome.zarr", codec=codec)
        assert caught.value.exit_code == 7
        assert not out.exists() or list(out.iterdir()) == []
        storage.put(victim, data)


def test_a_copy_that_cannot_be_opened_leaves_no_trace_of_an_export(site: ops.Site, tmp_path: Path) -> None:
    key, storage = site.catalog.resolve("a.svs"), site.tier("hot")
    for info in list(storage.list(f"private/{key}/")):
        storage.delete(info.key)
    with pytest.raises((ObjectMissingError, IntegrityError)):
        ops.export(site, key, tmp_path / "new" / "folder" / "x.ome.zarr")
    assert not (tmp_path / "new").exists()


def test_lost_object_is_an_error_and_no_glass(site: ops.Site) -> None:
    # To Zarr a chunk that is not there is background; a lost one must not look like empty glass.
    key = site.catalog.resolve("a.svs")
    storage = site.tier("hot")
    (shard,) = [info.key for info in storage.list(f"store/{key}/") if "/0/image/c" in info.key]
    data = storage.get(shard)
    storage.delete(shard)
    with ops.open_slide(key, site=site) as slide, pytest.raises(IntegrityError, match="missing"):
        slide.read_region(0, 0, 0, 64, 64)
    storage.put(shard, data)
    with ops.open_slide(key, site=site) as slide:
        assert slide.read_region(0, 0, 0, 64, 64).shape == (64, 64, 3)


def test_tile_that_does_not_decode(site: ops.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("bad Huffman code")

    monkeypatch.setattr(recode, "write_pixels", fail)
    with pytest.raises(BrokenError, match="bad Huffman code"):
        ops.export(site, "a.svs", tmp_path / "x.ome.zarr", codec=ops.ExportCodec.ZSTD)


def test_missing_slide_and_unwritable_place(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    assert cli(folder, "ingest", tiny_svs(tmp_path / "a.svs")).code == 0
    assert cli(folder, "export", "a.svs", "--to", tmp_path / "first.ozx").code == 0
    done = cli(folder, "export", "b.svs", "--to", tmp_path / "x.ozx", "--json")
    assert (done.code, done.error["kind"]) == (4, "slide-missing")
    closed = tmp_path / "closed"
    closed.mkdir(0o755)
    with as_nobody(folder):
        done = cli(folder, "export", "a.svs", "--to", closed / "x.ozx", "--json")
    assert (done.code, done.error["kind"]) == (6, "storage-denied")


def test_events_tell_of_exports(site: ops.Site, tmp_path: Path) -> None:
    ops.export(site, "a.svs", tmp_path / "x.ozx", with_private=True)
    event = site.catalog.events(site.catalog.resolve("a.svs"))[-1]
    assert event.kind == "exported"
    assert event.detail["private"] is True
    assert event.detail["codec"] == "as-stored"


# --- opening ----------------------------------------------------------------------------------------------------------


def test_every_way_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new_site(tmp_path / "site")
    source = tiny_svs(tmp_path / "a.svs")
    (line,) = cli(folder, "ingest", source, "--json").lines
    key = line["slide"]
    for name in ("x.ome.zarr", "x.ozx"):
        assert cli(folder, "export", key, "--to", tmp_path / name).code == 0
    monkeypatch.setenv("WSISTORE_HOME", str(folder))
    stored = next((folder / "tiers" / "hot" / "store" / key).iterdir())
    ways = [key, key[:6], "a.svs", source, str(source), stored, tmp_path / "x.ome.zarr", tmp_path / "x.ozx"]
    ways += [f"file://{tmp_path / 'x.ome.zarr'}"]
    expected = None
    for way in ways:
        with wsistore.open_slide(way) as slide:
            region = slide.read_region(1, 10, 20, 30, 40)
            expected = region if expected is None else expected
            np.testing.assert_array_equal(region, expected)
            assert slide.mpp == pytest.approx(0.5)
            assert len(slide.levels) == 2
            assert "thumbnail" in slide.associated
            is_private = {"label", "macro"} <= set(slide.associated)
            assert is_private == (way in {key, key[:6], "a.svs", source, str(source)})
            tree = slide.to_datatree()
            assert tree["0/image"].dims == ("c", "y", "x")


@pytest.mark.parametrize("text", ["nothing", "x" * 5000, "a\0b", "/no/such/place.svs", ""])
def test_opening_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    if text:
        with pytest.raises(MissingError) as caught:
            wsistore.open_slide(text)
        assert "WSISTORE_HOME" in caught.value.remedy
    with memory_site(tmp_path / "site") as site, pytest.raises(WsistoreError):
        ops.open_slide(text, site=site)


def test_whole_slide_from_any_tier(site: ops.Site) -> None:
    # `memory` has no files to link to: the slide is copied to where the vendor's library finds it.
    with ops.open_slide("flat.tiff", site=site) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 200, 300), picture(200, 300, 7))


def test_source_as_a_file(site: ops.Site, tmp_path: Path) -> None:
    for name in ("a.svs", "lzw.tiff", "strips.ndpi", "flat.tiff"):
        expected = (tmp_path / "in" / name).read_bytes()
        with ops.open_source(name, site=site) as file:
            assert file.read() == expected
            for offset in range(0, len(expected), 977):
                file.seek(offset)
                assert file.read(101) == expected[offset : offset + 101]
            file.seek(-7, 2)
            assert file.read() == expected[-7:]
            assert file.readable()
            assert not file.writable()
    with pytest.raises(MissingError, match=r"a\.svs"):
        ops.open_source("a.svs", "b.svs", site=site)
