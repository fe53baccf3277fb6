"""From rows that were written back to samples: so that bands of any sums are those of the sums.

A row tells its own band, and bands cannot be added. But each of a row's figures is a coefficient times what was used:
the coefficient's draws, scaled to the figure that stands in the row, are the figure's draws. Central figures are the
rows' own, whatever the coefficients are today.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from wsistore.reports.facts import SUMMED, Fact
from wsistore.reports.models import TierCosts, Totals
from wsistore.reports.samples import Draws, Sample
from wsistore.reports.usage import What
from wsistore.tiers.value_files import Value


class RowSamples:
    """Makes samples of facts.

    Parameters
    ----------
    costs
        Prices and coefficients of all tiers that facts speak of.
    draws
        That they are made of.

    """

    def __init__(self, costs: Mapping[str, TierCosts], draws: Draws) -> None:
        self.costs, self.draws = costs, draws
        self.nothing = draws.exactly(0.0)

    def totals(self, facts: Iterable[Fact]) -> Totals:
        """Return the sum of facts; tax is not in it."""
        summed = Totals(self.nothing, self.nothing, self.nothing, self.nothing)
        for fact in _merged(fact for fact in facts if not fact.is_tax):
            kwh = self.kwh(fact)
            summed += Totals(self.eur(fact), kwh, self._operational(fact, kwh), self._embodied(fact))
        return summed

    def eur(self, fact: Fact) -> Sample:
        """Return what a fact costs, without tax."""
        shape = self._price(fact.meter, self.costs[fact.tier])
        amount = float(fact.eur)
        if shape is not None and shape.central:
            return _scaled(shape, amount)
        # Of several ways back from an archive, or of a price of another day: the row's own band.
        ends = sorted((min(fact.eur_low, amount), max(fact.eur_high, amount)))
        return self.draws.of(f"{fact.tier}.{fact.meter}", Value(ends[0], amount, ends[1]))

    def kwh(self, fact: Fact) -> Sample:
        """Return the electricity of a fact."""
        costs = self.costs[fact.tier]
        shapes = {
            str(What.EGRESS): costs.network_kwh_per_gb,
            str(What.ENCODING): costs.kwh_per_core_hour,
        }
        return self._of(shapes.get(fact.meter, costs.kwh_per_tb_year), fact.kwh)

    def _operational(self, fact: Fact, kwh: Sample) -> Sample:
        return self._of(kwh * self.costs[fact.tier].grid, fact.operational_g)

    def _embodied(self, fact: Fact) -> Sample:
        return self._of(self.costs[fact.tier].embodied_g_per_tb_year, fact.embodied_g)

    def _of(self, shape: Sample, amount: float) -> Sample:
        if not amount:
            return self.nothing
        return _scaled(shape, amount) if shape.central else self.draws.exactly(amount)

    def _price(self, meter: str, costs: TierCosts) -> Sample | None:
        if meter == What.WRITES:
            return costs.price("put_per_1000") + costs.price("transition_per_1000")
        if meter == What.EGRESS:
            return costs.price("retrieval_per_gb") + costs.price("egress_per_gb")
        names = {
            str(What.STORAGE): "storage_per_tb_month",
            str(What.EARLY): "storage_per_tb_month",
            str(What.IDLE): "storage_per_tb_month",
            str(What.OVERHEAD): "standard_per_tb_month",
            str(What.READS): "get_per_1000",
            str(What.ENCODING): "cpu_per_core_hour",
        }
        return costs.price(names[meter]) if meter in names else None


def _scaled(shape: Sample, amount: float) -> Sample:
    return shape * (amount / shape.central)


def _merged(facts: Iterable[Fact]) -> list[Fact]:
    """Return facts of the same tier and meter as one: their figures rest on the same coefficients."""
    found: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        found[fact.tier, fact.meter].append(fact)
    return [_sum_of(mine) for _, mine in sorted(found.items())]


def _sum_of(mine: list[Fact]) -> Fact:
    sums: dict[str, Any] = {
        name: sum((getattr(one, name) for one in mine[1:]), getattr(mine[0], name)) for name in SUMMED
    }
    return replace(mine[0], **sums)
