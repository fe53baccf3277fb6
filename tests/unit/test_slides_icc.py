"""What of an ICC profile is shared: its colours, not its texts, dates or devices."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests import tiffs
from wsistore.slides.icc import shareable

IDENTITY = b"PATIENT-0001"


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def telling() -> bytes:
    """Return a profile that has an identity in its header, in a text, in a private tag and between its tags."""
    data = bytearray(srgb())
    count = struct.unpack_from(">I", data, 128)[0]
    shift = 12
    for i in range(count):
        at = 132 + 12 * i + 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + shift)
    private = b"text\0\0\0\0" + IDENTITY
    table_end = 132 + 12 * count
    entry = struct.pack(">4sII", b"priv", len(data) + shift, len(private))
    data[table_end:table_end] = entry
    data += private + IDENTITY
    struct.pack_into(">I", data, 128, count + 1)
    struct.pack_into(">I", data, 0, len(data))
    data[24:36], data[48:52], data[84:96] = struct.pack(">6H", 2023, 5, 7, 1, 2, 3), b"SCAN", IDENTITY
    return bytes(data)


def converted(profile: bytes) -> bytes:
    picture = Image.fromarray(tiffs.tissue(32, 32))
    lab = ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(picture, io.BytesIO(profile), lab, outputMode="LAB").tobytes()  # type: ignore[union-attr]


def test_the_colours_stay_and_the_identity_goes() -> None:
    profile = telling()
    assert profile.count(IDENTITY) == 3
    shared = shareable(profile)
    assert shared is not None
    assert converted(shared) == converted(profile)
    assert IDENTITY not in shared
    assert b"SCAN" not in shared
    assert not any(shared[24:36])
    assert struct.unpack_from(">I", shared)[0] == len(shared)
    assert shareable(shared) == shared


@pytest.mark.parametrize("version", [2, 4])
def test_the_texts_are_neutral(version: int) -> None:
    data = bytearray(srgb())
    data[8] = version
    shared = shareable(bytes(data))
    assert shared is not None
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(shared))).strip() == "Slide scanner"


def test_zeros_behind_are_padding() -> None:
    assert shareable(srgb() + bytes(3)) == shareable(srgb())


@pytest.mark.parametrize(
    "profile",
    [b"", IDENTITY * 20, srgb() + IDENTITY, srgb()[:-4], srgb()[:128] + bytes(4), srgb().replace(b"acsp", b"ACSP")],
)
def test_what_is_no_sound_profile_is_not_shared(profile: bytes) -> None:
    assert shareable(profile) is None


@given(st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_no_damage_raises(at: int, noise: bytes) -> None:
    data = srgb()
    found = shareable(data[:at] + noise + data[at + len(noise) :])
    assert found is None or found[36:40] == b"acsp"
