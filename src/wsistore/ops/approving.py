"""Approving plans, and whether a plan is approved: every signature is verified again each time that is asked."""

from __future__ import annotations

from dataclasses import dataclass

from wsistore.catalog import ApprovalRow, PlanRow, PlanState
from wsistore.catalog.plans_applied import closed
from wsistore.clock import iso
from wsistore.errors import ConflictError, InputError, Kind
from wsistore.events import canonical_json, plain
from wsistore.keys.people import PersonKey
from wsistore.keys.people_roster import Person, Roster
from wsistore.keys.people_tokens import TokenVerifier, nonce_of
from wsistore.ops.approval_clock import SLACK, check_clock
from wsistore.ops.approval_contract import ApprovablePlan, ApprovalScope, Totals, totals
from wsistore.ops.approval_policy import Given, Policy, is_author, missing_roles, policy_of
from wsistore.ops.approval_proofs import IdToken, Proof, Rules, by_key, by_token, content, verify
from wsistore.ops.roster import named, nobody, note_head, roster_of
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.visas_given import GivenVisa, missing_visas, visas_of

_WHAT = "wsistore-approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a plan stands."""

    plan: str
    totals: Totals
    policy: Policy
    sentence: str
    """What it needs, in words."""
    given: tuple[Given, ...]
    visas: tuple[GivenVisa, ...]
    missing: tuple[str, ...]
    """What it lacks, in words; nothing if it is approved."""
    refused: tuple[str, ...]
    """Approvals and visas that do not count, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """That a plan may be applied now, and why."""

    plan: str
    at: str
    """When that was found."""
    policy: str
    approvals: tuple[Given, ...]
    visas: tuple[GivenVisa, ...]
    left_out: frozenset[str]
    """Slides that the archives keep: they are not deleted, whatever the plan says."""
    refused: tuple[str, ...]
    """Approvals and visas that do not count, and why."""


def check_approved(site: Site, plan: ApprovablePlan) -> Approved:
    """Return who approved a plan and why it may be applied now; verify everything anew.

    Raises
    ------
    MissingError
        If the plan was not made in this site, or its file was altered (`Kind.PLAN_MISSING`).
    ConflictError
        If it was applied or superseded (`Kind.PLAN_CLOSED`), has expired, is over a limit, lacks an approval or a visa
        (`Kind.NOT_APPROVED`; the message says which), or the clock was set back.
    IntegrityError
        If the roster was altered.
    WsistoreError
        If an identity provider's keys cannot be had.

    """
    check_plan(site, plan)
    found = standing(site, plan, strictly=True)
    if found.missing:
        ignored = f" Not counted: {'; '.join(found.refused)}." if found.refused else ""
        msg = f"The plan {plan.digest[:12]} lacks {'; '.join(found.missing)}.{ignored}"
        raise ConflictError(msg, kind=Kind.NOT_APPROVED, remedy="See 'wsistore approve PLAN --status'.")
    return Approved(
        plan=plan.digest,
        at=iso(site.clock.now()),
        policy=found.sentence,
        approvals=found.given,
        visas=found.visas,
        left_out=frozenset(slide for visa in found.visas for slide in visa.kept),
        refused=found.refused,
    )


def standing(site: Site, plan: ApprovablePlan, *, strictly: bool = False) -> Standing:
    """Return which approvals and visas a plan needs and has, also of one that was applied or has expired.

    Raises
    ------
    MissingError
        If the plan was not made in this site, or its file was altered (`Kind.PLAN_MISSING`).
    IntegrityError, SiteError
        As `wsistore.ops.roster.roster_of`.

    """
    site.catalog.plan(plan.digest)
    settings, found = site.settings.approvals, totals(plan)
    policy = policy_of(found, settings)
    given: list[Given] = []
    visas: list[GivenVisa] = []
    refused: list[str] = []
    if not policy.needs_nobody:
        roster, rules = roster_of(site, strictly=strictly), rules_of(site, plan)
        if strictly:
            note_head(site, roster)
        given, refused = _given(site, plan, roster, rules)
        visas, more = visas_of(site, plan, roster, rules)
        refused += more
    missing = [*missing_roles(policy, given), *missing_visas(policy, visas, found)]
    return Standing(
        plan=plan.digest,
        totals=found,
        policy=policy,
        sentence=policy.sentence(found, settings),
        given=tuple(given),
        visas=tuple(visas),
        missing=tuple(missing),
        refused=tuple(refused),
    )


def approve(
    site: Site, plan: ApprovablePlan, role: str, proof: PersonKey | IdToken, scope: ApprovalScope = ApprovalScope.ALL
) -> Given:
    """Approve a plan as somebody on the roster; what the same person said of it before is replaced.

    Parameters
    ----------
    site
        An open site.
    plan
        What is approved: the file with this digest, and nothing else.
    role
        As what.
    proof
        The person's key, opened under their account; or a token whose nonce is `approval_nonce`.
    scope
        What of it.

    Raises
    ------
    InputError
        If this person may not (`Kind.NOT_ALLOWED`), or the token proves nothing (`Kind.SIGNATURE_INVALID`).
    MissingError, ConflictError, IntegrityError, SiteError
        As `check_approved`, or if the site cannot be written.

    """
    check_plan(site, plan)
    if site.catalog.read_only:
        raise read_only_error(site)
    person = who(roster_of(site), proof)
    said = _said(site, plan, person, role, scope)
    made = proven(site, _WHAT, plan.digest, person, said, proof)
    row = ApprovalRow(
        plan=plan.digest, person=person.id, at=made.at, statement=made.statement, signer=made.signer, proof=made.proof
    )
    verify(_WHAT, row, roster_of(site), tokens_of(site), rules_of(site, plan))
    site.catalog.put_approval(row)
    by = "key" if isinstance(proof, PersonKey) else "token"
    return Given(person=person.id, name=person.name, role=role, scope=scope, at=made.at, by=by)


def approval_nonce(
    site: Site, plan: ApprovablePlan, role: str, name: str, scope: ApprovalScope = ApprovalScope.ALL
) -> str:
    """Return the nonce that a person's sign-in has to carry for its token to approve a plan; raises as `approve`."""
    check_plan(site, plan)
    person = named(roster_of(site), name)
    return nonce_of(
        canonical_json(content(_WHAT, plan.digest, person, _said(site, plan, person, role, scope), "token"))
    )


def who(roster: Roster, proof: PersonKey | IdToken) -> Person:
    """Return who says something, by their key or as their token claims; `InputError` if they are not on the roster."""
    if not roster.people:
        raise nobody()
    if isinstance(proof, IdToken):
        return named(roster, proof.person)
    person = roster.by_key(proof.key_id)
    if person is None:
        msg = f"The key of {proof.account.login} is not on the roster of approvers, or was revoked."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="An administrator adds it: wsistore approver add.")
    if person.account is None or person.account.uid != proof.account.uid:
        msg = f"The key of {person.name} belongs to another account than {proof.account.login}."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Everybody approves under their own account.")
    return person


def proven(
    site: Site, what: str, plan: str, person: Person, said: dict[str, object], proof: PersonKey | IdToken
) -> Proof:
    """Return a statement with its proof."""
    if isinstance(proof, PersonKey):
        return by_key(what, plan, person, said, proof, site.clock.now())
    verifier = tokens_of(site)
    if verifier is None:
        msg = "The site knows no identity provider whose tokens would prove anything."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Describe it under [approvals.oidc] in wsistore.toml.")
    return by_token(what, plan, person, said, proof.token, verifier, site.clock.now())


def tokens_of(site: Site) -> TokenVerifier | None:
    """Return what verifies the tokens of the site's identity provider, if it has one."""
    oidc = site.settings.approvals.oidc
    return None if oidc is None else TokenVerifier(oidc)


def check_not_author(plan: ApprovablePlan, person: Person) -> None:
    """Raise `InputError` if a person made the plan."""
    if is_author(person, plan.header.author):
        msg = f"{person.name} made the plan {plan.digest[:12]}: nobody approves their own."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Let somebody else do it.")


def _said(site: Site, plan: ApprovablePlan, person: Person, role: str, scope: ApprovalScope) -> dict[str, object]:
    """Return what an approval says, once it is sure that this person may say it."""
    check_not_author(plan, person)
    policy = policy_of(totals(plan), site.settings.approvals)
    if policy.needs_nobody:
        msg = f"The plan {plan.digest[:12]} needs nobody's approval."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Apply it: wsistore apply PLAN.")
    if role not in policy.roles:
        msg = f"The plan {plan.digest[:12]} needs no approval as {role!r}, but as {' and '.join(policy.roles)}."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Name another with --role.")
    if role not in person.roles:
        msg = f"{person.name} is no {role} on the roster, but {', '.join(person.roles)}."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Name another with --role.")
    return {"role": role, "scope": str(scope)}


def _given(site: Site, plan: ApprovablePlan, roster: Roster, rules: Rules) -> tuple[list[Given], list[str]]:
    """Return the approvals that count, and why others do not."""
    given: list[Given] = []
    people: list[Person] = []
    refused: list[str] = []
    tokens = tokens_of(site)
    for row in site.catalog.approvals(plan.digest):
        try:
            person, said = verify(_WHAT, row, roster, tokens, rules)
        except InputError as error:
            refused.append(f"an approval: {error.message}")
            continue
        problem = _why_not(plan, person, said, people)
        if problem:
            refused.append(f"an approval: that of {person.name} {problem}")
            continue
        people.append(person)
        given.append(
            Given(
                person=person.id,
                name=person.name,
                role=said["role"],
                scope=ApprovalScope(said["scope"]),
                at=row.at,
                by=said["by"],
            )
        )
    return given, refused


def _why_not(plan: ApprovablePlan, person: Person, said: dict[str, object], before: list[Person]) -> str:
    if is_author(person, plan.header.author):
        return "is the author's own"
    if said["role"] not in person.roles:
        return f"is given as {said['role']}, which they are not"
    if said["scope"] not in set(ApprovalScope):
        return "has a scope that nobody knows"
    if any(person.is_same_as(other) for other in before):
        return "is by somebody who approved it already"
    return ""


def rules_of(site: Site, plan: ApprovablePlan) -> Rules:
    """Return what statements about a plan must fit to count."""
    return Rules(made_at=iso(plan.header.made_at), now=site.clock.now(), valid=site.settings.approvals.valid)


def check_plan(site: Site, plan: ApprovablePlan) -> None:
    """Raise unless a plan may still be approved or applied."""
    now = check_clock(site)
    noted = site.catalog.plan(plan.digest)
    if not _is_same(noted, plan):
        msg = f"The plan {plan.digest[:12]} says something else than when it was made."
        raise InputError(msg, kind=Kind.PLAN_MISSING, remedy="Make a new plan: wsistore plan.")
    if noted.state not in {PlanState.MADE, PlanState.APPLYING}:
        raise closed(noted)
    if noted.made_at > iso(now + SLACK):
        msg = f"The plan {plan.digest[:12]} is of {noted.made_at}, which is still to come."
        raise ConflictError(msg, kind=Kind.CLOCK_WRONG, remedy="Set the clock of this machine right.")
    if plan.header.at > now + SLACK:
        msg = f"The plan {plan.digest[:12]} looks ahead to {iso(plan.header.at)}: it shows, and is not for applying."
        raise ConflictError(msg, kind=Kind.NOT_APPROVED, remedy="Make a plan for now: wsistore plan.")
    if noted.expires_at <= iso(now):
        msg = f"The plan {plan.digest[:12]} has expired ({noted.expires_at})."
        raise ConflictError(msg, kind=Kind.PLAN_EXPIRED, remedy="Make a new plan: wsistore plan.")
    if plan.header.over_limit:
        msg = f"The plan {plan.digest[:12]} would move or delete more than the rules' limits allow."
        raise ConflictError(msg, kind=Kind.PLAN_OVER_LIMIT, remedy="Look at the rules; or raise the limit in them.")


def _is_same(noted: PlanRow, plan: ApprovablePlan) -> bool:
    header = plan.header
    said = (plain(header.author), iso(header.made_at), iso(header.expires_at))
    return (noted.author, noted.made_at, noted.expires_at) == said
