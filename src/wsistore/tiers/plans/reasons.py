"""Why a row is in a plan as it is, in a sentence or two: written once for each kind of row, not for each row."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.tiers.rules.decisions import Action, Blocked, Retention

_FIELD, _STEP, _PART = "\x1f", "\x1e", "\x1d"
"""Separators that no rule's name has."""

BLOCKED: Mapping[str, str] = {
    Blocked.HELD: "it is on hold",
    Blocked.STALE_FEED: "the patients' dates are older than the rules allow for deleting",
    Blocked.STILL_CHARGED: "its class charges for it in any case until a later day",
    Blocked.TIER_NOT_ALLOWED: "the tier's certificate or location does not allow the data",
    Blocked.TOO_FEW_COPIES: "too few copies would remain",
    Blocked.NO_GOOD_COPY: "no copy is good: it has to be repaired first",
    Blocked.NOT_DETACHABLE: "what is known of the patient does not say that the legal time is over",
}
POSTPONED: Mapping[str, str] = {
    "move_bytes_per_day": "as many bytes as the rules allow in a day go before it",
    "window": "the window is filled by what goes before it",
    "cost_at_most": "what goes before it costs as much as the rules allow",
}
_KEPT: Mapping[str, str] = {
    Retention.NEVER_ENDS: "{rule} keeps it for ever",
    Retention.UNKNOWN: "how long it has to be kept is not known",
    Retention.SUSPENDED: "a recourse is open",
}


def reasons(decisions: pa.Table, postponed: pa.Array) -> pa.Array:
    """Return a sentence or two for each row.

    Parameters
    ----------
    decisions
        Of `wsistore.tiers.rules.decisions.DECISIONS`.
    postponed
        The limit for which each waits, or null.

    """
    table = decisions.combine_chunks()
    columns = [table[name] for name in ("action", "retention", "keep_rule", "place_rule", "tier", "preset")]
    parts = [*columns, _joined_steps(table["steps"]), pc.binary_join(_whole(table["blocked"]), _STEP), postponed]
    texts = [pc.fill_null(_whole(part), "") for part in parts]
    coded = pc.binary_join_element_wise(*texts, _FIELD).dictionary_encode()
    coded = coded if isinstance(coded, pa.DictionaryArray) else pa.concat_arrays(coded.chunks)
    sentences = pa.array([_reason(*key.split(_FIELD)) for key in coded.dictionary.to_pylist()], pa.string())
    return sentences.take(coded.indices)


def waits_for(limit: str) -> str:
    """Return why a row waits, as the end of a sentence."""
    kind, _, tier = limit.partition(":")
    return f"the tier {tier} has no room for it" if kind == "capacity" else POSTPONED.get(limit, limit)


def step_in_words(action: str, tier: str, source: str, preset: str) -> str:
    """Return what a step does."""
    as_preset = f" as {preset}" if preset else ""
    match action:
        case Action.COPY:
            return f"copy to {tier}{as_preset}"
        case Action.MOVE:
            return f"move {f'from {source} ' if source else ''}to {tier}{as_preset}"
        case Action.REENCODE:
            return f"encode anew in {tier}{as_preset}"
        case Action.DROP_COPY:
            return f"drop the copy in {tier}"
        case Action.DETACH_IDENTITY:
            return "part it from its patient"
        case Action.DELETE:
            return "delete it"
    return action


def _reason(
    action: str,
    retention: str,
    keep_rule: str,
    place_rule: str,
    tier: str,
    preset: str,
    steps: str,
    blocked: str,
    postponed: str,
) -> str:
    said = [_wanted(action, retention, keep_rule, place_rule, tier, preset, steps)]
    if blocked:
        said.append(f"Not all is done: {'; '.join(BLOCKED.get(one, one) for one in blocked.split(_STEP))}.")
    if postponed:
        said.append(f"It waits: {waits_for(postponed)}.")
    return " ".join(said)


def _wanted(action: str, retention: str, keep_rule: str, place_rule: str, tier: str, preset: str, steps: str) -> str:
    if action in (Action.DELETE, Action.DETACH_IDENTITY):
        done = "delete it" if action == Action.DELETE else "part it from its patient"
        return f"The time that {keep_rule or 'the rules'} keeps it is over: {done}."
    wish = f"{place_rule} wants it in {tier}{f' as {preset}' if preset else ''}" if place_rule else ""
    if action != Action.NONE:
        words = [step_in_words(*step.split(_PART)) for step in steps.split(_STEP)] if steps else [action]
        return f"{wish or 'No placement rule applies'}: {', then '.join(words)}."
    kept = _KEPT.get(retention, "").format(rule=keep_rule or "A rule")
    if wish:
        return f"{wish}, where it is." if not kept else f"{wish}, where it is; {kept}."
    return f"No placement rule applies: it stays as it is{f'; {kept}' if kept else ''}."


def _joined_steps(column: pa.ChunkedArray) -> pa.Array:
    """Return the steps of each row as one text."""
    whole = _whole(column)
    flat = pc.list_flatten(whole)
    parts = [pc.fill_null(pc.struct_field(flat, name), "") for name in ("action", "tier", "source", "preset")]
    each = pc.binary_join_element_wise(*parts, _PART)
    counts = pc.fill_null(pc.list_value_length(whole), 0)
    ends = pc.cumulative_sum(counts).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pc.binary_join(pa.ListArray.from_arrays(offsets, each), _STEP)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)
