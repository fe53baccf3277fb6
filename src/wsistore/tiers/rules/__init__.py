"""Retention and placement rules: reading them, deciding by them, saying why."""

from wsistore.tiers.rules.deciding import decide
from wsistore.tiers.rules.explaining import explain
from wsistore.tiers.rules.reading import parse_rules, read_rules
from wsistore.tiers.rules.values import Hosting, Limits, Rules, TierFacts, Window

__all__ = ["Hosting", "Limits", "Rules", "TierFacts", "Window", "decide", "explain", "parse_rules", "read_rules"]
