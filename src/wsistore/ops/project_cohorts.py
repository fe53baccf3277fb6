"""Which slides a project is about, before anybody's objection is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog import projects_conditions as conditions
from wsistore.catalog.projects import CohortRow, members
from wsistore.catalog.projects_conditions import COHORT
from wsistore.catalog.projects_facts import SlideSeen, read_seen
from wsistore.catalog.projects_people import Person, people
from wsistore.ops.facts import facts_table
from wsistore.ops.site import Site
from wsistore.tiers.rules.facts import SCHEMA

OLDEST = 90
"""Years: whoever is older is told as old as that."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The slides of a cohort."""

    facts: pa.Table
    """Their facts, by key: `wsistore.tiers.rules.facts.SCHEMA`."""
    people: dict[str, Person]
    """Whose they are, by slide; a list may name slides of which it is not known."""
    unknown: int
    """How many slides a condition chose and that were left out: nobody knows whose they are, so that an objection
    could not reach them."""


def choose(site: Site, cohort: CohortRow | None) -> Chosen:
    """Return the slides of a cohort; none where a project has no cohort.

    Raises
    ------
    InputError
        If its condition cannot be evaluated.
    SiteError
        If the catalogue fails, or identities are sealed and the keys are not at hand.

    """
    if cohort is None:
        return Chosen(facts_table(site, []), {}, 0)
    if cohort.condition is None:
        wanted = members(site.catalog, cohort)
        facts = _only(facts_table(site, wanted), wanted)
        return Chosen(facts, people(site.catalog, facts["slide"].to_pylist()), 0)
    wanted = conditions.choose(cohort.condition, cohort_table(seen_table(site)), site.clock.now())
    known = people(site.catalog, wanted)
    of_somebody = [slide for slide in wanted if slide in known]
    return Chosen(_only(facts_table(site, of_somebody), of_somebody), known, len(wanted) - len(known))


def seen_table(site: Site) -> pa.Table:
    """Return of all slides those facts by which cohorts are chosen, as `facts_table` has them, without the rest.

    Raises
    ------
    SiteError
        If the catalogue fails, or identities are sealed and the keys are not at hand.

    """
    kept = pa.schema([SCHEMA.field(name) for name in SlideSeen._fields])
    batches = []
    for portion in read_seen(site.catalog):
        columns = zip(kept, zip(*portion, strict=True), strict=True)
        # Days come as texts, of which an array of days is not made at once.
        arrays = [
            pa.array(v, pa.string()).cast(f.type) if f.type == pa.date32() else pa.array(v, f.type) for f, v in columns
        ]
        batches.append(pa.record_batch(arrays, schema=kept))
    return pa.Table.from_batches(batches, kept)


def cohort_table(facts: pa.Table) -> pa.Table:
    """Return what conditions of cohorts see of slides: of a table of facts, or of `seen_table`."""
    columns = {name: facts[name] for name in COHORT.names if name in facts.schema.names}
    received = facts["received_on"]
    columns["received_month"] = pc.strftime(received, format="%Y-%m")
    columns["received_year"] = pc.cast(pc.year(received), pa.int32())
    ages = [age(born, day) for born, day in zip(facts["birth_date"].to_pylist(), received.to_pylist(), strict=True)]
    columns["age_at"] = pa.array(ages, pa.int32())
    return pa.table([columns[name].cast(COHORT.field(name).type) for name in COHORT.names], schema=COHORT)


def age(born: date | None, day: date | None) -> int | None:
    """Return how old somebody was on a day, in whole years, at most `OLDEST`; None if that cannot be told."""
    if born is None or day is None or day < born:
        return None
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return min(years, OLDEST)


def _only(facts: pa.Table, slides: Sequence[str]) -> pa.Table:
    return facts.filter(pc.is_in(facts["slide"], value_set=pa.array(slides, pa.string())))
