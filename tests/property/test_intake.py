"""Looking at a share, against the plain rule: two looks, and nothing changed for as long as the settings say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.catalog.intake import IntakeFile, IntakeState
from wsistore.ops.intake_kinds import classify, owners
from wsistore.ops.intake_look import look
from wsistore.ops.intake_rows import file_rows
from wsistore.ops.intake_units import units
from wsistore.ops.intake_walk import SeenFile, Walk, known_path, parts
from wsistore.settings import IntakeSettings
from wsistore.testing.clock import START

SETTLE = 10
SEEN = st.none() | st.tuples(st.integers(0, 2), st.integers(0, 2))
"""A file's size and time, or that it is not there."""


@given(st.lists(st.tuples(st.integers(0, 12), SEEN, st.booleans()), min_size=1, max_size=12))
def test_a_file_has_stopped_changing_when_looks_say_so(steps: list[tuple[int, tuple[int, int] | None, bool]]) -> None:
    share = IntakeSettings("one", "/share", settle=timedelta(seconds=SETTLE))
    known: dict[str, IntakeFile] = {}
    now = 0
    same: list[int] = []
    last: tuple[int, int] | None = None
    for passed, seen, hidden in steps:
        now += passed
        walk = Walk()
        if hidden:  # its folder cannot be listed: nothing is learnt
            walk.unlisted["d"] = "denied"
        elif seen is not None:
            walk.files["d/a.svs"] = SeenFile("d/a.svs", *seen)
        if not hidden:
            same = [*same, now] if seen is not None and seen == last else [now] if seen is not None else []
            last = seen
        found = look(share, known, walk, START + timedelta(seconds=now))
        expected = not hidden and len(same) > 1 and same[-1] - same[0] >= SETTLE
        assert ("d/a.svs" in found.settled) == expected
        assert all(after is None or after.state is IntakeState.WAITING for _, after in found.changes)
        for before, after in found.changes:
            assert known.get("d/a.svs") == before
            if after is not None:
                known["d/a.svs"] = after


NAMES = st.sampled_from(
    (
        *("a.svs", "a.mrxs", "a/Data0.dat", "a/Slidedat.ini", "b.vsi", "_b_/stack/frame.ets", "b.svs.part"),
        *("b.svs.lock", "a.svs.json", "slides.csv", "note.txt", "x.dcm", "d/x.dcm", "d/y.dcm", "noname", "c.ndpi"),
    )
)


@settings(max_examples=30)  # each looks at a share three times
@given(st.sets(NAMES), st.sets(NAMES))
def test_every_file_is_told_of_once(names: set[str], others: set[str]) -> None:
    share = IntakeSettings("one", "/nowhere/at/all", settle=timedelta(0))
    known: dict[str, IntakeFile] = {}
    for turn, there in enumerate((names, names, others)):
        walk = Walk(files={name: SeenFile(name, 1, 1) for name in there})
        found = look(share, known, walk, START + timedelta(seconds=turn))
        owned = owners(found)
        classify(found, owned)
        told = units(found, owned)
        rows = file_rows(share, found.files, told)
        paths = [one.path for unit in told for one in unit.files] + [row.path for row in rows]
        assert sorted(paths) == sorted(there)
        known = dict(found.files)


@given(st.text("ab./ ü", min_size=1).map("x".__add__))
def test_parts_are_those_of_pathlib(text: str) -> None:
    path = Path(text)
    folder, stem, suffix = parts(str(path))
    if path.name.strip(".") == path.name:
        assert (stem, suffix) == (path.stem, path.suffix)
        assert Path(folder, stem + suffix) == path
    assert known_path(str(path)) == str(path)
