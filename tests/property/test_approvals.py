"""Whatever is said in whatever order: a plan is approved exactly when different people gave what it needs."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.approval_kit import People, deleting, note, people
from wsistore.catalog import ApprovalRow
from wsistore.errors import ConflictError, Kind
from wsistore.keys.people import Account
from wsistore.keys.people_roster import Person
from wsistore.keys.people_tokens import Subject
from wsistore.ops.approval_contract import ApprovalScope, Totals
from wsistore.ops.approval_policy import Given, is_author, missing_roles, policy_of
from wsistore.ops.approving import approve, check_approved
from wsistore.settings import ApprovalSettings

ROLES = ("approver", "dim-physician", "records-officer")
TEN = st.integers(0, 5)
APPROVALS = st.builds(
    Given,
    person=st.sampled_from("abcd"),
    name=st.just("x"),
    role=st.sampled_from(ROLES),
    scope=st.sampled_from(ApprovalScope),
    at=st.just(""),
    by=st.just("key"),
)
SETTINGS = st.builds(
    ApprovalSettings,
    free_moves_bytes=st.integers(0, 10),
    moves=st.lists(st.sampled_from(ROLES), max_size=2).map(tuple),
    deletions=st.lists(st.sampled_from(ROLES), min_size=2, max_size=3).map(tuple),
    visas=st.just(()),
)
TOTALS = st.builds(
    Totals,
    actions=st.dictionaries(st.sampled_from(["move", "drop-copy", "delete", "detach-identity"]), st.integers(1, 9)),
    bytes_touched=st.integers(0, 20),
)


def is_enough(roles: Sequence[str], scope: ApprovalScope, given: Sequence[Given]) -> bool:
    """Say whether each role can be given to another approval: by trying everything."""
    fit = [one for one in given if one.scope in (ApprovalScope.ALL, scope)]
    return any(
        all(one.role == role for one, role in zip(some, roles, strict=True))
        for some in itertools.permutations(fit, len(roles))
    )


@given(totals=TOTALS, site=SETTINGS, given=st.lists(APPROVALS, max_size=4, unique_by=lambda one: one.person))
@settings(max_examples=150, deadline=None)
def test_enough_is_what_trying_everything_finds(totals: Totals, site: ApprovalSettings, given: list[Given]) -> None:
    policy = policy_of(totals, site)
    enough = is_enough(policy.moves, ApprovalScope.MOVES, given) and is_enough(
        policy.deletions, ApprovalScope.DELETIONS, given
    )
    assert (missing_roles(policy, given) == []) == enough
    deletes = bool({"delete", "detach-identity"} & set(totals.actions))
    assert not (deletes and policy.needs_nobody)
    assert not (deletes and enough and len(given) < 2)
    # More approvals never lack more.
    for one in given:
        assert set(missing_roles(policy, given)) <= set(missing_roles(policy, [g for g in given if g is not one]))
    assert policy.sentence(totals, site)


PEOPLE = st.builds(
    Person,
    id=st.sampled_from("abcd"),
    name=st.sampled_from(["one", "two"]),
    roles=st.just(("approver",)),
    account=st.none() | st.builds(Account, TEN, st.sampled_from(["login", "LOGIN", "other", "third"])),
    key=st.sampled_from(["", "aa", "bb"]),
    subject=st.none() | st.builds(Subject, st.just("i"), st.sampled_from(["s", "t"])),
)


@given(one=PEOPLE, other=PEOPLE)
@settings(max_examples=150, deadline=None)
def test_who_is_the_same(one: Person, other: Person) -> None:
    assert one.is_same_as(one)
    assert one.is_same_as(other) == other.is_same_as(one)
    if one.account is not None:
        assert is_author(one, one.account.login.upper())
        assert is_author(one, f"uid-{one.account.uid}")


# --- in a site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crew() -> Iterator[People]:
    """Return a site with a roster, whose deletions need no visas."""
    folder = Path(tempfile.mkdtemp())
    made = people(folder)
    made.add("both", "approver", "dim-physician", uid=110)
    approvals = replace(made.site.settings.approvals, visas=())
    made.site.settings = replace(made.site.settings, approvals=approvals)
    yield made
    made.site.close()
    shutil.rmtree(folder)


WHO = {"first": ["approver"], "second": ["approver"], "dim": ["dim-physician"], "both": ["approver", "dim-physician"]}
SAID = st.sampled_from([(name, role) for name, roles in WHO.items() for role in roles])


@given(said=st.lists(SAID, max_size=4))
@settings(max_examples=15, deadline=None)
def test_a_deletion_has_two_people_behind_it(crew: People, said: list[tuple[str, str]]) -> None:
    plan = note(crew.site, deleting())
    last: dict[str, str] = {}
    for name, role in said:
        approve(crew.site, plan, role, crew.keys[name])
        last[name] = role
    if {"approver", "dim-physician"} <= set(last.values()):
        assert {one.name: one.role for one in check_approved(crew.site, plan).approvals} == last
    else:
        with pytest.raises(ConflictError) as caught:
            check_approved(crew.site, plan)
        assert caught.value.kind is Kind.NOT_APPROVED


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_alteration_of_an_approval_counts(crew: People, data: st.DataObject) -> None:
    plan = note(crew.site, deleting())
    approve(crew.site, plan, "approver", crew.keys["first"])
    approve(crew.site, plan, "dim-physician", crew.keys["dim"])
    good = next(one for one in crew.site.catalog.approvals(plan.digest) if "approver" in one.statement)
    column = data.draw(st.sampled_from(["statement", "proof", "signer", "at"]))
    before: str = getattr(good, column)
    place = data.draw(st.integers(0, len(before) - 1))
    letter = data.draw(st.sampled_from('0123456789abcdefghiTZ{}:,." -'))
    altered: ApprovalRow = replace(good, **{column: before[:place] + letter + before[place + 1 :]})
    crew.site.catalog.put_approval(altered)
    if altered == good:
        check_approved(crew.site, plan)
        return
    try:
        with pytest.raises(ConflictError):
            check_approved(crew.site, plan)
    finally:
        crew.site.catalog.put_approval(good)  # a moment to come would stop the clock for the next example
