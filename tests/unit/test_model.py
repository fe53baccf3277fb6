from __future__ import annotations

import dataclasses
import hashlib
import inspect
import pickle
import re
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore import model
from wsistore.model import FileRecord, ObjectRecord, fingerprint, random_key

_HASHES = st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())
_FILES = st.builds(FileRecord, name=st.text(min_size=1, max_size=20), size_bytes=st.integers(0, 2**50), sha256=_HASHES)

_VALUES = [cls for _, cls in inspect.getmembers(model, dataclasses.is_dataclass)]
_ENUMS = [
    cls
    for _, cls in inspect.getmembers(model, inspect.isclass)
    if issubclass(cls, StrEnum) and cls.__module__ == model.__name__
]


def test_fingerprint_is_written_down() -> None:
    """A change of the recipe would make every known source a new one."""
    files = [
        FileRecord("b", 3, hashlib.sha256(b"two").hexdigest()),
        FileRecord("a", 3, hashlib.sha256(b"one").hexdigest()),
    ]
    lines = sorted(f"{file.sha256} {file.size_bytes}\n" for file in files)

    assert fingerprint(files) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert fingerprint(files) == "dc6f44e3e10f841c820c0edd43fc43d3f4c1d66d1fd3ebb76c482f6f310c97c2"


@given(st.data(), st.lists(_FILES, max_size=8))
def test_fingerprint_ignores_names_and_order(data: st.DataObject, files: list[FileRecord]) -> None:
    shuffled = data.draw(st.permutations(files))
    renamed = [dataclasses.replace(file, name=f"{number}-{file.name}") for number, file in enumerate(shuffled)]

    assert fingerprint(renamed) == fingerprint(files)


@given(st.lists(_FILES, min_size=1, max_size=5), _FILES, st.data())
def test_fingerprint_sees_every_other_difference(
    files: list[FileRecord], extra: FileRecord, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(files) - 1))
    file = files[index]
    longer = dataclasses.replace(file, size_bytes=file.size_bytes + 1)
    damaged = dataclasses.replace(file, sha256=hashlib.sha256(file.sha256.encode()).hexdigest())
    others = [
        [*files, extra],
        files[:index] + files[index + 1 :],
        [*files[:index], longer, *files[index + 1 :]],
        [*files[:index], damaged, *files[index + 1 :]],
    ]

    assert fingerprint(files) not in {fingerprint(other) for other in others}


def test_fingerprint_takes_an_iterator() -> None:
    files = [FileRecord("a", 1, "0" * 64)]

    assert fingerprint(iter(files)) == fingerprint(files)


def test_random_keys_are_made_of_letters_that_cannot_be_mistaken() -> None:
    keys = {random_key() for _ in range(1000)}

    assert len(keys) == 1000
    assert all(re.fullmatch(r"[0-9a-hjkmnp-tv-z]{20}", key) for key in keys), "Crockford: no i, l, o, u"
    assert len({letter for key in keys for letter in key}) == 32


@given(st.integers(0, 100))
def test_random_keys_are_as_long_as_asked(length: int) -> None:
    assert len(random_key(length)) == length


@pytest.mark.parametrize("cls", _VALUES, ids=lambda cls: cls.__name__)
def test_values_are_frozen_and_slotted(cls: type) -> None:
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(cls)


@pytest.mark.parametrize(
    "value", [FileRecord("a/b.svs", 12, "0" * 64), ObjectRecord("store/k/a/zarr.json", 7, "f" * 64)]
)
def test_values_cross_process_borders(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("cls", _ENUMS, ids=lambda cls: cls.__name__)
def test_words_that_are_stored_are_lower_kebab(cls: type[StrEnum]) -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", member.value) for member in cls)
