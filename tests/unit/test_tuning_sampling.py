"""Samples: drawn in proportion, the same for the same seed, whole where the slide is small, and good estimates."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tuning_kit import MadeTiles, made_tiles, zlib_coding
from wsistore.compress.coding import Payload
from wsistore.compress.tuning.candidates import folds
from wsistore.compress.tuning.measure import Measurement, heights_of, levels_of, measure, measure_slide
from wsistore.compress.tuning.sampling import Sample, draw, fingerprint

HEIGHTS = (32, 32)
CANDIDATES = folds((1, 4, 16))


def total_bytes(slide: MadeTiles) -> int:
    return sum(int(slide.sizes(level).sum()) for level in range(len(slide.levels)))


def drawn(slide: MadeTiles, seed: int = 0, size_bytes: int = 150_000) -> Sample:
    return draw(slide, HEIGHTS, seed=seed, size_bytes=size_bytes)


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = drawn(made_tiles(1)), drawn(made_tiles(1)), drawn(made_tiles(1), seed=1)

    assert first == again
    assert first.units != other.units
    assert fingerprint(made_tiles(1), first) == fingerprint(made_tiles(1), again)
    assert fingerprint(made_tiles(1), first) != fingerprint(made_tiles(1), other)


def test_the_fingerprint_is_of_the_tiles_themselves() -> None:
    slide, changed = made_tiles(1), made_tiles(1)
    sample = drawn(slide)
    unit = sample.units[0]
    row = next(r for r in unit.rows if changed.levels[unit.level][r][unit.column])
    payload = changed.levels[unit.level][row][unit.column] or b""
    changed.levels[unit.level][row][unit.column] = payload[:-1] + bytes((payload[-1] ^ 1,))  # type: ignore[index]

    assert fingerprint(slide, sample) != fingerprint(changed, sample)


def test_levels_glass_and_tissue_have_their_part_of_the_bytes() -> None:
    slide = made_tiles(2, glass=0.6)
    sample = drawn(slide, size_bytes=300_000)
    picked = [sample.units[pick] for pick in sample.picks]
    for of in (
        lambda unit: unit.level == 0,
        lambda unit: unit.size_bytes / unit.tiles < 400,  # glass
    ):
        everything = draw(slide, HEIGHTS, seed=0, size_bytes=10**9)
        part = sum(unit.size_bytes for unit in everything.units if of(unit)) / everything.total_bytes
        assert sum(of(unit) for unit in picked) / len(picked) == pytest.approx(part, abs=1.5 / len(picked))


def test_it_is_as_large_as_asked_for_and_never_larger_than_the_slide() -> None:
    slide = made_tiles(3)

    sizes = [drawn(slide, seed=seed, size_bytes=400_000).size_bytes for seed in range(20)]
    assert np.mean(sizes) == pytest.approx(400_000, rel=0.15)

    everything = drawn(slide, size_bytes=total_bytes(slide))
    assert everything.is_everything
    assert everything.total_bytes == total_bytes(slide)
    assert len(drawn(slide, size_bytes=1).picks) == 8  # the least


def test_units_are_where_the_tallest_folds_would_be() -> None:
    slide = made_tiles(4, grids=((70, 3),))

    sample = draw(slide, [32], seed=0, size_bytes=10**9)

    assert {unit.rows for unit in sample.units} == {range(32), range(32, 64), range(64, 70)}
    assert sample.total_tiles == int((slide.sizes(0) > 0).sum())


def test_missing_tiles_and_levels_without_any() -> None:
    some: list[list[Payload | None]] = [[b"x" * 100, None], [None, None]]
    nothing: list[list[Payload | None]] = [[None]]
    slide = MadeTiles([some, nothing])

    sample = draw(slide, [2, 1], seed=0)

    assert [(unit.level, unit.column, unit.tiles) for unit in sample.units] == [(0, 0, 1)]
    empty = MadeTiles([nothing])
    assert draw(empty, [1], seed=0).units == ()
    measured = measure_slide(empty, CANDIDATES, seed=0, make=zlib_coding)
    assert all(one.decode_seconds == 0 for one in measured.measurements)


def test_a_figure_that_tiles_and_bytes_explain_is_known_without_error() -> None:
    sample = drawn(made_tiles(5))
    values = [3.0 * unit.tiles + 0.5 * unit.size_bytes for unit in sample.units]

    assert sample.total(values) == pytest.approx(3.0 * sample.total_tiles + 0.5 * sample.total_bytes)
    assert sample.error(values) == pytest.approx(0, abs=1e-3)


def test_estimates_meet_the_truth_about_as_often_as_their_errors_say() -> None:
    slide = made_tiles(6)
    levels = levels_of(slide, CANDIDATES, zlib_coding)
    everything = draw(slide, heights_of(levels), seed=0, size_bytes=10**9)
    truth = measure(slide, levels, CANDIDATES, everything)[2].bytes_stored
    within = []
    for seed in range(12):
        sample = draw(slide, heights_of(levels), seed=seed, size_bytes=150_000)
        found = measure(slide, levels, CANDIDATES, sample)[2]
        assert found.bytes_stored == pytest.approx(truth, rel=0.02)
        assert 0 < found.bytes_error < 0.02 * truth
        within.append(abs(found.bytes_stored - truth) < 2 * found.bytes_error)
    assert np.mean(within) > 0.8


# --- measuring --------------------------------------------------------------------------------------------------------


class Ticks:
    """CPU time that goes on by the same step at every look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def measured(slide: MadeTiles, step: float = 0.01) -> tuple[Measurement, ...]:
    levels = levels_of(slide, CANDIDATES, zlib_coding)
    sample = draw(slide, heights_of(levels), seed=0, size_bytes=10**9)
    return measure(slide, levels, CANDIDATES, sample, seconds=Ticks(step))


def test_a_whole_slide_is_measured_to_the_byte() -> None:
    slide = made_tiles(7, grids=((20, 3),))
    keep, one, four, sixteen = measured(slide)
    made = 0
    for column in range(3):
        for top in (0, 16):
            chunk = [slide.levels[0][row][column] for row in range(top, min(20, top + 16))]
            made += len(zlib_coding({}, None, _plain(), CANDIDATES[3].encoding, ()).encode(chunk).data)  # type: ignore[arg-type]

    index = (2 * 3) * 16 + 4
    assert sixteen.bytes_stored == made + index + slide.other_bytes
    assert sixteen.bytes_error == 0
    assert keep.bytes_stored == total_bytes(slide) + (20 * 3 * 16 + 4) + slide.other_bytes
    assert keep.encode_seconds == keep.decode_seconds == keep.range_seconds == 0
    assert sixteen.bytes_stored < four.bytes_stored < one.bytes_stored
    assert sixteen.fallbacks == {"none": int((slide.sizes(0) == 0).sum())}


def _plain() -> object:
    return levels_of(made_tiles(0, grids=((2, 2),)), CANDIDATES, zlib_coding)[0].keep


def test_reading_a_tile_undoes_its_whole_chunk() -> None:
    _, one, four, sixteen = measured(made_tiles(8, grids=((32, 4),)))

    assert one.range_seconds == pytest.approx(0.01)
    assert sixteen.range_seconds == pytest.approx(0.01)  # every look takes as long here
    assert sixteen.decode_seconds == pytest.approx(0.01 * 2 * 4)
    assert one.range_bytes < four.range_bytes < sixteen.range_bytes
    assert sixteen.encode_seconds == pytest.approx(0.01 * 2 * 4)


def test_several_at_a_time_measure_the_same_bytes() -> None:
    slide = made_tiles(9)
    alone = measure_slide(slide, CANDIDATES, seed=3, sample_bytes=100_000, make=zlib_coding)
    together = measure_slide(slide, CANDIDATES, seed=3, sample_bytes=100_000, make=zlib_coding, jobs=4)

    assert [m.bytes_stored for m in alone.measurements] == [m.bytes_stored for m in together.measurements]
    assert alone.fingerprint == together.fingerprint


def test_what_was_measured_before_is_not_measured_again() -> None:
    slide = made_tiles(9)
    first = measure_slide(slide, CANDIDATES, seed=3, sample_bytes=100_000, make=zlib_coding)
    told: list[int] = []

    again = measure_slide(
        slide,
        CANDIDATES,
        seed=3,
        sample_bytes=100_000,
        make=zlib_coding,
        known={first.fingerprint: first.measurements},
        progress=lambda done, total: told.append(done),
    )

    assert again.measurements == first.measurements
    assert not told


def test_candidates_that_come_to_the_same_are_measured_once() -> None:
    low = made_tiles(10, grids=((3, 4),))

    def cut(*told: object) -> object:
        coding = zlib_coding(*told)  # type: ignore[arg-type]
        return type(coding)(coding.height, coding.width, min(3, coding.tiles))  # type: ignore[attr-defined, call-arg]

    found = measure_slide(low, CANDIDATES, seed=0, make=cut).measurements  # type: ignore[arg-type]

    assert found[2] is found[3]
    assert found[1] is not found[2]
