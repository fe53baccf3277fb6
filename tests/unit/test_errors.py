"""The tree of errors is what its drawing says, and every error survives a process border."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore import errors
from wsistore.errors import Kind, TransientError, WsistoreError

CLASSES = sorted(
    (cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, WsistoreError)),
    key=lambda cls: cls.__name__,
)
SECOND_LEVEL = WsistoreError.__subclasses__()

_LINE = re.compile(r"^ {4}(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+Error)\b(?:.*\bexit (?P<exit>\d+))?")


def drawn_tree() -> list[tuple[str, str | None, int | None]]:
    """Return (class, parent, exit code or None) for each line of the drawing in the module's docstring."""
    found: list[tuple[str, str | None, int | None]] = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        depth = len(match["indent"]) // 4
        path = [*path[:depth], match["name"]]
        found.append((match["name"], path[depth - 1] if depth else None, int(match["exit"]) if match["exit"] else None))
    return found


def test_the_drawing_shows_the_tree() -> None:
    drawn = {(name, parent) for name, parent, _ in drawn_tree()}
    real = {(cls.__name__, None if cls is WsistoreError else cls.__base__.__name__) for cls in CLASSES if cls.__base__}

    assert drawn == real


def test_each_second_level_has_an_exit_code_of_its_own_and_the_drawing_tells_it() -> None:
    drawn = {name: code for name, parent, code in drawn_tree() if parent == "WsistoreError"}

    assert drawn == {cls.__name__: cls.exit_code for cls in SECOND_LEVEL}
    codes = [cls.exit_code for cls in SECOND_LEVEL]
    assert len(set(codes)) == len(codes)
    # 0: well, 1: an error of ours, 2: wrong usage, 126 and more: the shell's own.
    assert all(2 < code < 126 for code in codes)
    assert WsistoreError.exit_code == 1


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_what_lies_below_the_second_level_keeps_its_exit_code(cls: type[WsistoreError]) -> None:
    above = [parent for parent in SECOND_LEVEL if issubclass(cls, parent)]

    assert [parent.exit_code for parent in above] in ([cls.exit_code], [])


def test_kinds_are_unique_and_lower_kebab() -> None:
    values = [member.value for member in Kind.__members__.values()]

    assert len(set(values)) == len(Kind.__members__), "an alias hides a kind"
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", value) for value in values)
    assert all(name == value.upper().replace("-", "_") for name, value in Kind.__members__.items())


def test_kinds_that_scripts_may_know_are_still_there() -> None:
    """Append only. A kind that was released is never taken away."""
    released = {
        "unsupported-format",
        "unsupported-pixels",
        "not-a-slide",
        "source-broken",
        "source-empty",
        "source-truncated",
        "source-implausible",
        "source-incomplete",
        "source-mixed",
        "source-unreadable",
        "source-changed",
        "source-busy",
        "metadata-invalid",
        "path-missing",
        "slide-missing",
        "slide-ambiguous",
        "tier-unknown",
        "tier-closed",
        "condition-invalid",
        "busy",
        "target-exists",
        "tier-missing",
        "storage-failed",
        "storage-transient",
        "storage-full",
        "capacity-exceeded",
        "storage-denied",
        "object-missing",
        "object-exists",
        "object-archived",
        "key-invalid",
        "corrupt",
        "format-unknown",
        "chain-broken",
        "site-missing",
        "site-exists",
        "site-read-only",
        "settings-invalid",
        "catalog-failed",
        "dependency-missing",
        "internal",
    }

    assert released <= {kind.value for kind in Kind}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_names_its_kind_unless_told_another(cls: type[WsistoreError]) -> None:
    assert cls("m").kind is cls.default_kind
    assert cls("m", kind=Kind.BUSY).kind is Kind.BUSY


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(message=st.text(), kind=st.sampled_from(Kind), remedy=st.text())
def test_an_error_crosses_process_borders_whole(
    cls: type[WsistoreError], message: str, kind: Kind, remedy: str
) -> None:
    error = cls(message, kind=kind, remedy=remedy)

    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls
        assert vars(twin) == vars(error)
        assert twin.args == error.args
        assert str(twin) == str(error)


def test_a_transient_error_keeps_the_delay_that_the_server_asked_for() -> None:
    error = TransientError("busy", remedy="Wait.", retry_after_seconds=2.5)

    assert pickle.loads(pickle.dumps(error)).retry_after_seconds == 2.5
    assert TransientError("busy").retry_after_seconds is None


def test_the_text_is_the_message_and_then_the_remedy() -> None:
    assert str(WsistoreError("a.svs is empty.", remedy="Copy it again.")) == "a.svs is empty. Copy it again."
    assert str(WsistoreError("a.svs is empty.")) == "a.svs is empty."


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_says_what_it_is_for(cls: type[WsistoreError]) -> None:
    assert cls.__doc__
    assert cls.__doc__ != cls.__base__.__doc__ if cls.__base__ else True
