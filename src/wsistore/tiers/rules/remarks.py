"""What a person should know of rules that are in order, before using them."""

from __future__ import annotations

from collections.abc import Iterator

from wsistore.tiers.rules.values import RetentionRule, Rules


def remarks(rules: Rules) -> Iterator[str]:
    """Say what of `rules` is easily overlooked."""
    if not rules.retention:
        yield "There are no retention rules: nothing is ever deleted."
    elif not any(rule.keep_until is not None for rule in rules.retention):
        yield "No retention rule ever ends: nothing is ever deleted."
    for rule in rules.retention:
        yield from _of_retention(rule)
    if any(rule.detach for rule in rules.retention) and not any(
        rule.keep_until is not None for rule in rules.retention
    ):
        yield "Nothing is ever parted from its patient either: no rule says when the legal time is over."
    if not rules.placement:
        yield "There are no placement rules: all copies stay where they are."
    elif rules.placement[-1].where is not None:
        last = rules.placement[-1].name
        yield f"The last placement rule {last!r} has a where: slides for which no rule is true stay where they are."
    for placed in rules.placement:
        if placed.copies is not None and placed.copies > len(placed.tiers):
            named = "1 tier" if len(placed.tiers) == 1 else f"{len(placed.tiers)} tiers"
            yield (
                f"Placement rule {placed.name!r} wants {placed.copies} copies and names {named}: copies that are "
                "elsewhere stay, none are made for it."
            )


def _of_retention(rule: RetentionRule) -> Iterator[str]:
    for key, expression in (("where", rule.where), ("keep_until", rule.keep_until)):
        # Where a rule that replaces others does not apply, those stand.
        if expression is not None and not expression.strict and not (key == "where" and rule.replaces):
            yield (
                f"Retention rule {rule.name!r}, {key}: it asks whether something is unknown (is null, coalesce, case), "
                "so what is unknown may shorten the time. Read it with that in mind."
            )
        if expression is not None and expression.uses_now:
            yield f"Retention rule {rule.name!r}, {key}: it speaks of now, so what it says changes from day to day."
    needed = {"birth_date", "death_date", "last_encounter"}
    names = rule.keep_until.names if rule.keep_until is not None else frozenset()
    if names & needed and not rule.suspended_by_recourse:
        yield f"Retention rule {rule.name!r} is not suspended by a recourse (suspended_by: recourse)."
