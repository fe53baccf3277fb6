"""Tokens of an identity provider: which are taken, whose they are, and what they never can do."""

from __future__ import annotations

import base64
import concurrent.futures
import hmac
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests import catalog_kit as kit
from tests.research_kit import AUDIENCE, ISSUER, Issuer, accessing, research_site, shown
from wsistore import ops
from wsistore.errors import DeniedError, Kind, SiteError, TransientError
from wsistore.ops.oidc_keys import AGAIN_SECONDS, BELIEVED_SECONDS, FAILED_SECONDS, RENEW_SECONDS
from wsistore.ops.research_access import Access
from wsistore.testing.clock import ManualClock

SERVE = f"""cohort_refresh_seconds = 0
[serve.oidc]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
user_claim = "preferred_username"
groups_claim = "realm_access.roles"
"""


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(kit.NOW)


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock) -> Iterator[ops.Site]:
    with research_site(tmp_path, clock=clock, serve=SERVE) as opened:
        yield opened


@pytest.fixture
def access(site: ops.Site, issuer: Issuer) -> Iterator[Access]:
    issuer.fetched.clear()
    with accessing(site, fetch=issuer.fetch) as opened:
        yield opened


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_of_the_issuer_is_its_users(site: ops.Site, access: Access, issuer: Issuer) -> None:
    header = f"Bearer {issuer.token(site)}"
    caller = access.caller(header)
    assert caller.user == "alice"
    assert caller.projects == {"study"}
    assert caller.groups == {"pathology-research"}
    assert len(shown(access, caller)) == 5
    assert access.caller(header) == caller
    assert issuer.fetched == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/certs"]
    assert header.split(".")[1] not in repr(caller)


def test_a_group_may_be_granted_and_revoked(site: ops.Site, access: Access, issuer: Issuer) -> None:
    ops.create_project(site, "joint", purpose="Protocol 2")
    ops.set_cohort(site, "joint", where="true")
    ops.grant_project(site, "joint", "pathology-research", group=True)
    caller = access.caller(f"Bearer {issuer.token(site, preferred_username='bob')}")
    assert caller.projects == {"joint"}
    assert len(shown(access, caller, "joint")) == 5
    # A user of the group's name is not the group.
    named = issuer.token(site, preferred_username="pathology-research", realm_access=None)
    assert access.caller(f"Bearer {named}").projects == set()
    ops.revoke_grant(site, "joint", "pathology-research", group=True)
    assert shown(access, caller, "joint") == set()


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": f"{ISSUER}/"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": 4_000_000_000},
        {"preferred_username": None},
        {"preferred_username": ""},
        {"preferred_username": ["alice"]},
        {"preferred_username": "al\nice"},
    ],
    ids=str,
)
def test_claims_are_checked(site: ops.Site, access: Access, issuer: Issuer, claims: dict[str, Any]) -> None:
    with pytest.raises(DeniedError):
        access.caller(f"Bearer {issuer.token(site, **claims)}")


def test_a_list_of_audiences_will_do_and_groups_that_are_none_are_none(
    site: ops.Site, access: Access, issuer: Issuer
) -> None:
    token = issuer.token(site, aud=["account", AUDIENCE], realm_access={"roles": "pathology-research"})
    assert access.caller(f"Bearer {token}").groups == set()


def test_a_token_ends(site: ops.Site, access: Access, issuer: Issuer, clock: ManualClock) -> None:
    header = f"Bearer {issuer.token(site)}"
    caller = access.caller(header)
    clock.advance(300 + 61)
    with pytest.raises(DeniedError) as refused:
        access.caller(header)
    assert refused.value.kind is Kind.TOKEN_EXPIRED
    assert shown(access, caller) == set()
    fresh = accessing(site, fetch=issuer.fetch)
    with fresh as other, pytest.raises(DeniedError) as refused:
        other.caller(header)
    assert refused.value.kind is Kind.TOKEN_EXPIRED


def test_algorithms_that_prove_nothing_are_refused(site: ops.Site, access: Access, issuer: Issuer) -> None:
    good = issuer.token(site)
    _, body, signature = good.split(".")
    public = issuer.keys["first"].as_pem(private=False)
    forged = [
        f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        f"{encoded({'alg': 'None', 'kid': 'first'})}.{body}.{signature}",
        f"{encoded({'alg': 'RS512', 'kid': 'first'})}.{body}.{signature}",
        f"{encoded({'alg': 'RS256', 'kid': 'first', 'crit': ['x'], 'x': 1})}.{body}.{signature}",
        f"{encoded({'alg': 'RS256', 'kid': 'other'})}.{body}.{signature}",
        _signed_with(public, {"alg": "HS256", "kid": "first"}, body),
        good[:-8] + "AAAAAAAA",
        good.rpartition(".")[0],
        f"{good}.{signature}",
        "a.b.c",
        "..",
        "é" * 10,
        encoded([[[[]]]] * 1000),
    ]
    own = Issuer()  # signs with a key of its own, and says so in the header
    forged.append(own.token(site, header={"jwk": own.keys["first"].as_dict(private=False)}))
    for token in forged:
        with pytest.raises(DeniedError):
            access.caller(f"Bearer {token}")
    assert access.caller(f"Bearer {good}").user == "alice"


def _signed_with(secret: bytes, header: dict[str, str], body: str) -> str:
    text = f"{encoded(header)}.{body}"
    found = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(found).rstrip(b'=').decode()}"


def test_keys_are_read_anew_when_the_issuer_changed_them_but_not_at_every_call(
    site: ops.Site, clock: ManualClock
) -> None:
    issuer = Issuer()
    with accessing(site, fetch=issuer.fetch) as access:
        access.caller(f"Bearer {issuer.token(site)}")
        before = len(issuer.fetched)
        issuer.add("second", kind="EC")
        token = issuer.token(site)
        with pytest.raises(DeniedError):  # keys were read a moment ago: whoever invents key ids must not cause reading
            access.caller(f"Bearer {token}")
        assert len(issuer.fetched) == before
        clock.advance(61)
        assert access.caller(f"Bearer {token}").user == "alice"
        for n in range(5):
            with pytest.raises(DeniedError):
                access.caller(f"Bearer {issuer.token(site, header={'kid': f'invented-{n}'})}")
        assert len(issuer.fetched) == before + 2


def test_a_failure_to_read_keys_is_remembered_for_a_while(site: ops.Site, clock: ManualClock) -> None:
    issuer, asked, is_away = Issuer(), [], [True]

    def fetch(url: str) -> bytes:
        asked.append(url)
        if is_away[0]:
            msg = "away"
            raise TransientError(msg)
        return issuer.fetch(url)

    with accessing(site, fetch=fetch) as access:
        for _ in range(5):
            with pytest.raises(TransientError, match="away"):
                access.caller(f"Bearer {issuer.token(site)}")
        assert len(asked) == 1
        clock.advance(FAILED_SECONDS)
        is_away[0] = False
        header = f"Bearer {issuer.token(site)}"
        assert access.caller(header).user == "alice"
        assert len(asked) == 3
        is_away[0] = True
        clock.advance(AGAIN_SECONDS)
        for n in range(5):  # and it is the same if keys are known, only not the one that is named
            with pytest.raises(DeniedError):
                access.caller(f"Bearer {issuer.token(site, header={'kid': f'invented-{n}'})}")
        assert access.caller(header).user == "alice"
        assert len(asked) == 4


def test_a_key_that_was_withdrawn_is_not_believed_for_long(site: ops.Site, clock: ManualClock) -> None:
    issuer, is_away = Issuer(), [False]

    def fetch(url: str) -> bytes:
        if is_away[0]:
            msg = "away"
            raise TransientError(msg)
        return issuer.fetch(url)

    with accessing(site, fetch=fetch) as access:
        header = f"Bearer {issuer.token(site, exp=int(clock.now().timestamp()) + 10 * 3600)}"
        access.caller(header)
        assert access.admit(header, "study")[1] is not None
        withdrawn = issuer.keys.pop("first")
        issuer.add("second")
        clock.advance(RENEW_SECONDS - 1)
        assert access.caller(header).user == "alice"
        clock.advance(31)  # who was admitted is remembered for half a minute
        for ask in (lambda: access.caller(header), lambda: access.admit(header, "study")):
            with pytest.raises(DeniedError):
                ask()
        issuer.keys["first"] = withdrawn
        clock.advance(RENEW_SECONDS)
        access.caller(header)
        is_away[0] = True  # a provider that cannot be asked cannot say that it withdrew something
        clock.advance(BELIEVED_SECONDS - 1)
        assert access.caller(header).user == "alice"
        clock.advance(1)
        with pytest.raises(TransientError):
            access.caller(header)


def test_one_reads_keys_and_few_wait_for_it(site: ops.Site, clock: ManualClock) -> None:
    issuer, asked, go_on = Issuer(), [], threading.Event()

    def fetch(url: str) -> bytes:
        asked.append(url)
        assert go_on.wait(240)
        return issuer.fetch(url)

    def ask(header: str) -> str:
        try:
            return opened.caller(header).user
        except TransientError:
            return "later"

    with accessing(site, fetch=fetch) as opened, ThreadPoolExecutor(20) as pool:
        header = f"Bearer {issuer.token(site, exp=int(clock.now().timestamp()) + 3600)}"
        asking = [pool.submit(ask, header) for _ in range(20)]
        answered = list(islice(concurrent.futures.as_completed(asking, timeout=120), 15))
        assert not go_on.is_set()  # the others are told to come again, at once
        assert {one.result() for one in answered} == {"later"}
        go_on.set()
        assert {one.result() for one in asking} == {"alice", "later"}
        assert asked == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/certs"]
        go_on.clear()
        clock.advance(RENEW_SECONDS)
        reading = pool.submit(ask, header)
        until = time.monotonic() + 120
        while len(asked) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert opened.caller(header).user == "alice"  # who has keys that will do waits for nobody
        go_on.set()
        assert reading.result() == "alice"
        assert len(asked) == 4


@pytest.mark.parametrize(
    ("claims", "typ"),
    [
        ({"typ": "ID", "azp": AUDIENCE}, "JWT"),
        ({"typ": "ID", "scope": "openid"}, "JWT"),
        ({"typ": None, "nonce": "n", "azp": AUDIENCE, "auth_time": 1}, "JWT"),
        ({"typ": None}, "JWT"),
        ({"typ": None, "scope": "openid", "at_hash": "x"}, "JWT"),
        ({"typ": "Refresh"}, "JWT"),
        ({"typ": "DPoP", "cnf": {"jkt": "x"}}, "JWT"),
        ({"typ": ["Bearer"]}, "JWT"),
        ({"typ": "Logout", "events": {}}, "logout+jwt"),
        ({"scope": "openid"}, "secevent+jwt"),
    ],
    ids=str,
)
def test_tokens_for_other_ends_are_refused(
    site: ops.Site, access: Access, issuer: Issuer, claims: dict[str, Any], typ: str
) -> None:
    token = issuer.token(site, header={"typ": typ}, **claims)
    with pytest.raises(DeniedError) as refused:
        access.caller(f"Bearer {token}")
    assert refused.value.kind is Kind.TOKEN_INVALID


@pytest.mark.parametrize(
    ("claims", "typ"),
    [({"typ": "Bearer"}, "JWT"), ({"typ": None}, "at+jwt"), ({"typ": None, "scope": "openid slides"}, "JWT"),
     ({"typ": None, "scp": ["slides"], "azp": "notebooks"}, "JWT")],
    ids=str,
)  # fmt: skip
def test_access_tokens_of_several_providers_are_taken(
    site: ops.Site, access: Access, issuer: Issuer, claims: dict[str, Any], typ: str
) -> None:
    assert access.caller(f"Bearer {issuer.token(site, header={'typ': typ}, **claims)}").user == "alice"


def test_an_issuer_that_does_not_answer_is_no_refusal_of_the_token(site: ops.Site, issuer: Issuer) -> None:
    def away(url: str) -> bytes:
        msg = "away"
        raise TransientError(msg)

    with accessing(site, fetch=away) as access, pytest.raises(TransientError):
        access.caller(f"Bearer {issuer.token(site)}")
    secret = json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}).encode()
    for document in (secret, b"", b"[]", b'{"keys": []}', b"\xff"):
        known = {
            f"{ISSUER}/.well-known/openid-configuration": json.dumps({"issuer": ISSUER, "jwks_uri": ISSUER}).encode()
        }
        with accessing(site, fetch=lambda url, d=document, k=known: k.get(url, d)) as access, pytest.raises(SiteError):
            access.caller(f"Bearer {issuer.token(site)}")


def test_a_configuration_of_another_issuer_is_not_believed(site: ops.Site, issuer: Issuer) -> None:
    for said in (
        {"issuer": "https://x.example", "jwks_uri": ISSUER},
        {"issuer": ISSUER, "jwks_uri": "http://x.example"},
    ):
        with accessing(site, fetch=lambda _, d=said: json.dumps(d).encode()) as access, pytest.raises(SiteError):
            access.caller(f"Bearer {issuer.token(site)}")
