"""The worked example with Keycloak: the page, the realm's file and what the gateway verifies are in step."""

from __future__ import annotations

import json
import re
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import catalog_kit as kit
from tests.research_kit import Issuer, accessing, research_site, shown
from wsistore import ops
from wsistore.errors import DeniedError
from wsistore.ops.research_access import Access
from wsistore.testing.clock import ManualClock

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "research-oidc.md").read_text()
REALM: dict[str, Any] = json.loads((ROOT / "deploy" / "keycloak" / "wsistore-realm.json").read_text())
GROUP = "/slides/gastric-hpylori"
USER = "8f6a2c1e-0000-4000-8000-000000000001"


def settings() -> dict[str, str]:
    """What the page says of the gateway."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, str] = tomllib.loads(text)["serve"]["oidc"]
    return found


def client(name: str) -> dict[str, Any]:
    (found,) = (one for one in REALM["clients"] if one["clientId"] == name)
    return dict(found)


def mapped(groups: list[str]) -> dict[str, Any]:
    """The claims that the realm's mappers put into an access token of notebooks."""
    claims: dict[str, Any] = {}
    for mapper in client(settings()["client_id"])["protocolMappers"]:
        config = mapper["config"]
        assert config["access.token.claim"] == "true"
        if mapper["protocolMapper"] == "oidc-audience-mapper":
            claims["aud"] = [config["included.client.audience"], "account"]
        elif mapper["protocolMapper"] == "oidc-group-membership-mapper":
            whole = config["full.path"] == "true"
            claims[config["claim.name"]] = [group if whole else group.rpartition("/")[2] for group in groups]
    return claims


class Keys(BaseHTTPRequestHandler):
    """Keycloak's documents, by HTTP."""

    issuer: Issuer

    def do_GET(self) -> None:
        body = self.issuer.fetch(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    handler = type("OurKeys", (Keys,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    found = Issuer(f"http://127.0.0.1:{server.server_port}/realms/{REALM['realm']}")
    handler.issuer = found  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def site(tmp_path: Path, issuer: Issuer) -> Iterator[ops.Site]:
    lines = [f"{name} = {json.dumps(value)}" for name, value in (settings() | {"issuer": issuer.issuer}).items()]
    serve = "\n".join(["cohort_refresh_seconds = 0", "[serve.oidc]", *lines])
    with research_site(tmp_path, clock=ManualClock(kit.NOW), serve=serve) as opened:
        ops.grant_project(opened, "study", GROUP, group=True)
        yield opened


@pytest.fixture
def access(site: ops.Site) -> Iterator[Access]:
    with accessing(site) as opened:
        yield opened


def test_the_page_names_what_the_realm_has() -> None:
    said = settings()
    assert said["issuer"].endswith(f"/realms/{REALM['realm']}")
    assert client(said["audience"])["bearerOnly"] is True
    (group,) = REALM["groups"]
    assert GROUP in {f"/{group['name']}/{one['name']}" for one in group["subGroups"]}
    assert f"project grant gastric-hpylori {GROUP} --group" in PAGE
    assert said["groups_claim"] in mapped([])


def test_notebooks_can_only_use_the_device_flow() -> None:
    notebooks = client(settings()["client_id"])
    assert notebooks["publicClient"] is True
    assert "secret" not in notebooks
    assert notebooks["attributes"]["oauth2.device.authorization.grant.enabled"] == "true"
    others = ("standardFlowEnabled", "implicitFlowEnabled", "directAccessGrantsEnabled", "serviceAccountsEnabled")
    assert not any(notebooks[name] for name in others)
    assert notebooks["redirectUris"] == notebooks["webOrigins"] == []
    assert REALM["defaultSignatureAlgorithm"] == "RS256"


def test_a_token_of_the_realm_gives_what_the_group_was_granted(site: ops.Site, access: Access, issuer: Issuer) -> None:
    token = issuer.token(site, sub=USER, realm_access=None, **mapped([GROUP]))
    caller = access.caller(f"Bearer {token}")
    assert (caller.user, caller.groups) == (USER, frozenset({GROUP}))
    assert len(shown(access, caller)) == 5


@pytest.mark.parametrize("groups", [[], ["/other/gastric-hpylori"], ["gastric-hpylori"], ["/slides"]])
def test_other_groups_give_nothing(site: ops.Site, access: Access, issuer: Issuer, groups: list[str]) -> None:
    token = issuer.token(site, sub=USER, realm_access=None, **mapped(groups))
    assert access.caller(f"Bearer {token}").projects == set()


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "account"},
        {"aud": "wsistore"},
        {"iss": "https://sso.hospital.example/realms/other"},
        {"exp": 1},
        {"sub": None},
    ],
)
def test_tokens_that_the_realm_did_not_make_for_the_gateway_are_refused(
    site: ops.Site, access: Access, issuer: Issuer, claims: dict[str, Any]
) -> None:
    with pytest.raises(DeniedError):
        access.caller(f"Bearer {issuer.token(site, **{**mapped([GROUP]), **claims})}")
