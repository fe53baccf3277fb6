"""YAML with the place of every value, strictly: no duplicate keys, anchors, tags or surprises of type."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from wsistore.errors import InputError, Kind, MissingError
from wsistore.settings.values import did_you_mean

MOST_BYTES = 1 << 20
"""Of a file; rules that people can read aloud are a hundredth of it."""
_TAG = "tag:yaml.org,2002:"
_NONE = "'wsistore rules show' lists sets that ship, 'wsistore rules copy NAME' takes one; or name another file."
_REMEDY = "Mend the line; docs/rules.md describes the file."


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a file, with its line and column."""

    file: str
    node: Node
    path: str = ""
    """What it is, for messages: ``rule 'x', where``."""

    @property
    def line(self) -> int:
        """Its line, from 1."""
        return int(self.node.start_mark.line) + 1

    def wrong(self, what: str, remedy: str = _REMEDY) -> InputError:
        """Return the error that says what is wrong with this value, and where it is."""
        column = int(self.node.start_mark.column) + 1
        named = f"{self.path}: " if self.path else ""
        msg = f"{self.file}, line {self.line}, column {column}: {named}{what.rstrip('.')}."
        return InputError(msg, kind=Kind.RULES_INVALID, remedy=remedy)

    def named(self, path: str) -> Place:
        """Return the same value under another name for messages."""
        return Place(self.file, self.node, path)

    @property
    def shown(self) -> str:
        """The value as messages quote it."""
        if isinstance(self.node, ScalarNode):
            text = str(self.node.value)
            return repr(text if len(text) <= 60 else text[:57] + "…")
        return "a list" if isinstance(self.node, SequenceNode) else "a table"

    # --- what it may be ---

    def table(self, known: Collection[str]) -> dict[str, Place]:
        """Return a mapping's values by key; only keys in `known` are allowed."""
        found = dict(self._items())
        for key, value in found.items():
            if key not in known:
                what = f"there is no key {key!r} here{did_you_mean(key, known)}"
                raise value.named(self.path).wrong(what, f"Keys here are: {', '.join(known)}.")
        return found

    def pairs(self) -> dict[str, Place]:
        """Return a mapping's values by key, whatever the keys are."""
        return dict(self._items())

    def items(self) -> list[Place]:
        """Return a list's values."""
        if not isinstance(self.node, SequenceNode):
            msg = f"{self.shown} where a list is expected"
            raise self.wrong(msg)
        return [Place(self.file, node, f"{self.path}[{number}]") for number, node in enumerate(self.node.value, 1)]

    def text(self) -> str:
        """Return a text that is not empty; numbers and dates are as they are written."""
        if not isinstance(self.node, ScalarNode) or self.node.tag == f"{_TAG}null" or not self.node.value.strip():
            msg = f"{self._said} where a text is expected"
            raise self.wrong(msg)
        return str(self.node.value)

    def texts(self) -> tuple[str, ...]:
        """Return the texts of a list, or one alone."""
        if isinstance(self.node, SequenceNode):
            return tuple(place.text() for place in self.items())
        return (self.text(),)

    def one_of(self, allowed: Collection[str]) -> str:
        """Return a text that is one of `allowed`."""
        text = self.text()
        if text not in allowed:
            what = f"{self.shown} is none of {', '.join(allowed)}{did_you_mean(text, allowed)}"
            raise self.wrong(what)
        return text

    def integer(self, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        value = str(self.node.value) if isinstance(self.node, ScalarNode) else ""
        plain = value.isascii() and value.isdigit() and len(value) < 19
        if not plain or not least <= int(value) <= most:
            what = f"{self._said} where a whole number from {least} to {most} is expected"
            raise self.wrong(what)
        return int(value)

    def plain(self) -> Any:
        """Return the value in Python's types: texts, numbers, true and false, None, lists and dicts of them."""
        if isinstance(self.node, MappingNode):
            return {key: value.plain() for key, value in self._items()}
        if isinstance(self.node, SequenceNode):
            return [value.plain() for value in self.items()]
        kind, text = str(self.node.tag).removeprefix(_TAG), str(self.node.value)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() == "true"
            if kind in {"int", "float"}:
                return int(text) if kind == "int" else float(text)
        except ValueError as error:
            what = f"{self.shown} is no number that can be read"
            raise self.wrong(what) from error
        return text

    @property
    def _said(self) -> str:
        empty = isinstance(self.node, ScalarNode) and not str(self.node.value).strip()
        return "nothing stands" if empty else f"{self.shown} stands"

    def _items(self) -> Iterator[tuple[str, Place]]:
        if not isinstance(self.node, MappingNode):
            msg = f"{self.shown} where a table of keys and values is expected"
            raise self.wrong(msg)
        seen: dict[str, int] = {}
        for key_node, value_node in self.node.value:
            key = Place(self.file, key_node, self.path)
            name = key.text()
            if name in seen:
                what = f"the key {name!r} is here twice, first in line {seen[name]}"
                raise key.wrong(what, "Keep one of them.")
            seen[name] = key.line
            yield name, Place(self.file, value_node, f"{self.path}, {name}" if self.path else name)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file of rules or of their tests.

    Raises
    ------
    MissingError
        If it is not there.
    InputError
        If it cannot be read or is too large.

    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"There is no file {path}."
        raise MissingError(msg, remedy=_NONE) from error
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy="Make the file readable.") from error
    if len(content) > MOST_BYTES:
        msg = f"{path}: is larger than {MOST_BYTES} bytes: no rules that people wrote."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy="Name the file of rules.")
    return content


def parse_yaml(content: bytes, file: str) -> Place:
    """Return the root of a YAML document.

    Parameters
    ----------
    content
        The file's bytes, UTF-8.
    file
        Its name, for messages.

    Raises
    ------
    InputError
        If it is no YAML, empty, several documents, or has anchors or tags; the message has line and column.

    """
    try:
        node = YAML(typ="safe", pure=True).compose(content.decode("utf-8"))
        root = Place(file, node) if node is not None else None
        if root is not None:
            _check(root, set())
    except MarkedYAMLError as error:
        raise _unreadable(file, error) from error
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError) as error:
        # The parser has its own errors for most of what is wrong, not for all.
        msg = f"{file}: is no YAML ({str(error).splitlines()[0] if str(error) else type(error).__name__})."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy=_REMEDY) from error
    if root is None:
        msg = f"{file}: is empty."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy="docs/rules.md describes the file.")
    return root


def _unreadable(file: str, error: MarkedYAMLError) -> InputError:
    mark = error.problem_mark or error.context_mark
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    what = " ".join(str(part).split("\n", 1)[0] for part in (error.context, error.problem) if part)
    msg = f"{file}{place}: is no YAML: {what}."
    return InputError(msg, kind=Kind.RULES_INVALID, remedy=_REMEDY)


_KINDS = {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}


def _check(place: Place, seen: set[int]) -> None:
    """Refuse what a person would not see the meaning of."""
    node = place.node
    if id(node) in seen or node.anchor is not None:
        msg = "anchors and aliases (& and *) are not used in rules"
        raise place.wrong(msg, "Write the value out where it is meant.")
    seen.add(id(node))
    if node.tag not in _KINDS:
        what = f"the tag {node.tag!r} is not used in rules"
        raise place.wrong(what, "Leave it out.")
    children = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
    if not isinstance(node, ScalarNode):
        for child in children:
            _check(Place(place.file, child), seen)
