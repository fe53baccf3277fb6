"""The rule sets that come with wsistore, each with its sources and its golden cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsistore.errors import Kind, MissingError
from wsistore.settings.values import did_you_mean
from wsistore.tiers.rules.reading import read_rules
from wsistore.tiers.rules.values import Rules

_FOLDER = Path(__file__).resolve().parent.parent / "data" / "rules"
TESTS = ".tests.yaml"
"""What a file of rules' golden cases is called beside it: ``rules.yaml`` has ``rules.tests.yaml``."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """One rule set."""

    name: str
    path: Path
    tests: Path
    """Its golden cases."""

    def rules(self) -> Rules:
        """Return its rules."""
        return read_rules(self.path)


def shipped_rules() -> dict[str, Shipped]:
    """Return the rule sets that come with wsistore, by name."""
    paths = sorted(path for path in _FOLDER.glob("*.yaml") if not path.name.endswith(TESTS))
    return {path.stem: Shipped(path.stem, path, tests_beside(path)) for path in paths}


def shipped(name: str) -> Shipped:
    """Return the rule set called `name`.

    Raises
    ------
    MissingError
        If there is none.

    """
    known = shipped_rules()
    if name not in known:
        msg = f"No rule set {name!r} comes with wsistore{did_you_mean(name, known)}."
        raise MissingError(msg, kind=Kind.PATH_MISSING, remedy=f"There are: {', '.join(known)}.")
    return known[name]


def tests_beside(path: Path) -> Path:
    """Return where the golden cases of a file of rules are looked for."""
    return path.with_name(path.name.removesuffix(path.suffix) + TESTS)
