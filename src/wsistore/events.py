r"""What happened to a slide, as an append-only chain in which every event proves all that came before it.

Each slide has one chain. Its events are numbered from 1 without gaps. An event has eight fields:

==========  =======================================================================================
slide       key of the slide, text
number      place in the slide's chain, integer from 1
at          ISO 8601 in UTC with microseconds and ``Z``, text: ``2026-01-31T12:00:00.000000Z``
kind        one of `EventKind`, text
actor       who did it, text
detail      object of JSON values
previous    ``hash`` of the event before; 64 zeros for number 1
hash        SHA-256 of the other seven fields, 64 lower-case hexadecimal digits
==========  =======================================================================================

The hashed bytes are one JSON object with the seven fields other than ``hash``, in this form:

* UTF-8, no byte-order mark, no white space outside strings, ``,`` and ``:`` as separators;
* the keys of every object sorted by Unicode code point, each occurring once;
* within strings ``"`` is ``\"``, ``\`` is ``\\``, U+0008, 0009, 000A, 000C, 000D are ``\b \t \n \f \r``, the
  other characters below U+0020 are ``\u00`` and two lower-case hexadecimal digits; all else stands for itself;
* integers in decimal without leading zeros; other numbers as Python's ``repr`` writes a float (the shortest digits
  that give the same IEEE 754 double, always with a ``.`` or an exponent); NaN and infinities do not occur;
* ``true``, ``false``, ``null`` in lower case.

A chain proves that nothing inside it was altered, left out or put in. That events were cut off its end, or that a
whole chain was made anew, shows only against a hash that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from wsistore.clock import iso
from wsistore.errors import WsistoreError

GENESIS = "0" * 64
"""What the first event of a chain gives as `Event.previous`."""


class EventKind(StrEnum):
    """What can happen to a slide. Members are added, never renamed or removed."""

    INGESTED = "ingested"
    VERIFIED = "verified"
    VERIFICATION_FAILED = "verification-failed"
    RESTORED = "restored"
    EXPORTED = "exported"
    SUPERSEDED = "superseded"
    """A newer version of the source was committed."""
    ATTEMPT_ABANDONED = "attempt-abandoned"
    METADATA_CHANGED = "metadata-changed"
    REENCODED = "reencoded"
    """A copy took the place of another in its tier: the same source, encoded in another way."""
    COPIED = "copied"
    """A copy was made in another tier."""
    DROPPING = "dropping"
    """A copy counts for nothing from here on and is about to be deleted; the detail holds the proof."""
    HELD = "held"
    """None of the slide's copies may be dropped, for a reason."""
    REPAIRED = "repaired"
    """A copy that was damaged was made anew from a good one, in the same tier."""
    RELEASED = "released"
    """A hold ended."""
    DROPPED = "dropped"
    """A copy's objects were deleted; the detail names the copies that remained."""
    COMPANION_ERASING = "companion-erasing"
    """The keys of the slide's companion are about to be destroyed, in all copies."""
    COMPANION_ERASED = "companion-erased"
    """They were: the slide's pixels can be read, its files, label and metadata never again."""
    FREEZING = "freezing"
    """A copy's objects are about to be moved into the archive class of their tier; the detail holds what the tier said
    of each when they were read back."""
    FROZEN = "frozen"
    """They were: the copy is attested-before-freeze from here on."""
    RECALL_BEGUN = "recall-begun"
    """The slide's objects were asked for from an archive, or its temporary copy is to stay for longer."""
    RECALLED = "recalled"
    """The slide is there; the detail says where, and until when."""
    RECALL_EXPIRED = "recall-expired"
    """The time of a temporary copy is over: it is about to be dropped."""
    COPY_KEPT = "copy-kept"
    """A temporary copy became one that stays."""
    DELETING = "deleting"
    """The slide is about to be deleted for good, all copies in all tiers; the detail says by which plan, who approved
    it, and which copies there are."""
    DELETED = "deleted"
    """It was; the detail holds the signed certificate."""
    IDENTITY_DETACHING = "identity-detaching"
    """The slide is about to be parted from its patient for good; the detail says by which plan, and who approved it."""
    IDENTITY_DETACHED = "identity-detached"
    """It was: the keys of its companions are destroyed, and the catalogue does not know any more whose it is."""
    LABELLED = "labelled"
    """The slide was put into a collection, or got a tag; the detail names it."""
    UNLABELLED = "unlabelled"
    """It was taken out of the collection, or lost the tag."""
    PATIENT_CORRECTED = "patient-corrected"
    """What the hospital said of the patient before was wrong; the detail names what, and neither value."""
    PATIENTS_MERGED = "patients-merged"
    """Two records of patients turned out to be one patient's; the detail names their keys in the catalogue."""
    PATIENTS_UNMERGED = "patients-unmerged"
    """They did not, after all."""
    ENCOUNTER_CANCELLED = "encounter-cancelled"
    """A stay or visit of the patient has not been, after all; or has been, where it had been cancelled."""
    RECOURSE_CHANGED = "recourse-changed"
    """A recourse of the patient began, ended, or was withdrawn."""
    CASE_CORRECTED = "case-corrected"
    """What the hospital said of the case before was wrong; the detail names what."""
    CASE_REOPENED = "case-reopened"
    """The report of the case is being amended: the case is open again."""
    ORIGINAL_RELEASED = "original-released"
    """The files that the slide was taken in from are no longer on the scanner's share; the detail says where they are,
    and holds the proof that the slide was safely kept."""
    REBUILT = "rebuilt"
    """The catalogue was lost and made anew from the tiers; the detail says what was found there."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that has not found its place in a chain yet."""

    kind: EventKind
    actor: str
    """User of the operating system, or the name that was given."""
    detail: Mapping[str, Any]
    """JSON values only; no bytes, dates or NaN."""


@dataclass(frozen=True, slots=True)
class Event:
    """One link of a slide's chain; see the module docstring for the fields."""

    slide: str
    number: int
    at: str
    kind: str
    """An `EventKind`, or a kind that a newer release wrote."""
    actor: str
    detail: Mapping[str, Any]
    previous: str
    hash: str


def canonical_json(value: Any) -> str:
    """Return `value`, as `plain` makes it, as the one JSON text that the module docstring defines."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def plain(value: Any) -> Any:
    r"""Return `value` made of dict, list, str, int, float, bool and None only.

    Undecodable bytes of file names (lone surrogates) become escapes such as ``\udcff``: UTF-8 cannot carry them.

    Raises
    ------
    WsistoreError
        If `value` holds something that JSON cannot say.

    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {plain(key): plain(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        return [plain(item) for item in value]
    msg = f"An event's detail cannot hold {value!r}: it is no JSON value."
    raise WsistoreError(msg, remedy="This is a fault of wsistore; please report it.")


def event_hash(event: Event) -> str:
    """Return the SHA-256 that `event` ought to have, from its other fields (made by `plain`)."""
    fields = {
        "slide": event.slide,
        "number": event.number,
        "at": event.at,
        "kind": str(event.kind),
        "actor": event.actor,
        "detail": event.detail,
        "previous": event.previous,
    }
    return hashlib.sha256(canonical_json(fields).encode("utf-8")).hexdigest()


def next_event(previous: Event | None, slide: str, new: NewEvent, at: datetime) -> Event:
    """Return the event that follows `previous` (None: the chain begins) in the chain of `slide`.

    Raises
    ------
    WsistoreError
        If `previous` is of another slide, or the detail is no JSON.

    """
    if previous is not None and previous.slide != slide:
        msg = f"An event of slide {slide} cannot follow one of slide {previous.slide}."
        raise WsistoreError(msg, remedy="This is a fault of wsistore; please report it.")
    event = Event(
        slide=plain(slide),
        number=1 if previous is None else previous.number + 1,
        at=iso(at),
        kind=str(new.kind),
        actor=plain(new.actor),
        detail=plain(new.detail),
        previous=GENESIS if previous is None else previous.hash,
        hash="",
    )
    return replace(event, hash=event_hash(event))


def check_chain(events: Iterable[Event]) -> list[str]:
    """Return what is wrong with the chain of one slide, in words; nothing if it is whole.

    Parameters
    ----------
    events
        All events of one slide, in the order of the chain.

    """
    problems: list[str] = []
    before: Event | None = None
    slide = ""
    for event in events:
        slide = slide or event.slide
        problems += _check_link(slide, before, event)
        before = event
    return problems


def _check_link(slide: str, before: Event | None, event: Event) -> list[str]:
    where = f"slide {slide}, event {event.number}"
    problems = []
    if event.slide != slide:
        problems.append(f"{where}: belongs to another slide ({event.slide})")
    if not _is_sound(event):
        problems.append(f"{where}: was altered (its content does not have the hash that it carries)")
    expected = 1 if before is None else before.number + 1
    if event.number > expected:
        last = event.number - 1
        missing = f"event {expected} is" if last == expected else f"events {expected} to {last} are"
        problems.append(f"{where}: gap, {missing} missing before it")
    elif event.number < expected:
        problems.append(f"{where}: out of order, event {expected} was expected here")
    if event.previous != (GENESIS if before is None else before.hash):
        name = "the beginning of a chain" if before is None else f"event {before.number} as it is now"
        problems.append(f"{where}: does not continue {name}")
    return problems


def _is_sound(event: Event) -> bool:
    # Whatever was put in the event's place, also values that no event can have, is an alteration and no crash.
    try:
        return event.hash == event_hash(event) and plain(event.detail) == event.detail
    except (WsistoreError, ValueError, TypeError, RecursionError):
        return False
