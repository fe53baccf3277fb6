"""Pseudonyms: the same for the same, another for any other, and nothing of whom they stand for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.errors import ConflictError, SiteError
from wsistore.keys import pseudonyms, pseudonyms_given
from wsistore.keys.pseudonyms import Generation, ProjectKeys, Subject

NOW = "2026-01-31T12:00:00.000000Z"
KEYS = st.binary(min_size=32, max_size=32)
WHO = st.text(min_size=1, max_size=40)


@given(KEYS, st.sampled_from(Subject), WHO)
def test_a_pseudonym_is_what_the_docs_say(key: bytes, subject: Subject, who: str) -> None:
    found = Generation(1, key, NOW).pseudonym(subject, who)
    message = f"{subject}".encode() + b"\0" + who.encode("utf-8", "surrogatepass")
    expected = base64.b32encode(hmac.new(key, message, hashlib.sha256).digest()[:16]).decode().rstrip("=").lower()
    assert found == expected
    assert len(found) == 26


@given(KEYS, KEYS, WHO, WHO)
def test_others_have_others(key: bytes, other: bytes, who: str, whom: str) -> None:
    one = Generation(1, key, NOW)
    every = [one.pseudonym(subject, who) for subject in Subject]
    assert len(set(every)) == len(Subject)
    assert (one.pseudonym(Subject.PATIENT, who) == one.pseudonym(Subject.PATIENT, whom)) == (who == whom)
    if key != other:
        assert Generation(1, other, NOW).pseudonym(Subject.PATIENT, who) != every[0]


@given(KEYS, WHO)
def test_days_are_moved_but_never_by_none(key: bytes, who: str) -> None:
    shift = Generation(1, key, NOW).shift_days(who)
    assert 1 <= abs(shift) <= 180
    assert shift == Generation(1, key, NOW).shift_days(who)


def test_shifts_are_spread() -> None:
    shifts = [Generation(1, bytes(32), NOW).shift_days(str(n)) for n in range(5000)]
    assert set(shifts) == set(range(-180, 181)) - {0}
    assert max(shifts.count(day) for day in set(shifts)) < 50


def test_keys_lie_in_the_folder_and_nowhere_else(tmp_path: Path) -> None:
    keys = pseudonyms.make(tmp_path / "keys", "study", NOW)
    path = tmp_path / "keys" / "project-study.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.current.key.hex() not in repr(keys) + repr(keys.current) + keys.digest()
    with pytest.raises(TypeError):
        pickle.dumps(keys)
    with pytest.raises(ConflictError):
        pseudonyms.make(tmp_path / "keys", "study", NOW)
    assert pseudonyms.load(tmp_path / "keys", "study").digest() == keys.digest()
    path.chmod(0o640)
    with pytest.raises(SiteError):
        pseudonyms.load(tmp_path / "keys", "study")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "-a", "a" * 41, "a\n"])
def test_a_name_never_leads_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(SiteError):
        pseudonyms.make(tmp_path, name, NOW)
    with pytest.raises(SiteError):
        pseudonyms.load(tmp_path, name)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_rotation_and_retirement(tmp_path: Path) -> None:
    first = pseudonyms.make(tmp_path / "keys", "study", NOW)
    second = pseudonyms.rotate(tmp_path / "keys", "study", NOW)
    old, new = first.pseudonym(Subject.SLIDE, "x"), second.pseudonym(Subject.SLIDE, "x")
    assert second.pseudonyms(Subject.SLIDE, "x") == [new, old]
    assert old != new
    retired = pseudonyms.retire(tmp_path / "keys", "study", NOW)
    assert retired.pseudonyms(Subject.SLIDE, "x") == [new]
    assert len({first.digest(), second.digest(), retired.digest()}) == 3
    assert pseudonyms.load(tmp_path / "keys", "study").digest() == retired.digest()


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(Subject), WHO), st.from_regex(r"[a-z0-9]{1,30}", fullmatch=True), max_size=8
    )
)
def test_given_pseudonyms_are_shown_and_sealed(tmp_path_factory: pytest.TempPathFactory, table: dict) -> None:
    folder = tmp_path_factory.mktemp("keys")
    folder.chmod(0o700)
    keys = pseudonyms.make(folder, "study", NOW)
    pseudonyms_given.put(folder, keys, table)
    found = pseudonyms_given.with_given(folder, keys)
    assert found.given == table
    path = folder / "project-study.table"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    for (subject, who), name in table.items():
        assert found.pseudonym(subject, who) == name
        assert found.pseudonyms(subject, who) == [name, keys.pseudonym(subject, who)]
        assert len(who.encode("utf-8", "surrogatepass")) < 5 or who.encode("utf-8", "surrogatepass") not in content
    assert found.pseudonym(Subject.CASE, "x" * 50) == keys.pseudonym(Subject.CASE, "x" * 50)
    other = ProjectKeys("study", (Generation(1, bytes(32), NOW),))
    with pytest.raises(SiteError):
        pseudonyms_given.with_given(folder, other)


@settings(max_examples=60)
@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_damaged_files_are_told(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.mktemp("keys")
    path = folder / "project-study.key"
    document = {"format": 1, "kind": "wsistore-project-key", "project": "study", "generations": content}
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(document).encode())
    path.chmod(0o600)
    with pytest.raises(SiteError):
        pseudonyms.load(folder, "study")
