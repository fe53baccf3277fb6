"""Whatever happens to the bytes of a DICOM instance, the reader answers with a slide or with an error of ours."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dicom_tools import picture, tile_bytes
from wsistore.errors import InputError
from wsistore.model import Mode
from wsistore.slides.base import Source
from wsistore.slides.dicom import DicomReader, read_associated, series_in
from wsistore.testing.dicom import write_series
from wsistore.testing.dicomframes import code_frames

LAYOUTS: list[dict[str, Any]] = [
    {"codec": "jpeg"},
    {"codec": "jpeg", "sparse": True, "offset_table": "extended"},
    {"codec": "jpeg2000", "fragments_per_frame": 2},
    {"codec": "none", "implicit": True},
    {"codec": "jpeg", "fragments_per_frame": 2, "offset_table": "empty"},
]


@dataclass(frozen=True)
class Samples:
    """One small instance of each layout, and a folder to put changed ones into."""

    whole: list[bytes]
    folder: Path

    def put(self, number: int, data: bytes) -> Path:
        path = self.folder / f"{number}.dcm"
        path.write_bytes(data)
        return path


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("samples")
    whole = []
    for number, layout in enumerate(LAYOUTS):
        (path,) = write_series(folder / str(number), [picture(40, 50)], tile=(32, 32), seed=number, **layout)
        whole.append(path.read_bytes())
    return Samples(whole, tmp_path_factory.mktemp("changed"))


def answer(path: Path) -> Source | None:
    """Read a changed instance and use the answer as its callers do; return None where it is refused."""
    try:
        return _answer(path)
    finally:
        path.unlink()


def _answer(path: Path) -> Source | None:
    try:
        series_in(path.parent)
        source, refusal = DicomReader().read(path), None
    except InputError as error:
        source, refusal = None, error
    if refusal is not None:
        assert path.name in refusal.message or str(path.parent) in refusal.message
        assert refusal.remedy
    else:
        assert source is not None
        _check(source)
    return source


def _check(source: Source) -> None:
    json.dumps(dict(source.metadata), allow_nan=False)
    assert all(source.identifying.values())
    assert source.levels
    for level in source.levels:
        segments = level.segments
        down, across = level.grid
        assert (level.coding is None) == (source.mode is Mode.WHOLE)
        for segment in segments:
            assert 0 <= segment["tile"] < down * across
            assert segment["length"] > 0
            assert segment["offset"] >= 0
            assert segment["offset"] + segment["length"] <= source.files[segment["file"]].size_bytes
        spans = sorted((int(one["offset"]), int(one["offset"] + one["length"])) for one in segments)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
    for found in source.associated:
        with suppress(InputError):
            read_associated(found.locator, lambda index: source.files[index].path.open("rb"))


@given(st.data())
def test_any_truncation(samples: Samples, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(LAYOUTS) - 1))
    whole = samples.whole[number]
    length = data.draw(st.integers(0, len(whole) - 1))

    source = answer(samples.put(number, whole[:length]))

    # Only what comes behind the last frame may be missing.
    assert source is None or length >= len(whole) - 8


@given(st.data())
def test_any_changed_bytes(samples: Samples, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(LAYOUTS) - 1))
    changed = bytearray(samples.whole[number])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(128, len(changed) - 1))] = data.draw(st.integers(0, 255))

    answer(samples.put(number, bytes(changed)))


@given(st.data())
def test_any_changed_header(samples: Samples, data: st.DataObject) -> None:
    """Most bytes are pixels: this one looks for trouble where it is."""
    number = data.draw(st.integers(0, len(LAYOUTS) - 1))
    changed = bytearray(samples.whole[number])
    end = changed.index(b"\xe0\x7f\x10\x00") + 40
    start = data.draw(st.integers(132, end - 8))
    piece = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"SQ"])))
    changed[start : start + len(piece)] = piece

    answer(samples.put(number, bytes(changed)))


@given(st.data())
def test_any_garbage_behind_the_preamble(samples: Samples, data: st.DataObject) -> None:
    garbage = data.draw(st.binary(max_size=400))

    answer(samples.put(9, bytes(128) + b"DICM" + garbage))


@given(st.data())
def test_any_piece_taken_out_or_doubled(samples: Samples, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(LAYOUTS) - 1))
    whole = samples.whole[number]
    start = data.draw(st.integers(132, len(whole) - 1))
    end = data.draw(st.integers(start, min(start + 300, len(whole))))
    times = data.draw(st.sampled_from([0, 2, 3]))

    answer(samples.put(number, whole[:start] + whole[start:end] * times + whole[end:]))


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    codec=st.sampled_from(["jpeg", "none"]),
    table=st.sampled_from(["basic", "empty", "extended"]),
    concatenation=st.integers(1, 4),
    sparse=st.booleans(),
)
def test_any_layout_gives_its_frames_back(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    tile: tuple[int, int],
    codec: Any,
    table: Any,
    concatenation: int,
    sparse: bool,
) -> None:
    tile = (max(tile[0], -(-height // 6)), max(tile[1], -(-width // 6)))
    image = picture(height, width)
    folder = tmp_path_factory.mktemp("any")
    layout = {"codec": codec, "offset_table": table, "concatenation": concatenation, "sparse": sparse}
    write_series(folder, [image], tile=tile, **layout)

    source = DicomReader().read(folder)

    assert source is not None
    assert source.mode is Mode.TILES
    frames = code_frames(image, tile, codec, None, 85, sparse=sparse)
    assert [tile_bytes(source, 0, number) for number in frames.tiles] == frames.data
