"""The whole journey of every real slide through the command line, and what other people's software says of it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
import zarr

import wsistore
from tests.site_kit import Json, assert_sound, cli, files_of, new_site
from wsistore import ops
from wsistore.slides.registry import open_source

pytestmark = pytest.mark.slow

SLIDES = (
    "aperio/CMU-1-Small-Region.svs",
    "aperio/hpylori-IHC.svs",
    "hamamatsu/test3-DAPI-2.ndpi",
    "dicom/CMU-1-Small-Region",
    "dicom/camelyon-j2k",
    "tiff/CMU-1-jpeg420.tiff",
    "tiff/CMU-1-webp.tiff",
    "tiff/boxes.tiff",
    "tiff/small.svs",
    "tiff/wsic-bfconvert-XYC-JPEG.ome.tiff",
    "tiff/wsic-bfconvert-XYC-JPEG-2000.ome.tiff",
)
BIG = "aperio/hpylori-IHC.svs"
"""Too large to be decoded whole in a test of this kind; a part of it is."""
NOT_JPEG = {
    "dicom/camelyon-j2k",
    "tiff/CMU-1-webp.tiff",
    "tiff/boxes.tiff",
    "tiff/wsic-bfconvert-XYC-JPEG-2000.ome.tiff",
}

INGEST_FIELDS = {
    "slide": str,
    "source": str,
    "status": str,
    "mode": str,
    "bytes_source": int,
    "bytes_stored": int,
    "objects": int,
    "verified_at": str,
    "seconds": float,
    "error": type(None),
}


class Journey:
    """A site that holds every real slide."""

    def __init__(self, folder: Path, slides: Path) -> None:
        self.folder, self.slides = folder, slides
        self.site = new_site(folder / "site")
        done = cli(self.site, "ingest", *(slides / name for name in SLIDES), "--json")
        assert done.code == 0, done
        self.lines = {str(Path(line["source"]).relative_to(slides)): line for line in done.lines}
        assert len(done.lines) == len(SLIDES)

    def key(self, name: str) -> str:
        return str(self.lines[name]["slide"])

    def export(self, name: str, codec: str, suffix: str) -> Path:
        target = self.folder / "exports" / f"{codec}-{self.key(name)}{suffix}"
        if not target.exists():
            done = cli(self.site, "export", self.key(name), "--to", target, "--codec", codec, "--json")
            assert done.code == 0, done
        return target


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory, real_slides: Path) -> Journey:
    return Journey(tmp_path_factory.mktemp("journey"), real_slides)


@pytest.fixture(scope="module")
def sums(real_slides: Path) -> dict[str, str]:
    lines = (real_slides / "SHA256SUMS").read_text().splitlines()
    return {line.split(maxsplit=1)[1].lstrip("*./"): line.split()[0] for line in lines}


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("name", SLIDES)
def test_ingest_prints_the_documented_line(journey: Journey, name: str) -> None:
    line = journey.lines[name]
    for field, kind in INGEST_FIELDS.items():
        assert isinstance(line[field], kind), field
    assert (line["status"], line["mode"]) == ("ingested", "tiles")
    files = files_of(journey.slides / name)
    assert line["bytes_source"] == sum(map(len, files.values()))
    moment(line["verified_at"])
    if line["bytes_source"] > 1_000_000:
        assert line["bytes_stored"] <= 1.02 * line["bytes_source"]


def test_ls_and_conditions(journey: Journey) -> None:
    shown = {line["slide"]: line for line in cli(journey.site, "ls", "--json").lines}
    assert set(shown) == {journey.key(name) for name in SLIDES}
    for name in SLIDES:
        assert shown[journey.key(name)]["name"] == Path(name).name

    def where(condition: str) -> set[str]:
        found = {line["slide"] for line in cli(journey.site, "ls", "--where", condition, "--json").lines}
        return {name for name in SLIDES if journey.key(name) in found}

    assert where("format = 'dicom'") == {"dicom/CMU-1-Small-Region", "dicom/camelyon-j2k"}
    assert where("bytes_source > 1e7") == {BIG}
    assert where("format = 'aperio-svs' and width < 100") == {"tiff/small.svs"}
    assert where("list_contains(tiers, 'hot') and mode = 'tiles'") == set(SLIDES)
    assert where("verified_at > now") == set()
    table = cli(journey.site, "ls").out
    assert all(Path(name).name in table for name in SLIDES)


@pytest.mark.parametrize("name", SLIDES)
def test_show(journey: Journey, name: str, sums: dict[str, str]) -> None:
    (found,) = cli(journey.site, "show", journey.key(name), "--json").lines
    (copy,) = found["copies"]
    line = journey.lines[name]
    assert {key: copy[key] for key in ("tier", "preset", "bytes_stored", "objects", "evidence")} == {
        "tier": "hot",
        "preset": "keep",
        "bytes_stored": line["bytes_stored"],
        "objects": line["objects"],
        "evidence": "read-back",
    }
    moment(copy["verified_at"])
    whole = journey.slides / name
    for file in found["files"]:
        path = whole / file["name"] if whole.is_dir() else whole
        assert file["sha256"] == sums[str(path.relative_to(journey.slides))]
        assert file["size_bytes"] == path.stat().st_size
    assert cli(journey.site, "show", journey.key(name)[:8]).code == 0


def test_verify_all(journey: Journey) -> None:
    done = cli(journey.site, "verify", "--all", "--json")
    assert done.code == 0
    assert {line["slide"] for line in done.lines} == {journey.key(name) for name in SLIDES}
    for line in done.lines:
        assert line["ok"] is True
        assert line["error"] is None
        moment(line["verified_at"])
    with ops.open_site(journey.site) as site:
        assert_sound(site)


@pytest.mark.parametrize("name", SLIDES)
def test_restore_gives_the_same_files(journey: Journey, tmp_path: Path, name: str, sums: dict[str, str]) -> None:
    done = cli(journey.site, "restore", journey.key(name), "--to", tmp_path / "out", "--json")
    assert done.code == 0
    whole = journey.slides / name
    folder = whole if whole.is_dir() else whole.parent
    restored = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(restored) == len(done.lines[0]["files"]) == len(files_of(whole))
    for path in restored:
        original = folder / path.relative_to(tmp_path / "out")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == sums[str(original.relative_to(journey.slides))]
    detected = openslide.OpenSlide.detect_format(restored[0])
    if detected is not None and "webp" not in name:  # which OpenSlide detects but does not open
        with openslide.OpenSlide(restored[0]) as ours, openslide.OpenSlide(folder / restored[0].name) as theirs:
            assert ours.dimensions == theirs.dimensions
            if theirs.dimensions[0] >= 64:
                np.testing.assert_array_equal(
                    np.asarray(ours.read_region((10, 10), 0, (64, 64))),
                    np.asarray(theirs.read_region((10, 10), 0, (64, 64))),
                )


# --- exports ----------------------------------------------------------------------------------------------------------

_FRESH = textwrap.dedent(
    """
    import hashlib, json, sys, zarr, numpy as np, xarray

    def look(path):
        store = zarr.storage.ZipStore(path, mode="r") if path.endswith(".ozx") else path
        group = zarr.open(store, mode="r")
        tree = xarray.open_datatree(store, engine="zarr", chunks=None, consolidated=False)
        for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]:
            array = group[dataset["path"]]
            part = tuple(slice(0, min(n, 1500)) for n in array.shape)
            pixels = np.asarray(array[part])
            image = tree[dataset["path"].split("/")[0]]["image"]
            assert image.dims == ("c", "y", "x")
            np.testing.assert_array_equal(np.asarray(image[part]), pixels)
            yield [list(array.shape), hashlib.sha256(pixels.tobytes()).hexdigest()]

    for path in sys.argv[1:]:
        assert not any(name.startswith("wsistore.ops") for name in sys.modules)
        sys.stdout.write(json.dumps(list(look(path))) + "\\n")
    """
)
Seen = list[list[Any]]


@pytest.fixture(scope="module")
def elsewhere(journey: Journey) -> dict[Path, Seen]:
    """Return shapes and hashes of all exports' pixels as a fresh interpreter sees them, without importing wsistore."""
    targets = [
        journey.export(name, codec, suffix)
        for name in SLIDES
        for codec in ("as-stored", "jpeg", "zstd")
        for suffix in (".ome.zarr", ".ozx")
        if not (codec == "jpeg" and name in NOT_JPEG) and not (codec == "zstd" and name == BIG)
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FRESH, *map(str, targets)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(targets, map(json.loads, done.stdout.splitlines()), strict=True))


@cache
def truth(slide: Path) -> Seen:
    """Return the same of the vendor's file, read in place."""
    found: Seen = []
    with wsistore.open_slide(slide) as opened:
        for number, level in enumerate(opened.levels):
            pixels = opened.read_region(number, 0, 0, min(level.height, 1500), min(level.width, 1500))
            data = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).tobytes()
            found.append([[3, level.height, level.width], hashlib.sha256(data).hexdigest()])
    return found


@pytest.mark.parametrize("name", SLIDES)
def test_exports_open_elsewhere(journey: Journey, elsewhere: dict[Path, Seen], name: str) -> None:
    mine = {target: seen for target, seen in elsewhere.items() if journey.key(name) in target.name}
    assert len(mine) == 6 - 2 * (name in NOT_JPEG) - 2 * (name == BIG)
    for target, seen in mine.items():
        assert seen == truth(journey.slides / name), target
        if target.suffix == ".ozx":
            with zipfile.ZipFile(target) as archive:
                assert archive.namelist()[0] == "zarr.json"
                assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("name", sorted(NOT_JPEG))
def test_jpeg_that_would_lose_bits_is_refused(journey: Journey, tmp_path: Path, name: str) -> None:
    done = cli(journey.site, "export", journey.key(name), "--to", tmp_path / "x.ozx", "--codec", "jpeg")
    assert done.code == 3
    assert "zstd" in done.err
    assert list(tmp_path.iterdir()) == []


def strings_of(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, and the words in it that may name somebody."""
    if isinstance(value, dict):
        for item in value.values():
            yield from strings_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_of(item)
    elif isinstance(value, str):
        yield value
        yield from re.split(r"[\s,;:|^/\\]+", value)


def telling(slide: Path) -> set[bytes]:
    """Return the identifying texts of a slide, long enough not to occur by chance in compressed bytes."""
    return {text.encode() for text in strings_of(dict(open_source(slide).identifying)) if len(text) >= 6}


@pytest.mark.parametrize("name", SLIDES)
def test_no_identifying_text_in_any_byte(journey: Journey, name: str) -> None:
    words = telling(journey.slides / name) | {Path(name).stem.encode()}
    if name in {"aperio/CMU-1-Small-Region.svs", "dicom/camelyon-j2k", BIG}:
        assert len(words) > 1, "the slide carries an identity, and the reader does not find it"
    folders = [journey.site / "tiers" / "hot" / "store" / journey.key(name)]
    folders += [journey.export(name, "as-stored", ".ome.zarr"), journey.export(name, "as-stored", ".ozx")]
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                assert {word for word in words if word in data} == set(), path
    if name != BIG:
        for path in journey.export(name, "zstd", ".ome.zarr").rglob("zarr.json"):
            assert {word for word in words if word in path.read_bytes()} == set(), path


def test_identity_is_exported_when_asked(journey: Journey, tmp_path: Path) -> None:
    name = "aperio/CMU-1-Small-Region.svs"
    target = tmp_path / "x.ozx"
    (line,) = cli(journey.site, "export", journey.key(name), "--to", target, "--with-private", "--json").lines
    private = tmp_path / "x.private"
    assert line["private"] == str(private)
    assert {path.name for path in private.iterdir()} >= {"label.png", "macro.png", "metadata.json"}
    document: Json = json.loads((private / "metadata.json").read_text(encoding="utf-8"))
    assert document["identifying"] == dict(open_source(journey.slides / name).identifying)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.ozx", "x.private"]


# --- the source as a file, and every way to open ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SLIDES if name.startswith(("aperio", "tiff", "hamamatsu"))])
def test_other_software_reads_the_source_in_place(journey: Journey, name: str) -> None:
    with ops.open_site(journey.site) as site, ops.open_source(journey.key(name), site=site) as ours:
        path = journey.slides / name
        with tifffile.TiffFile(ours, name=path.name) as view, tifffile.TiffFile(path) as original:
            assert len(view.pages) == len(original.pages)
            index = min(range(len(original.pages)), key=lambda number: original.pages[number].size)
            np.testing.assert_array_equal(view.pages[index].asarray(), original.pages[index].asarray())
        ours.seek(0)
        digest = hashlib.sha256()
        while block := ours.read(1 << 20):
            digest.update(block)
        assert digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_instance_of_a_series_in_place(journey: Journey) -> None:
    name = "dicom/CMU-1-Small-Region"
    with ops.open_site(journey.site) as site:
        for path in sorted((journey.slides / name).iterdir()):
            with ops.open_source(journey.key(name), path.name, site=site) as ours:
                assert ours.read() == path.read_bytes()


@pytest.mark.parametrize("name", SLIDES)
def test_every_way_to_open(journey: Journey, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSISTORE_HOME", str(journey.site))
    key = journey.key(name)
    (stored,) = (journey.site / "tiers" / "hot" / "store" / key).iterdir()
    ways: list[str | Path] = [key, key[:8], stored, journey.slides / name]
    ways += [journey.export(name, "as-stored", ".ozx"), journey.export(name, "as-stored", ".ome.zarr")]
    if [Path(other).name for other in SLIDES].count(Path(name).name) == 1:
        ways.append(Path(name).name)
    seen = []
    for way in ways:
        with wsistore.open_slide(way) as slide:
            top = slide.levels[-1]
            region = slide.read_region(len(slide.levels) - 1, 0, 0, min(300, top.height), min(300, top.width))
            seen.append((slide.levels, slide.mpp, hashlib.sha256(region.tobytes()).hexdigest()))
    assert all(one == seen[0] for one in seen)


def test_associated_pictures_through_a_site(journey: Journey) -> None:
    with ops.open_site(journey.site) as site, ops.open_slide(journey.key(SLIDES[0]), site=site) as slide:
        assert {"label", "macro", "thumbnail"} <= set(slide.associated)
        with openslide.OpenSlide(journey.slides / SLIDES[0]) as theirs:
            np.testing.assert_array_equal(
                slide.associated["label"], np.asarray(theirs.associated_images["label"])[..., :3]
            )


def test_trail_is_whole_and_tells_all(journey: Journey) -> None:
    assert cli(journey.site, "events", "--check", "--json").lines == [{"ok": True, "problems": []}]
    for name in SLIDES:
        events = cli(journey.site, "events", journey.key(name), "--json").lines
        assert events[0]["kind"] == "ingested"
        assert [event["number"] for event in events] == list(range(1, len(events) + 1))
        assert {event["slide"] for event in events} == {journey.key(name)}
    everything = cli(journey.site, "events", "--json").lines
    assert len(everything) >= len(SLIDES)
    assert [event["at"] for event in everything] == sorted(event["at"] for event in everything)


def test_stores_open_with_plain_zarr_where_they_lie(journey: Journey) -> None:
    for name in SLIDES:
        (stored,) = (journey.site / "tiers" / "hot" / "store" / journey.key(name)).iterdir()
        group = zarr.open_group(stored, mode="r")
        assert group.attrs["ome"]["version"] == "0.5"  # type: ignore[index, call-overload]
