"""Sealed objects: any range is the slice of what was sealed, and nothing else than what was sealed is ever given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_storage_encrypted import OneKey
from tests.sealed_kit import KEY, reference_open, reference_seal
from wsistore.errors import IntegrityError
from wsistore.storage.base import Span, Tail
from wsistore.storage.encrypted import EncryptedStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.sealing import (
    FRAME_BYTES,
    HEADER_BYTES,
    SEALED_BYTES,
    plain_size,
    seal,
    sealed_size,
    unseal,
)

NAME = "private/s/a/skeleton.zst"
DATA = np.random.default_rng(7).bytes(3 * FRAME_BYTES + 1000)
LENGTHS = st.one_of(
    st.integers(0, 300),
    st.sampled_from([n * FRAME_BYTES + d for n in (1, 2, 3) for d in (-1, 0, 1)]),
    st.integers(0, len(DATA)),
)


def stored(data: bytes) -> tuple[EncryptedStorage, MemoryStorage]:
    inner = MemoryStorage()
    storage = EncryptedStorage(inner, OneKey())
    storage.put(NAME, data)
    return storage, inner


def reads(storage: EncryptedStorage, size: int) -> list[Callable[[], bytes]]:
    """Return every way to get the whole object."""
    return [
        lambda: storage.get(NAME),
        lambda: storage.get(NAME, Span(0, size + 1)),
        lambda: storage.get(NAME, Tail(size + 1)),
        lambda: b"".join(storage.get_many(NAME, [Span(0, size // 2), Span(size // 2, size + 1)])),
        lambda: b"".join(bytes(block) for block in storage.stream(NAME, block_bytes=10_007)),
    ]


@given(LENGTHS)
def test_sizes_are_a_function_of_sizes(size: int) -> None:
    assert len(seal(KEY, NAME, DATA[:size])) == sealed_size(size)
    assert plain_size(sealed_size(size)) == size


@given(st.integers(0, 5 * SEALED_BYTES))
def test_sizes_that_no_sealed_object_has_hold_nothing(size: int) -> None:
    assert plain_size(size) == 0 or sealed_size(plain_size(size)) == size


@given(LENGTHS)
def test_both_implementations_understand_each_other(size: int) -> None:
    data = DATA[:size]
    assert reference_open(KEY, NAME, seal(KEY, NAME, data)) == data
    assert unseal(KEY, NAME, reference_seal(KEY, NAME, data)) == data


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, len(DATA) + 10)), max_size=4))
def test_any_range_is_the_slice(size: int, spans: list[tuple[int, int]]) -> None:
    data = DATA[:size]
    storage, _ = stored(data)
    for start, length in spans:
        assert storage.get(NAME, Span(start, length)) == data[start : start + length]
        assert storage.get(NAME, Tail(length)) == data[max(0, size - length) :]
    wanted = [data[start : start + length] for start, length in spans]
    assert storage.get_many(NAME, [Span(start, length) for start, length in spans]) == wanted


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.data())
def test_every_flipped_bit_is_refused(size: int, data: st.DataObject) -> None:
    storage, inner = stored(DATA[:size])
    sealed = bytearray(inner.get(NAME))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= 1 << data.draw(st.integers(0, 7))
    inner.put(NAME, bytes(sealed))
    for read in reads(storage, size):
        with pytest.raises(IntegrityError):
            read()


def test_every_byte_of_a_small_object_counts() -> None:
    sealed = seal(KEY, NAME, b"PATIENT-0001")
    for at in range(len(sealed)):
        forged = bytes(byte ^ (0x80 if number == at else 0) for number, byte in enumerate(sealed))
        with pytest.raises(IntegrityError):
            unseal(KEY, NAME, forged)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.data())
def test_every_truncation_is_refused(size: int, data: st.DataObject) -> None:
    storage, inner = stored(DATA[:size])
    sealed = inner.get(NAME)
    at_frames = [HEADER_BYTES + n * SEALED_BYTES for n in range(4)]
    cut = data.draw(
        st.one_of(st.integers(0, len(sealed) - 1), st.sampled_from(at_frames)).filter(lambda n: n < len(sealed))
    )
    inner.put(NAME, sealed[:cut])
    for read in reads(storage, size):
        with pytest.raises(IntegrityError):
            read()
    # Nothing is said of what lies behind the cut either, even where what precedes it is whole.
    with pytest.raises(IntegrityError):
        storage.get(NAME, Span(size, 1))


@given(st.binary(min_size=1, max_size=40))
def test_whatever_is_appended_is_refused(more: bytes) -> None:
    for size in (0, 100, FRAME_BYTES, FRAME_BYTES + 1):
        with pytest.raises(IntegrityError):
            unseal(KEY, NAME, seal(KEY, NAME, DATA[:size]) + more)


def test_frames_in_another_order_twice_or_left_out_are_refused() -> None:
    sealed = seal(KEY, NAME, DATA)
    head = sealed[:HEADER_BYTES]
    frames = [
        sealed[HEADER_BYTES:][at : at + SEALED_BYTES] for at in range(0, len(sealed) - HEADER_BYTES, SEALED_BYTES)
    ]
    for order in ((1, 0, 2, 3), (0, 2, 1, 3), (0, 0, 2, 3), (0, 1, 3), (1, 2, 3), (0, 1, 2), (3,), (0, 1, 2, 3, 3), ()):
        forged = head + b"".join(frames[number] for number in order)
        with pytest.raises(IntegrityError):
            unseal(KEY, NAME, forged)
        storage, inner = stored(DATA)
        inner.put(NAME, forged)
        with pytest.raises(IntegrityError):
            storage.get(NAME, Span(0, len(DATA)))


def test_objects_and_frames_of_others_are_refused() -> None:
    mine, same = seal(KEY, NAME, DATA), seal(KEY, NAME, DATA)
    other = seal(KEY, NAME.replace("skeleton", "layout"), DATA)
    frame = slice(HEADER_BYTES + SEALED_BYTES, HEADER_BYTES + 2 * SEALED_BYTES)
    assert mine != same, "no two objects are encrypted alike"
    for forged in (
        other,
        mine[: frame.start] + same[frame] + mine[frame.stop :],
        same[:HEADER_BYTES] + mine[HEADER_BYTES:],
        b"",
        DATA,
        b"WSISEAL\x02" + mine[8:],
    ):
        with pytest.raises(IntegrityError):
            unseal(KEY, NAME, forged)
    with pytest.raises(IntegrityError):
        unseal(bytes(32), NAME, mine)


def test_a_range_needs_no_more_than_the_frames_that_it_touches() -> None:
    storage, inner = stored(DATA)
    sealed = bytearray(inner.get(NAME))
    for frame in (0, 1, 3):
        sealed[HEADER_BYTES + frame * SEALED_BYTES] ^= 1
    inner.put(NAME, bytes(sealed))
    assert storage.get(NAME, Span(2 * FRAME_BYTES, FRAME_BYTES)) == DATA[2 * FRAME_BYTES : 3 * FRAME_BYTES]
    for span in (Span(2 * FRAME_BYTES - 1, 2), Span(3 * FRAME_BYTES - 1, 2), Span(5, 1)):
        with pytest.raises(IntegrityError):
            storage.get(NAME, span)
