"""Tokens of an identity provider, and such as only look like them: one is let in, all others are told the same."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.attack_kit import Told, Wire
from tests.gateway_world import AUDIENCE, ISSUER, KEY_ID, World, bearer, world_of

EC_ID = "key-2"
Json = dict[str, Any]
Sign = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provider:
    """An identity provider, with a key of either kind."""

    def __init__(self, folder: Path) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        numbers, point = self.rsa.public_key().public_numbers(), self.ec.public_key().public_numbers()
        keys = [
            {"kty": "RSA", "kid": KEY_ID, "use": "sig", "n": b64(numbers.n.to_bytes(256, "big")), "e": "AQAB"},
            {"kty": "EC", "kid": EC_ID, "crv": "P-256", "x": b64(point.x.to_bytes(32, "big")),
             "y": b64(point.y.to_bytes(32, "big"))},
            {"kty": "oct", "kid": "shared", "k": b64(b"a secret that slipped in")},
        ]  # fmt: skip
        self.jwks = folder / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": keys}))

    def settings(self) -> dict[str, str]:
        return {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(self.jwks)}

    def by_rsa(self, data: bytes) -> bytes:
        return self.rsa.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def by_ec(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self.ec.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def public_forms(self) -> list[bytes]:
        """Return the public key as everybody can have it: what a confused verifier might take for a shared secret."""
        public = self.rsa.public_key()
        kinds = (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1)
        codes = (serialization.Encoding.PEM, serialization.Encoding.DER)
        forms = [public.public_bytes(code, kind) for code in codes for kind in kinds]
        modulus = public.public_numbers().n.to_bytes(256, "big")
        return [*forms, forms[0].strip(), modulus, b64(modulus).encode(), self.jwks.read_bytes()]


def claims(**other: Any) -> Json:
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "nbf": now - 5, "exp": now + 600,
             "scope": "openid"}  # fmt: skip
    return {name: value for name, value in {**usual, **other}.items() if value is not ...}


def token(sign: Sign, payload: Any, header: Json | None = None) -> str:
    said = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID, **(header or {})}
    head = {name: value for name, value in said.items() if value is not ...}
    text = ".".join(b64(json.dumps(part).encode()) for part in (head, payload))
    return f"{text}.{b64(sign(text.encode()))}"


def constant(signature: bytes) -> Sign:
    return lambda _: signature


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("provider"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[World]:
    with world_of(tmp_path_factory.mktemp("gateway"), oidc=provider.settings()) as made:
        yield made


def test_tokens_of_the_provider_open_what_was_granted_and_no_more(world: World, provider: Provider) -> None:
    good = [
        token(provider.by_rsa, claims()),
        token(provider.by_rsa, claims(aud=["other", AUDIENCE])),
        token(provider.by_ec, claims(), {"alg": "ES256", "kid": EC_ID}),
        token(provider.by_rsa, claims(scope=...), {"typ": "at+jwt"}),
        token(provider.by_rsa, claims(scope=..., typ="Bearer", azp="wsistore-notebooks")),
    ]
    with Wire(world.address) as wire:
        for text in good:
            assert wire.ask("/projects/lung/slides", bearer(text)).status == 200
            assert wire.ask("/projects/colon/slides", bearer(text)).status == 404
        nobody = token(provider.by_rsa, claims(sub="nobody"))
        assert wire.ask("/projects", bearer(nobody)).json()["projects"] == []
        assert wire.ask("/projects/lung", bearer(nobody)).status == 404


def forgeries(provider: Provider) -> dict[str, str]:
    """Return tokens that are none: by what is wrong with them."""
    now, mallory = int(time.time()), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    number = mallory.public_key().public_numbers().n.to_bytes(256, "big")
    own = {"kty": "RSA", "n": b64(number), "e": "AQAB", "kid": KEY_ID}

    def by_mallory(data: bytes) -> bytes:
        return mallory.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def by_secret(secret: bytes, digest: str = "sha256") -> Sign:
        return lambda data: hmac.digest(secret, data, digest)

    wrong_claims: dict[str, Any] = {
        "another issuer": claims(iss="https://login.example/realms/other"),
        "an issuer that begins so": claims(iss=ISSUER + "/"),
        "no issuer": claims(iss=...), "a list of issuers": claims(iss=[ISSUER]),
        "another audience": claims(aud="account"), "no audience": claims(aud=...),
        "an audience that holds it": claims(aud="wsistore2"),
        "an empty audience": claims(aud=[]), "expired": claims(exp=now - 3600), "no end": claims(exp=...),
        "an end in words": claims(exp="never"),
        "an end of null": claims(exp=None), "an endless end": claims(exp=float("inf")),
        "an end beyond all": claims(exp=10**400),
        "not yet": claims(nbf=now + 3600), "issued in the future": claims(iat=now + 7200, nbf=now + 7200),
        "no subject": claims(sub=...), "an empty subject": claims(sub=""), "a subject of blanks": claims(sub="  "),
        "a list of subjects": claims(sub=["alice"]), "a subject of null": claims(sub=None),
        "a subject with a line break": claims(sub="alice\n"), "no claims": {}, "a list": [1],
        "a text": "alice", "a number": 1, "an ID token": claims(scope=..., nonce="x", azp=AUDIENCE),
        "an ID token of Keycloak": claims(typ="ID", azp=AUDIENCE), "a refresh token": claims(typ="Refresh"),
        "an ID token with scopes": claims(at_hash="x"), "a token bound to a key": claims(cnf={"jkt": "x"}),
    }  # fmt: skip
    found = {what: token(provider.by_rsa, payload) for what, payload in wrong_claims.items()}
    for header in ({"alg": "none"}, {"alg": "None"}, {"alg": ""}, {"alg": None}, {"alg": ["RS256"]}, {"alg": ...},
                   {"alg": "RS512"}, {"alg": "PS256"}, {"alg": "RS1"}, {"alg": "rs256"}, {"kid": "nobody's"},
                   {"alg": "ES256"},
                   {"crit": ["b64"], "b64": False}, {"kid": EC_ID}, {"alg": "EdDSA"}):  # fmt: skip
        found[f"header {header}"] = token(provider.by_rsa, claims(), header)
    found["none, and no signature"] = token(lambda _: b"", claims(), {"alg": "none"})
    for number_of, form in enumerate(provider.public_forms()):
        for code in ("sha256", "sha512"):
            header = {"alg": f"HS{code[3:]}"}
            found[f"HMAC by public key {number_of} {code}"] = token(by_secret(form, code), claims(), header)
    found["HMAC by nothing"] = token(by_secret(b""), claims(), {"alg": "HS256", "kid": "../../../../../dev/null"})
    found["HMAC by a secret among the keys"] = token(
        by_secret(b"a secret that slipped in"), claims(), {"alg": "HS256", "kid": "shared"}
    )
    untrusted: tuple[Json, ...] = (
        {}, {"jwk": own}, {"jku": "http://127.0.0.1:9/jwks"}, {"x5u": "http://127.0.0.1:9/x"}, {"kid": ...},
        {"x5c": [b64(number)]}, {"kid": "' OR 1=1 --"},
    )  # fmt: skip
    for header in untrusted:
        found[f"another's signature {sorted(header)}"] = token(by_mallory, claims(), header)
    for signature in (bytes(64), b"", bytes(63), bytes([255]) * 64, (1).to_bytes(32, "big") * 2):
        text = token(constant(signature), claims(), {"alg": "ES256", "kid": EC_ID})
        found[f"a signature that nobody made {hashlib.sha256(signature).hexdigest()[:6]}"] = text
    good = token(provider.by_rsa, claims())
    head, body, sign = good.split(".")
    other = token(provider.by_rsa, claims(sub="bob")).split(".")[1]
    found |= {
        "another's claims": f"{head}.{other}.{sign}", "no signature": f"{head}.{body}.", "two parts": f"{head}.{body}",
        "four parts": f"{good}.{sign}", "a blank in it": f"{head}. {body}.{sign}",
        "of five parts": f"{head}..{body}.{sign}.x",
        "JSON": json.dumps({"protected": head, "payload": body, "signature": sign}).replace(" ", ""),
    }  # fmt: skip
    return found


def test_what_only_looks_like_a_token_is_told_the_same_as_nothing(world: World, provider: Provider) -> None:
    told: set[Told] = set()
    with Wire(world.address) as wire:
        told.add(wire.ask("/projects/lung/slides").told)
        for what, text in forgeries(provider).items():
            reply = wire.ask("/projects/lung/slides", bearer(text))
            assert reply.status == 401, (what, text, reply)
            told.add(reply.told)
        assert len(told) == 1
        # And it has not made the gateway forget what is good, or who is.
        assert wire.ask("/projects/lung", bearer(token(provider.by_rsa, claims()))).status == 200
        assert wire.ask("/projects/lung", bearer(world.tokens["alice"])).status == 200


def test_a_token_is_good_until_it_ends(world: World, provider: Provider) -> None:
    """Sixty seconds by which clocks may differ are allowed, no more; and what was once good is not so for ever."""
    now = int(time.time())
    with Wire(world.address) as wire:
        assert wire.ask("/projects", bearer(token(provider.by_rsa, claims(exp=now - 20)))).status == 200
        assert wire.ask("/projects", bearer(token(provider.by_rsa, claims(exp=now - 75)))).status == 401
        now = int(time.time())
        soon = token(provider.by_rsa, claims(exp=now - 50))
        status = wire.ask("/projects", bearer(soon)).status
        assert status == 200 or time.time() > now + 10
        end = time.monotonic() + 120
        while wire.ask("/projects", bearer(soon)).status == 200:
            assert time.monotonic() < end
            time.sleep(0.5)
