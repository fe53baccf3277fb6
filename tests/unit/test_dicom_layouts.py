"""Every way that frames can lie in DICOM files: our segments are exactly the frames that were put in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from tests.unit.dicom_tools import Image, assign, edit, fragments, items, picture, pixels, put_pixels, read, tile_bytes
from wsistore.errors import BrokenError, IncompleteError, Kind
from wsistore.model import Mode
from wsistore.slides.base import Codec, Color
from wsistore.testing.dicom import write_series
from wsistore.testing.dicomframes import code_frames

LARGE = picture(150, 170)
SMALL = picture(75, 85, seed=1)
TILE = (64, 48)

LAYOUTS: list[dict[str, Any]] = [
    {"codec": codec, "offset_table": table, "fragments_per_frame": number}
    for codec in ("jpeg", "jpeg2000", "jpeg2000-lossy")
    for table, number in (("basic", 1), ("empty", 1), ("extended", 1), ("basic", 3), ("empty", 2))
] + [
    {"codec": "none"},
    {"codec": "none", "implicit": True},
    {"codec": "none", "planar": True},
    {"codec": "jpeg", "photometric": "RGB"},
    {"codec": "jpeg", "photometric": "YBR_FULL"},
    {"codec": "jpeg", "photometric": "MONOCHROME2"},
    {"codec": "jpeg2000", "photometric": "MONOCHROME2"},
    {"codec": "jpeg2000", "photometric": "RGB"},
    {"codec": "none", "photometric": "MONOCHROME2"},
]


def name_of(layout: dict[str, Any]) -> str:
    return "-".join(str(value) for value in layout.values())


@pytest.mark.parametrize("layout", LAYOUTS, ids=name_of)
def test_segments_are_the_frames(tmp_path: Path, layout: dict[str, Any]) -> None:
    write_series(tmp_path, [LARGE, SMALL], tile=TILE, **layout)

    source = read(tmp_path)

    assert source.mode is Mode.TILES, source.mode_reason
    coder = {key: layout[key] for key in ("planar",) if key in layout}
    for number, image in enumerate((LARGE, SMALL)):
        expected = code_frames(image, TILE, layout["codec"], layout.get("photometric"), 85, **coder)
        level = source.levels[number]
        assert (level.height, level.width) == image.shape[:2]
        assert level.grid == (-(-image.shape[0] // TILE[0]), -(-image.shape[1] // TILE[1]))
        for tile, frame in enumerate(expected.data):
            assert tile_bytes(source, number, tile) == frame
    per_frame = layout.get("fragments_per_frame", 1)
    assert source.levels[0].segments.size == 12 * per_frame


@pytest.mark.parametrize("layout", LAYOUTS, ids=name_of)
def test_tiles_decode_to_the_picture(tmp_path: Path, layout: dict[str, Any]) -> None:
    write_series(tmp_path, [LARGE], tile=TILE, **layout)

    source = read(tmp_path)

    expected = LARGE[..., 1:2] if layout.get("photometric") == "MONOCHROME2" else LARGE
    difference = np.abs(pixels(source, 0).astype(int) - expected).mean()
    assert difference == 0 if layout["codec"] in {"none", "jpeg2000"} else difference < 6


def test_odd_frames_lose_their_padding(tmp_path: Path) -> None:
    frames = code_frames(LARGE, TILE, "jpeg", None, 85).data
    assert any(len(frame) % 2 for frame in frames), "the picture must give frames that need padding"
    write_series(tmp_path, [LARGE], tile=TILE)

    source = read(tmp_path)

    assert all(tile_bytes(source, 0, tile).endswith(b"\xff\xd9") for tile in range(12))
    assert [int(length) for length in source.levels[0].segments["length"]] == [len(frame) for frame in frames]


def test_much_padding_is_left_out(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE[:64, :48]], tile=TILE)
    (frame,) = code_frames(LARGE[:64, :48], TILE, "jpeg", None, 85).data
    put_pixels(path, items(frame + b"\0" * (10 - len(frame) % 2)))

    assert tile_bytes(read(tmp_path), 0, 0) == frame


@pytest.mark.parametrize("kept", [0, 1])
def test_padding_is_found_where_a_fragment_holds_the_very_end(tmp_path: Path, kept: int) -> None:
    (path,) = write_series(tmp_path, [LARGE[:64, :48]], tile=TILE)
    (frame,) = code_frames(LARGE[:64, :48], TILE, "jpeg", None, 85).data
    last = frame[len(frame) - kept :]
    head = frame[: len(frame) - kept]
    put_pixels(path, items(head, last + b"\0" * (2 - kept)))

    source = read(tmp_path)

    assert tile_bytes(source, 0, 0) == frame
    assert source.levels[0].segments.size == 1 + kept, "a segment of padding alone is none"


def test_sparse_slides_leave_tiles_out(tmp_path: Path) -> None:
    image = LARGE.copy()
    image[:64] = 255
    image[64:128, 96:144] = 255
    write_series(tmp_path, [image], tile=TILE, sparse=True, codec="jpeg2000")

    source = read(tmp_path)

    assert np.unique(source.levels[0].segments["tile"]).tolist() == [4, 5, 7, 8, 9, 10, 11]
    expected = code_frames(image, TILE, "jpeg2000", None, 85)
    assert [tile_bytes(source, 0, tile) for tile in range(12) if tile >= 4 and tile != 6] == [
        expected.data[tile] for tile in range(12) if tile >= 4 and tile != 6
    ]
    assert tile_bytes(source, 0, 6) == b""


def _positions(dataset: FileDataset) -> list[Any]:
    return [group.PlanePositionSlideSequence[0] for group in dataset.PerFrameFunctionalGroupsSequence]


def test_sparse_frames_may_come_in_any_order(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE, sparse=True)

    def reverse(dataset: FileDataset) -> None:
        groups = dataset.PerFrameFunctionalGroupsSequence
        dataset.PerFrameFunctionalGroupsSequence = list(groups)[::-1]

    edit(path, reverse)
    source = read(tmp_path)

    frames = code_frames(LARGE, TILE, "jpeg", None, 85).data
    assert [tile_bytes(source, 0, tile) for tile in range(12)] == frames[::-1]
    assert np.all(np.diff(source.levels[0].segments["tile"]) >= 0)


def test_sparse_sequences_with_delimiters_are_followed(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE, sparse=True)

    def delimit(dataset: FileDataset) -> None:
        dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.is_undefined_length_sequence_item = True
            for element in group:
                element.is_undefined_length = True

    edit(path, delimit)

    assert read(tmp_path).levels[0].segments.size == 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: setattr(p[1], "ColumnPositionInTotalImagePixelMatrix", 40), "one tile grid"),
        (lambda p: setattr(p[1], "ColumnPositionInTotalImagePixelMatrix", 1), "several frames at one place"),
        (lambda p: setattr(p[1], "ZOffsetInSlideCoordinateSystem", 0.002), "focal planes"),
    ],
    ids=["off the grid", "one place twice", "two planes"],
)
def test_sparse_frames_that_are_no_grid_are_kept_whole(tmp_path: Path, change: Any, reason: str) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE, sparse=True)
    edit(path, lambda dataset: change(_positions(dataset)))

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert reason in source.mode_reason
    assert source.levels[0].segments.size == 0
    assert source.levels[0].coding is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: setattr(_positions(d)[1], "RowPositionInTotalImagePixelMatrix", 151), "outside"),
        (lambda d: setattr(_positions(d)[1], "RowPositionInTotalImagePixelMatrix", -3), "outside"),
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "positions for 11 of its 12"),
        (lambda d: d.PerFrameFunctionalGroupsSequence.append(d.PerFrameFunctionalGroupsSequence[0]), "more positions"),
        (lambda d: d.__delattr__("PerFrameFunctionalGroupsSequence"), "no positions"),
        (lambda d: _positions(d)[1].__delattr__("RowPositionInTotalImagePixelMatrix"), "no position"),
    ],
    ids=["below", "above", "too few", "too many", "none", "one without"],
)
def test_wrong_positions_are_refused(tmp_path: Path, change: Any, says: str) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE, sparse=True)
    edit(path, change)

    with pytest.raises(BrokenError, match=says) as caught:
        read(tmp_path)
    assert "level-0.dcm" in caught.value.message


@pytest.mark.parametrize("sparse", [False, True])
def test_a_concatenation_is_one_level(tmp_path: Path, sparse: bool) -> None:
    paths = write_series(tmp_path, [LARGE, SMALL], tile=TILE, concatenation=3, sparse=sparse)
    assert len(paths) == 6

    source = read(tmp_path)

    assert [(level.height, level.width) for level in source.levels] == [(150, 170), (75, 85)]
    frames = code_frames(LARGE, TILE, "jpeg", None, 85).data
    assert [tile_bytes(source, 0, tile) for tile in range(12)] == frames
    assert sorted(set(source.levels[0].segments["file"].tolist())) == [0, 1, 2]


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_missing_part_is_named(tmp_path: Path, gone: int) -> None:
    write_series(tmp_path, [LARGE], tile=TILE, concatenation=3)
    (tmp_path / f"level-0-part-{gone}.dcm").unlink()

    with pytest.raises(IncompleteError, match=f"part {gone} of 3") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.SOURCE_INCOMPLETE


def test_a_missing_last_part_shows_without_the_number_of_parts(tmp_path: Path) -> None:
    paths = write_series(tmp_path, [LARGE], tile=TILE, concatenation=3)
    for path in paths[:2]:
        assign(path, InConcatenationTotalNumber=None)
    paths[2].unlink()

    with pytest.raises(IncompleteError, match="8 frames where its 170 × 150 pixels need 12"):
        read(tmp_path)


def test_a_part_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, [LARGE], tile=TILE, concatenation=3)
    assign(paths[2], InConcatenationNumber=2, InConcatenationTotalNumber=2)
    for path in paths[:2]:
        assign(path, InConcatenationTotalNumber=2)

    with pytest.raises(IncompleteError, match="twice") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.SOURCE_MIXED


def test_a_part_whose_frames_do_not_follow_is_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, [LARGE], tile=TILE, concatenation=3)
    assign(paths[1], ConcatenationFrameOffsetNumber=5)

    with pytest.raises(IncompleteError, match="start at 5"):
        read(tmp_path)


def test_parts_of_different_shape_are_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, [LARGE], tile=TILE, concatenation=3)
    assign(paths[1], TotalPixelMatrixRows=149)

    with pytest.raises(BrokenError, match="another shape"):
        read(tmp_path)


@pytest.mark.parametrize("frames", [1, 11, 13])
def test_a_number_of_frames_that_disagrees_with_the_matrix_is_refused(tmp_path: Path, frames: int) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    assign(path, NumberOfFrames=frames)

    with pytest.raises(BrokenError, match=f"{frames} frames where its 170 × 150 pixels need 12"):
        read(tmp_path)


def test_fewer_frames_than_declared_are_refused(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    put_pixels(path, items()[:-8] + fragments(*code_frames(LARGE, TILE, "jpeg", None, 85).data[:9]) + items()[-8:])

    with pytest.raises(BrokenError, match="declares 12 frames and has 9") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.SOURCE_TRUNCATED


def test_two_layers_are_kept_whole(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE, offset_table="empty")
    frames = code_frames(LARGE, TILE, "jpeg", None, 85).data
    assign(path, NumberOfFrames=24, NumberOfOpticalPaths=2)
    put_pixels(path, items()[:-8] + fragments(*frames, *frames) + items()[-8:])

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "2 focal planes or optical paths" in source.mode_reason


def test_one_layer_of_several_declared_is_kept_as_tiles(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    assign(path, NumberOfOpticalPaths=2, TotalPixelMatrixFocalPlanes=3)

    assert read(tmp_path).mode is Mode.TILES


def test_two_instances_of_one_level_are_kept_whole(tmp_path: Path) -> None:
    write_series(tmp_path, [LARGE, LARGE], tile=TILE)

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "same level" in source.mode_reason
    assert len(source.levels) == 1


def test_images_of_different_areas_are_kept_whole(tmp_path: Path) -> None:
    write_series(tmp_path, [LARGE, picture(20, 85)], tile=TILE)

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "different areas" in source.mode_reason


def test_levels_come_large_to_small_with_frames_of_their_own_size(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", [LARGE, SMALL, SMALL[:1, :1]], tile=TILE)
    tiny = write_series(tmp_path / "b", [LARGE, SMALL, SMALL[:1, :1]], tile=(1, 1), codec="none")[2]
    tiny.rename(paths[2])
    paths[0].rename(paths[0].with_name("z.dcm"))

    source = read(tmp_path / "a")

    assert [(level.height, level.tile_height, level.tile_width) for level in source.levels] == [
        (150, 64, 48),
        (75, 64, 48),
        (1, 1, 1),
    ]
    assert [level.coding.codec for level in source.levels if level.coding] == [Codec.JPEG, Codec.JPEG, Codec.NONE]
    assert [file.name for file in source.files] == ["z.dcm", "level-1.dcm", "level-2.dcm"]


def test_frames_without_bytes_are_missing_tiles(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    frames = code_frames(LARGE, TILE, "jpeg", None, 85).data
    frames[3] = b""
    put_pixels(path, items()[:-8] + fragments(*frames) + items()[-8:])

    source = read(tmp_path)

    assert tile_bytes(source, 0, 3) == b""
    assert tile_bytes(source, 0, 4) == frames[4]
    assert any("1 empty frames" in warning for warning in source.warnings)


def test_a_missing_mark_at_the_end_is_told(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    path.write_bytes(path.read_bytes()[:-8])

    source = read(tmp_path)

    assert source.levels[0].segments.size == 12
    assert any("no mark at the end" in warning for warning in source.warnings)


# --- offset tables ----------------------------------------------------------------------------------------------------


def _with_table(path: Path, image: Image, table: list[int], parts: int = 1) -> None:
    frames = [frame + b"\0" * (len(frame) % 2) for frame in code_frames(image, TILE, "jpeg", None, 85).data]
    cut = [[f[: len(f) // 4 * 2], f[len(f) // 4 * 2 :]] if parts == 2 else [f] for f in frames]
    data = b"".join(offset.to_bytes(4, "little") for offset in table)
    put_pixels(path, items(*(part for frame in cut for part in frame), table=data))


def test_a_wrong_table_is_not_needed_where_each_frame_is_one_fragment(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    _with_table(path, LARGE, [0, 6, *range(8, 18)])

    source = read(tmp_path)

    assert [tile_bytes(source, 0, tile) for tile in range(12)] == code_frames(LARGE, TILE, "jpeg", None, 85).data
    assert any("wrong offset table" in warning for warning in source.warnings)


def test_a_table_that_points_past_the_end_is_refused(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    _with_table(path, LARGE, [*range(0, 22, 2), 1 << 30])

    with pytest.raises(BrokenError, match="past the last fragment"):
        read(tmp_path)


def test_an_extended_table_that_points_past_the_end_is_refused(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE, offset_table="extended")
    assign(path, ExtendedOffsetTable=np.full(12, 1 << 60, "<u8").tobytes())

    with pytest.raises(BrokenError, match="past the end"):
        read(tmp_path)


@pytest.mark.parametrize("table", [[0, 6, *range(8, 18)], [0, 10]], ids=["wrong", "too short"])
def test_a_wrong_table_is_refused_where_it_is_needed(tmp_path: Path, table: list[int]) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    _with_table(path, LARGE, table, parts=2)

    with pytest.raises(BrokenError, match="does not fit its 12 frames in 24 fragments"):
        read(tmp_path)


def test_fragments_that_nothing_tells_apart_are_kept_whole(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE)
    frames = code_frames(LARGE, TILE, "jpeg", None, 85).data
    joined = b"".join(frame + b"\0" * (len(frame) % 2) for frame in frames)
    put_pixels(path, items(*(joined[start : start + 256] for start in range(0, len(joined), 256))))

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "cannot be told apart" in source.mode_reason


@pytest.mark.parametrize("parts", [1, 2])
def test_offsets_beyond_32_bits(tmp_path: Path, parts: int) -> None:
    """Four frames of 1.5 GiB each, in a file with holes: read by their ends alone, with a table that overflowed."""
    (path,) = write_series(tmp_path, [picture(64, 192)], tile=TILE)
    frames = code_frames(picture(64, 192), TILE, "jpeg", None, 85).data
    first_bytes, frame_bytes = 1 << 20, 3 << 29
    stride = frame_bytes + 8 * parts
    put_pixels(path, items(table=b"".join((k * stride % 2**32).to_bytes(4, "little") for k in range(4)), end=False))
    head = path.read_bytes()
    with path.open("r+b") as file:
        for number, frame in enumerate(frames):
            start = len(head) + number * stride
            lengths = [frame_bytes] if parts == 1 else [first_bytes, frame_bytes - first_bytes]
            for length in lengths:
                file.seek(start)
                file.write(b"\xfe\xff\x00\xe0" + length.to_bytes(4, "little"))
                start += 8 + length
            file.seek(len(head) + number * stride + 8)
            file.write(frame[:-2])
            file.seek(start - 2)
            file.write(b"\xff\xd9")
        file.write(b"\xfe\xff\xdd\xe0\0\0\0\0")

    source = read(tmp_path)

    segments = source.levels[0].segments
    assert segments["tile"].tolist() == [tile for tile in range(4) for _ in range(parts)]
    assert segments["length"].sum() == 4 * frame_bytes
    assert int(segments["offset"][-1]) > 1 << 32
    assert source.warnings == ()


def test_uncompressed_frames_end_where_they_end(tmp_path: Path) -> None:
    write_series(tmp_path, [LARGE[:63, :47]], tile=(63, 47), codec="none", photometric="MONOCHROME2")

    source = read(tmp_path)

    assert source.levels[0].segments["length"].tolist() == [63 * 47]
    coding = source.levels[0].coding
    assert coding is not None
    assert coding.color is Color.GRAY


def test_too_few_uncompressed_bytes_are_refused(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [LARGE], tile=TILE, codec="none")
    edit(path, lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[:-2]))

    with pytest.raises(BrokenError, match="12 frames need"):
        read(tmp_path)
