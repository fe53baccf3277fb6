"""Whether a plan is approved: policies, who may say so, and everything that must not count."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.approval_kit import AUTHOR, NOW, MadePlan, People, deleting, key_of, moving, note, people, plan_of, row
from tests.catalog_kit import sql
from tests.site_kit import Json, listing
from wsistore.catalog import ApprovalRow, PlanState
from wsistore.clock import iso
from wsistore.errors import ConflictError, InputError, IntegrityError, Kind, MissingError, WsistoreError
from wsistore.events import canonical_json
from wsistore.keys.people import Account, PersonKey
from wsistore.keys.signing import Signer
from wsistore.ops.approval_contract import ApprovalScope, totals
from wsistore.ops.approving import approve, check_approved, standing
from wsistore.ops.roster import add_approver, revoke_approver, roster_of
from wsistore.ops.visas import add_visa
from wsistore.settings import ADMINISTRATOR, ApprovalSettings

VISAS = ("director", "dim-physician", "departmental-archives")


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[People]:
    """Return a site with a roster."""
    made = people(tmp_path)
    yield made
    made.site.close()


def dump(crew: People) -> Json:
    """Return everything that a refusal must not change."""
    tables = ("roster", "plans", "approvals", "visas", "plan_rows", "slides", "events")
    url, keys = crew.site.settings.catalog_url, crew.site.settings.keys
    return {name: sql(url, f"SELECT * FROM {name}") for name in tables} | {"keys": listing(keys)}


def refused(crew: People, kind: Kind, action: Callable[[], object], match: str | None = None) -> WsistoreError:
    """Check that something is refused, for this reason, and changes nothing."""
    before = dump(crew)
    with pytest.raises(WsistoreError, match=match) as caught:
        action()
    assert caught.value.kind is kind, caught.value
    assert dump(crew) == before
    return caught.value


def lacks(crew: People, plan: MadePlan, match: str | None = None) -> WsistoreError:
    """Check that a plan is not approved."""
    return refused(crew, Kind.NOT_APPROVED, lambda: check_approved(crew.site, plan), match)


def visas(crew: People, plan: MadePlan) -> None:
    for role in VISAS:
        add_visa(crew.site, plan, role, f"{role}/1", "2026-06-01", crew.keys["clerk"])


def both(crew: People, plan: MadePlan) -> None:
    """Give the two approvals that a deletion needs."""
    approve(crew.site, plan, "approver", crew.keys["first"])
    approve(crew.site, plan, "dim-physician", crew.keys["dim"])


def settings(crew: People, **changes: object) -> None:
    approvals = replace(crew.site.settings.approvals, **changes)  # type: ignore[arg-type]
    crew.site.settings = replace(crew.site.settings, approvals=approvals)


def forge(crew: People, plan: MadePlan, signer: PersonKey, person: str, **said: object) -> None:
    """Put an approval into the catalogue past all that checks it: signed in due form by whatever key."""
    statement = {
        "what": "wsistore-approval",
        "format": 1,
        "plan": plan.digest,
        "person": person,
        "by": "key",
        "role": "approver",
        "scope": "all",
        "at": iso(crew.clock.now()),
        "account": {"uid": signer.account.uid, "login": signer.account.login},
        **said,
    }
    text = canonical_json(statement)
    crew.site.catalog.put_approval(
        ApprovalRow(
            plan=plan.digest,
            person=person,
            at=str(statement["at"]),
            statement=text,
            signer=signer.key_id,
            proof=signer.sign(text).hex(),
        )
    )


def id_of(crew: People, name: str) -> str:
    return next(one.id for one in roster_of(crew.site).people.values() if one.name == name)


# --- policies ---------------------------------------------------------------------------------------------------------


def test_small_moves_need_nobody_not_even_a_roster(crew: People) -> None:
    plan = note(crew.site, moving(1.0))
    found = check_approved(crew.site, plan)
    assert (found.approvals, found.visas, found.left_out) == ((), (), frozenset())
    assert "needs nobody" in found.policy
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, "approver", crew.keys["first"]), "needs nobody")


def test_large_moves_need_one(crew: People) -> None:
    plan = note(crew.site, moving(1.000001))
    lacks(crew, plan, "lacks an approval of its moves as approver")
    given = approve(crew.site, plan, "approver", crew.keys["first"])
    assert (given.name, given.role, given.scope, given.by) == ("first", "approver", ApprovalScope.ALL, "key")
    assert check_approved(crew.site, plan).approvals == (given,)


def test_copies_that_are_given_up_count_as_touched(crew: People) -> None:
    rows = [row(f"s{n}", "drop-copy", bytes_now=600 * 10**9, bytes_after=0) for n in range(2)]
    assert totals(plan_of(rows)).bytes_touched == 1200 * 10**9
    lacks(crew, note(crew.site, plan_of(rows)))


def test_what_waits_is_neither_counted_nor_needs_anybody(crew: People) -> None:
    rows = [row("s1", "delete", postponed="delete_at_most"), row("s2", "none"), row("s3", "move")]
    found = totals(plan_of(rows))
    assert (found.actions, found.postponed, found.bytes_deleted) == ({"move": 1}, 1, 0)
    assert check_approved(crew.site, note(crew.site, plan_of(rows))).approvals == ()


@pytest.mark.parametrize("action", ["delete", "detach-identity"])
def test_what_cannot_be_undone_needs_two_and_the_visas(crew: People, action: str) -> None:
    plan = note(crew.site, plan_of([row("s1", action)]))
    error = lacks(crew, plan)
    for words in ("deletions as approver", "deletions as dim-physician", *(f"visa of {role}" for role in VISAS)):
        assert words in error.message
    approve(crew.site, plan, "approver", crew.keys["first"])
    lacks(crew, plan, "as dim-physician")
    approve(crew.site, plan, "dim-physician", crew.keys["dim"])
    lacks(crew, plan, "visa of director")
    visas(crew, plan)
    found = check_approved(crew.site, plan)
    assert {one.name for one in found.approvals} == {"dim", "first"}
    assert {one.role for one in found.visas} == set(VISAS)
    assert found.refused == ()


def test_a_deletion_hidden_among_small_moves_is_found(crew: People) -> None:
    rows = [row(f"m{n}", "move", bytes_moved=1) for n in range(50)] + [row("s1", "delete", bytes_now=1)]
    error = lacks(crew, note(crew.site, plan_of(rows)))
    assert "moves as approver" in error.message
    assert "deletions as dim-physician" in error.message


def test_a_site_names_its_own_approvals(crew: People) -> None:
    settings(crew, deletions=("approver", "approver"), visas=(), moves=("clerk",), free_moves_bytes=0)
    plan = note(crew.site, deleting())
    approve(crew.site, plan, "approver", crew.keys["first"])
    lacks(crew, plan, "lacks an approval of its deletions as approver")
    approve(crew.site, plan, "approver", crew.keys["second"])
    assert len(check_approved(crew.site, plan).approvals) == 2
    moved = note(crew.site, moving(0.000001))
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, moved, "approver", crew.keys["first"]), "but as clerk")
    approve(crew.site, moved, "clerk", crew.keys["clerk"])
    check_approved(crew.site, moved)


def test_an_approval_counts_for_its_scope_only(crew: People) -> None:
    settings(crew, visas=())
    plan = note(crew.site, plan_of([row("s1", "delete"), row("s2", "move")]))
    approve(crew.site, plan, "approver", crew.keys["first"], ApprovalScope.MOVES)
    approve(crew.site, plan, "dim-physician", crew.keys["dim"], ApprovalScope.DELETIONS)
    error = lacks(crew, plan, "deletions as approver")
    assert "moves as" not in error.message
    approve(crew.site, plan, "approver", crew.keys["second"], ApprovalScope.DELETIONS)
    check_approved(crew.site, plan)
    # Said again, it is what was said last that counts.
    approve(crew.site, plan, "approver", crew.keys["second"], ApprovalScope.MOVES)
    lacks(crew, plan, "deletions as approver")


# --- who may ----------------------------------------------------------------------------------------------------------


def test_one_person_never_gives_both_approvals(crew: People) -> None:
    settings(crew, visas=())
    crew.add("many", "approver", "dim-physician", uid=110)
    plan = note(crew.site, deleting())
    approve(crew.site, plan, "approver", crew.keys["many"])
    approve(crew.site, plan, "dim-physician", crew.keys["many"])
    error = lacks(crew, plan, "deletions as approver")
    assert "dim-physician" not in error.message
    approve(crew.site, plan, "approver", crew.keys["first"])
    check_approved(crew.site, plan)


@pytest.mark.parametrize("author", ["The Planner", "the planner", "uid-111"])
def test_the_author_approves_nothing(crew: People, author: str) -> None:
    own = crew.add("The Planner", "approver", "dim-physician", uid=111)
    plan = note(crew.site, deleting(author=author))
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, "approver", own), "nobody approves")
    refused(crew, Kind.NOT_ALLOWED, lambda: add_visa(crew.site, plan, "director", "x", "2026-06-01", own))
    # And one that was slipped in does not count.
    forge(crew, plan, own, id_of(crew, "The Planner"))
    assert "author's own" in lacks(crew, plan).message


def test_an_account_that_is_the_authors_under_another_login_is_the_author(
    crew: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.ops.approval_policy.pwd.getpwnam", lambda _: type("", (), {"pw_uid": 101}))
    plan = note(crew.site, deleting(author="first-but-another-login"))
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, "approver", crew.keys["first"]))


@pytest.mark.parametrize("role", ["approver", "administrator", "director", "", "x" * 300])
def test_a_role_that_one_does_not_have(crew: People, role: str) -> None:
    plan = note(crew.site, deleting())
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, role, crew.keys["dim"]))


def test_somebody_who_is_not_on_the_roster(crew: People) -> None:
    plan = note(crew.site, moving(2))
    stranger = key_of("stranger", 200)
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, "approver", stranger), "not on the roster")
    forge(crew, plan, stranger, "0" * 20)
    lacks(crew, plan, "nobody who was ever on the roster")


def test_a_key_under_another_account(crew: People) -> None:
    plan = note(crew.site, moving(2))
    taken = PersonKey(Signer(crew.keys["first"]._signer.secret()), Account(0, "root"))
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, "approver", taken), "another account")
    forge(crew, plan, taken, id_of(crew, "first"))
    lacks(crew, plan, "another account")


def test_nobody_on_the_roster(tmp_path: Path) -> None:
    crew = people(tmp_path)
    sql(crew.site.settings.catalog_url, "DELETE FROM roster")
    (crew.site.settings.keys / "roster-head.json").unlink()
    plan = note(crew.site, moving(2))
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, "approver", crew.keys["first"]), "Nobody is on")


# --- forged -----------------------------------------------------------------------------------------------------------


def test_a_revoked_approval_counts_no_more(crew: People) -> None:
    settings(crew, visas=())
    plan = note(crew.site, deleting())
    both(crew, plan)
    check_approved(crew.site, plan)
    revoke_approver(crew.site, "dim", crew.keys["admin"], "has left")
    lacks(crew, plan, "dim-physician.*dim was revoked")
    refused(crew, Kind.NOT_ALLOWED, lambda: approve(crew.site, plan, "dim-physician", crew.keys["dim"]))


def test_somebody_who_came_back_under_another_name_has_to_approve_again(crew: People) -> None:
    plan = note(crew.site, moving(2))
    approve(crew.site, plan, "approver", crew.keys["first"])
    revoke_approver(crew.site, "first", crew.keys["admin"])
    key = crew.keys["first"]
    add_approver(crew.site, "renamed", ["approver"], crew.keys["admin"], introduction=key.introduction())
    lacks(crew, plan, "first was revoked")
    approve(crew.site, plan, "approver", key)
    check_approved(crew.site, plan)


def test_an_approval_of_another_plan(crew: People) -> None:
    plan, other = note(crew.site, moving(2)), note(crew.site, moving(3))
    approve(crew.site, plan, "approver", crew.keys["first"])
    sql(crew.site.settings.catalog_url, "UPDATE approvals SET plan = ?", other.digest)
    lacks(crew, other, "for another plan")
    lacks(crew, plan)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("proof", "00" * 64),
        ("proof", "no hex"),
        ("proof", ""),
        ("signer", "0" * 32),
        ("statement", "{}"),
        ("statement", "[" * 5000),
        ("at", "2026-06-01T11:00:00.000000Z"),
        ("at", "0000"),
    ],
)
def test_an_approval_that_was_altered(crew: People, column: str, value: str) -> None:
    plan = note(crew.site, moving(2))
    approve(crew.site, plan, "approver", crew.keys["first"])
    sql(crew.site.settings.catalog_url, f"UPDATE approvals SET {column} = ?", value)
    assert "Not counted" in lacks(crew, plan).message


@pytest.mark.parametrize(
    "change", [{"role": "dim-physician"}, {"scope": "moves"}, {"at": "2026-06-01T11:00:00.000000Z"}]
)
def test_a_statement_that_says_more_than_was_signed(crew: People, change: Json) -> None:
    plan = note(crew.site, moving(2))
    approve(crew.site, plan, "approver", crew.keys["first"])
    (kept,) = crew.site.catalog.approvals(plan.digest)
    text = canonical_json(json.loads(kept.statement) | change)
    sql(crew.site.settings.catalog_url, "UPDATE approvals SET statement = ?, at = ?", text, change.get("at", kept.at))
    lacks(crew, plan, "signature that is not theirs")


def test_one_person_under_two_names_in_the_catalogue(crew: People) -> None:
    settings(crew, visas=(), deletions=("approver", "approver"))
    plan = note(crew.site, deleting())
    approve(crew.site, plan, "approver", crew.keys["first"])
    sql(
        crew.site.settings.catalog_url,
        "INSERT INTO approvals SELECT plan, ?, at, statement, signer, proof FROM approvals",
        id_of(crew, "second"),
    )
    lacks(crew, plan, "for another plan, or was altered")
    forge(crew, plan, crew.keys["first"], id_of(crew, "second"))
    lacks(crew, plan, "signature that is not theirs")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"role": "dim-physician"}, "which they are not"),
        ({"role": "administrator"}, "which they are not"),
        ({"scope": "everything"}, "scope"),
        ({"what": "wsistore-visa"}, "altered"),
        ({"format": 2}, "altered"),
        ({"by": "nobody"}, "altered"),
        ({"by": "token"}, "identity provider"),
        ({"role": ["approver"]}, "altered"),
        ({"account": None}, "another account"),
        ({"at": "2026-05-01T00:00:00.000000Z"}, "older than the plan"),
    ],
)
def test_what_a_person_may_not_say_though_they_sign_it(crew: People, said: Json, why: str) -> None:
    settings(crew, visas=())
    plan = note(crew.site, deleting())
    approve(crew.site, plan, "dim-physician", crew.keys["dim"])
    forge(crew, plan, crew.keys["first"], id_of(crew, "first"), **said)
    lacks(crew, plan, why)


def test_an_approval_of_a_moment_to_come(crew: People) -> None:
    plan = note(crew.site, moving(2))
    forge(crew, plan, crew.keys["first"], id_of(crew, "first"), at="2026-06-03T00:00:00.000000Z")
    refused(crew, Kind.CLOCK_WRONG, lambda: check_approved(crew.site, plan), "has seen 2026-06-03")


def test_an_altered_roster_lets_nobody_approve(crew: People) -> None:
    plan = note(crew.site, moving(2))
    approve(crew.site, plan, "approver", crew.keys["first"])
    sql(crew.site.settings.catalog_url, "UPDATE roster SET statement = replace(statement, 'clerk', 'approver')")
    error = refused(crew, Kind.SIGNATURE_INVALID, lambda: check_approved(crew.site, plan))
    assert isinstance(error, IntegrityError)


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_that_was_not_made_here(crew: People) -> None:
    plan = moving(0.1)
    error = refused(crew, Kind.PLAN_MISSING, lambda: check_approved(crew.site, plan))
    assert isinstance(error, MissingError)
    refused(crew, Kind.PLAN_MISSING, lambda: approve(crew.site, plan, "approver", crew.keys["first"]))


@pytest.mark.parametrize(
    "change",
    [{"author": "somebody"}, {"expires_at": NOW + timedelta(days=999)}, {"made_at": NOW + timedelta(minutes=1)}],
)
def test_a_header_that_says_something_else_than_was_noted(crew: People, change: Json) -> None:
    plan = note(crew.site, moving(0.1))
    other = replace(plan, header=replace(plan.header, **change))
    error = refused(crew, Kind.PLAN_MISSING, lambda: check_approved(crew.site, other))
    assert isinstance(error, InputError)


def test_an_expired_plan(crew: People) -> None:
    plan = note(crew.site, moving(2, days=7))
    approve(crew.site, plan, "approver", crew.keys["first"])
    crew.clock.advance(7 * 86400 - 1)
    check_approved(crew.site, plan)
    crew.clock.advance(1)
    refused(crew, Kind.PLAN_EXPIRED, lambda: check_approved(crew.site, plan), "has expired")
    refused(crew, Kind.PLAN_EXPIRED, lambda: approve(crew.site, plan, "approver", crew.keys["second"]))


def test_an_expired_approval(crew: People) -> None:
    settings(crew, valid=timedelta(days=30))
    plan = note(crew.site, moving(2, days=300))
    approve(crew.site, plan, "approver", crew.keys["first"])
    crew.clock.advance(30 * 86400)
    check_approved(crew.site, plan)
    crew.clock.advance(1)
    lacks(crew, plan, "has expired")
    approve(crew.site, plan, "approver", crew.keys["first"])
    check_approved(crew.site, plan)


def test_a_clock_that_was_set_back_brings_nothing_back(crew: People) -> None:
    plan = note(crew.site, moving(2, days=7))
    approve(crew.site, plan, "approver", crew.keys["first"])
    crew.clock.advance(8 * 86400)
    note(crew.site, moving(1))  # somebody works on, and the catalogue sees that day
    crew.clock.jump(NOW + timedelta(days=1))
    for action in (
        lambda: check_approved(crew.site, plan),
        lambda: approve(crew.site, plan, "approver", crew.keys["second"]),
        lambda: add_approver(
            crew.site, "n", ["approver"], crew.keys["admin"], introduction=key_of("n", 9).introduction()
        ),
    ):
        refused(crew, Kind.CLOCK_WRONG, action, "set back")


def test_a_plan_of_a_moment_to_come(crew: People) -> None:
    plan = note(crew.site, moving(0.1, made_at=NOW + timedelta(days=1)))
    refused(crew, Kind.CLOCK_WRONG, lambda: check_approved(crew.site, plan))


def test_a_plan_that_looks_ahead_is_for_looking(crew: People) -> None:
    plan = note(crew.site, moving(0.1, at=NOW + timedelta(days=365)))
    refused(crew, Kind.NOT_APPROVED, lambda: check_approved(crew.site, plan), "looks ahead")


def test_a_plan_over_a_limit_is_approved_by_nobody(crew: People) -> None:
    plan = note(crew.site, moving(2, over_limit=True))
    refused(crew, Kind.PLAN_OVER_LIMIT, lambda: check_approved(crew.site, plan))
    refused(crew, Kind.PLAN_OVER_LIMIT, lambda: approve(crew.site, plan, "approver", crew.keys["first"]))


def test_a_plan_is_applied_once(crew: People) -> None:
    plan = note(crew.site, moving(2))
    approve(crew.site, plan, "approver", crew.keys["first"])
    crew.site.catalog.begin_applying(plan.digest, [("s1", "move")], "operator")
    check_approved(crew.site, plan)  # what was interrupted goes on
    revoke_approver(crew.site, "first", crew.keys["admin"])
    lacks(crew, plan, "first was revoked")
    approve(crew.site, plan, "approver", crew.keys["second"])
    check_approved(crew.site, plan)
    crew.site.catalog.take_rows(plan.digest, "me", 1, NOW + timedelta(hours=1))
    crew.site.catalog.end_row(plan.digest, "s1", "done", owner="me")  # type: ignore[arg-type]
    crew.site.catalog.finish_plan(plan.digest)
    error = refused(crew, Kind.PLAN_CLOSED, lambda: check_approved(crew.site, plan), "applied already")
    assert isinstance(error, ConflictError)
    refused(crew, Kind.PLAN_CLOSED, lambda: approve(crew.site, plan, "approver", crew.keys["second"]))


def test_a_plan_that_was_superseded(crew: People) -> None:
    old, new = note(crew.site, moving(0.1)), note(crew.site, moving(0.2))
    crew.site.catalog.begin_applying(new.digest, [("s1", "move")], "operator")
    assert crew.site.catalog.plan(old.digest).state is PlanState.SUPERSEDED
    refused(crew, Kind.PLAN_CLOSED, lambda: check_approved(crew.site, old), "superseded")


def test_standing_says_it_all_without_raising(crew: People) -> None:
    plan = note(crew.site, deleting("s1", "s2"))
    approve(crew.site, plan, "approver", crew.keys["first"])
    found = standing(crew.site, plan)
    assert found.totals.actions == {"delete": 2}
    assert [one.name for one in found.given] == ["first"]
    assert len(found.missing) == 4
    assert "by different people" in found.sentence
    assert ADMINISTRATOR not in found.sentence
    assert ApprovalSettings().deletions == ("approver", "dim-physician")
    assert plan.header.author == AUTHOR


def test_an_odd_author_is_nobody_on_the_roster(crew: People) -> None:
    for author in ("", "\x00", "\udcff", "x" * 10_000):
        plan = note(crew.site, moving(2, author=author))
        approve(crew.site, plan, "approver", crew.keys["first"])
