"""Reading a plan's file, for those who approve it or keep a record of it."""

from wsistore.tiers.plans import Plan, read_plan

__all__ = ["Plan", "read_plan"]
