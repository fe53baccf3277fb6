"""What tests of approvals share: made-up plans, people with keys of their own, an identity provider."""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.catalog_kit import sql
from tests.site_kit import memory_site
from wsistore import ops
from wsistore.catalog import PlanRecord
from wsistore.keys.people import Account, PersonKey
from wsistore.keys.people_tokens import Subject
from wsistore.keys.signing import Signer
from wsistore.ops.roster import add_approver
from wsistore.settings import ADMINISTRATOR, OidcSettings
from wsistore.testing.clock import ManualClock
from wsistore.tiers.plans.rows import PLAN

NOW = datetime.fromisoformat("2026-06-01T12:00:00+00:00")
TB = 10**12
AUTHOR = "planner"


# --- plans ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """What approving reads of a plan's header."""

    made_at: datetime
    at: datetime
    expires_at: datetime
    author: str = AUTHOR
    over_limit: bool = False


@dataclass(frozen=True)
class MadePlan:
    """A plan as `ops.check_approved` sees it."""

    header: Header
    rows: pa.Table
    digest: str


def row(slide: str, action: str, **changes: Any) -> dict[str, Any]:
    """Return a row of a plan."""
    values: dict[str, Any] = {
        "slide": slide,
        "case_id": f"CASE-{slide}",
        "retention": "ended" if action == "delete" else "kept",
        "keep_rule": "csp-r1112-7",
        "keep_until": NOW.date(),
        "action": action,
        "reason": "its time is over",
        "state": "0" * 64,
        "bytes_now": 1_000_000_000,
        "bytes_after": 0 if action == "delete" else 1_000_000_000,
        "bytes_moved": 1_000_000_000 if action == "move" else 0,
        "postponed": None,
    }
    costs = {name: 0.0 for name in PLAN.names if pa.types.is_floating(PLAN.field(name).type)}
    return {name: {**costs, **values, **changes}.get(name) for name in PLAN.names}


def plan_of(
    rows: Sequence[Mapping[str, Any]],
    *,
    made_at: datetime = NOW,
    at: datetime | None = None,
    days: int = 60,
    **header: Any,
) -> MadePlan:
    """Return a plan with these rows; no two have the same digest."""
    table = pa.Table.from_pylist([dict(one) for one in rows], schema=PLAN)
    digest = hashlib.sha256(secrets.token_bytes(16)).hexdigest()
    return MadePlan(Header(made_at, at or made_at, made_at + timedelta(days=days), **header), table, digest)


def deleting(*slides: str, **header: Any) -> MadePlan:
    """Return a plan that deletes slides."""
    return plan_of([row(slide, "delete") for slide in slides or ("s1",)], **header)


def moving(tb: float, **header: Any) -> MadePlan:
    """Return a plan that moves one slide of so many terabytes."""
    size = int(tb * TB)
    return plan_of([row("s1", "move", bytes_now=size, bytes_after=size, bytes_moved=size)], **header)


def note(site: ops.Site, plan: MadePlan) -> MadePlan:
    """Let the catalogue know a plan."""
    header = plan.header
    record = PlanRecord(
        digest=plan.digest,
        made_at=header.made_at,
        expires_at=header.expires_at,
        author=header.author,
        header={"version": 1},
    )
    site.catalog.note_plan(record)
    return plan


# --- people -----------------------------------------------------------------------------------------------------------


def key_of(login: str, uid: int) -> PersonKey:
    """Return a key that is open, of an account."""
    return PersonKey(Signer(Ed25519PrivateKey.generate().private_bytes_raw()), Account(uid, login))


@dataclass
class People:
    """A site with a roster: an administrator, two approvers, a physician and a clerk."""

    site: ops.Site
    clock: ManualClock
    keys: dict[str, PersonKey] = field(default_factory=dict)

    def add(self, name: str, *roles: str, uid: int) -> PersonKey:
        """Put somebody with a new key on the roster."""
        key = self.keys[name] = key_of(name, uid)
        add_approver(self.site, name, roles, self.keys["admin"], introduction=key.introduction())
        return key


_CREW = {"first": "approver", "second": "approver", "dim": "dim-physician", "clerk": "clerk"}


@functools.cache
def _template() -> tuple[dict[str, PersonKey], list[tuple], dict[str, bytes]]:
    """Return keys, the roster's rows and the site's files of keys: made once, for making them takes a while."""
    folder = Path(tempfile.mkdtemp())
    try:
        made = People(memory_site(folder, clock=ManualClock(NOW)), ManualClock(NOW))
        made.add("admin", ADMINISTRATOR, uid=100)
        for uid, (name, role) in enumerate(_CREW.items(), start=101):
            made.add(name, role, uid=uid)
        rows = sql(made.site.settings.catalog_url, "SELECT * FROM roster ORDER BY number")
        keys = made.site.settings.keys
        files = {str(path.relative_to(keys)): path.read_bytes() for path in keys.rglob("*") if path.is_file()}
        made.site.close()
        return made.keys, rows, files
    finally:
        shutil.rmtree(folder)


def people(folder: Path) -> People:
    """Return a site whose roster has ``admin``, ``first`` and ``second`` (approver), ``dim`` and ``clerk``."""
    clock = ManualClock(NOW)
    made = People(memory_site(folder, clock=clock), clock)
    keys, rows, files = _template()
    made.keys |= keys
    for one in rows:
        sql(made.site.settings.catalog_url, f"INSERT INTO roster VALUES ({', '.join('?' * len(one))})", *one)
    for name, content in files.items():
        path = made.site.settings.keys / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    return made


# --- an identity provider ---------------------------------------------------------------------------------------------


class Provider:
    """An identity provider that signs whatever a test wants."""

    def __init__(self, folder: Path, clock: ManualClock, issuer: str = "https://id.hospital.example") -> None:
        self.clock = clock
        self.key = RSAKey.generate_key(2048, {"kid": "k1"})
        self.jwks = folder / "jwks.json"
        self.publish(self.key)
        self.settings = OidcSettings(issuer, "wsistore", str(self.jwks))

    def publish(self, *keys: RSAKey) -> None:
        """Write down the public keys."""
        self.jwks.write_text(json.dumps(KeySet(list(keys)).as_dict(private=False)))

    def subject(self, name: str) -> Subject:
        """Return somebody as the provider knows them."""
        return Subject(self.settings.issuer, name)

    def claims(self, name: str, nonce: object) -> dict[str, Any]:
        """Return what a token says."""
        now = int(self.clock.now().timestamp())
        return {
            "iss": self.settings.issuer,
            "aud": "wsistore",
            "sub": name,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
        }

    def token(self, name: str, nonce: object, *, key: RSAKey | None = None, **changes: Any) -> str:
        """Return a token; a claim that is None is left out."""
        claims = {**self.claims(name, nonce), **changes}
        header = {"alg": "RS256", "kid": "k1"}
        said = {claim: value for claim, value in claims.items() if value is not None}
        return jwt.encode(header, said, key or self.key)
