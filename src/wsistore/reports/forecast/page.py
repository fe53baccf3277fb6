"""The page of a forecast: scenarios side by side, with their ranges, and all that they rest on."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from importlib import resources

import numpy as np

from wsistore.reports.forecast.running import Forecast, bands, cumulative
from wsistore.reports.forecast.scenario import DAYS_PER_MONTH, MONTHS_PER_YEAR, Path, Stage
from wsistore.reports.forecast.values_used import values_used
from wsistore.reports.models import METHOD
from wsistore.reports.pages import charts, document
from wsistore.reports.pages.charts import Bar, Series
from wsistore.reports.pages.document import Cell, Column
from wsistore.reports.pages.texts import Texts, texts_of
from wsistore.reports.samples import Band, Draws, Floats

_MONTHS = 12
_SMALL_AGE = 4.0
"""Months: younger ages are told in days."""


def words_of(language: str) -> Texts:
    """Return the texts of a forecast's page in a language; raises `InputError` if there are none."""
    base = texts_of(language)
    file = resources.files("wsistore.reports.forecast") / "words" / f"{language}.toml"
    return Texts(language, {**base.words, **tomllib.loads(file.read_text("utf-8"))})


def page_of(found: Sequence[Forecast], against: Forecast, draws: Draws, language: str = "en") -> str:
    """Return the whole page, as one file of HTML that needs nothing else.

    Parameters
    ----------
    found
        Scenarios, forecast for the same years with the same draws.
    against
        One of them: what the others are compared with.
    draws
        For the footer.
    language
        ``en`` or ``fr``.

    """
    titled = [_titled(one, language) for one in found]
    base = titled[[one is against for one in found].index(True)]
    return _Page(titled, base, draws, words_of(language)).markup()


def _titled(one: Forecast, language: str) -> Forecast:
    """Return a forecast whose scenario has its title in the page's language."""
    french = one.scenario.title_fr
    return replace(one, scenario=replace(one.scenario, title=french)) if language == "fr" and french else one


@dataclass(frozen=True)
class _Page:
    found: Sequence[Forecast]
    against: Forecast
    draws: Draws
    say: Texts

    def markup(self) -> str:
        about = {"years": self.against.years, "begins": self.say.month(self.against.begins)}
        title = self._say("title", **about)
        sub = self._say("sub", scenarios=len(self.found), against=self.against.scenario.title)
        links = [("sum", self._say("nav_sum")), ("growth", self._say("nav_growth"))]
        links += [("scenarios", self._say("nav_scenarios")), ("values", self._say("nav_values"))]
        header = document.heading(1, self._say("heading", **about)) + document.paragraph(sub)
        body = [
            document.navigation(self._say("contents"), links),
            document.section("sum", self._say("nav_sum"), self._sum()),
            document.section("growth", self._say("nav_growth"), self._growth()),
            document.section("scenarios", self._say("nav_scenarios"), self._scenarios()),
            document.section("values", self._say("nav_values"), self._values()),
        ]
        footer = self._say("footer", method=METHOD, draws=self.draws.count, seed=self.draws.seed)
        return document.page(
            self.say.language, title, self._say("skip"), header, "\n".join(body), document.paragraph(footer)
        )

    def _say(self, name: str, **values: object) -> str:
        return self.say(f"forecast.{name}", **values)

    # --- sums

    @cached_property
    def _last(self) -> list[dict[str, Band]]:
        """Of each scenario, all years together."""
        return [
            {
                "eur": bands(one.total.eur.sum(axis=0, keepdims=True))[0],
                "gco2e": bands(one.total.gco2e.sum(axis=0, keepdims=True))[0],
                "eur_more": bands((one.total.eur - self.against.total.eur).sum(axis=0, keepdims=True))[0],
                "gco2e_more": bands((one.total.gco2e - self.against.total.gco2e).sum(axis=0, keepdims=True))[0],
                "bytes": bands(one.all_bytes[-1:])[0],
                "spent": bands(one.spent.sum(axis=0, keepdims=True))[0],
            }
            for one in self.found
        ]

    def _sum(self) -> Iterator[str]:
        against, years = self.against.scenario.title, self.against.years
        money, carbon = ("scenario", "eur", "eur_more", "spent"), ("scenario", "carbon", "carbon_more", "bytes")
        for titles, rows, caption in (
            (money, [self._money_row(one, last) for one, last in self._pairs], "sum_caption"),
            (carbon, [self._carbon_row(one, last) for one, last in self._pairs], "sum_carbon_caption"),
        ):
            columns = [Column(self._say(name, against=against), name != "scenario") for name in titles]
            yield document.table(self._say(caption, years=years), columns, rows)
        yield document.paragraph(self._say("ranges"))
        yield document.paragraph(self._say("spent_note"))
        about = {"against": against, "years": years}
        for key, fmt in (("eur", self.say.rough), ("gco2e", self.say.carbon)):
            name = "carbon" if key == "gco2e" else key
            yield self._bars(f"total-{key}", self._say(f"total_{name}", **about), key, fmt)
            if len(self.found) > 1:
                yield self._bars(f"more-{key}", self._say(f"more_{name}", **about), f"{key}_more", fmt, signed=True)

    @property
    def _pairs(self) -> list[tuple[Forecast, dict[str, Band]]]:
        return list(zip(self.found, self._last, strict=True))

    def _money_row(self, one: Forecast, last: dict[str, Band]) -> list[Cell | str]:
        say, name = self.say, one.scenario.name
        return [
            one.scenario.title,
            self._cell(last["eur"], say.rough, f"{name}/eur"),
            self._more(one, last["eur_more"], say.rough, f"{name}/eur-more"),
            self._cell(last["spent"], say.rough, f"{name}/spent") if one.equipment else "",
        ]

    def _carbon_row(self, one: Forecast, last: dict[str, Band]) -> list[Cell | str]:
        say, name = self.say, one.scenario.name
        return [
            one.scenario.title,
            self._cell(last["gco2e"], say.carbon, f"{name}/gco2e"),
            self._more(one, last["gco2e_more"], say.carbon, f"{name}/gco2e-more"),
            self._cell(last["bytes"], say.bytes, f"{name}/bytes"),
        ]

    def _cell(self, band: Band, fmt: Callable[..., str], figure: str, *, sign: bool = False) -> Cell:
        def told(value: float) -> str:
            return fmt(value, sign=True) if sign else fmt(value)

        return Cell(told(band.central), band.central, figure, note=self.say.band(band, told))

    def _more(self, one: Forecast, band: Band, fmt: Callable[..., str], figure: str) -> Cell | str:
        return self._say("same") if one is self.against else self._cell(band, fmt, figure, sign=True)

    def _bars(self, key: str, title: str, name: str, fmt: Callable[..., str], *, signed: bool = False) -> str:
        bars = [
            Bar(one.scenario.title, last[name].central, last[name].low, last[name].high)
            for one, last in self._pairs
            if not (signed and one is self.against)
        ]

        def told(value: float) -> str:
            return fmt(value, sign=signed)

        chart = charts.bars_across(key, title, self._say("bars_told"), bars, told, signed=signed)
        return document.figure(chart, title)

    # --- years

    @cached_property
    def _labels(self) -> list[str]:
        begins = self.against.begins
        return [f"{begins.year + year}" for year in range(self.against.years)]

    def _growth(self) -> Iterator[str]:
        for name, fmt, of in (
            ("eur", self.say.rough, lambda one: cumulative(one.total.eur)),
            ("carbon", self.say.carbon, lambda one: cumulative(one.total.gco2e)),
            ("bytes", self.say.bytes, lambda one: one.all_bytes),
        ):
            title = self._say(f"grow_{name}")
            series = [Series(one.scenario.title, of(one)[:, 0].tolist()) for one in self.found]
            chart = charts.lines(f"grow-{name}", title, self._say("lines_told"), self._labels, series, fmt)
            yield document.figure(chart, title)

    # --- each scenario

    def _scenarios(self) -> Iterator[str]:
        for number, one in enumerate(self.found):
            yield document.heading(3, one.scenario.title)
            if one.scenario.about:
                yield document.paragraph(one.scenario.about)
            if one.scenario.paths:
                yield document.paragraph(f"{self._say('stages')}: {self._paths(one)}")
            yield from self._one(one, number)

    def _one(self, one: Forecast, number: int) -> Iterator[str]:
        title = self._say("one_eur", scenario=one.scenario.title)
        found = bands(cumulative(one.total.eur))
        central, low, high = ([getattr(band, end) for band in found] for end in ("central", "low", "high"))
        series = [Series(one.scenario.title, central, low, high)]
        told = self._say("one_told")
        chart = charts.lines(f"one-{number}-eur", title, told, self._labels, series, self.say.rough)
        yield document.figure(chart, title)
        title = self._say("one_tiers", scenario=one.scenario.title)
        tiers = sorted({tier for tier, _ in one.parts})
        by_tier = [
            Series(tier, np.sum([a.eur[:, 0] for (name, _), a in one.parts.items() if name == tier], axis=0).tolist())
            for tier in tiers
        ]
        if by_tier:
            yield document.figure(
                charts.stacked_bars(f"one-{number}-tiers", title, told, self._labels, by_tier, self.say.rough), title
            )
        yield self._years(one)

    def _years(self, one: Forecast) -> str:
        say, name = self.say, one.scenario.name
        titles = ["year", "slides", "bytes", "eur_year", "eur_sum", "carbon_sum"]
        titles += ["systems", "spent"] if one.equipment else []
        columns = [Column(self._say(title), title != "year") for title in titles]
        figures: list[tuple[str, Floats, Callable[..., str]]] = [
            ("slides", one.slides_kept, say.number),
            ("bytes", one.all_bytes, say.bytes),
            ("eur", one.total.eur, say.rough),
            ("eur-sum", cumulative(one.total.eur), say.rough),
            ("gco2e-sum", cumulative(one.total.gco2e), say.carbon),
        ]
        if one.equipment:
            bought = np.sum([own.bought for own in one.equipment.values()], axis=0)
            figures += [("systems", bought, say.number), ("spent", one.spent, say.rough)]
        banded = [(key, bands(rows), fmt) for key, rows, fmt in figures]
        rows: list[list[Cell | str]] = [
            [label, *(self._cell(found[year], fmt, f"{name}/{year + 1}/{key}") for key, found, fmt in banded)]
            for year, label in enumerate(self._labels)
        ]
        return document.table(self._say("years_caption", scenario=one.scenario.title), columns, rows)

    def _paths(self, one: Forecast) -> str:
        return " ".join(self._path(one, path) for path in one.scenario.paths)

    def _path(self, one: Forecast, path: Path) -> str:
        whole = path.part > 1 - 1e-9
        who = self._say("rest") if whole else self._say("part", part=self.say.percent(path.part), path=path.name)
        stages = "; ".join(self._stage(one, stage) for stage in path.stages)
        kept = path.keep_months
        end = self._say("never") if kept is None else self._say("deleted", years=f"{kept / MONTHS_PER_YEAR:g}")
        return f"{who}: {stages}; {end}."

    def _stage(self, one: Forecast, stage: Stage) -> str:
        copies = " + ".join(
            self._say(
                "copy", tier=copy.tier, prices=one.scenario.tiers[copy.tier].model.prices.title, preset=copy.preset
            )
            for copy in stage.copies
        )
        if not stage.after_months:
            return self._say("at_once", copies=copies)
        return self._say("stage", age=self._age(stage.after_months), copies=copies)

    def _age(self, months: float) -> str:
        if months < _SMALL_AGE:
            return self._say("day", count=f"{months * DAYS_PER_MONTH:.0f}")
        if months % _MONTHS:
            return self._say("month", count=f"{months:g}")
        return self._say("span_years", count=f"{months / _MONTHS:g}")

    # --- values

    def _values(self) -> Iterator[str]:
        yield document.paragraph(self._say("values_note"))
        yield document.paragraph(self._say("not_told"))
        titles = ("key", "low", "central", "high", "unit", "mark", "source")
        columns = [Column(self._say(name), name in ("low", "central", "high")) for name in titles]
        for one in self.found:
            rows: list[list[Cell | str]] = [
                [
                    used.key,
                    *(_figure(end) for end in (used.value.low, used.value.central, used.value.high)),
                    used.unit,
                    str(used.value.mark),
                    used.value.source,
                ]
                for used in values_used(one.scenario)
            ]
            caption = self._say("values_caption", scenario=one.scenario.title)
            table = document.table(caption, columns, rows)
            yield f"<details><summary>{escape(caption)}</summary>{table}</details>"


def _figure(value: float) -> str:
    """Return a value as it stands in a file, so that it can be found there."""
    return f"{value:.6g}"
