"""What a plan reckons with at a site: prices of its tiers, what lies there, sizes and speeds that were measured."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, median

import pyarrow as pa

from wsistore.catalog.durations import CopyDuration, copy_durations
from wsistore.catalog.usage import Usage, usage_by_tier
from wsistore.model import Preset
from wsistore.ops.early import prices_of
from wsistore.ops.site import Site
from wsistore.ops.tuning_profiles import FOLDER
from wsistore.settings import TierSettings
from wsistore.tiers.expected_cost import RESTORED_DAYS
from wsistore.tiers.plans.coefficients import Coefficients, TierTerms
from wsistore.tiers.plans.flat import copies_of, tiers_in
from wsistore.tiers.plans.sizes import measured_sizes
from wsistore.tiers.plans.speeds import Speeds
from wsistore.tiers.prices import default_prices, load_prices

LEAST_SECONDS = 0.05
"""A copy that took less says more of the clock than of the tier."""
_MOST_PROFILES = 1000
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the tuner's kept tables say of one preset: means over the profiles."""

    bytes_per_byte: float
    cpu_seconds_per_byte: float


def coefficients(site: Site, facts: pa.Table, decisions: pa.Table, at: datetime) -> Coefficients:
    """Return prices and coefficients of all tiers of a site, and of those that its copies lie in though they are gone.

    Parameters
    ----------
    site
        An open site.
    facts, decisions
        What the plan is made of: copies that are there say how large others will be.
    at
        The moment of the plan.

    Raises
    ------
    SiteError
        If prices that a tier names are not there, or the catalogue fails.

    """
    used = usage_by_tier(site.catalog)
    terms = {tier.name: _terms(site, tier, used.get(tier.name, Usage())) for tier in site.settings.tiers}
    for name in tiers_in(facts, decisions):
        if name not in terms:
            terms[name] = TierTerms(name=name, prices=load_prices(default_prices(name)), is_of_site=False)
    tiers = [terms[name] for name in sorted(terms)]
    copies = copies_of(facts, [tier.name for tier in tiers], at)
    tuned = tuned_presets(site.folder)
    sizes = measured_sizes(facts, copies, {preset: one.bytes_per_byte for preset, one in tuned.items()})
    cpu = {preset: one.cpu_seconds_per_byte for preset, one in tuned.items()}
    return Coefficients(tiers, sizes, speeds_of(copy_durations(site.catalog), jobs=site.jobs, cpu=cpu))


def _terms(site: Site, tier: TierSettings, used: Usage) -> TierTerms:
    archive = tier.archive
    return TierTerms(
        name=tier.name,
        prices=prices_of(site, tier),
        is_archive=archive is not None,
        retrieval="" if archive is None else archive.retrieval,
        restore_days=RESTORED_DAYS if archive is None else float(archive.restore_days),
        service=(tier.scheme, tier.endpoint, tier.region),
        capacity_bytes=tier.capacity_bytes,
        used_bytes=used.bytes_stored,
        high_watermark=tier.high_watermark,
    )


def speeds_of(durations: Sequence[CopyDuration], *, jobs: int, cpu: dict[str, float] | None = None) -> Speeds:
    """Return the medians of what was measured; resumed copies do not count, for most of their time is not known.

    Parameters
    ----------
    durations
        Of copies that were made.
    jobs
        Workers of the site.
    cpu
        CPU seconds per byte of the source by preset, as the tuner measured them: for presets that nothing else tells.

    """
    whole = [one for one in durations if not one.resumed and one.seconds >= LEAST_SECONDS and one.bytes_read > 0]
    encoded = [one for one in whole if one.cpu_seconds > 0]
    plain = [one for one in whole if one.cpu_seconds == 0]
    return Speeds(
        copying=_medians(plain, lambda one: one.tier, lambda one: one.bytes_stored / one.seconds),
        encoding=_medians(encoded, lambda one: one.preset, lambda one: one.bytes_read / one.seconds),
        encoding_cpu={
            **(cpu or {}),
            **_medians(encoded, lambda one: one.preset, lambda one: one.cpu_seconds / one.bytes_read),
        },
        samples=len(whole),
        jobs=jobs,
    )


def _medians(
    durations: Iterable[CopyDuration], key: Callable[[CopyDuration], str], rate: Callable[[CopyDuration], float]
) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for one in durations:
        found[key(one)].append(rate(one))
    return {name: median(values) for name, values in sorted(found.items())}


def tuned_presets(folder: Path) -> dict[str, Tuned]:
    """Return what the kept tables of the tuner say of each preset; a damaged one says nothing.

    Parameters
    ----------
    folder
        The site's.

    """
    found: defaultdict[str, list[Tuned]] = defaultdict(list)
    for path in sorted((folder / FOLDER).glob("*.json"))[:_MOST_PROFILES]:
        for preset, one in _tuned_of(path):
            found[preset].append(one)
    return {
        preset: Tuned(fmean(one.bytes_per_byte for one in all_), fmean(one.cpu_seconds_per_byte for one in all_))
        for preset, all_ in sorted(found.items())
    }


def _tuned_of(path: Path) -> Iterator[tuple[str, Tuned]]:
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MOST_BYTES))
        source = fmean(float(slide["bytes_source"]) for slide in document["slides"])
        candidates = {one["candidate"]: one for one in document["candidates"]}
        for preset in (str(Preset.FOLD), str(Preset.PACK)):
            chosen = candidates[document["presets"][preset]["name"]]
            size, cpu = float(chosen["bytes_stored"]) / source, float(chosen["encode_seconds"]) / source
            if 0 < size < 100 and 0 <= cpu < 1:
                yield preset, Tuned(size, cpu)
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        return
