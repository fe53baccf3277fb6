"""What lies on a tier against what was metered: nothing cancels out, and what is on its way is no fault."""

from __future__ import annotations

import re

import pytest

from wsistore.reports.reconciling import Expected, reconcile

OWN = re.compile(r"tier\.json|ledger/.+")
A, B, C = "a" * 20, "b" * 20, "c" * 20


def expected(**sizes: int) -> Expected:
    """Return copies by attempt; each has a commit of 10 bytes."""
    found = Expected()
    for attempt, size in sizes.items():
        found.copy(attempt, size + 10, 10)
    return found


def listed(*attempts: tuple[str, int]) -> list[tuple[str, int]]:
    """Return a listing in which each attempt's bytes are in both trees, with its commit."""
    keys = [("tier.json", 5)]
    for n, (attempt, size) in enumerate(attempts):
        keys += [(f"store/s{n}/{attempt}/zarr.json", size // 2), (f"private/s{n}/{attempt}/layout", size - size // 2)]
        keys.append((f"commits/s{n}/00000001.json", 10))
    return keys


def test_what_agrees_is_explained() -> None:
    found = reconcile("hot", listed((A, 1000), (B, 501)), expected(**{A: 1000, B: 501}), is_own=OWN)
    assert (found.metered_bytes, found.listed_bytes, found.own_bytes) == (1521, 1526, 5)
    assert (found.unexplained_bytes, found.part, found.is_good) == (0, 0.0, True)


def test_missing_and_superfluous_bytes_do_not_cancel_out() -> None:
    found = reconcile("hot", listed((A, 900), (B, 1100)), expected(**{A: 1000, B: 1000}), is_own=OWN)
    assert found.unexplained_bytes == 200
    assert not found.is_good


@pytest.mark.parametrize(("missing", "is_good"), [(2, True), (3, False)])
def test_a_thousandth_is_the_most(missing: int, is_good: bool) -> None:
    found = reconcile("hot", listed((A, 1990 - missing)), expected(**{A: 1990}), is_own=OWN)
    assert (found.metered_bytes, found.unexplained_bytes, found.is_good) == (2000, missing, is_good)


def test_copies_on_their_way_are_explained() -> None:
    found = reconcile("hot", listed((A, 1000), (C, 70)), expected(**{A: 1000}), moving={C}, is_own=OWN)
    assert (found.moving_bytes, found.unexplained_bytes) == (70, 10)  # its commit should not be there yet


def test_what_nobody_knows_is_not_explained() -> None:
    found = reconcile("hot", [*listed((A, 1000), (C, 70)), ("stray", 3)], expected(**{A: 1000}), is_own=OWN)
    assert found.unexplained_bytes == 70 + 10 + 3
    empty = reconcile("hot", [("stray", 3)], Expected(), is_own=OWN)
    assert (empty.part, empty.is_good) == (1.0, False)
    assert reconcile("hot", [], Expected(), is_own=OWN).is_good


def test_a_copy_whose_place_nobody_knows_is_missing() -> None:
    wanted = expected(**{A: 1000})
    wanted.lost(400)
    assert reconcile("hot", listed((A, 1000)), wanted, is_own=OWN).unexplained_bytes == 400


def test_very_many_copies_are_kept_as_arrays() -> None:
    wanted, keys = Expected(), []
    for n in range(100_001):
        wanted.copy(f"{n:020}", 3, 0)
        keys.append((f"store/s/{n:020}/x", 3))
    assert reconcile("hot", keys, wanted, is_own=OWN).unexplained_bytes == 0
