"""Statements that people make about plans, and whether they really made them.

A statement is canonical JSON: ``what`` it is, ``plan`` (SHA-256 of the plan's file), ``person``, and what is said. By a
key it also holds ``at`` and ``account``, and its bytes are signed. By an identity provider's token it is the token's
nonce that names the statement, and the token that says when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from wsistore.catalog import ApprovalRow, VisaRow
from wsistore.clock import iso
from wsistore.errors import InputError, Kind
from wsistore.events import canonical_json
from wsistore.keys.people import PersonKey, check
from wsistore.keys.people_roster import Person, Roster
from wsistore.keys.people_tokens import TokenVerifier
from wsistore.keys.signing import id_of
from wsistore.ops.approval_clock import SLACK

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class IdToken:
    """An identity provider's token, and who gives it."""

    person: str
    """Name or id on the roster."""
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is kept of a statement."""

    statement: str
    signer: str
    proof: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a statement must fit to count."""

    made_at: str
    """When the plan was made."""
    now: datetime
    valid: timedelta


def content(what: str, plan: str, person: Person, said: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Return what a statement says, but for when and from which account."""
    return {"what": what, "format": _FORMAT, "plan": plan, "person": person.id, "by": by, **said}


def by_key(what: str, plan: str, person: Person, said: Mapping[str, Any], key: PersonKey, now: datetime) -> Proof:
    """Return a statement, signed."""
    at = iso(now)
    text = canonical_json({**content(what, plan, person, said, "key"), "at": at, "account": asdict(key.account)})
    return Proof(statement=text, signer=key.key_id, proof=key.sign(text).hex(), at=at)


def by_token(
    what: str, plan: str, person: Person, said: Mapping[str, Any], token: str, verifier: TokenVerifier, now: datetime
) -> Proof:
    """Return a statement, proven by a token; raises as `TokenVerifier.verify`."""
    text = canonical_json(content(what, plan, person, said, "token"))
    proven = verifier.verify(token, text, now)
    if proven.subject != person.subject:
        msg = f"The token is of another person than {person.name}."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Let them sign in themselves.")
    return Proof(statement=text, signer=verifier.issuer, proof=token.strip(), at=iso(proven.at))


def verify(
    what: str, row: ApprovalRow | VisaRow, roster: Roster, tokens: TokenVerifier | None, rules: Rules
) -> tuple[Person, dict[str, Any]]:
    """Return who made a statement that was kept, and what it says.

    Raises
    ------
    InputError
        If it does not count; the message says why, as a part of a sentence.
    WsistoreError
        If the identity provider's keys cannot be had.

    """
    said = _parse(what, row)
    person = roster.people.get(row.person)
    if person is None:
        raise _does_not_count(row.person, "is of nobody who was ever on the roster")
    who = person.name
    if not person.is_active:
        raise _does_not_count(who, f"was revoked ({person.until})")
    if said["by"] == "token":
        _check_token(row, person, tokens)
    else:
        _check_signature(row, said, person)
    earliest = iso(datetime.fromisoformat(max(person.since, rules.made_at)) - SLACK)
    if row.at < earliest:
        raise _does_not_count(who, "is older than the plan, or than their place on the roster")
    if row.at > iso(rules.now + SLACK):
        raise _does_not_count(who, "is of a moment that is still to come")
    if row.at < iso(rules.now - rules.valid):
        raise _does_not_count(who, f"has expired (it is of {row.at[:10]})")
    return person, said


def _parse(what: str, row: ApprovalRow | VisaRow) -> dict[str, Any]:
    try:
        said: Any = json.loads(row.statement)
        fits = (
            canonical_json(said) == row.statement
            and (said["what"], said["format"]) == (what, _FORMAT)
            and said["plan"] == row.plan
            and said["person"] == row.person
            and said["by"] in {"key", "token"}
            and all(isinstance(said[name], str) for name in ("role", "scope"))
            and len(row.at) == len(iso(datetime.fromisoformat(row.at)))
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        fits = False
    if not fits or not isinstance(said, dict):
        raise _does_not_count(row.person, "is for another plan, or was altered")
    return said


def _check_signature(row: ApprovalRow | VisaRow, said: dict[str, Any], person: Person) -> None:
    try:
        public, signature = bytes.fromhex(person.key), bytes.fromhex(row.proof)
    except ValueError:
        public = signature = b""
    is_theirs = len(public) == 32 and row.signer == id_of(public) and check(public, row.statement.encode(), signature)
    if not is_theirs or said.get("at") != row.at:
        raise _does_not_count(person.name, "has a signature that is not theirs")
    account = said.get("account")
    if not isinstance(account, dict) or person.account is None or account.get("uid") != person.account.uid:
        raise _does_not_count(person.name, "was given under another account than theirs")


def _check_token(row: ApprovalRow | VisaRow, person: Person, tokens: TokenVerifier | None) -> None:
    if tokens is None or row.signer != tokens.issuer:
        raise _does_not_count(person.name, "is proven by an identity provider that the site does not know")
    try:
        proven = tokens.verify(row.proof, row.statement, datetime.fromisoformat(row.at))
    except InputError as error:
        raise _does_not_count(person.name, f"is not proven: {error.message}") from error
    if proven.subject != person.subject or iso(proven.at) != row.at:
        raise _does_not_count(person.name, "is proven by a token that is not theirs")


def _does_not_count(who: str, why: str) -> InputError:
    return InputError(f"that of {who} {why}", kind=Kind.SIGNATURE_INVALID)
