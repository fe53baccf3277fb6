"""What tests of research projects share: a site with made-up slides of patients, an issuer of tokens, ways to ask."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from tests import catalog_kit as kit
from tests.site_kit import memory_site
from wsistore import ops
from wsistore.clock import Clock
from wsistore.errors import MissingError
from wsistore.ops.research_access import Access, Caller
from wsistore.testing.clock import ManualClock

ISSUER, AUDIENCE = "https://sso.hospital.example/realms/research", "wsistore"
IPP = ("PATIENT-0001", "PATIENT-0002", "PATIENT-0003")
PATIENTS = "patient_id,birth_date\nPATIENT-0001,1950-06-15\nPATIENT-0002,1910-01-01\nPATIENT-0003,2001-02-28\n"
CASES = (
    "case_id,patient_id,received_on,organ,diagnoses\n"
    "CASE-0001,PATIENT-0001,2020-06-14,ADICAP:SK,ADICAP:1\n"
    "CASE-0002,PATIENT-0001,2021-03-01,ADICAP:LU,ADICAP:2\n"
    "CASE-0003,PATIENT-0002,2022-01-01,ADICAP:SK,ADICAP:1\n"
    "CASE-0004,PATIENT-0003,2026-01-01,ADICAP:SK,ADICAP:3\n"
)
SLIDES = {
    "slide1": ("CASE-0001", "A1", "HES"),
    "slide2": ("CASE-0001", "A1", "Ki67"),
    "slide3": ("CASE-0002", "A1", "HES"),
    "slide4": ("CASE-0003", "A1", "HES"),
    "slide5": ("CASE-0004", "B2", "HES"),
}


def fill(site: ops.Site) -> None:
    """Put made-up slides into the catalogue; nothing of them lies on a tier."""
    for slide, (case, block, stain) in SLIDES.items():
        metadata = {"case_id": case, "block": block, "stain": stain}
        kit.ingest(
            site.catalog, slide, name=f"{slide}.svs", metadata=metadata, um_per_px=(0.25, 0.25), magnification=40.0
        )
    folder = site.folder / "feeds"
    folder.mkdir()
    tables = {"patients.csv": PATIENTS, "cases.csv": CASES}
    for name, text in tables.items():
        (folder / name).write_text(text)
    ops.import_metadata(site, [folder / name for name in tables], site.clock.now())
    shutil.rmtree(folder)


@contextmanager
def research_site(
    folder: Path | None = None, *, clock: Clock | None = None, serve: str = "cohort_refresh_seconds = 0"
) -> Iterator[ops.Site]:
    """Give a site with the made-up slides and the project ``study``: all of them, granted to ``alice``."""
    place = Path(tempfile.mkdtemp()) if folder is None else folder
    try:
        with memory_site(place / "site", clock=clock or ManualClock(kit.NOW)):
            pass
        settings = place / "site" / "wsistore.toml"
        settings.write_text(settings.read_text() + f"\n[serve]\n{serve}\n")
        with ops.open_site(place / "site", clock=clock or ManualClock(kit.NOW)) as site:
            fill(site)
            ops.create_project(site, "study", purpose="Protocol 1")
            ops.set_cohort(site, "study", where="true")
            ops.grant_project(site, "study", "alice")
            yield site
    finally:
        if folder is None:
            shutil.rmtree(place)


@contextmanager
def accessing(site: ops.Site, **options: Any) -> Iterator[Access]:
    """Give an `Access`, closed afterwards."""
    access = Access(site, **options)
    try:
        yield access
    finally:
        access.close()


def bearer(site: ops.Site, user: str = "alice", *, days: float = 30, scopes: Sequence[str] = ()) -> str:
    """Return the header of a new token."""
    made = ops.create_token(site, user, expires_at=site.clock.now() + timedelta(days=days), scopes=scopes)
    return f"Bearer {made.text}"


def secret_of(token: str) -> str:
    """Return what of a token only its user knows: what follows its name, underscores and all."""
    return token.split("_", 2)[2]


def rows(access: Access, caller: Caller, project: str = "study") -> list[dict[str, Any]]:
    """Return the rows of a project as a caller sees them."""
    found: list[dict[str, Any]] = access.project(caller, project).table().to_pylist()
    return found


def shown(access: Access, caller: Caller, project: str = "study") -> set[str]:
    """Return the keys of the slides that a caller sees; nothing where they do not see the project."""
    try:
        view = access.project(caller, project)
    except MissingError:
        return set()
    found = {view.slide(name) for name in view.table()["slide"].to_pylist()}
    return {one.slide for one in found if one is not None}


class Issuer:
    """An identity provider, in memory: its keys, and tokens that it signs.

    Parameters
    ----------
    issuer
        Its URL.

    """

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self.keys: dict[str, RSAKey | ECKey] = {}
        self.fetched: list[str] = []
        self.add("first")

    def add(self, name: str, *, kind: str = "RSA") -> None:
        """Make a key; tokens are signed by the last one."""
        parameters: Any = {"kid": name, "use": "sig"}
        made = RSAKey.generate_key(2048, parameters) if kind == "RSA" else ECKey.generate_key("P-256", parameters)
        self.keys[name] = made
        self.current = name

    def jwks(self) -> bytes:
        """Return its public keys."""
        return json.dumps(KeySet(list(self.keys.values())).as_dict(private=False)).encode()

    def fetch(self, url: str) -> bytes:
        """Answer as its server would."""
        self.fetched.append(url)
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/certs"}).encode()
        return self.jwks()

    def token(self, site: ops.Site, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that is in force, but for what is said otherwise; claims that are None are left out."""
        now = int(site.clock.now().timestamp())
        said = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "8f6a",
            "typ": "Bearer",
            "preferred_username": "alice",
            "iat": now,
            "exp": now + 300,
            "realm_access": {"roles": ["pathology-research"]},
        } | claims
        key = self.keys[self.current]
        algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
        used = {"alg": algorithm, "kid": self.current} | dict(header or {})
        return jwt.encode(
            used, {name: value for name, value in said.items() if value is not None}, key, algorithms=[used["alg"]]
        )
