"""Recording the visas that deletions need, such as that of the departmental archives."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog import VisaRow
from wsistore.errors import InputError, Kind, MissingError
from wsistore.keys.people import PersonKey
from wsistore.ops.approval_contract import IRREVERSIBLE, ApprovablePlan, ApprovalScope, acting, totals
from wsistore.ops.approval_proofs import Rules
from wsistore.ops.approving import check_not_author, check_plan, proven, rules_of, who
from wsistore.ops.roster import roster_of
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.visas_given import WHAT, GivenVisa, VisaScope, date_problem
from wsistore.settings.values import did_you_mean

_LONGEST_REFERENCE = 200


def add_visa(
    site: Site,
    plan: ApprovablePlan,
    role: str,
    reference: str,
    day: str,
    proof: PersonKey,
    *,
    scope: VisaScope = VisaScope.ALL,
    kept: Iterable[str] = (),
) -> GivenVisa:
    """Record a visa that was given on paper or elsewhere; an earlier one of the same role is replaced.

    Parameters
    ----------
    site
        An open site.
    plan
        What it is for.
    role
        Whose it is: one of ``visas`` under ``[approvals]``.
    reference
        By which it is found again.
    day
        The day on it: ``2026-12-01``.
    proof
        The key of whoever records it: anybody on the roster but the plan's author.
    scope
        Which rows of the plan it is for.
    kept
        Slides that they want to keep, by key or name: they are left out when the plan is applied.

    Raises
    ------
    InputError
        If it cannot be recorded so: the site asks for no such visa, the plan deletes nothing, the day or the reference
        cannot be, a slide that is to be kept is not one that the plan deletes, or this person may not.
    MissingError, ConflictError, IntegrityError, SiteError
        As `wsistore.ops.approving.approve`.

    """
    check_plan(site, plan)
    if site.catalog.read_only:
        raise read_only_error(site)
    person = who(roster_of(site), proof)
    check_not_author(plan, person)
    rules, words = rules_of(site, plan), " ".join(reference.split())
    _check(site, plan, role, words, day, rules)
    left = tuple(sorted(_kept(site, plan, kept)))
    said: dict[str, object] = {"role": role, "reference": words, "date": day, "scope": str(scope), "kept": list(left)}
    made = proven(site, WHAT, plan.digest, person, said, proof)
    row = VisaRow(
        plan=plan.digest,
        role=role,
        person=person.id,
        at=made.at,
        statement=made.statement,
        signer=made.signer,
        proof=made.proof,
    )
    site.catalog.put_visa(row)
    return GivenVisa(role=role, reference=words, date=day, scope=scope, kept=left, recorded_by=person.name, at=made.at)


def _check(site: Site, plan: ApprovablePlan, role: str, reference: str, day: str, rules: Rules) -> None:
    roles = site.settings.approvals.visas
    if role not in roles:
        asked = ", ".join(roles) or "none at all"
        msg = f"The site asks for no visa of {role!r}{did_you_mean(role, roles)}."
        raise _refused(msg, f"Those that it asks for ('visas' under [approvals]): {asked}.")
    if ApprovalScope.DELETIONS not in totals(plan).parts:
        msg = f"The plan {plan.digest[:12]} deletes nothing: it needs no visa."
        raise _refused(msg, "Look whether that is the plan that was meant.")
    if not reference or len(reference) > _LONGEST_REFERENCE:
        msg = f"A visa needs a reference of 1 to {_LONGEST_REFERENCE} characters."
        raise _refused(msg, "Say it with --reference.")
    problem = date_problem(day, rules)
    if problem:
        msg = f"The visa {problem}."
        raise _refused(msg, "Say the day on it with --date.")


def _kept(site: Site, plan: ApprovablePlan, wanted: Iterable[str]) -> set[str]:
    """Return the keys of slides that are to be kept; each must be one that the plan deletes.

    What was mistyped would be deleted.
    """
    words = [word.strip() for word in wanted if word.strip()]
    deleted = _deleted(plan) if words else set()
    found = set()
    for word in words:
        slide = word if word in deleted else _resolved(site, word)
        if slide not in deleted:
            msg = f"The plan {plan.digest[:12]} does not delete {word!r}: it cannot be kept from it."
            raise _refused(msg, "Look for it in the elimination list: wsistore plan export --bordereau.")
        found.add(slide)
    return found


def _resolved(site: Site, word: str) -> str:
    try:
        return site.catalog.resolve(word)
    except MissingError as error:
        raise _refused(error.message, "A slide that is to be kept is not known; nothing was recorded.") from error


def _deleted(plan: ApprovablePlan) -> set[str]:
    actions = [str(action) for action in IRREVERSIBLE]
    found: set[str] = set()
    for batch in acting(plan):
        found.update(batch["slide"].filter(pc.is_in(batch["action"], pa.array(actions))).to_pylist())
    return found


def _refused(message: str, remedy: str) -> InputError:
    return InputError(message, kind=Kind.METADATA_INVALID, remedy=remedy)
