"""The roster: how it begins, who may change it, and what shows when it was altered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.approval_kit import NOW, People, Provider, key_of, people
from tests.catalog_kit import sql
from tests.site_kit import listing, memory_site
from wsistore import ops
from wsistore.catalog import RosterRow
from wsistore.clock import iso
from wsistore.errors import ConflictError, InputError, IntegrityError, Kind, MissingError, SiteError, WsistoreError
from wsistore.keys.people import Account, PersonKey
from wsistore.keys.people_roster import Change, Person, digest_of, statement
from wsistore.keys.people_tokens import Subject
from wsistore.keys.signing import Signer, make_signer
from wsistore.ops.roster import add_approver, named, revoke_approver, roster_entries, roster_of
from wsistore.settings import ADMINISTRATOR
from wsistore.testing.clock import ManualClock


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[People]:
    """Return a site with a roster."""
    made = people(tmp_path)
    yield made
    made.site.close()


def url(crew: People) -> str:
    return crew.site.settings.catalog_url


def refused(crew: People, error: type[WsistoreError], match: str | None, action: Callable[[], object]) -> None:
    """Check that something is refused and changes nothing."""
    before = sql(url(crew), "SELECT * FROM roster"), listing(crew.site.settings.keys)
    with pytest.raises(error, match=match):
        action()
    assert (sql(url(crew), "SELECT * FROM roster"), listing(crew.site.settings.keys)) == before


def add(crew: People, name: str, key: PersonKey, *roles: str, by: str = "admin") -> Person:
    return add_approver(crew.site, name, roles or ("approver",), crew.keys[by], introduction=key.introduction())


# --- how it comes about -----------------------------------------------------------------------------------------------


def test_a_roster_begins_with_an_administrator_who_adds_themselves(tmp_path: Path) -> None:
    with memory_site(tmp_path, clock=ManualClock(NOW)) as site:
        crew, own = People(site, ManualClock(NOW)), key_of("admin", 1)
        other = key_of("other", 2)
        assert roster_of(site).people == {}
        for role, who in (("approver", own), (ADMINISTRATOR, other)):
            refused(
                crew,
                InputError,
                "begins with an administrator",
                lambda r=role, w=who: add_approver(site, "x", [r], own, introduction=w.introduction()),  # type: ignore[misc]
            )
        made = add_approver(site, "Head", [ADMINISTRATOR, "approver"], own, introduction=own.introduction())
        found = roster_of(site)
        assert found.people == {made.id: made}
        assert (made.account, made.key, made.since) == (Account(1, "admin"), own.public.hex(), iso(NOW))
        (row,) = site.catalog.roster_log()
        assert row.countersigner == make_signer(site.settings.keys, site.clock).key_id
        assert found.root == digest_of(row)


def test_what_it_says_and_how_it_came_about(crew: People) -> None:
    revoke_approver(crew.site, "SECOND", crew.keys["admin"], "  has \n left ")
    roster = roster_of(crew.site)
    assert [one.name for one in roster.active()] == ["admin", "first", "dim", "clerk"]
    gone = next(one for one in roster.people.values() if one.name == "second")
    assert gone.until == iso(NOW)
    assert not gone.is_active
    assert roster_entries(crew.site)[-1] == {
        "at": iso(NOW),
        "do": "revoke",
        "person": "second",
        "by": "admin",
        "reason": "has left",
    }
    with pytest.raises(MissingError, match="second"):
        named(roster, "second")
    assert roster.by_key(crew.keys["second"].key_id) is None


def test_administrators_change_it_and_nobody_else(crew: People) -> None:
    new = key_of("new", 120)
    for by in ("first", "clerk"):
        refused(crew, InputError, "Only an administrator", lambda by=by: add(crew, "new", new, by=by))  # type: ignore[misc]
        refused(crew, InputError, "Only an admin", lambda by=by: revoke_approver(crew.site, "dim", crew.keys[by]))  # type: ignore[misc]
    crew.keys["stranger"] = key_of("stranger", 121)
    refused(crew, InputError, "Only an administrator", lambda: add(crew, "new", new, by="stranger"))
    crew.keys["taken"] = PersonKey(Signer(crew.keys["admin"]._signer.secret()), Account(0, "root"))
    refused(crew, InputError, "under another one", lambda: add(crew, "new", new, by="taken"))


def test_the_last_administrator_stays(crew: People) -> None:
    refused(crew, InputError, "last administrator", lambda: revoke_approver(crew.site, "admin", crew.keys["admin"]))
    crew.add("deputy", ADMINISTRATOR, uid=130)
    revoke_approver(crew.site, "admin", crew.keys["deputy"])
    refused(crew, InputError, "Only an administrator", lambda: add(crew, "x", key_of("x", 131)))
    add(crew, "x", key_of("x", 131), by="deputy")


def same_account() -> tuple[str, PersonKey]:
    return "another", key_of("another-login", 101)


def same_login() -> tuple[str, PersonKey]:
    return "another", key_of("FIRST", 999)


def same_name() -> tuple[str, PersonKey]:
    return "  First ", key_of("another", 999)


@pytest.mark.parametrize("who", [same_account, same_login, same_name])
def test_nobody_is_on_it_twice(crew: People, who: Callable[[], tuple[str, PersonKey]]) -> None:
    name, key = who()
    refused(crew, InputError, "shares .* with 'first'", lambda: add(crew, name, key))


def test_a_key_of_another_name_is_still_the_same_key(crew: People) -> None:
    again = PersonKey(Signer(crew.keys["first"]._signer.secret()), Account(999, "another"))
    refused(crew, InputError, "shares", lambda: add(crew, "another", again))


def test_people_of_an_identity_provider(crew: People, tmp_path: Path) -> None:
    provider = Provider(tmp_path, crew.clock)
    subject, admin = provider.subject("8f1c"), crew.keys["admin"]
    refused(
        crew,
        InputError,
        "knows no such identity provider",
        lambda: add_approver(crew.site, "x", ["approver"], admin, subject=subject),
    )
    approvals = replace(crew.site.settings.approvals, oidc=provider.settings)
    crew.site.settings = replace(crew.site.settings, approvals=approvals)
    refused(
        crew,
        InputError,
        "knows no such",
        lambda: add_approver(crew.site, "x", ["approver"], admin, subject=Subject("https://else", "8f1c")),
    )
    refused(
        crew,
        InputError,
        "administrator without a key",
        lambda: add_approver(crew.site, "x", [ADMINISTRATOR], admin, subject=subject),
    )
    made = add_approver(crew.site, "one", ["approver"], admin, subject=subject, account=Account(140, "one"))
    assert roster_of(crew.site).by_subject(subject) == made
    # The same subject under another name, and the same account with a key.
    refused(
        crew, InputError, "shares", lambda: add_approver(crew.site, "two", ["dim-physician"], admin, subject=subject)
    )
    refused(crew, InputError, "shares", lambda: add(crew, "two", key_of("two", 140)))
    refused(
        crew,
        InputError,
        "shares",
        lambda: add_approver(
            crew.site, "two", ["x"], admin, subject=provider.subject("other"), account=Account(101, "x")
        ),
    )


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        *[("", ["approver"]), ("x" * 101, ["approver"]), ("a\x1bb", ["approver"])],
        *[("x", []), ("x", ["No Role"]), ("x", [""])],
    ],
)
def test_names_and_roles_that_are_none(crew: People, name: str, roles: list[str]) -> None:
    key = key_of("new", 150)
    refused(
        crew,
        InputError,
        None,
        lambda: add_approver(crew.site, name, roles, crew.keys["admin"], introduction=key.introduction()),
    )


def test_somebody_without_any_identity(crew: People) -> None:
    refused(crew, InputError, "without a key", lambda: add_approver(crew.site, "x", ["approver"], crew.keys["admin"]))


def test_two_administrators_at_once(crew: People, monkeypatch: pytest.MonkeyPatch) -> None:
    before = roster_of(crew.site)
    add(crew, "one", key_of("one", 160))
    monkeypatch.setattr("wsistore.ops.roster.roster_of", lambda _: before)
    refused(crew, ConflictError, "changed meanwhile", lambda: add(crew, "two", key_of("two", 161)))


def test_a_site_that_is_only_read(crew: People) -> None:
    crew.site.close()
    with ops.open_site(crew.site.folder, read_only=True, clock=crew.clock) as site:
        reading = People(site, crew.clock, crew.keys)
        assert len(roster_of(site).people) == 5
        refused(reading, SiteError, "reading only", lambda: add(reading, "x", key_of("x", 170)))


def test_whoever_keeps_the_sites_keys_may_begin_it_with_somebody_else(tmp_path: Path) -> None:
    with memory_site(tmp_path, clock=ManualClock(NOW)) as site:
        crew, head = People(site, ManualClock(NOW)), key_of("head", 300)
        line = head.introduction()
        refused(crew, InputError, "begins with", lambda: add_approver(site, "x", ["approver"], None, introduction=line))
        add_approver(site, "head", [ADMINISTRATOR], None, introduction=line)
        crew.keys["head"] = head
        refused(
            crew,
            InputError,
            "by an administrator's key only",
            lambda: add_approver(site, "x", ["approver"], None, introduction=key_of("x", 1).introduction()),
        )
        add(crew, "x", key_of("x", 1), by="head")
        assert [one.name for one in roster_of(site).active()] == ["head", "x"]
        sql(url(crew), "UPDATE roster SET signer = '', signature = '' WHERE number = 2")
        broken(crew, "Entry 2 .*signature")


def test_an_account_that_cannot_read_the_sites_keys(crew: People, monkeypatch: pytest.MonkeyPatch) -> None:
    root = roster_of(crew.site).root
    monkeypatch.setattr("wsistore.ops.roster.os.access", lambda *_, **__: False)
    head = (crew.site.settings.keys / "roster-head.json").read_bytes()
    add(crew, "x", key_of("x", 310))
    assert len(roster_of(crew.site).people) == 6
    assert (crew.site.settings.keys / "roster-head.json").read_bytes() == head
    with pytest.raises(SiteError, match="cannot be read by this account"):
        roster_of(crew.site, strictly=True)
    approvals = replace(crew.site.settings.approvals, roster=root)
    crew.site.settings = replace(crew.site.settings, approvals=approvals)
    assert roster_of(crew.site, strictly=True).root == root
    sql(url(crew), "UPDATE roster SET signature = '00' WHERE number = 3")
    broken(crew, "Entry 3")
    monkeypatch.undo()
    sql(url(crew), "DELETE FROM roster WHERE number > 2")
    broken(crew, "Entry 5 .*is gone")


# --- altered ----------------------------------------------------------------------------------------------------------


def broken(crew: People, match: str | None = None) -> None:
    with pytest.raises(IntegrityError, match=match) as caught:
        roster_of(crew.site)
    assert caught.value.kind is Kind.SIGNATURE_INVALID


def entry(crew: People, signer: PersonKey, by: str, change: Change, person: Person, **values: str) -> None:
    """Append to the log past all that checks it, in due form, signed by whatever key."""
    roster = roster_of(crew.site)
    number = roster.head.number + 1
    said = statement(number, values.get("previous", roster.head.digest), iso(NOW), by, change, person)
    crew.site.catalog.append_roster(
        RosterRow(number=number, at=iso(NOW), statement=said, signer=signer.key_id, signature=signer.sign(said).hex())
    )


def stranger(key: PersonKey, *roles: str) -> Person:
    return Person(id="z" * 20, name="stranger", roles=roles or ("approver",), account=key.account, key=key.public.hex())


def test_an_entry_that_no_administrator_signed(crew: People) -> None:
    ids = {one.name: one.id for one in roster_of(crew.site).people.values()}
    for by, signer in (("first", crew.keys["first"]), ("admin", crew.keys["first"]), ("admin", key_of("x", 1))):
        new = key_of("stranger", 180)
        entry(crew, signer, ids[by], Change.ADD, stranger(new))
        broken(crew, "Entry 6 .*administrator")
        sql(url(crew), "DELETE FROM roster WHERE number = 6")
    entry(crew, key_of("x", 1), "z" * 20, Change.ADD, stranger(key_of("x", 1), ADMINISTRATOR))
    broken(crew, "not by an administrator")


def test_an_administrator_cannot_do_by_hand_what_is_refused(crew: People) -> None:
    admin = next(one for one in roster_of(crew.site).people.values() if one.name == "admin")
    first = next(one for one in roster_of(crew.site).people.values() if one.name == "first")
    for change, person in (
        (Change.ADD, replace(first, id="z" * 20)),
        (Change.ADD, first),
        (Change.ADD, stranger(key_of("x", 1), "No Role")),
        (Change.REVOKE, admin),
        (Change.REVOKE, stranger(key_of("x", 1))),
    ):
        entry(crew, crew.keys["admin"], admin.id, change, person)
        broken(crew, "Entry 6 ")
        sql(url(crew), "DELETE FROM roster WHERE number = 6")
    entry(crew, crew.keys["admin"], admin.id, Change.ADD, stranger(key_of("x", 1)), previous="0" * 64)
    broken(crew, "does not follow")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE roster SET statement = replace(statement, 'dim-physician', 'approver')",
        "UPDATE roster SET signature = '00' WHERE number = 3",
        "UPDATE roster SET signature = 'no hex' WHERE number = 3",
        "UPDATE roster SET signer = 'x' WHERE number = 3",
        "UPDATE roster SET statement = '{}' WHERE number = 2",
        "UPDATE roster SET statement = '[' WHERE number = 5",
        "UPDATE roster SET at = '2026-01-01T00:00:00.000000Z' WHERE number = 2",
        "UPDATE roster SET countersignature = '00' WHERE number = 1",
        "UPDATE roster SET countersigner = 'x' WHERE number = 1",
        "DELETE FROM roster WHERE number = 1",
        "DELETE FROM roster WHERE number = 3",
        "DELETE FROM roster WHERE number = 5",
        "DELETE FROM roster",
        "UPDATE roster SET number = 9 WHERE number = 5",
    ],
)
def test_alterations_show(crew: People, statement: str) -> None:
    sql(url(crew), statement)
    broken(crew)
    with pytest.raises(IntegrityError):
        add(crew, "x", key_of("x", 190))


def test_a_revocation_that_was_cut_off_shows(crew: People) -> None:
    revoke_approver(crew.site, "dim", crew.keys["admin"])
    sql(url(crew), "DELETE FROM roster WHERE number = 6")
    broken(crew, "Entry 6 .*was here before and is gone")
    # Also where something else was put in its place.
    sql(url(crew), "DELETE FROM roster WHERE number > 4")
    (crew.site.settings.keys / "roster-head.json").rename(crew.site.settings.keys / "aside")
    add(crew, "x", key_of("x", 190))
    add(crew, "y", key_of("y", 191))
    (crew.site.settings.keys / "aside").replace(crew.site.settings.keys / "roster-head.json")
    broken(crew, "not the one that was here before")


def test_a_roster_begun_anew_by_somebody_else(crew: People) -> None:
    """Whoever can write the catalogue cannot: the site's key countersigns. With that key the pinned digest shows it."""
    root = roster_of(crew.site).root
    approvals = replace(crew.site.settings.approvals, roster=root)
    crew.site.settings = replace(crew.site.settings, approvals=approvals)
    assert roster_of(crew.site).root == root
    sql(url(crew), "DELETE FROM roster")
    (crew.site.settings.keys / "roster-head.json").unlink()
    mallory = key_of("mallory", 666)
    person = stranger(mallory, ADMINISTRATOR)
    entry(crew, mallory, person.id, Change.ADD, person)
    broken(crew, "not signed by the site's key")
    sql(url(crew), "DELETE FROM roster")
    add_approver(crew.site, "mallory", [ADMINISTRATOR], mallory, introduction=mallory.introduction())
    broken(crew, "'roster' under")


def test_a_head_that_is_damaged(crew: People) -> None:
    path = crew.site.settings.keys / "roster-head.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "number": "x"}))
    with pytest.raises(SiteError, match="damaged"):
        roster_of(crew.site)
