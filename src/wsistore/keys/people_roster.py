"""The roster: who may approve, as a log whose every entry an administrator signed.

An entry is a statement (canonical JSON) and signatures of its bytes. The statement names the entry before by its
digest, so nothing can be left out or put in between. The first entry adds the first administrator: signed by the
site's key, and by their own if they added themselves. Each later one is signed by somebody who is an administrator at
that point.

That entries were cut off the end, such as a revocation, shows against `Head`, which is kept in the folder of keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from wsistore.errors import IntegrityError, Kind
from wsistore.events import GENESIS, canonical_json
from wsistore.keys.people import Account, check
from wsistore.keys.people_tokens import Subject
from wsistore.keys.signing import id_of, verify
from wsistore.settings import ADMINISTRATOR, ROLE

_WHAT, _FORMAT = "wsistore-roster", 1


class Change(StrEnum):
    """What an entry does."""

    ADD = "add"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody on the roster."""

    id: str
    name: str
    roles: tuple[str, ...]
    account: Account | None = None
    """Whose key it is; or, of a person without one, the account that they also use."""
    key: str = ""
    """The public key in hexadecimal digits; empty of those who have none."""
    subject: Subject | None = None
    since: str = ""
    until: str | None = None
    """When they were revoked."""

    @property
    def is_active(self) -> bool:
        """Whether what they say counts."""
        return self.until is None

    def is_same_as(self, other: Person) -> bool:
        """Say whether two entries may be one person: they share an account, a login, a key or a subject."""
        mine, theirs = self.account, other.account
        same_account = (
            mine is not None
            and theirs is not None
            and (mine.uid == theirs.uid or mine.login.casefold() == theirs.login.casefold())
        )
        same_key = bool(self.key) and self.key == other.key
        same_subject = self.subject is not None and self.subject == other.subject
        return self.id == other.id or same_account or same_key or same_subject


class Entry(Protocol):
    """An entry as it was kept: see `wsistore.catalog.plans.RosterRow`."""

    @property
    def number(self) -> int:
        """Its place in the log, from 1."""

    @property
    def at(self) -> str:
        """When it was made."""

    @property
    def statement(self) -> str:
        """What is signed."""

    @property
    def signer(self) -> str:
        """The id of the key that signed."""

    @property
    def signature(self) -> str:
        """In hexadecimal digits."""

    @property
    def countersigner(self) -> str:
        """The site's key, where the log begins."""

    @property
    def countersignature(self) -> str:
        """In hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry that a machine has seen."""

    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Roster:
    """The roster as its log says it now."""

    people: Mapping[str, Person] = field(default_factory=dict)
    """All that were ever on it, by their ids."""
    head: Head = Head(0, GENESIS)
    root: str = ""
    """Digest of the first entry; empty if there is none."""

    def active(self) -> list[Person]:
        """Return those whose word counts."""
        return [person for person in self.people.values() if person.is_active]

    def administrators(self) -> list[Person]:
        """Return those who may change the roster."""
        return [person for person in self.active() if ADMINISTRATOR in person.roles]

    def by_key(self, key_id: str) -> Person | None:
        """Return whose key it is, if they are active."""
        return next((one for one in self.active() if one.key and id_of(bytes.fromhex(one.key)) == key_id), None)

    def by_subject(self, subject: Subject) -> Person | None:
        """Return whom an identity provider means, if they are active."""
        return next((one for one in self.active() if one.subject == subject), None)


def digest_of(entry: Entry) -> str:
    """Return the digest of an entry, which the next one names."""
    return hashlib.sha256(canonical_json([entry.statement, entry.signer, entry.signature]).encode()).hexdigest()


def statement(number: int, previous: str, at: str, by: str, change: Change, person: Person, reason: str = "") -> str:
    """Return the statement of a new entry."""
    who: dict[str, Any] = asdict(replace(person, since="", until=None))
    said = {"what": _WHAT, "format": _FORMAT, "number": number, "previous": previous, "at": at, "by": by}
    return canonical_json({**said, "do": str(change), "person": _listed(who), "reason": reason})


def _listed(who: dict[str, Any]) -> dict[str, Any]:
    return {**who, "roles": list(who["roles"])}


def read_roster(
    entries: Sequence[Entry], site_keys: Mapping[str, bytes] | None, *, pinned: str = "", seen: Head | None = None
) -> Roster:
    """Return the roster, once every signature in its log is verified.

    Parameters
    ----------
    entries
        The log, from its beginning.
    site_keys
        The site's own public keys, by their ids; None where they cannot be read: then the first entry's signature by
        them is believed. Whoever applies a plan can read them.
    pinned
        Digest that the first entry must have, if the site pins it.
    seen
        The last entry that was seen before; the log must still have it.

    Raises
    ------
    IntegrityError
        If an entry was altered, forged, put in or left out (`Kind.SIGNATURE_INVALID`): then nobody may approve.

    """
    roster = Roster()
    for entry in entries:
        roster = _follow(roster, entry, site_keys)
        if entry.number == 1 and pinned not in ("", roster.root):
            raise _broken(1, "is not the one that 'roster' under [approvals] in wsistore.toml names")
        if seen is not None and entry.number == seen.number and roster.head.digest != seen.digest:
            raise _broken(entry.number, "is not the one that was here before")
    if seen is not None and seen.number > roster.head.number:
        raise _broken(seen.number, "was here before and is gone")
    return roster


def _follow(roster: Roster, entry: Entry, site_keys: Mapping[str, bytes] | None) -> Roster:
    said = _parse(entry)
    if entry.number != roster.head.number + 1 or said["number"] != entry.number:
        raise _broken(entry.number, "does not follow the one before")
    if said["previous"] != roster.head.digest or said["at"] != entry.at:
        raise _broken(entry.number, "does not follow the one before")
    person = _person(said["person"], entry)
    by = person if entry.number == 1 else roster.people.get(said["by"])
    if by is None or said["by"] != by.id or not by.is_active or ADMINISTRATOR not in by.roles or not by.key:
        raise _broken(entry.number, "is not by an administrator")
    _check_signatures(entry, by, site_keys)
    problem = "does what nobody can do" if entry.number == 1 and said["do"] != Change.ADD else ""
    people = dict(roster.people)
    problem = problem or change_problem(roster, Change(said["do"]), person)
    if problem:
        raise _broken(entry.number, problem)
    if said["do"] == Change.ADD:
        people[person.id] = replace(person, since=entry.at)
    else:
        people[person.id] = replace(people[person.id], until=entry.at)
    digest = digest_of(entry)
    return Roster(people, Head(entry.number, digest), roster.root or digest)


def _check_signatures(entry: Entry, by: Person, site_keys: Mapping[str, bytes] | None) -> None:
    data, is_first = entry.statement.encode(), entry.number == 1
    by_site = (entry.countersigner, data, _hex(entry.countersignature))
    if is_first and site_keys is not None and not verify(site_keys, *by_site):
        raise _broken(1, "is not signed by the site's key")
    if is_first and not entry.signer:  # whoever keeps the site's keys added them
        return
    public = bytes.fromhex(by.key)
    if id_of(public) != entry.signer or not check(public, data, _hex(entry.signature)):
        raise _broken(entry.number, "has a signature that is not its administrator's")


def change_problem(roster: Roster, change: Change, person: Person) -> str:
    """Say why the roster cannot be changed so; nothing if it can."""
    if change is Change.REVOKE:
        there = roster.people.get(person.id)
        if there is None or not there.is_active:
            return "revokes somebody who is not on the roster"
        if [one.id for one in roster.administrators()] == [person.id]:
            return "revokes the last administrator"
        return ""
    if person.id in roster.people:
        return "adds somebody who is on the roster"
    if not person.roles or not all(ROLE.fullmatch(role) for role in person.roles) or not person.name.strip():
        return "adds somebody without a name or a role"
    if not (person.key or person.subject) or (person.key and person.account is None):
        return "adds somebody without a key bound to an account, and without a subject"
    if ADMINISTRATOR in person.roles and not person.key:
        return "adds an administrator without a key"
    for other in roster.active():
        if person.is_same_as(other) or person.name.casefold() == other.name.casefold():
            return f"adds {person.name!r}, who shares a name, an account, a key or a subject with {other.name!r}"
    return ""


def _parse(entry: Entry) -> dict[str, Any]:
    try:
        said: Any = json.loads(entry.statement)
        is_ours = (
            canonical_json(said) == entry.statement
            and said["what"] == _WHAT
            and said["format"] == _FORMAT
            and said["do"] in set(Change)
            and all(isinstance(said[key], str) for key in ("at", "by", "previous"))
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        is_ours = False
    if not is_ours or not isinstance(said, dict):
        raise _broken(entry.number, "cannot be read")
    return said


def _person(fields: Mapping[str, Any], entry: Entry) -> Person:
    try:
        account, subject = fields["account"], fields["subject"]
        found = Person(
            id=str(fields["id"]),
            name=str(fields["name"]),
            roles=tuple(map(str, fields["roles"])),
            account=None if account is None else Account(int(account["uid"]), str(account["login"])),
            key=str(fields["key"]),
            subject=None if subject is None else Subject(str(subject["issuer"]), str(subject["subject"])),
        )
        if found.key and len(bytes.fromhex(found.key)) != 32:
            raise _broken(entry.number, "adds a key that is none")
    except (ValueError, TypeError, LookupError) as error:
        raise _broken(entry.number, "cannot be read") from error
    return found


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _broken(number: int, why: str) -> IntegrityError:
    msg = f"Entry {number} of the roster of approvers {why}. Until that is mended nobody can approve anything."
    remedy = "Somebody may have altered it: look who can write the catalogue, then put back its last backup."
    return IntegrityError(msg, kind=Kind.SIGNATURE_INVALID, remedy=remedy)
