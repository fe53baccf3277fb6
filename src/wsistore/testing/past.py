"""A hospital's past, made up: what happened to its slides over some years, as chains of events tell it.

Nobody's data: every figure is drawn from a seed. It is less regular than any forecast: nobody scans on Sundays, few in
August; slides grow; nights are too short, so that moves come late; some slides are held, some are for teaching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsistore.reports.happened import RAW
from wsistore.reports.intervals import SLIDES

Array = npt.NDArray[Any]
_DAY_US = 86_400_000_000
_MONTHS = (1.03, 1.0, 1.08, 1.0, 0.95, 1.05, 0.95, 0.62, 1.05, 1.1, 1.08, 0.85)
"""Slides of a month, as part of the mean; August is quiet."""
_WEEK = (1.15, 1.2, 1.2, 1.15, 1.0, 0.12, 0.0)
_OBJECTS = {"hot": 40, "warm": 40, "cold": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How the hospital was."""

    begins: datetime = datetime(2019, 1, 1, tzinfo=UTC)
    years: int = 6
    slides_first_year: int = 20_000
    growth: float = 0.06
    mean_bytes: float = 1.6e9
    larger_each_year: float = 0.02
    warm_after_days: float = 90.0
    cold_after_days: float = 730.0
    late_days: float = 12.0
    """How much later moves come, on average."""
    held: float = 0.02
    """Part of the slides that stay in hot."""
    teaching: float = 0.01
    """Part that stays in warm."""
    reads: Sequence[tuple[float, float]] = ((0.0, 3.0), (90.0, 0.4), (730.0, 0.04))
    """Whole slides read in a year, from an age in days on."""


def made_past(past: Past = Past(), seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Return what happened, and the slides that it happened to.

    Parameters
    ----------
    past
        How the hospital was.
    seed
        What all is drawn from: the same seed, the same past.

    Returns
    -------
    tuple of pyarrow.Table
        `wsistore.reports.happened.RAW` by slide and number, `wsistore.reports.intervals.SLIDES`.

    """
    random = np.random.default_rng(seed)
    came = _came(random, past)
    count = len(came)
    begin = int(past.begins.timestamp()) * 1_000_000
    end = begin + int(past.years * 365.25 * _DAY_US)
    years = (came - begin) / (365.25 * _DAY_US)
    mean = past.mean_bytes * (1 + past.larger_each_year) ** years
    size = (mean * random.lognormal(-0.245, 0.7, count)).astype(np.int64)
    keys = np.char.add("s", np.char.zfill(np.arange(count).astype(str), 19))
    warm = came + ((past.warm_after_days + random.exponential(past.late_days, count)) * _DAY_US).astype(np.int64)
    cold = came + ((past.cold_after_days + random.exponential(past.late_days, count)) * _DAY_US).astype(np.int64)
    kind = random.random(count)
    warm[kind < past.held] = end
    cold[kind < past.held + past.teaching] = end
    sizes = {
        "hot": size,
        "warm": (size * random.normal(0.76, 0.05, count).clip(0.5, 1.0)).astype(np.int64),
        "cold": (size * random.normal(0.73, 0.05, count).clip(0.5, 1.0)).astype(np.int64),
    }
    told = [_made(keys, came, "ingested", "hot", "keep", sizes, None, 2.0)]
    told += _moved(keys, warm, "hot", "warm", "fold", sizes, end)
    told += _moved(keys, cold, "warm", "cold", "pack", sizes, end)
    told += list(_read(random, past, keys, came, (warm, cold), sizes, end))
    table = pa.concat_tables(told).sort_by([("slide", "ascending"), ("at", "ascending")])
    table = table.set_column(1, "number", pa.array(_numbers(table["slide"].combine_chunks()), pa.int32()))
    departments = pa.array([f"UNIT-{n:02}" for n in range(8)]).take(pa.array(random.integers(0, 8, count)))
    return table, pa.table([pa.array(keys), pa.array(size), departments], SLIDES)


def _came(random: np.random.Generator, past: Past) -> Array:
    """Return when slides came, in microseconds from 1970, sorted."""
    days = np.arange(int(past.years * 365.25))
    dates = np.datetime64(past.begins.date()) + days
    month = dates.astype("datetime64[M]").astype(np.int64) % 12
    week = (dates.astype(np.int64) + 3) % 7  # 1970 began on a Thursday
    level = np.array(_MONTHS)[month] * np.array(_WEEK)[week] * (1 + past.growth) ** np.floor(days / 365.25)
    first = level[:365].sum()
    counts = random.poisson(level * past.slides_first_year / first)
    at = np.repeat(days, counts) + 0.25 + random.random(int(counts.sum())) * 0.5
    begin = int(past.begins.timestamp()) * 1_000_000
    found: Array = begin + np.sort(at * _DAY_US).astype(np.int64)
    return found


def _made(
    keys: Array, at: Array, kind: str, tier: str, preset: str, sizes: dict[str, Array], source: str | None, cpu: float
) -> pa.Table:
    size, objects = sizes[tier], _OBJECTS[tier]
    commit = np.char.add(
        np.char.add(f'"tier":"{tier}","preset":"{preset}","commit":"commits/{tier}/', keys), '/1.json"'
    )
    detail = np.char.add(np.char.add("{", commit), f',"version":1,"objects":{objects},"bytes_stored":')
    detail = np.char.add(detail, size.astype(str))
    seconds = np.round(sizes["hot"] / 1e9 * cpu, 3).astype(str)
    detail = np.char.add(np.char.add(detail, ',"cpu_seconds":'), seconds)
    if source is not None:
        detail = np.char.add(detail, f',"from":"{source}","objects_read":{_OBJECTS[source]},"bytes_read":')
        detail = np.char.add(detail, sizes[source].astype(str))
    return _events(keys, at, kind, np.char.add(detail, "}"))


def _moved(
    keys: Array, at: Array, source: str, tier: str, preset: str, sizes: dict[str, Array], end: int
) -> list[pa.Table]:
    happens = at < end
    mine, when = keys[happens], at[happens]
    there = {name: one[happens] for name, one in sizes.items()}
    made = _made(mine, when, "copied", tier, preset, there, source, 580.0)
    gone = np.char.add(
        np.char.add(f'{{"tier":"{source}","commit":"commits/{source}/', mine), '/1.json","bytes_stored":'
    )
    gone = np.char.add(np.char.add(gone, there[source].astype(str)), "}")
    return [made, _events(mine, when + 60_000_000, "dropped", gone)]


def _read(
    random: np.random.Generator,
    past: Past,
    keys: Array,
    came: Array,
    moved: tuple[Array, Array],
    sizes: dict[str, Array],
    end: int,
) -> Sequence[pa.Table]:
    """Return that slides were exported whole, from where they lay."""
    found = []
    ages = [age for age, _ in past.reads[1:]] + [past.years * 366.0]
    for (begins, rate), ends in zip(past.reads, ages, strict=True):
        times = random.poisson(rate * (ends - begins) / 365.25, len(keys))
        who = np.repeat(np.arange(len(keys)), times)
        at = came[who] + ((begins + random.random(len(who)) * (ends - begins)) * _DAY_US).astype(np.int64)
        who, at = who[at < end], at[at < end]
        place = (at > moved[0][who]).astype(np.int64) + (at > moved[1][who])
        for number, tier in enumerate(("hot", "warm", "cold")):
            mine = place == number
            detail = np.char.add(f'{{"tier":"{tier}","objects":{_OBJECTS[tier]},"bytes_read":', "")
            texts = np.char.add(np.char.add(detail, sizes[tier][who[mine]].astype(str)), "}")
            found.append(_events(keys[who[mine]], at[mine], "exported", texts))
            if tier == "cold" and mine.any():
                asked = np.char.add(f'{{"tier":"{tier}","objects":"{_OBJECTS[tier]}","bytes_asked":', "")
                texts = np.char.add(np.char.add(asked, sizes[tier][who[mine]].astype(str)), "}")
                found.append(_events(keys[who[mine]], at[mine] - 1_000_000, "recall-begun", texts))
    return found


def _events(keys: Array, at: Array, kind: str, detail: Array) -> pa.Table:
    moments = pa.array(at.astype(np.int64)).cast(pa.timestamp("us")).cast(RAW.field("at").type)
    kinds, numbers = pa.array(np.full(len(keys), kind)), pa.array(np.zeros(len(keys), np.int32))
    texts = pa.array(detail.astype(str) if len(keys) else np.zeros(0, "U1"))
    return pa.table([pa.array(keys.astype(str)), numbers, moments, kinds, texts], RAW)


def _numbers(slides: pa.Array) -> Array:
    codes = slides.dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return np.arange(len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes))) + 1
