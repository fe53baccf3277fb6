"""Copies let go on request, where others prove that they may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from wsistore.catalog.records import CopyRow
from wsistore.errors import ConflictError, Kind
from wsistore.model import CopyState
from wsistore.ops.attempts import recover
from wsistore.ops.drop_rules import good_tiers, required_copies
from wsistore.ops.dropping import begin_drop, drop_replaced
from wsistore.ops.early import early_ends
from wsistore.ops.holding import check_holds
from wsistore.ops.move_results import MoveResult, MoveStatus
from wsistore.ops.one_of_many import reported
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.stored import current_copies


def drop(
    site: Site, slides: Sequence[str], source: str, *, dry_run: bool = False, at_least: int = 1
) -> Iterator[MoveResult]:
    """Drop the copies of slides in a tier.

    Each needs a proof: good copies in as many other tiers as the settings require, read back not too long ago (else
    they are verified first), and no hold.

    Parameters
    ----------
    site
        An open site.
    slides
        Keys, unique beginnings or names; all of them are resolved before the first is begun.
    source
        Name of the tier.
    dry_run
        Only say what would be done.
    at_least
        In how many other tiers a good copy must remain, where that is more than the settings require.

    Yields
    ------
    MoveResult
        One per slide. A copy that must stay is a result, not an exception.

    Raises
    ------
    MissingError
        If one of `slides` is not there.
    SiteError
        If there is no such tier, or the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    site.tier_settings(source)
    keys = list(dict.fromkeys(site.catalog.resolve(slide) for slide in slides))
    if dry_run:
        return (reported(site, key, None, lambda key=key: _plan(site, key, source, at_least)) for key in keys)  # type: ignore[misc]
    recover(site)
    return (reported(site, key, None, lambda key=key: _drop(site, key, source, at_least)) for key in keys)  # type: ignore[misc]


def _drop(site: Site, key: str, tier: str, at_least: int) -> MoveResult:
    mine = _copies(site, key, tier)
    if not mine:
        return _nothing(site, key, tier)
    for copy in mine:
        begin_drop(site, copy, at_least=at_least)
    failures = drop_replaced(site, key)
    states = {(site.catalog.copy_of_attempt(copy.attempt) or copy).state for copy in mine}
    result = replace(_result(site, key, mine[0]), early=early_ends(site, mine))
    if states == {CopyState.DROPPED}:
        return replace(result, status=MoveStatus.DROPPED, dropped=(tier,))
    reason = str(failures[0]) if failures else "It is needed again."
    return replace(result, status=MoveStatus.DROPPING, reason=reason)


def _plan(site: Site, key: str, tier: str, at_least: int) -> MoveResult:
    mine = _copies(site, key, tier)
    if not mine:
        return _nothing(site, key, tier)
    check_holds(site, key)
    good = good_tiers(site, (copy for copy in current_copies(site, key) if copy.tier != tier))
    needed = max(at_least, required_copies(site, [tier]))
    if len(good) < needed:
        msg = f"The copy of slide {key} in tier {tier} must stay: there are good copies in {len(good)} other tiers, "
        msg += f"and {needed} are needed."
        raise ConflictError(msg, kind=Kind.LAST_COPY, remedy="Copy it to another tier, or verify its copies.")
    reason = f"Good copies remain in: {', '.join(sorted(good))}."
    result = replace(_result(site, key, mine[0]), early=early_ends(site, mine))
    return replace(result, status=MoveStatus.PLANNED, dropped=(tier,), reason=reason)


def _copies(site: Site, key: str, tier: str) -> list[CopyRow]:
    return [copy for copy in current_copies(site, key) if copy.tier == tier]


def _nothing(site: Site, key: str, tier: str) -> MoveResult:
    row = site.catalog.slide(key)
    reason = f"It has no copy in tier {tier}."
    return MoveResult(slide=key, name=row.name, status=MoveStatus.UNCHANGED, source=tier, reason=reason)


def _result(site: Site, key: str, copy: CopyRow) -> MoveResult:
    row = site.catalog.slide(key)
    return MoveResult(
        slide=key,
        name=row.name,
        status=MoveStatus.DROPPED,
        source=copy.tier,
        preset_before=copy.preset,
        bytes_source=row.bytes_source,
        bytes_before=copy.bytes_stored,
    )
