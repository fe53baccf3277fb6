"""The roster of people who may approve: who is on it, and how it is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsistore.catalog import RosterRow
from wsistore.clock import iso
from wsistore.errors import ConflictError, InputError, Kind, MissingError, SiteError
from wsistore.keys import folder as files
from wsistore.keys.people import Account, PersonKey, PublicPerson
from wsistore.keys.people_roster import Change, Head, Person, Roster, change_problem, digest_of, read_roster, statement
from wsistore.keys.people_tokens import Subject
from wsistore.keys.signing import make_signer, public_keys
from wsistore.model import random_key
from wsistore.ops.approval_clock import check_clock
from wsistore.ops.site import Site, read_only_error
from wsistore.settings import ADMINISTRATOR, ROLE

_HEAD, _HEAD_KIND = "roster-head.json", "wsistore-roster-head"
_LONGEST_NAME = 100


def roster_of(site: Site, *, strictly: bool = False) -> Roster:
    """Return the site's roster, every signature in it verified.

    Parameters
    ----------
    site
        An open site.
    strictly
        Whether the site's folder of keys has to be readable, as for applying a plan. Else an account that cannot read
        it believes where the log begins, unless the site pins it.

    Raises
    ------
    IntegrityError
        If its log was altered, forged or cut (`Kind.SIGNATURE_INVALID`): then nobody may approve anything.
    SiteError
        If the catalogue or the folder of keys cannot be read.

    """
    log, pinned, keys = site.catalog.roster_log(), site.settings.approvals.roster, site.settings.keys
    if _is_ours(keys):
        roster = read_roster(log, public_keys(keys), pinned=pinned, seen=_seen(keys))
    elif strictly and not pinned:
        msg = f"{keys} cannot be read by this account: whether the roster of approvers is genuine, nobody can tell."
        raise SiteError(msg, remedy="Apply plans under the account that the folder of keys belongs to.")
    else:
        roster = read_roster(log, None, pinned=pinned)
    return roster


def add_approver(
    site: Site,
    name: str,
    roles: Sequence[str],
    administrator: PersonKey | None,
    *,
    introduction: PublicPerson | None = None,
    subject: Subject | None = None,
    account: Account | None = None,
) -> Person:
    """Put somebody on the roster; the first one puts themselves there, as its administrator.

    Parameters
    ----------
    site
        An open site.
    name
        What the roster calls them.
    roles
        What they may approve as.
    administrator
        The key of an administrator on the roster; on an empty one the key of the person who is added, or None if
        whoever keeps the site's keys adds them.
    introduction
        Their key, as 'wsistore approver key' prints it.
    subject
        Or who they are for the identity provider; both together are one person.
    account
        Of somebody without a key: the account under which they work here, so that they cannot approve what they
        planned under it.

    Raises
    ------
    InputError
        If it may not be: no role, no identity, a name or an identity that is on the roster already, or a key that is
        not an administrator's.
    IntegrityError
        If the roster was altered.
    SiteError
        If the site cannot be written.

    """
    roster = _writable_roster(site)
    _check_words(name, roles)
    _check_issuer(site, subject)
    person = Person(
        id=random_key(),
        name=" ".join(name.split()),
        roles=tuple(dict.fromkeys(roles)),
        account=introduction.account if introduction else account,
        key=introduction.public.hex() if introduction else "",
        subject=subject,
    )
    by = _administrator(roster, administrator, person)
    problem = change_problem(roster, Change.ADD, person)
    if problem:
        msg = f"This {problem}; nothing was changed."
        raise _refused(msg)
    return _append(site, roster, Change.ADD, person, by, administrator)


def revoke_approver(site: Site, name: str, administrator: PersonKey, reason: str = "") -> Person:
    """Take somebody off the roster: nothing that they approved counts from now on.

    Raises
    ------
    MissingError
        If nobody on the roster has this name or id.
    InputError
        If they are the last administrator, or the key is not an administrator's.
    IntegrityError
        If the roster was altered.
    SiteError
        If the site cannot be written.

    """
    roster = _writable_roster(site)
    person = named(roster, name)
    by = _administrator(roster, administrator, None)
    problem = change_problem(roster, Change.REVOKE, person)
    if problem:
        msg = f"This {problem}; nothing was changed."
        raise _refused(msg)
    return _append(site, roster, Change.REVOKE, person, by, administrator, " ".join(reason.split())[:500])


def subject_of(site: Site, subject: str) -> Subject:
    """Return whom the site's identity provider calls so.

    Raises
    ------
    InputError
        If the site has none.

    """
    oidc = site.settings.approvals.oidc
    found = Subject("" if oidc is None else oidc.issuer, subject)
    _check_issuer(site, found)
    return found


def named(roster: Roster, name: str) -> Person:
    """Return whom a name or an id means, if they are active."""
    for person in roster.active():
        if name == person.id or name.casefold() == person.name.casefold():
            return person
    msg = f"Nobody on the roster of approvers is called {name!r}."
    raise MissingError(msg, kind=Kind.NOT_ALLOWED, remedy="'wsistore approver ls' lists them.")


def _writable_roster(site: Site) -> Roster:
    if site.catalog.read_only:
        raise read_only_error(site)
    check_clock(site)
    return roster_of(site)


def _check_words(name: str, roles: Sequence[str]) -> None:
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        msg = f"{name[:_LONGEST_NAME]!r} is no name of a person for the roster."
        raise _refused(msg)
    for role in roles:
        if not ROLE.fullmatch(role):
            msg = f"{role[:40]!r} is no role: roles are small letters, digits and hyphens, such as 'dim-physician'."
            raise _refused(msg)


def _check_issuer(site: Site, subject: Subject | None) -> None:
    oidc = site.settings.approvals.oidc
    if subject is not None and (oidc is None or oidc.issuer != subject.issuer):
        msg = "The site knows no such identity provider."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Describe it under [approvals.oidc] in wsistore.toml.")


def _administrator(roster: Roster, key: PersonKey | None, added: Person | None) -> Person:
    if not roster.people:
        own = key is None or (added is not None and added.key == key.public.hex())
        if added is None or not own or ADMINISTRATOR not in added.roles:
            msg = "The roster is empty: it begins with an administrator, who adds themselves with their own key."
            raise _refused(msg)
        return added
    if key is None:
        msg = "The roster is changed by an administrator's key only."
        raise _refused(msg)
    by = roster.by_key(key.key_id)
    if by is None or ADMINISTRATOR not in by.roles:
        names = ", ".join(sorted(one.name for one in roster.administrators()))
        msg = f"Only an administrator of the roster may change it ({names})."
        raise _refused(msg)
    if by.account is None or by.account.uid != key.account.uid:
        msg = f"This is the account {key.account.login}; the roster knows {by.name}'s key under another one."
        raise _refused(msg)
    return by


def _append(
    site: Site, roster: Roster, change: Change, person: Person, by: Person, key: PersonKey | None, reason: str = ""
) -> Person:
    number, at = roster.head.number + 1, iso(site.clock.now())
    said = statement(number, roster.head.digest, at, by.id, change, person, reason)
    row = RosterRow(number=number, at=at, statement=said, signer="", signature="")
    if key is not None:
        row = replace(row, signer=key.key_id, signature=key.sign(said).hex())
    if number == 1:
        signer = make_signer(site.settings.keys, site.clock)
        row = replace(row, countersigner=signer.key_id, countersignature=signer.sign(said.encode()).hex())
    site.catalog.append_roster(row)
    _see(site, Head(number, digest_of(row)))
    return replace(person, since=at) if change is Change.ADD else replace(person, until=at)


def _is_ours(keys: Path) -> bool:
    """Say whether this account may read the folder of keys; one that is not there yet is ours to make."""
    return not keys.exists() or os.access(keys, os.R_OK | os.X_OK, effective_ids=True)


def _seen(keys: Path) -> Head | None:
    path = keys / _HEAD
    content = files.read(path)
    if content is None:
        return None
    fields = files.decode(path, content, _HEAD_KIND)
    try:
        return Head(int(fields["number"]), str(fields["digest"]))
    except (ValueError, LookupError, TypeError) as error:
        raise files.damaged(path) from error


def _see(site: Site, head: Head) -> None:
    """Remember the last entry; where this account cannot, the next one that may read the folder of keys does."""
    keys = site.settings.keys
    if _is_ours(keys):
        files.make_folder(keys)
        files.replace(keys / _HEAD, files.encode(_HEAD_KIND, {"number": head.number, "digest": head.digest}))


def note_head(site: Site, roster: Roster) -> None:
    """Remember the last entry of a roster that was verified, if that was not done yet."""
    if roster.head.number and _is_ours(site.settings.keys) and _seen(site.settings.keys) != roster.head:
        _see(site, roster.head)


def roster_entries(site: Site) -> list[dict[str, str]]:
    """Return what the roster's log says, entry by entry, for people; raises as `roster_of`."""
    names = {person.id: person.name for person in roster_of(site).people.values()}
    found = []
    for row in site.catalog.roster_log():
        said = json.loads(row.statement)
        by, who = names[said["by"]], names[said["person"]["id"]]
        found.append({"at": row.at, "do": said["do"], "person": who, "by": by, "reason": str(said["reason"])})
    return found


def _refused(message: str) -> InputError:
    return InputError(message, kind=Kind.NOT_ALLOWED, remedy="docs/approvals.md tells who may do what.")


def nobody() -> ConflictError:
    """Return the error of a site whose roster is empty."""
    msg = "Nobody is on the roster of approvers yet."
    remedy = "Begin it: wsistore approver key, then wsistore approver add NAME --role administrator."
    return ConflictError(msg, kind=Kind.NOT_ALLOWED, remedy=remedy)
