"""Which approvals and visas a plan needs, and whether it has them."""

from __future__ import annotations

import pwd
from collections.abc import Sequence
from dataclasses import dataclass

from wsistore.keys.people_roster import Person
from wsistore.ops.approval_contract import ApprovalScope, Totals
from wsistore.settings import ApprovalSettings
from wsistore.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An approval that counts."""

    person: str
    """Their id on the roster."""
    name: str
    role: str
    scope: ApprovalScope
    at: str
    by: str
    """``key`` or ``token``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a plan needs."""

    moves: tuple[str, ...] = ()
    """Roles that have to approve what can be undone."""
    deletions: tuple[str, ...] = ()
    """Roles that have to approve what cannot."""
    visas: tuple[str, ...] = ()

    @property
    def needs_nobody(self) -> bool:
        """Whether it may be applied as it is."""
        return not (self.moves or self.deletions or self.visas)

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles that somebody has to approve as."""
        return tuple(dict.fromkeys((*self.deletions, *self.moves)))

    def sentence(self, totals: Totals, settings: ApprovalSettings) -> str:
        """Say it in words."""
        if not totals.slides:
            return "The plan does nothing: it needs nobody."
        if self.needs_nobody:
            least = format_bytes(settings.free_moves_bytes)
            touched = format_bytes(totals.bytes_touched)
            return f"The plan deletes nothing and touches {touched}, no more than {least}: it needs nobody."
        parts = []
        if self.moves:
            parts.append(f"what it moves needs approval as {_all(self.moves)}")
        if self.deletions:
            parts.append(f"what it deletes needs approval as {_all(self.deletions)}, by different people")
        if self.visas:
            parts.append(f"and the visas of {_all(self.visas)}")
        text = "; ".join(parts[:2]) + ("" if not self.visas else f", {parts[-1]}")
        return text[0].upper() + text[1:] + "."


def policy_of(totals: Totals, settings: ApprovalSettings) -> Policy:
    """Return what a plan with these totals needs."""
    deletes = ApprovalScope.DELETIONS in totals.parts
    is_free = not deletes and totals.bytes_touched <= settings.free_moves_bytes
    return Policy(
        moves=settings.moves if ApprovalScope.MOVES in totals.parts and not is_free else (),
        deletions=settings.deletions if deletes else (),
        visas=settings.visas if deletes else (),
    )


def missing_roles(policy: Policy, given: Sequence[Given]) -> list[str]:
    """Say which approvals a plan still lacks."""
    lacking = []
    for scope, roles in ((ApprovalScope.MOVES, policy.moves), (ApprovalScope.DELETIONS, policy.deletions)):
        left = [one.role for one in given if one.scope in (ApprovalScope.ALL, scope)]
        for role in roles:
            if role in left:
                left.remove(role)
            else:
                lacking.append(f"an approval of its {scope} as {role}")
    return lacking


def is_author(person: Person, author: str) -> bool:
    """Say whether a plan's author is this person."""
    if author.casefold() == person.name.casefold():
        return True
    if person.account is None:
        return False
    names = {person.account.login.casefold(), f"uid-{person.account.uid}"}
    if author.casefold() in names:
        return True
    try:  # one user id may have several names
        return pwd.getpwnam(author).pw_uid == person.account.uid
    except (KeyError, ValueError, UnicodeError):
        return False


def _all(roles: Sequence[str]) -> str:
    return " and ".join([", ".join(roles[:-1]), roles[-1]] if len(roles) > 1 else roles)
