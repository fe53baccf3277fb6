"""Sums of products that are larger than 64 bits, exactly and in bulk: bytes times microseconds, by group."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_CUT = 21
_PART = (1 << _CUT) - 1
_MOST = 1 << 42
"""Of one factor. Its halves are below 2²¹, their products below 2⁴², and a million of those still fit into 63 bits."""
_ROWS = 1 << 20


def product_sums(one: Integers, other: Integers, starts: Integers) -> list[int]:
    """Return for each group the sum of products, exact whatever its size.

    Parameters
    ----------
    one, other
        Factors, not negative; (rows,), sorted by group.
    starts
        First row of each group, rising; no group is empty; (groups,).

    Returns
    -------
    list of int
        One per group.

    """
    if not len(starts):
        return []
    if len(one) > _ROWS or max(one.max(), other.max()) >= _MOST:
        return _by_python(one, other, starts)
    halves = [(one >> _CUT, other >> _CUT, 2 * _CUT), (one & _PART, other & _PART, 0)]
    halves += [(one >> _CUT, other & _PART, _CUT), (one & _PART, other >> _CUT, _CUT)]
    totals = [0] * len(starts)
    for left, right, shift in halves:
        if left.any() and right.any():
            part = np.add.reduceat(left * right, starts).tolist()
            totals = [total + (found << shift) for total, found in zip(totals, part, strict=True)]
    return totals


def _by_python(one: Integers, other: Integers, starts: Integers) -> list[int]:
    ends = [*starts.tolist()[1:], len(one)]
    found = []
    for begin, end in zip(starts.tolist(), ends, strict=True):
        rows = zip(one[begin:end].tolist(), other[begin:end].tolist(), strict=True)
        found.append(sum(left * right for left, right in rows))
    return found
