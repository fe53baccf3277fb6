"""What if the rules had other ages: the slides that a site has, under both, for the years to come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from wsistore.catalog.expressions import Expression, parse
from wsistore.errors import InputError, Kind
from wsistore.ops.facts import facts_table
from wsistore.ops.forecasting import Forecasted, first_month, outcome_of, write_forecast
from wsistore.ops.planning import bound, site_rules
from wsistore.ops.planning_terms import coefficients
from wsistore.ops.report_data import lost_tier, tier_models
from wsistore.ops.site import Site
from wsistore.reports.forecast.page import words_of
from wsistore.reports.forecast.running import Forecast, forecast_of
from wsistore.reports.forecast.scenario import ForecastTier, PresetFigures, Scenario, Slides
from wsistore.reports.forecast.stock import Stock, activity_of, preset_ratios
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws
from wsistore.reports.terms import ReportSettings, read_settings
from wsistore.settings.values import did_you_mean
from wsistore.tiers.plans.coefficients import PRESETS, Coefficients
from wsistore.tiers.plans.flat import tiers_in
from wsistore.tiers.plans.sizes import groups_of
from wsistore.tiers.rules import Rules, read_rules
from wsistore.tiers.rules.reading import KEEP_UNTIL, WHERE
from wsistore.tiers.value_files import NOTHING, Mark, Value

NOW, OTHER = "rules", "other-rules"
_UNIT = r"(?:day|week|month|year)s?"
_INTERVAL = re.compile(rf"\binterval\s+(?:'\s*\d+\s*{_UNIT}\s*'|'\d+'\s*{_UNIT}\b|\d+\s*{_UNIT}\b)", re.IGNORECASE)
_PERIOD = re.compile(r"(\d{1,5}) ?(day|week|month|year)s?")
_GB = 1e9


def what_if(
    site: Site,
    ages: Mapping[str, str],
    *,
    other: Path | None = None,
    rules: Path | None = None,
    years: int = 10,
    out: Path | None = None,
    language: str = "en",
) -> Forecasted:
    """Forecast the slides that a site has, by its rules and by the same with other ages.

    Nothing is known of the years to come: no slide comes, nobody looks at one, no stay, no death. So it tells what
    the rules make of what there is, as plans that look ahead do.

    Parameters
    ----------
    site
        An open site.
    ages
        New ages by the name of the rule, such as ``{"recent-priors": "5 years"}``; the rule must have just one.
    other
        Another file of rules to change and compare with, in the place of the first.
    rules
        The first rules; by default those of the site.
    years
        From the next month on.
    out
        Folder of the Parquet sets and the page; by default nothing is written.
    language
        Of the page.

    Raises
    ------
    MissingError, InputError
        If there are no rules or they are wrong; if a rule has not just one age (`Kind.RULES_INVALID`).
    SiteError
        If prices are not there, or the catalogue fails.
    StorageError
        If what comes out cannot be written.

    """
    words_of(language)
    first = site_rules(site, rules)
    second = with_ages(first if other is None else bound(site, read_rules(other)), ages)
    settings, facts = read_settings(site.folder), facts_table(site).sort_by("slide")
    month = first_month(None, settings, site.clock.now())
    draws = Draws(settings.seed, settings.draws)
    changed = ", ".join(f"{name}: {age}" for name, age in ages.items())
    titles = (Path(first.name).name, f"{Path(second.name).name}{' — ' * bool(changed)}{changed}")
    made = _Work(site, settings, facts, month, years, draws).run({NOW: first, OTHER: second}, titles)
    outcomes = [outcome_of(one, made[0]) for one in made]
    files = [] if out is None else write_forecast(out, made, made[0], draws, language)
    return Forecasted(str(month), years, NOW, outcomes, out, files, made)


def with_ages(rules: Rules, ages: Mapping[str, str]) -> Rules:
    """Return rules in which some ages are others.

    Raises
    ------
    InputError
        If there is no such rule, it has not just one age, or the age is none (`Kind.RULES_INVALID`).

    """
    names = [*(rule.name for rule in rules.placement), *(rule.name for rule in rules.retention)]
    for name, age in ages.items():
        if name not in names:
            msg = f"{rules.name} has no rule {name!r}{did_you_mean(name, names)}."
            raise InputError(msg, kind=Kind.RULES_INVALID, remedy=f"Its rules are: {', '.join(names)}.")
        if not _PERIOD.fullmatch(age):
            msg = f"{age!r} is no age for the rule {name!r}."
            raise InputError(msg, kind=Kind.RULES_INVALID, remedy="Write it as '90 days', '18 months' or '5 years'.")
    placement = [
        replace(rule, where=parse(_other(rules, rule.name, rule.where, ages[rule.name]), WHERE))
        if rule.name in ages
        else rule
        for rule in rules.placement
    ]
    retention = [
        replace(rule, keep_until=parse(_other(rules, rule.name, rule.keep_until, ages[rule.name]), KEEP_UNTIL))
        if rule.name in ages
        else rule
        for rule in rules.retention
    ]
    return replace(rules, placement=tuple(placement), retention=tuple(retention))


def _other(rules: Rules, name: str, condition: Expression | None, age: str) -> str:
    """Return a condition's text with another age in the place of its one."""
    text = "" if condition is None else condition.text
    found = _INTERVAL.findall(text)
    if len(found) != 1:
        msg = f"{rules.name}: the rule {name!r} has {len(found)} ages, not one: {text or 'it has no condition'}."
        remedy = "Copy the rules, change them there, and name the file with --rules."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy=remedy)
    match = _PERIOD.fullmatch(age)
    return _INTERVAL.sub(f"interval {match[1]} {match[2]}" if match else age, text)


class _Work:
    """The making of one what-if."""

    def __init__(
        self, site: Site, settings: ReportSettings, facts: pa.Table, month: Month, years: int, draws: Draws
    ) -> None:
        self.site, self.settings, self.facts = site, settings, facts
        self.month, self.years, self.draws = month, years, draws

    def run(self, rules: Mapping[str, Rules], titles: tuple[str, str]) -> list[Forecast]:
        models = tier_models(self.site, self.settings, self.month)
        nothing = pa.table({"steps": pa.nulls(0, pa.list_(_STEP))})
        for name in tiers_in(self.facts, nothing):
            models.setdefault(name, lost_tier(name, self.settings))
        tiers = tuple(sorted(models))
        stock = Stock.of(self.facts, rules.values(), tiers, self.site.clock.now())
        presets = self._presets(stock)
        months = [self.month]
        while len(months) < self.years * 12:
            months.append(months[-1].next)
        moments = [months[0].begins, *(months[year * 12 + 11].ends for year in range(self.years))]
        found = []
        for (name, one), title in zip(rules.items(), titles, strict=True):
            scenario = Scenario(
                name=name,
                file=one.name,
                title=title,
                slides=Slides(per_year=NOTHING, kinds=(), stock=float(self.facts.num_rows)),
                paths=(),
                tiers={tier: ForecastTier(model=model) for tier, model in models.items()},
                presets=presets,
                grid=self.settings.grid,
            )
            done = activity_of(stock, one, scenario, moments, tuple(months), 1 + self.draws.count)
            found.append(forecast_of(scenario, done, self.draws))
        return found

    def _presets(self, stock: Stock) -> dict[str, PresetFigures]:
        """Return how large copies are: measured on the site's own, as plans do."""
        nothing = pa.table({"steps": pa.nulls(0, pa.list_(_STEP))})
        terms: Coefficients = coefficients(self.site, self.facts, nothing, self.site.clock.now())
        groups = groups_of(self.facts)
        by_key, objects, _ = groups.ratios(terms.sizes)
        each = {name: by_key[groups.of_row, number] for number, name in enumerate(PRESETS)}
        ratios = preset_ratios(stock, each)
        return {
            name: PresetFigures(
                name=name,
                ratio=_exactly(ratios[name], "copies of this site, else as plans assume"),
                objects=float(objects[groups.of_row, number].mean()) if self.facts.num_rows else 1.0,
                cpu_seconds_per_gb=_exactly(terms.speeds.cpu_per_byte(name) * _GB, "this site, else as plans assume"),
            )
            for number, name in enumerate(PRESETS)
        }


def _exactly(number: float, source: str) -> Value:
    return Value(number, number, number, source, Mark.DERIVED)


_STEP = pa.struct([pa.field(name, pa.string()) for name in ("action", "tier", "source", "preset")])
"""Of plans; here nothing is planned."""
