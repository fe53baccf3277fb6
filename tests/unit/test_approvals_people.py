"""People's own keys, and tokens of an identity provider: what proves who says something."""

from __future__ import annotations

import base64
import http.server
import json
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.approval_kit import NOW, MadePlan, People, Provider, deleting, key_of, note, people
from wsistore.errors import InputError, Kind, MissingError, SiteError, TransientError, WsistoreError
from wsistore.keys import people as keys
from wsistore.keys.people import Account, PublicPerson
from wsistore.keys.people_tokens import TokenVerifier, nonce_of
from wsistore.ops.approval_proofs import IdToken
from wsistore.ops.approving import approval_nonce, approve, check_approved, standing
from wsistore.ops.roster import add_approver
from wsistore.testing.clock import ManualClock

PASSPHRASE = "four words of mine"
ME = Account(1000, "me")
CLOCK = ManualClock(NOW)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a key's file."""
    path = tmp_path_factory.mktemp("key") / "deep" / "approver.key"
    keys.make(path, PASSPHRASE, ME, CLOCK)
    return path


def test_a_key_comes_back_by_its_passphrase(key_file: Path) -> None:
    opened = keys.open_key(key_file, PASSPHRASE, ME)
    assert keys.check(opened.public, b"said", opened.sign("said"))
    assert not keys.check(opened.public, b"other", opened.sign("said"))
    assert opened.account == ME
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert PASSPHRASE not in key_file.read_text()
    assert repr(opened) == f"PersonKey({opened.key_id})"
    with pytest.raises(TypeError):
        pickle.dumps(opened)


@pytest.mark.parametrize("wrong", ["", PASSPHRASE + " ", PASSPHRASE.upper(), "\x00" * 100, "é" * 10_000])
def test_another_passphrase(key_file: Path, wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        keys.open_key(key_file, wrong, ME)
    assert caught.value.kind is Kind.PASSPHRASE_WRONG


def test_another_account(key_file: Path) -> None:
    with pytest.raises(InputError, match=r"key of me \(uid 1000\); this is root") as caught:
        keys.open_key(key_file, PASSPHRASE, Account(0, "root"))
    assert caught.value.kind is Kind.NOT_ALLOWED
    # And the file does not let itself be given one.
    fields = json.loads(key_file.read_text())
    other = key_file.with_name("other.key")
    other.write_text(json.dumps({**fields, "account": {"uid": 0, "login": "root"}}))
    other.chmod(0o600)
    with pytest.raises(InputError, match="another one, or the file was altered"):
        keys.open_key(other, PASSPHRASE, Account(0, "root"))


def test_a_file_that_others_may_read(key_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "approver.key"
    copy.write_bytes(key_file.read_bytes())
    copy.chmod(0o640)
    with pytest.raises(SiteError, match="chmod 600"):
        keys.open_key(copy, PASSPHRASE, ME)


def test_what_is_there_stays(key_file: Path, tmp_path: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(SiteError) as caught:
        keys.make(key_file, PASSPHRASE, ME, CLOCK)
    assert caught.value.kind is Kind.SITE_EXISTS
    assert key_file.read_bytes() == before
    with pytest.raises(InputError, match="12 or more"):
        keys.make(tmp_path / "k", "x" * 11, ME, CLOCK)
    assert not (tmp_path / "k").exists()
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "k", tmp_path / "x\x00" / "k"):
        with pytest.raises(SiteError):
            keys.make(place, PASSPHRASE, ME, CLOCK)
    with pytest.raises(MissingError, match="approver key"):
        keys.open_key(tmp_path / "none", PASSPHRASE, ME)
    with pytest.raises(SiteError):
        keys.open_key(tmp_path, PASSPHRASE, ME)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(data=st.data())
def test_a_damaged_file_opens_as_nothing_else(key_file: Path, tmp_path: Path, data: st.DataObject) -> None:
    good = key_file.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != good[place]))
    copy = tmp_path / "damaged.key"
    copy.write_bytes(good[:place] + bytes([byte]) + good[place + 1 :])
    copy.chmod(0o600)
    try:
        opened = keys.open_key(copy, PASSPHRASE, ME)
    except WsistoreError:
        return
    # White space of the JSON, which says nothing.
    assert opened.public == keys.open_key(key_file, PASSPHRASE, ME).public


@pytest.mark.parametrize(
    "cost", [{"n": 1 << 30, "r": 8, "p": 1}, {"n": 3, "r": 8, "p": 1}, {"n": 1 << 15, "r": 1 << 20, "p": 1}, {}, "x"]
)
def test_a_file_that_would_take_all_memory(key_file: Path, tmp_path: Path, cost: Any) -> None:
    fields = json.loads(key_file.read_text())
    fields["scrypt"] = {"salt": fields["scrypt"]["salt"], **cost} if isinstance(cost, dict) else cost
    copy = tmp_path / "dear.key"
    copy.write_text(json.dumps(fields))
    copy.chmod(0o600)
    with pytest.raises(WsistoreError):
        keys.open_key(copy, PASSPHRASE, ME)


def test_an_introduction_cannot_be_altered() -> None:
    text = key_of("me", 1000).introduction().to_text()
    found = PublicPerson.parse(text, where="a line")
    assert found.account == ME
    name, uid, login, public, signature = text.split()
    other = key_of("me", 1000).introduction().to_text().split()
    for words in (
        [name, "0", login, public, signature],
        [name, uid, "root", public, signature],
        [name, uid, login, other[3], signature],
        [name, uid, login, public, other[4]],
        ["ssh-ed25519", uid, login, public, signature],
        [name, uid, login, public],
        [name, "x", login, public, signature],
        [name, uid, login, "zz", signature],
        [],
    ):
        with pytest.raises(InputError, match="altered"):
            PublicPerson.parse(" ".join(words), where="a line")


def test_accounts() -> None:
    assert keys.account_of("root") == Account(0, "root")
    for login in ("nobody-has-this-name", "", "\x00", "\udcff"):
        with pytest.raises(MissingError):
            keys.account_of(login)


# --- tokens -----------------------------------------------------------------------------------------------------------

SAID = '{"what":"a statement"}'


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    """Return an identity provider."""
    return Provider(tmp_path_factory.mktemp("provider"), ManualClock(NOW))


def verify(provider: Provider, token: str, now: datetime = NOW) -> str:
    return TokenVerifier(provider.settings).verify(token, SAID, now).subject.subject


def test_a_token_proves_who_says_what(provider: Provider) -> None:
    found = TokenVerifier(provider.settings).verify(provider.token("8f1c", nonce_of(SAID)), SAID, NOW)
    assert found.subject == provider.subject("8f1c")
    assert found.at == NOW
    several = provider.token("8f1c", nonce_of(SAID), aud=["wsistore", "portal"], azp="wsistore")
    assert verify(provider, several) == "8f1c"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": nonce_of(SAID + " ")},
        {"nonce": None},
        {"nonce": ["x"]},
        {"iss": "https://else.example"},
        {"iss": None},
        {"aud": "portal"},
        {"aud": ["portal"]},
        {"aud": ["wsistore", "portal"]},
        {"aud": ["wsistore", "portal"], "azp": "portal"},
        {"aud": None},
        {"sub": None},
        {"sub": 7},
        {"exp": int(NOW.timestamp()) - 3600},
        {"exp": None},
        {"exp": "soon"},
        {"iat": int(NOW.timestamp()) + 3600},
        {"iat": None},
        {"iat": 1e300},
        {"nbf": int(NOW.timestamp()) + 3600},
    ],
    ids=str,
)
def test_tokens_that_prove_nothing(provider: Provider, claims: dict[str, Any]) -> None:
    token = provider.token("8f1c", claims.pop("nonce", nonce_of(SAID)), **claims)
    with pytest.raises(InputError) as caught:
        verify(provider, token)
    assert caught.value.kind is Kind.SIGNATURE_INVALID


def test_tokens_that_others_signed(provider: Provider) -> None:
    claims = provider.claims("8f1c", nonce_of(SAID))
    public = provider.key.as_pem(private=False)
    unsigned = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none", "kid": "k1"}, claims)
    )
    for token in (
        provider.token("8f1c", nonce_of(SAID), key=RSAKey.generate_key(2048, {"kid": "k1"})),
        jwt.encode({"alg": "HS256", "kid": "k1"}, claims, OctKey.import_key(base64.b64encode(public).decode())),
        jwt.encode({"alg": "ES256", "kid": "k1"}, claims, ECKey.generate_key("P-256", {"kid": "k1"})),
        unsigned + ".",
        unsigned,
        "",
        "a.b.c",
        "x" * 100_000,
    ):
        with pytest.raises(InputError):
            verify(provider, token)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_token_that_was_altered(provider: Provider, data: st.DataObject) -> None:
    good = provider.token("8f1c", nonce_of(SAID))
    place = data.draw(st.integers(0, len(good) - 1))
    text = data.draw(st.text(max_size=3))
    token = good[:place] + text + good[place + 1 :]
    try:
        assert verify(provider, token) == "8f1c"
    except InputError:
        return
    assert _decoded(token) == _decoded(good), "another token was taken"


def _decoded(token: str) -> list[bytes]:
    """Return what a token's parts say: the last bits of base64 say nothing."""
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.strip().split(".")]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"keys": []}', b'{"keys": 3}', b'{"keys": [3]}', b'{"keys": [{"kty": "RSA"}]}', b"\xff",
     b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', b"[" * 100_000],
)  # fmt: skip
def test_key_sets_that_are_none(provider: Provider, tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "jwks.json"
    place.write_bytes(content)
    verifier = TokenVerifier(replace(provider.settings, jwks=str(place)))
    with pytest.raises(SiteError):
        verifier.verify(provider.token("8f1c", nonce_of(SAID)), SAID, NOW)


def test_a_key_set_that_is_gone(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="jwks"):
        TokenVerifier(replace(provider.settings, jwks=str(tmp_path / "none"))).verify("x", SAID, NOW)


@pytest.fixture
def served(provider: Provider) -> Iterator[tuple[str, list[str]]]:
    """Serve the provider's keys over HTTP, as providers do; yield the URL and what was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path == "/keys":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(provider.jwks.read_bytes())
            elif self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/keys")
                self.end_headers()
            else:
                self.send_error(500)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_keys_from_the_provider_itself(provider: Provider, served: tuple[str, list[str]]) -> None:
    url, asked = served
    token = provider.token("8f1c", nonce_of(SAID))
    verifier = TokenVerifier(replace(provider.settings, jwks=f"{url}/keys"))
    assert verifier.verify(token, SAID, NOW).subject.subject == "8f1c"
    assert verifier.verify(token, SAID, NOW).subject.subject == "8f1c"
    assert asked == ["/keys"]
    for path in ("/moved", "/broken"):
        with pytest.raises(TransientError, match="cannot be read from"):
            TokenVerifier(replace(provider.settings, jwks=url + path)).verify(token, SAID, NOW)
    assert asked.count("/keys") == 1, "a redirect was followed"


# --- approving by them ------------------------------------------------------------------------------------------------


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[tuple[People, Provider, MadePlan]]:
    """Return a site that knows a provider, with one person of it, and a plan that deletes."""
    made = people(tmp_path)
    provider = Provider(tmp_path, made.clock)
    approvals = replace(made.site.settings.approvals, oidc=provider.settings, visas=())
    made.site.settings = replace(made.site.settings, approvals=approvals)
    add_approver(made.site, "Doc", ["dim-physician"], made.keys["admin"], subject=provider.subject("8f1c"))
    yield made, provider, note(made.site, deleting())
    made.site.close()


def signed_in(crew: tuple[People, Provider, MadePlan], sub: str = "8f1c", **claims: Any) -> IdToken:
    made, provider, plan = crew
    nonce = approval_nonce(made.site, plan, "dim-physician", "Doc")
    return IdToken(person="Doc", token=provider.token(sub, nonce, **claims))


def test_a_key_and_a_token_approve_a_deletion(crew: tuple[People, Provider, MadePlan]) -> None:
    made, provider, plan = crew
    approve(made.site, plan, "approver", made.keys["first"])
    given_by = approve(made.site, plan, "dim-physician", signed_in(crew))
    assert (given_by.name, given_by.by) == ("Doc", "token")
    assert len(check_approved(made.site, plan).approvals) == 2
    # The token's own end does not matter later: it was good when it was given.
    made.clock.advance(86400)
    assert len(check_approved(made.site, plan).approvals) == 2
    # But a key that the provider has withdrawn does.
    provider.publish(RSAKey.generate_key(2048, {"kid": "k2"}))
    assert standing(made.site, plan).missing == ("an approval of its deletions as dim-physician",)


def test_tokens_for_something_else(crew: tuple[People, Provider, MadePlan]) -> None:
    made, provider, plan = crew
    other = note(made.site, deleting("s2"))
    for token in (
        IdToken(person="Doc", token=provider.token("8f1c", approval_nonce(made.site, other, "dim-physician", "Doc"))),
        signed_in(crew, sub="another"),
        signed_in(crew, exp=int((NOW - timedelta(hours=1)).timestamp())),
        IdToken(person="first", token=signed_in(crew).token),
        IdToken(person="nobody", token=signed_in(crew).token),
    ):
        with pytest.raises(WsistoreError):
            approve(made.site, plan, "dim-physician", token)
    assert made.site.catalog.approvals(plan.digest) == []


def test_a_token_in_the_catalogue_that_was_given_at_another_time(crew: tuple[People, Provider, MadePlan]) -> None:
    made, _, plan = crew
    approve(made.site, plan, "dim-physician", signed_in(crew))
    (row,) = made.site.catalog.approvals(plan.digest)
    later = datetime.fromisoformat(row.at).astimezone(UTC) + timedelta(seconds=60)
    made.site.catalog.put_approval(replace(row, at=later.isoformat(timespec="microseconds").replace("+00:00", "Z")))
    assert "token that is not theirs" in standing(made.site, plan).refused[0]


def test_a_site_without_a_provider(crew: tuple[People, Provider, MadePlan]) -> None:
    made, _, plan = crew
    token = signed_in(crew)
    approve(made.site, plan, "dim-physician", token)
    made.site.settings = replace(made.site.settings, approvals=replace(made.site.settings.approvals, oidc=None))
    assert "does not know" in standing(made.site, plan).refused[0]
    with pytest.raises(InputError, match="knows no identity provider"):
        approve(made.site, plan, "dim-physician", token)
