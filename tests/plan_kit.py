"""What tests of applied plans share: sites with slides and dates, rules, plans and their approval."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from tests.move_kit import tiered_site
from tests.site_kit import ingest, tiny_tiff
from wsistore import ops
from wsistore.clock import Clock
from wsistore.execute import SerialExecutor
from wsistore.ops.applying import apply_plan
from wsistore.ops.applying_results import Applied, Applying
from wsistore.ops.approval_policy import Policy
from wsistore.ops.planning import PlanMade, make_plan

TO_WARM = """
version: 1
placement:
  - {name: archive, tier: warm}
limits: {move_at_most: 100 %, delete_at_most: 100 %}
"""
"""Everything goes to warm."""

LET_GO = """
version: 1
retention:
  - {name: old, keep_until: "DATE '2020-01-01'"}
limits: {move_at_most: 100 %, delete_at_most: 100 %}
"""


def slides_in(site: ops.Site, folder: Path, count: int) -> list[str]:
    """Take slides in and return their keys."""
    return [str(ingest(site, tiny_tiff(folder / f"slide-{seed}.tiff", seed))[0].slide) for seed in range(1, count + 1)]


def planned(site: ops.Site, rules: str, out: Path) -> PlanMade:
    """Write a site's rules, and a plan by them."""
    (site.folder / "rules.yaml").write_text(rules, "utf-8")
    return make_plan(site, out=out, replace_it=True)


@contextmanager
def free_of_approvals() -> Iterator[None]:
    """Let plans need nobody: what is tried here is not who approves."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("wsistore.ops.approving.policy_of", return_value=Policy()))
        yield


def applying(site: ops.Site, plan: Path, **options: object) -> Applying:
    """Begin to apply a plan in this process."""
    options.setdefault("executor", SerialExecutor())
    options.setdefault("jobs", 1)
    return apply_plan(site, plan, **options)  # type: ignore[arg-type]


def applied(site: ops.Site, plan: Path, **options: object) -> dict[str, Applied]:
    """Apply a plan in this process; return what became of its rows."""
    return {row.slide: row for row in applying(site, plan, **options)}


def memory_tiers(folder: Path, clock: Clock | None = None) -> ops.Site:
    """Open a site of three tiers in memory."""
    return tiered_site(folder, clock=clock)
