"""Proves by doing what a tier can do: every ability that wsistore relies on is tried out on the tier itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from wsistore.errors import Kind, WsistoreError
from wsistore.ops import tier_manners as manners
from wsistore.ops import tier_probes as probes
from wsistore.ops.site import Site
from wsistore.ops.tier_bench import Bench
from wsistore.ops.tier_opening import open_plain, open_tier, wrapped
from wsistore.ops.tier_rows import CheckRow, Found, Result
from wsistore.units import MIB

SIZE_BYTES = 64 * MIB
_RETRIES = 2
"""Fewer than work gets: whoever checks a tier wants to hear what is wrong with it."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One row to be."""

    name: str
    act: Callable[[Bench], Found]
    needed: bool = False


_FIRST = (_Check("reach", probes.reach, needed=True), _Check("identity", probes.identity, needed=True))
_REST = (
    _Check("write", probes.write, needed=True),
    _Check("read-back", probes.read_back, needed=True),
    _Check("large", probes.large, needed=True),
    _Check("range", probes.ranges, needed=True),
    _Check("suffix", probes.suffix, needed=True),
    _Check("read-after-write", probes.fresh, needed=True),
    _Check("conditional-write", manners.conditional, needed=True),
    _Check("list", manners.listing, needed=True),
    _Check("overwrite", manners.overwrite),
    _Check("delete", manners.delete),
    _Check("versions", manners.versions),
    _Check("clock", manners.clock),
    _Check("latency", probes.latency),
    _Check("lock", manners.lock),
    _Check("permissions", manners.permissions),
    _Check("certificate", manners.certificate),
)
NEEDED = tuple(check.name for check in (*_FIRST, *_REST) if check.needed)
"""Without which wsistore cannot work."""


def check_tier(site: Site, name: str, *, lock: bool = False, size_bytes: int = SIZE_BYTES) -> Iterator[CheckRow]:
    """Yield what a tier can do, row by row, each when it was tried.

    Everything lies under a random prefix below ``check/``, and is removed at the end, also when the iterator is closed
    early.

    Parameters
    ----------
    site
        An open site.
    name
        Of one of its tiers.
    lock
        Try Object Lock, where it is configured; leaves one object behind for as long as the lock lasts.
    size_bytes
        Of the object by which throughput is measured.

    Raises
    ------
    SiteError
        If there is no such tier, or its key file is not in order.
    StorageError
        If its URL or options are none that a back end understands.

    """
    tier = site.tier_settings(name)
    plain = open_plain(replace(tier, object_lock=None))
    storage = wrapped(plain, tier, retries=_RETRIES, clock=site.clock)
    locking = open_tier(tier, retries=_RETRIES, clock=site.clock) if lock and tier.object_lock else None
    return check_bench(Bench(tier, plain, storage, locking, site.clock, size_bytes), lock=lock)


def check_bench(bench: Bench, *, lock: bool = False) -> Iterator[CheckRow]:
    """Yield the rows of one tier; see `check_tier`."""
    try:
        for check in _FIRST:
            row = _row(bench, check)
            yield row
            if row.result is not Result.OK:
                return
        why = _why_not_written_to(bench, lock=lock)
        if why:
            yield _row(
                bench, _Check("write", lambda _: Found(Result.SKIPPED, why, "Run with --lock if that is meant."))
            )
            return
        for check in _REST:
            yield _row(bench, check)
        yield _row(bench, _Check("clean", lambda bench: _cleaned(bench, lock=lock)))
    finally:
        bench.close()


def _row(bench: Bench, check: _Check) -> CheckRow:
    begun = bench.clock.monotonic_seconds()
    try:
        found = check.act(bench)
    except WsistoreError as error:
        if error.kind is Kind.STORAGE_DENIED:
            bench.denied.append(check.name)
        found = Found(Result.FAILED, error.message, error.remedy, {"kind": str(error.kind)})
    return CheckRow(
        tier=bench.tier.name,
        check=check.name,
        needed=check.needed or check.name in NEEDED,
        result=found.result,
        figure=found.figure,
        remedy=found.remedy,
        values=found.values,
        seconds=bench.clock.monotonic_seconds() - begun,
    )


def _why_not_written_to(bench: Bench, *, lock: bool) -> str:
    """Return why nothing is to be tried that writes: a bucket that locks whatever is written would keep it all."""
    try:
        abilities = bench.abilities()
    except WsistoreError:
        return ""  # the rows that ask again say so
    if lock or abilities is None or abilities.default_lock is None:
        return ""
    return f"the bucket locks whatever is written to it ({abilities.default_lock})"


def _cleaned(bench: Bench, *, lock: bool) -> Found:
    wrong = bench.clean()
    left = [info.key for info in bench.left()]
    if not wrong and not left:
        return Found(Result.OK, f"nothing is left under {bench.prefix}")
    kept = "they are locked" if lock else wrong or "the listing still names them"
    return Found(Result.WARNING, f"{len(left)} objects are left under {bench.prefix}: {kept}", "Remove them by hand.")
