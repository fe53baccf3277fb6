"""A site's rules: checked, tried on golden cases, explained for one slide, and taken from those that ship."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wsistore.errors import ConflictError, Kind, MissingError, SiteError
from wsistore.ops.facts import facts_table
from wsistore.ops.planning import site_rules
from wsistore.ops.site import Site
from wsistore.settings import Settings
from wsistore.tiers.rules import Rules, TierFacts, read_rules
from wsistore.tiers.rules.explaining import explain
from wsistore.tiers.rules.facts import FACTS
from wsistore.tiers.rules.golden import Checked, check, read_golden
from wsistore.tiers.rules.remarks import remarks
from wsistore.tiers.rules.shipped import Shipped, shipped, shipped_rules, tests_beside


@dataclass(frozen=True, slots=True)
class RulesChecked:
    """Rules that are in order."""

    rules: Rules
    remarks: tuple[str, ...]
    """What a person should know of them before using them."""


@dataclass(frozen=True, slots=True)
class RulesTested:
    """What came of golden cases."""

    rules: Path
    tests: Path
    cases: tuple[Checked, ...]

    @property
    def failed(self) -> int:
        """How many did not come out as expected."""
        return sum(bool(case.failures) for case in self.cases)


@dataclass(frozen=True, slots=True)
class RuleColumn:
    """A column that conditions of rules may speak of."""

    name: str
    type: str
    meaning: str


def check_rules(path: Path, settings: Settings | None = None) -> RulesChecked:
    """Read rules and say what is remarkable about them.

    Parameters
    ----------
    path
        The file.
    settings
        Those of a site whose tiers they are for; None: the names of tiers are not compared with anything.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If they are wrong; the message has line and column.

    """
    rules = read_rules(path)
    if settings is not None:
        rules = rules.bind({tier.name: TierFacts.of(tier) for tier in settings.tiers})
    return RulesChecked(rules, tuple(remarks(rules)))


def try_rules(path: Path, tests: Path | None = None) -> RulesTested:
    """Try rules on golden cases; by default on those in the file beside them (``rules.tests.yaml``).

    Raises
    ------
    MissingError
        If a file is not there.
    InputError
        If one is wrong; the message has line and column.

    """
    rules, file = read_rules(path), tests or tests_beside(path)
    return RulesTested(path, file, tuple(check(rules, read_golden(file))))


def explain_slide(site: Site, slide: str, at: datetime | None = None, rules_path: Path | None = None) -> list[str]:
    """Say in sentences what the rules mean for a slide, why, and what comes next.

    Parameters
    ----------
    site
        An open site.
    slide
        Key, unique beginning of one, or name.
    at
        The `now` of the rules, timezone-aware; by default the present.
    rules_path
        Other rules than the site's.

    Raises
    ------
    MissingError
        If there is no such slide, or no such file.
    InputError
        If the rules are wrong.

    """
    rules = site_rules(site, rules_path)
    key = site.catalog.resolve(slide)
    return explain(facts_table(site, [key]), rules, at or site.clock.now(), key)


def rule_columns() -> tuple[RuleColumn, ...]:
    """Return the columns that conditions of rules may speak of."""
    return tuple(RuleColumn(fact.name, str(fact.type), fact.meaning) for fact in FACTS if fact.in_rules)


def rule_sets() -> dict[str, Shipped]:
    """Return the rule sets that come with wsistore, by name."""
    return shipped_rules()


def rule_set(name: str) -> Shipped:
    """Return the rule set of that name that comes with wsistore; raises `MissingError` if there is none."""
    return shipped(name)


def copy_rules(name: str, target: Path) -> tuple[Path, Path]:
    """Write a rule set that comes with wsistore, and its golden cases beside it.

    Returns
    -------
    tuple[Path, Path]
        The rules and their golden cases.

    Raises
    ------
    MissingError
        If there is no such rule set, or no folder for it.
    ConflictError
        If a file is there already (`Kind.TARGET_EXISTS`).
    SiteError
        If it cannot be written.

    """
    source = shipped(name)
    written: list[Path] = []
    for origin, path in ((source.path, target), (source.tests, tests_beside(target))):
        try:
            with path.open("xb") as file:
                written.append(path)
                file.write(origin.read_bytes())
        except FileExistsError as error:
            _remove(written)
            msg = f"{path} is there already."
            raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Name another file with --to.") from error
        except FileNotFoundError as error:
            msg = f"There is no folder {path.parent}."
            raise MissingError(msg, remedy="Make it, or name another file with --to.") from error
        except (OSError, ValueError) as error:
            _remove(written)
            msg = f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})."
            raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Name another file with --to.") from error
    return target, tests_beside(target)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)
