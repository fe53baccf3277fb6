"""Patches of many slides: the right pixels, of tissue, parted by patient, the same for the same seed."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.gateway_stub import TOKEN, Gateway, serving
from tests.store_kit import store
from wsistore.client import sampling, tokens
from wsistore.client.connecting import Connection, connect
from wsistore.client.masks import Mask, everywhere, tissue_mask
from wsistore.client.opening import open_path
from wsistore.client.patches import Member, PatchBatch, Patches, Recipe
from wsistore.client.sampling import Scale
from wsistore.client.slide import LevelInfo, Slide
from wsistore.errors import Kind, MissingError, SiteError, WsistoreError
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue

SEEDS = {"aaaa": 3, "bbbb": 4, "cccc": 5, "dddd": 6}
PATIENTS = {"aaaa": "p1", "bbbb": "p2", "cccc": "p1", "dddd": None}
SIZE = 512


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Slides of 0.5 and 1 µm per pixel; the right half of each is bare glass."""
    folder = tmp_path_factory.mktemp("slides")
    found = {}
    for name, seed in SEEDS.items():
        pixels = tissue(SIZE, SIZE, seed=seed)
        pixels[:, SIZE // 2 :] = 244
        path = write_svs(folder / f"{name}.svs", pyramid(pixels, 2, 2), tile=64)
        found[name] = store(path, folder / name).store
    return found


class Local:
    """Opens slides of this machine."""

    def __init__(self, stores: dict[str, Path]) -> None:
        self.stores = stores

    def open(self, slide: str) -> Slide:
        return open_path(self.stores[slide])


@pytest.fixture
def members() -> list[Member]:
    return [Member(name, PATIENTS[name] or name) for name in SEEDS]


def patches(
    stores: dict[str, Path], members: list[Member], size: int = 64, mpp: float | None = 0.5, **how: Any
) -> Patches:
    return Patches(Local(stores), members, Recipe(size, mpp, **how))


def rows(batches: Iterator[PatchBatch]) -> list[tuple[str, float, float, bytes]]:
    return [
        (slide, *where, pixels.tobytes())
        for batch in batches
        for slide, where, pixels in zip(batch.slides, batch.positions.tolist(), batch.pixels, strict=True)
    ]


# --- which pixels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_slide", [None, 9])
@pytest.mark.parametrize("shuffle", [True, False])
def test_patches_are_the_slides_pixels(
    stores: dict[str, Path], members: list[Member], per_slide: int | None, shuffle: bool
) -> None:
    asked = patches(stores, members, per_slide=per_slide, shuffle=shuffle, batch=7, mixed=2)
    seen = list(asked)
    assert {batch.pixels.shape[1:] for batch in seen} == {(64, 64, 3)}
    assert [len(batch) for batch in seen[:-1]] == [7] * (len(seen) - 1), "only the last may be short"
    slides = {name: open_path(path) for name, path in stores.items()}
    for batch in seen:
        for slide, group, (y, x), pixels in zip(batch.slides, batch.groups, batch.positions, batch.pixels, strict=True):
            assert group == (PATIENTS[slide] or slide)
            assert np.array_equal(pixels, slides[slide].read_region(0, round(y / 0.5), round(x / 0.5), 64, 64))
    if per_slide:
        assert sum(map(len, seen)) == 4 * per_slide
    if not shuffle:
        order = [slide for batch in seen for slide in batch.slides]
        assert order == sorted(order)


def test_a_coarser_resolution_comes_from_the_next_finer_level(stores: dict[str, Path]) -> None:
    slide = open_path(stores["aaaa"])
    one = [Member("aaaa", "p")]
    (batch,) = patches(stores, one, 32, 1.0, mask=None, shuffle=False, batch=1000)
    assert np.array_equal(batch.pixels[0], slide.read_region(1, 0, 0, 32, 32)), "a level of this resolution as it is"
    (batch,) = patches(stores, one, 32, 2.0, mask=None, shuffle=False, batch=1000)
    mean = slide.read_region(1, 0, 0, 64, 64).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(batch.pixels[0] - mean).max() <= 0.51
    assert batch.positions[1].tolist() == [0.0, 64.0], "in micrometres"
    (batch,) = patches(stores, one, 32, 1.5, mask=None, shuffle=False, batch=1000)
    assert batch.pixels.shape[1:] == (32, 32, 3)
    assert abs(batch.pixels[0].mean() - slide.read_region(1, 0, 0, 48, 48).mean()) < 1
    (batch,) = patches(stores, one, 100, None, mask=None, shuffle=False, batch=1000)
    assert batch.positions[1].tolist() == [0.0, 100.0], "in pixels"


def test_what_a_slide_does_not_have_is_said(stores: dict[str, Path], members: list[Member]) -> None:
    with pytest.raises(MissingError, match="coarser"):
        list(patches(stores, members, mpp=0.1))
    for size, mpp in ((64, 0.0), (64, -1.0), (64, float("nan"))):
        with pytest.raises(MissingError, match="cannot be read"):
            list(patches(stores, members, size=size, mpp=mpp))
    for wrong in ({"batch": 0}, {"mixed": 0}, {"stride": 0.0}, {"ahead": -1}):
        with pytest.raises(MissingError, match="positive"):
            patches(stores, members, **wrong)


def test_a_failure_while_reading_is_raised(stores: dict[str, Path], members: list[Member]) -> None:
    broken = {**stores, "bbbb": stores["bbbb"] / "nowhere"}
    with pytest.raises(WsistoreError, match="nowhere"):
        list(patches(broken, members))


# --- where ------------------------------------------------------------------------------------------------------------


def test_the_mask_finds_tissue_and_not_glass(stores: dict[str, Path]) -> None:
    with open_path(stores["aaaa"]) as slide:
        mask = tissue_mask(slide)
    half = mask.wanted.shape[1] // 2
    assert mask.wanted[:, half + 2 :].mean() == 0
    assert mask.wanted[:, : half - 2].mean() > 0.3


def test_patches_lie_in_tissue(stores: dict[str, Path], members: list[Member]) -> None:
    for per_slide in (None, 20):
        for batch in patches(stores, members, per_slide=per_slide, least=0.9):
            assert (batch.positions[:, 1] / 0.5 + 64 <= SIZE / 2 + 8).all()


def test_a_slide_without_tissue_has_no_patches(stores: dict[str, Path], members: list[Member]) -> None:
    nothing = lambda slide: np.zeros((10, 10), bool)  # noqa: E731
    assert list(patches(stores, members, mask=nothing)) == []
    assert list(patches(stores, members, mask=nothing, per_slide=5)) == []
    assert list(patches(stores, [])) == []


@pytest.mark.parametrize("bad", [None, 7, np.zeros((3, 3)), np.zeros((2, 2, 2), bool), np.zeros((0, 4), bool)])
def test_a_mask_that_is_none_is_said(stores: dict[str, Path], members: list[Member], bad: Any) -> None:
    with pytest.raises(MissingError, match="mask of"):
        list(patches(stores, members, mask=lambda slide: bad))


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    bits=st.integers(0, 2**30),
    box=st.tuples(st.floats(-0.5, 1.2), st.floats(-0.5, 1.2), st.floats(0.01, 1.5), st.floats(0.01, 1.5)),
)
@example(rows=1, columns=1, bits=29, box=(0.0, 0.5, 1.0, 0.01))
@settings(max_examples=60, deadline=None)
def test_fractions_are_those_of_the_pixels(
    rows: int, columns: int, bits: int, box: tuple[float, float, float, float]
) -> None:
    mask = np.random.default_rng(bits).random((rows, columns)) < 0.5
    y, x, height, width = box
    (found,) = Mask(mask).fractions(np.array([y]), np.array([x]), height, width)
    assert 0 <= found <= 1
    if not mask.any() or y >= 1 or x >= 1 or y + height <= 0 or x + width <= 0:
        assert found == 0
    elif mask.all():
        inside = (min(y + height, 1) - max(y, 0)) * (min(x + width, 1) - max(x, 0)) / (height * width)
        assert found == pytest.approx(inside, abs=1e-6)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), patch=st.integers(1, 600), count=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_positions_lie_on_the_slide(height: int, width: int, patch: int, count: int) -> None:
    level = LevelInfo(height, width, 1.0, (0.5, 0.5))
    rng = np.random.default_rng(0)
    found = sampling.scattered(everywhere(), level, patch, patch, 0.0, count, rng)
    regular = sampling.grid(everywhere(), level, patch, patch, 0.0)
    assert len(found) == count
    assert len(regular) == max(1, height // patch) * max(1, width // patch)
    for positions in (found, regular):
        assert (positions >= 0).all()
        assert ((positions[:, 0] + patch <= height) | (positions[:, 0] == 0)).all()
        assert ((positions[:, 1] + patch <= width) | (positions[:, 1] == 0)).all()


@given(own=st.floats(0.1, 2), factors=st.lists(st.floats(1.5, 4), max_size=4), mpp=st.floats(0.1, 40))
@settings(max_examples=100, deadline=None)
def test_the_level_read_is_never_coarser_than_the_patch(own: float, factors: list[float], mpp: float) -> None:
    sizes = [own]
    for factor in factors:
        sizes.append(sizes[-1] * factor)
    levels = [LevelInfo(1000, 1000, one / own, (one, one)) for one in sizes]
    if own > mpp * 1.02:
        with pytest.raises(MissingError, match="coarser"):
            Scale.of(levels, 256, mpp, "x")
        return
    scale = Scale.of(levels, 256, mpp, "x")
    assert sizes[scale.level] <= mpp * 1.02
    assert all(size > mpp * 1.02 for size in sizes[scale.level + 1 :])
    assert scale.height == pytest.approx(256 * mpp / sizes[scale.level], rel=0.021, abs=0.51)


# --- the same again, and nobody twice ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_patches(stores: dict[str, Path], members: list[Member]) -> None:
    asked = patches(stores, members, per_slide=8, batch=5, mixed=2)
    again = pickle.loads(pickle.dumps(asked))
    assert rows(iter(asked)) == rows(iter(again))
    assert rows(iter(asked)) != rows(asked.batches(1)), "another epoch has others"
    assert rows(iter(asked)) != rows(iter(asked.with_seed(1)))
    asked.epoch = 1
    assert rows(iter(asked)) == rows(again.batches(1))


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_share_an_epoch(stores: dict[str, Path], members: list[Member], workers: int) -> None:
    asked = patches(stores, members, batch=5, mixed=3)
    parts = [rows(asked.batches(2, worker=worker, workers=workers)) for worker in range(workers)]
    assert sorted(row for part in parts for row in part) == sorted(rows(asked.batches(2)))


def test_no_patient_is_in_two_parts(stores: dict[str, Path]) -> None:
    members = [Member(f"s{n}", f"p{n // 3}") for n in range(3000)]
    parts = patches(stores, members).split(0.7, 0.2, 0.1)
    assert sum(map(len, parts)) == 3000
    for n, part in enumerate(parts):
        for other in parts[n + 1 :]:
            assert not part.groups & other.groups
    assert [len(part.groups) / 1000 for part in parts] == pytest.approx([0.7, 0.2, 0.1], abs=0.05)
    more = patches(stores, [*members, Member("new", "pnew")]).split(0.7, 0.2, 0.1)
    assert all(part.groups <= after.groups for part, after in zip(parts, more, strict=True)), "all stay where they were"
    for wrong in ((), (0.0, 1.0), (-1.0,), (float("inf"),)):
        with pytest.raises(MissingError):
            patches(stores, members).split(*wrong)


def test_reading_that_is_given_up_stops(stores: dict[str, Path], members: list[Member]) -> None:
    batches = patches(stores, members, batch=2).batches()
    next(batches)
    assert isinstance(batches, Generator)
    batches.close()


# --- through a gateway ------------------------------------------------------------------------------------------------


@pytest.fixture
def connection(stores: dict[str, Path]) -> Iterator[Connection]:
    gateway = Gateway(dict(stores), {name: {"patient": PATIENTS[name], "organ": "colon"} for name in stores})
    gateway.rows["dddd"]["readiness"] = "cold"
    with serving(gateway), connect(gateway.url, token=TOKEN) as found:
        yield found
    tokens.forget(gateway.url)


def test_patches_through_a_gateway_are_those_of_the_files(
    connection: Connection, stores: dict[str, Path], members: list[Member]
) -> None:
    asked = connection.patches(64, 0.5, per_slide=6, batch=4)
    assert [member.slide for member in asked.members] == ["aaaa", "bbbb", "cccc"], "what is cold is left out"
    assert asked.groups == {"p1", "p2"}
    assert rows(iter(asked)) == rows(iter(patches(stores, members[:3], per_slide=6, batch=4)))
    assert TOKEN.encode() not in pickle.dumps(asked)


def test_slides_may_be_chosen(connection: Connection) -> None:
    table = connection.search(patient="p1")
    assert [one.slide for one in connection.patches(64, 0.5, slides=table).members] == ["aaaa", "cccc"]
    assert [one.slide for one in connection.patches(64, 0.5, slides=["cccc", "cccc"]).members] == ["cccc"]
    assert connection.patches(64, 0.5, group="organ").groups == {"colon"}
    assert [one.group for one in connection.patches(64, 0.5, slides=["dddd"]).members] == ["dddd"]
    with pytest.raises(MissingError, match="zzzz") as caught:
        connection.patches(64, 0.5, slides=["zzzz"])
    assert caught.value.kind is Kind.SLIDE_MISSING
    with pytest.raises(MissingError, match="no column"):
        connection.patches(64, 0.5, group="ssn")
    with pytest.raises(MissingError, match="Recipe"):
        connection.patches(64, 0.5, nonsense=1)


def test_torch_gets_what_there_is(connection: Connection) -> None:
    asked = connection.patches(64, 0.5, per_slide=6, batch=4)
    try:
        import torch
    except ModuleNotFoundError:
        with pytest.raises(SiteError, match="torch") as caught:
            asked.to_torch()
        assert caught.value.remedy == "Install it: pip install torch."
        return
    loader = torch.utils.data.DataLoader(asked.to_torch(), batch_size=None)
    got = [batch["pixels"].permute(0, 2, 3, 1).numpy().tobytes() for batch in loader]
    assert got == [batch.pixels.tobytes() for batch in asked]
