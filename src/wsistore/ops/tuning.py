"""Choosing how slides are encoded in a tier: sample, measure, cost, choose, keep, explain."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from wsistore import __version__
from wsistore.clock import Clock, SystemClock, iso
from wsistore.compress.presets import ENCODINGS, Encoding
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_bytes import SourceBytes
from wsistore.compress.tuning.candidates import Candidate, candidates_for, codec_name, libraries
from wsistore.compress.tuning.measure import Measured, Measurement, measure_slide
from wsistore.compress.tuning.sampling import SAMPLE_BYTES, TileSource
from wsistore.compress.tuning.sources import StoredTiles, VendorTiles
from wsistore.errors import InputError, Kind, MissingError, UnsupportedError
from wsistore.model import Mode, Preset
from wsistore.ops.site import Site
from wsistore.ops.sound import check_current
from wsistore.ops.sources import open_at_rest
from wsistore.ops.stored import UNREADABLE, from_open_copy, open_copy
from wsistore.ops.tuning_profiles import (
    ProfileKey,
    find_profile,
    measurements_from_json,
    measurements_to_json,
    path_of,
    read_profile,
    scanner_name,
    slug,
    write_profile,
)
from wsistore.ops.tuning_results import Terms, Tuned, TunedSlide, decide
from wsistore.settings.values import did_you_mean
from wsistore.tiers.expected_cost import Access, expected_access
from wsistore.tiers.prices import default_prices, load_prices

Progress = Callable[[int, int, str], None]
"""Gets the bytes just measured, those of all candidates of the slide, and the slide's name."""

_PROFILE_SLIDES = 4
_MOST_LOOKED_AT = 500
"""Slides whose companions are opened to find some of a scanner: its name is in no column of the catalogue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """What `tune` may be told."""

    tier: str | None = None
    """By default the site's first; without a site ``hot``."""
    prices: str | None = None
    """Name or path; by default what the tier's settings say."""
    recalls: float | None = None
    """Whole-slide reads per year; by default what is assumed of the tier."""
    ranges: float | None = None
    """Single-tile reads per year; by default what is assumed of the tier."""
    horizon_years: float = 10.0
    decline: float | None = None
    """Part by which storage gets cheaper each year; by default what the prices say."""
    stain: str | None = None
    """Of slides whose stain the catalogue does not know."""
    seed: int = 0
    sample_bytes: int = SAMPLE_BYTES
    """Of all slides together."""
    jobs: int | None = None
    """Candidates measured at a time; by default one per processor."""
    keep: bool = True
    """Whether the site keeps table and choice."""
    again: bool = False
    """Measure even where the kept table has the same sample."""


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A slide whose tiles can be read."""

    name: str
    tiles: TileSource
    scanner: str
    stain: str

    @property
    def codec(self) -> str:
        """Of the largest level's tiles."""
        return slug(codec_name(self.tiles.documents[0]))


def tune(
    site: Site | None,
    slides: Sequence[str | Path],
    options: TuneOptions | None = None,
    *,
    clock: Clock | None = None,
    progress: Progress = lambda *_: None,
) -> Tuned:
    """Measure how slides can be encoded and choose what costs least in a tier.

    Parameters
    ----------
    site
        Where keys, prices and profiles are; None to tune files without a site, for prices that come with wsistore.
    slides
        Paths of vendors' files, or keys or names of the site's slides; all of one scanner, stain and codec.
    options
        See `TuneOptions`.
    clock
        For the moment that is kept; by default the site's.
    progress
        See `Progress`.

    Raises
    ------
    MissingError
        If there is no such file or slide.
    InputError
        If a slide has no tiles, or they are not alike.
    SiteError
        If there is no such tier, or its prices are wrong, or the profile cannot be kept.
    StorageError, IntegrityError
        If a stored slide cannot be read.

    """
    given = options or TuneOptions()
    if not slides:
        msg = "There is no slide to tune with."
        raise InputError(msg, kind=Kind.NOT_A_SLIDE, remedy="Name one.")
    terms = _terms(site, given)
    key: ProfileKey | None = None
    kept: dict[str, tuple[Measurement, ...]] = {}
    found: list[tuple[_Opened, Measured, bool]] = []
    for slide in slides:
        with _opened(site, slide, given.stain) as one:
            mine = ProfileKey(one.scanner, one.stain, one.codec, terms.tier)
            if key is None:
                key, tried = mine, candidates_for(one.tiles.documents[0])
                kept = {} if site is None or given.again else _kept_measurements(site, key, tried)
            elif mine != key:
                raise _unlike(one, mine, key)
            measured = measure_slide(
                one.tiles,
                tried,
                seed=given.seed,
                sample_bytes=max(1, given.sample_bytes // len(slides)),
                jobs=given.jobs or (site.jobs if site is not None else os.cpu_count() or 1),
                progress=lambda done, total, name=one.name: progress(done, total, name),  # type: ignore[misc]
                known=kept,
            )
            found.append((one, measured, measured.fingerprint in kept))
    assert key is not None  # noqa: S101 - there is at least one slide
    time = clock or (site.clock if site is not None else SystemClock())
    tuned = _decided(key, tried, found, terms, given.seed, iso(time.now()))
    if site is not None and given.keep:
        path = write_profile(site.folder, key, {**tuned.to_json(), "libraries": libraries()})
        return tuned.kept_at(path)
    return tuned


def tune_profile(
    site: Site,
    profile: str,
    options: TuneOptions | None = None,
    *,
    slides: int = _PROFILE_SLIDES,
    progress: Progress = lambda *_: None,
) -> Tuned:
    """Tune with several of a site's slides of one scanner and stain; see `tune`.

    Parameters
    ----------
    site
        The site.
    profile
        ``SCANNER/STAIN``.
    options, progress
        As for `tune`.
    slides
        How many, drawn by the seed.

    Raises
    ------
    MissingError
        If the site has no such slide.

    """
    given = options or TuneOptions()
    scanner, _, stain = profile.rpartition("/")
    if not scanner or not stain:
        msg = f"{profile!r} is no profile."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Write it as SCANNER/STAIN: leica-aperio/ihc.")
    wanted = f"{slug(scanner)}/{slug(stain)}"
    picked: list[str] = []
    codec, seen = None, set()
    for key, name, its_codec in _candidates_of_site(site, given):
        seen.add(name)
        if name == wanted and codec in {None, its_codec}:
            codec = its_codec
            picked.append(key)
        if len(picked) >= slides:
            break
    if not picked:
        msg = f"The site {site.settings.name!r} has no slide of the profile {wanted!r}{did_you_mean(wanted, seen)}."
        remedy = f"Profiles of its slides: {', '.join(sorted(seen)[:10]) or 'none'}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy=remedy)
    return tune(site, sorted(picked), given, progress=progress)


def encoding_for(site: Site, slide: str, tier: str, preset: Preset) -> Encoding:
    """Return how a slide is to be encoded in a tier: as the tuner chose for slides like it, else as the preset is.

    Parameters
    ----------
    site
        The site.
    slide
        Key, unique beginning of one, or name.
    tier
        Name of the tier that it is to be encoded for.
    preset
        What is wanted.

    Raises
    ------
    MissingError
        If there is no such slide.
    SiteError
        If the profile is damaged.
    StorageError, IntegrityError
        If the slide's companion cannot be read.

    """
    if preset is Preset.KEEP:
        return ENCODINGS[preset]
    row = site.catalog.slide(site.catalog.resolve(slide))
    stain = row.metadata.get("stain")
    return from_open_copy(site, row.slide, lambda _, stored: encoding_of(site, stored, stain, tier, preset))


def encoding_of(site: Site, stored: StoredSlide, stain: str | None, tier: str, preset: Preset) -> Encoding:
    """Do what `encoding_for` does, of a copy that is open already."""
    if preset is Preset.KEEP or stored.companion.mode is Mode.WHOLE:
        return ENCODINGS[preset]
    key = ProfileKey(*_kind_of(stored, stain), tier)
    return find_profile(site.folder, key, preset) or ENCODINGS[preset]


def _kind_of(stored: StoredSlide, stain: str | None) -> tuple[str, str, str]:
    """Return scanner, stain and codec of a stored slide that has tiles."""
    companion = stored.companion
    document = companion.keep.arrays[0] if companion.keep is not None else stored.document("0/image")
    return scanner_name(companion.scanner, companion.source_format), slug(stain), slug(codec_name(document))


def _candidates_of_site(site: Site, given: TuneOptions) -> Iterator[tuple[str, str, str]]:
    """Yield key, profile and codec of slides that have tiles, in an order that the seed decides."""
    rows = sorted(site.catalog.slides(), key=lambda row: row.slide)
    random.Random(given.seed).shuffle(rows)  # noqa: S311 - draws a sample, hides nothing
    for row in [row for row in rows if row.mode is Mode.TILES][:_MOST_LOOKED_AT]:
        scanner, stain, codec = _kind_at(site, row.slide, row.metadata.get("stain") or given.stain)
        yield row.slide, f"{scanner}/{stain}", codec


def _kind_at(site: Site, slide: str, stain: str | None) -> tuple[str, str, str]:
    return from_open_copy(site, slide, lambda _, stored: _kind_of(stored, stain))


def _terms(site: Site | None, given: TuneOptions) -> Terms:
    """Return tier, prices, access and horizon: what is told, else what the settings say, else what is assumed."""
    if site is not None:
        settings = site.tier_settings(given.tier) if given.tier else site.settings.tiers[0]
        tier, named, folder, energy = settings.name, given.prices or settings.prices, site.folder, settings.energy
    else:
        tier, named, folder, energy = given.tier or "hot", given.prices or "", None, ""
    prices = load_prices(named or default_prices(tier), Path() if given.prices else folder, energy=energy)
    assumed = expected_access(tier)
    access = Access(
        assumed.recalls if given.recalls is None else given.recalls,
        assumed.ranges if given.ranges is None else given.ranges,
    )
    return Terms(tier, prices, access, given.horizon_years).with_decline(given.decline)


@contextmanager
def _opened(site: Site | None, slide: str | Path, stain: str | None) -> Iterator[_Opened]:
    if isinstance(slide, Path) or os.path.lexists(slide):
        source = open_at_rest(Path(slide), scan_all=False)
        with SourceBytes(source.files) as files:
            tiles = VendorTiles(source, files)
            yield _Opened(Path(slide).name, tiles, scanner_name(source.scanner, source.format), slug(stain))
            files.check_unchanged()
        return
    if site is None:
        msg = f"There is nothing at {slide}, and no site to look a slide up in."
        raise MissingError(msg, kind=Kind.PATH_MISSING, remedy="Check the path, or name the site with -C.")
    row = site.catalog.slide(site.catalog.resolve(slide))
    copy, _, stored = open_copy(site, row.slide)
    scanner = scanner_name(stored.companion.scanner, stored.companion.source_format)
    try:
        yield _Opened(row.slide, StoredTiles(stored), scanner, slug(row.metadata.get("stain") or stain))
    except UNREADABLE:
        check_current(site, copy)
        raise


def _unlike(one: _Opened, mine: ProfileKey, key: ProfileKey) -> UnsupportedError:
    msg = (
        f"{one.name} is of the profile {mine.name} ({mine.codec}), not of {key.name} ({key.codec}) as the first slide."
    )
    return UnsupportedError(msg, remedy="Tune with slides that are alike, one profile at a time.")


def _kept_measurements(site: Site, key: ProfileKey, tried: Sequence[Candidate]) -> dict[str, tuple[Measurement, ...]]:
    """Return what was measured before, by the sample's fingerprint; nothing of another version of wsistore."""
    document = read_profile(site.folder, key)
    if document is None or document.get("software") != f"wsistore {__version__}":
        return {}
    if document.get("libraries") != libraries():
        return {}
    names, found = tuple(one.name for one in tried), {}
    slides = document.get("slides")
    for slide in slides if isinstance(slides, list) else []:
        if isinstance(slide, dict) and isinstance(slide.get("sample_sha256"), str):
            kept = measurements_from_json(slide.get("measured"), names, path_of(site.folder, key))
            if kept is not None:
                found[slide["sample_sha256"]] = kept
    return found


def _decided(
    key: ProfileKey,
    tried: Sequence[Candidate],
    found: Sequence[tuple[_Opened, Measured, bool]],
    terms: Terms,
    seed: int,
    moment: str,
) -> Tuned:
    slides = tuple(
        TunedSlide(
            slide=one.name,
            bytes_source=measured.bytes_source,
            sample_bytes=measured.sample.size_bytes,
            sample_sha256=measured.fingerprint,
            measured=measurements_to_json(dict(zip((c.name for c in tried), measured.measurements, strict=True))),
            from_kept_table=again,
        )
        for one, measured, again in found
    )
    means = [_mean([measured.measurements[n] for _, measured, _ in found]) for n in range(len(tried))]
    return decide(key, tried, means, slides, terms, seed=seed, measured_at=moment)


def _mean(several: Sequence[Measurement]) -> Measurement:
    """Return what a slide of the profile is on average."""
    fallbacks: dict[str, int] = {}
    for one in several:
        for reason, count in one.fallbacks.items():
            fallbacks[reason] = fallbacks.get(reason, 0) + count
    return Measurement(
        bytes_stored=fmean(one.bytes_stored for one in several),
        bytes_error=sum(one.bytes_error**2 for one in several) ** 0.5 / len(several),
        encode_seconds=fmean(one.encode_seconds for one in several),
        decode_seconds=fmean(one.decode_seconds for one in several),
        range_seconds=fmean(one.range_seconds for one in several),
        range_bytes=fmean(one.range_bytes for one in several),
        objects=round(fmean(one.objects for one in several)),
        fallbacks=fallbacks,
    )
