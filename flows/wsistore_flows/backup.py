"""The flow that copies the catalogue and brings all tiers' ledgers up to date."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from wsistore import ops
from wsistore.units import format_bytes
from wsistore_flows.hooks import HOOKS
from wsistore_flows.running import FLOW, Run, State, night
from wsistore_flows.states import ended, may_be_told

KEEP = 30
"""A month of nights."""


@flow(name="catalog-backup", **FLOW, **HOOKS)
def backup(site: str | None = None, keep: Annotated[int, Field(ge=0)] = KEEP) -> State:
    """Copy the catalogue while it is in use, check the copy, and bring all tiers' ledgers up to date.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    keep
        How many backups the site's folder keeps; 0 for all.

    """
    return night("catalog-backup", site, partial(_backup, keep=keep))


def _backup(run: Run, keep: int) -> State:
    made = run.step("copy the catalogue", lambda: ops.backup_catalog(run.site, keep=keep))
    size = format_bytes(made.bytes)
    run.facts.update(slides=made.slides, bytes=made.bytes, untold=len(made.untold), removed=len(made.removed))
    rows = [
        {"tier": told.tier, "told": "yes", "segments": told.segments, "new": told.written, "why not": ""}
        for told in made.ledgers
    ]
    rows += [
        {"tier": tier, "told": "no", "segments": "", "new": "", "why not": may_be_told(failure.message, failure.kind)}
        for tier, failure in made.untold
    ]
    name, sha256 = Path(made.path).name, made.sha256[:16]
    about = f"{name}: {made.slides} slides, {size}, SHA-256 {sha256}…; old backups removed: {len(made.removed)}."
    run.shown.table("ledgers", rows, about)
    message = f"{made.slides} slides in {name} ({size})"
    if made.untold:
        tiers = ", ".join(tier for tier, _ in made.untold)
        message += f", but not told: {tiers}; the next backup tells what is missing"
    return ended(message, [failure for _, failure in made.untold])
