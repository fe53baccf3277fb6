"""Plans: what the rules would do to each slide, what that costs, in a file that is approved and applied once."""

from wsistore.tiers.plans.header import Header
from wsistore.tiers.plans.plan_file import Plan, read_plan, write_plan

__all__ = ["Header", "Plan", "read_plan", "write_plan"]
