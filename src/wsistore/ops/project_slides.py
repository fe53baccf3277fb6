"""A project's slides as researchers see them: pseudonyms and a few columns, made of what the site knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from wsistore.catalog.objections import Objected
from wsistore.catalog.projects import CohortRow, ProjectRow
from wsistore.catalog.projects_people import Levels, Person
from wsistore.keys.pseudonyms import ProjectKeys, Subject
from wsistore.model import CopyState, Mode
from wsistore.ops.project_cohorts import age, choose
from wsistore.ops.project_levels import levels_of
from wsistore.ops.research_terms import Terms
from wsistore.ops.research_values import SLIDE_COLUMNS, SharedSlide
from wsistore.ops.site import Site

_LEAST = 4
"""Characters of a number that is looked for within codes: shorter ones are in many."""


@dataclass(frozen=True)
class ProjectSlides:
    """What a project shows."""

    rows: pa.Table
    """`SLIDE_COLUMNS`, sorted by pseudonym."""
    slides: Mapping[str, SharedSlide]
    """By pseudonym."""
    people: Mapping[str, Person]
    """Whose they are, by key. Stays inside."""
    unknown: int
    """See `wsistore.ops.project_cohorts.Chosen`."""

    def without(self, objected: Objected) -> ProjectSlides:
        """Return the same without the slides of those who object."""
        gone = {slide for slide, person in self.people.items() if person in objected}
        if not gone:
            return self
        slides = {name: shared for name, shared in self.slides.items() if shared.slide not in gone}
        keep = pa.array([name in slides for name in self.rows["slide"].to_pylist()], pa.bool_())
        people = {slide: person for slide, person in self.people.items() if slide not in gone}
        return replace(self, rows=self.rows.filter(keep), slides=slides, people=people)


def project_slides(
    site: Site, project: ProjectRow, cohort: CohortRow | None, keys: ProjectKeys, *, most_opened: int
) -> ProjectSlides:
    """Return what a project shows, before objections are looked at.

    Parameters
    ----------
    site
        An open site.
    project, cohort
        As the catalogue knows them.
    keys
        What makes pseudonyms.
    most_opened
        How many slides are opened at most to learn their levels, which are not known of the others then.

    Raises
    ------
    InputError
        If the cohort's condition cannot be evaluated.
    SiteError
        If the catalogue fails, or identities are sealed and the keys are not at hand.

    """
    chosen = choose(site, cohort)
    facts = [one | {"ready": _ready(site, one)} for one in chosen.facts.to_pylist() if one["copies"]]
    wanted = [(one["slide"], one["version"]) for one in facts]
    ready = [(one["slide"], one["version"]) for one in facts if one["ready"] is not None]
    shapes = levels_of(site, wanted, ready, most=most_opened)
    terms = Terms(site.settings.serve.told)
    rows: list[dict[str, Any]] = []
    slides: dict[str, SharedSlide] = {}
    for one in facts:
        levels = shapes.get((one["slide"], one["version"]))
        if levels is not None and len(levels) <= project.first_level:
            continue  # it has no level that may be shown
        person = chosen.people.get(one["slide"])
        names = keys.pseudonyms(Subject.SLIDE, one["slide"])
        said = _row(one, person, keys, project, levels) | _said(one, person, terms)
        rows.append(said | {"slide": names[0]})
        for name in names:
            slides[name] = SharedSlide(name, one["slide"], Mode(one["mode"]), project.first_level)
    rows.sort(key=lambda row: str(row["slide"]))
    return ProjectSlides(pa.Table.from_pylist(rows, SLIDE_COLUMNS), slides, chosen.people, chosen.unknown)


def _ready(site: Site, one: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the copy that can be read at once; None if there is none."""
    at_once = {tier.name for tier in site.settings.tiers if tier.archive is None}
    found = [copy for copy in one["copies"] if copy["tier"] in at_once]
    good = [copy for copy in found if copy["state"] == CopyState.COMMITTED]
    return next(iter(good or found), None)


def _row(
    one: Mapping[str, Any], person: Person | None, keys: ProjectKeys, project: ProjectRow, levels: Levels | None
) -> dict[str, Any]:
    ready = one["ready"]
    return {
        **_pseudonyms(one, person, keys),
        **_pixels(one, project.first_level, levels),
        "age_at": age(one["birth_date"], one["received_on"]),
        "received": _received(one, person, keys, project.dates),
        "bytes_stored": (ready or one["copies"][0])["bytes_stored"],
        "readiness": "cold" if ready is None else "ready",
        "mode": one["mode"],
        "preset": None if ready is None else ready["preset"],
    }


def _pseudonyms(one: Mapping[str, Any], person: Person | None, keys: ProjectKeys) -> dict[str, str | None]:
    case, block = one["case_id"], one["block"]
    within = case if case is not None else f"\0{one['slide']}"  # without a case nobody knows what else is of the block
    return {
        "patient": None if person is None else keys.pseudonym(Subject.PATIENT, person.number),
        "case": None if case is None else keys.pseudonym(Subject.CASE, case),
        "block": None if block is None else keys.pseudonym(Subject.BLOCK, f"{within}\0{block}"),
    }


def _pixels(one: Mapping[str, Any], first: int, levels: Levels | None) -> dict[str, Any]:
    width, height, um, magnification = (one[name] for name in ("width", "height", "um_per_px", "magnification"))
    if first:
        if levels is None:
            return dict.fromkeys(("width", "height", "levels", "um_per_px", "magnification"))
        factor = levels[0][1] / levels[first][1]
        height, width = levels[first]
        um = None if um is None else um * factor
        magnification = None if magnification is None else magnification / factor
    return {
        "width": width,
        "height": height,
        "levels": None if levels is None else len(levels) - first,
        "um_per_px": um,
        "magnification": magnification,
    }


def _said(one: Mapping[str, Any], person: Person | None, terms: Terms) -> dict[str, Any]:
    """Return what the laboratory says, as far as it may be told."""

    def told(column: str, text: str | None) -> str | None:
        is_good = text is not None and terms.may_be_told(column, text) and not _names(text, one, person)
        return text if is_good else None

    diagnoses = one["diagnoses"]
    if diagnoses is not None:
        diagnoses = [code for code in diagnoses if told("diagnoses", code) is not None]
    return {"organ": told("organ", one["organ"]), "diagnoses": diagnoses, "stain": told("stain", one["stain"])}


def _names(text: str, one: Mapping[str, Any], person: Person | None) -> bool:
    """Say whether a text holds the number of the patient or the case, though it looks like a code."""
    inside = [one["case_id"], one["slide"], None if person is None else person.number]
    said = text.casefold()
    return any(_is_in(number, said) for number in inside)


def _is_in(number: str | None, said: str) -> bool:
    return number is not None and (number.casefold() == said or (len(number) >= _LEAST and number.casefold() in said))


def _received(one: Mapping[str, Any], person: Person | None, keys: ProjectKeys, dates: str) -> str | None:
    day: date | None = one["received_on"]
    if day is None or dates == "none":
        return None
    if dates in {"month", "year"}:
        return day.isoformat()[: 7 if dates == "month" else 4]
    whose: Sequence[str] = (person.number,) if person is not None else ("", one["case_id"] or one["slide"])
    try:
        return (day + timedelta(days=keys.current.shift_days("\0".join(whose)))).isoformat()
    except OverflowError:
        return None
