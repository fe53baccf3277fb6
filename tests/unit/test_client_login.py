"""Logging in with a link (RFC 8628): asked for, waited for, renewed, refused; against an issuer of a few lines."""

from __future__ import annotations

import http.server
import json
import pickle
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.gateway_stub import TOKEN, Gateway, serving
from wsistore.client import tokens
from wsistore.client.connecting import connect
from wsistore.client.device_login import DeviceLogin
from wsistore.errors import DeniedError, StorageError
from wsistore.testing.clock import ManualClock

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


class Issuer(http.server.ThreadingHTTPServer):
    """Answers to the token endpoint are taken from a list; what was asked is kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/realms/research"
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.configuration: dict[str, Any] = {
            "issuer": self.url,
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
        }
        self.grant: Any = {
            "device_code": "code-1",
            "user_code": "ABCD",
            "verification_uri": "https://login.example.org",
            "verification_uri_complete": "https://login.example.org?c=ABCD",
            "expires_in": 60,
            "interval": 5,
        }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Issuer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, self.server.configuration)

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append({name: values[0] for name, values in parse_qs(text).items()})
        if self.path.endswith("/device"):
            self._send(200, self.server.grant)
        else:
            self._send(*self.server.answers.pop(0))

    def _send(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def token(text: str, refresh: str | None = None) -> tuple[int, dict[str, Any]]:
    more = {} if refresh is None else {"refresh_token": refresh}
    return 200, {"access_token": text, "expires_in": 300, "token_type": "Bearer", **more}


def test_a_login_is_asked_for_waited_for_kept_and_renewed(issuer: Issuer) -> None:
    told: list[str] = []
    clock = ManualClock()
    login = DeviceLogin(issuer.url, client_id="wsistore", tell=told.append, clock=clock)
    issuer.answers = [(400, {"error": "authorization_pending"}), (400, {"error": "slow_down"}), token("one", "r1")]
    assert login() == "one"
    assert told == ["To log in, open https://login.example.org?c=ABCD"]
    assert clock.monotonic_seconds() == 5 + 5 + 10, "slower when it is told to be"
    assert issuer.asked[1] == {"grant_type": DEVICE, "device_code": "code-1", "client_id": "wsistore"}
    assert login() == "one"
    assert len(issuer.asked) == 4, "a token in force is not asked for again"

    clock.sleep(280)
    issuer.answers = [token("two", "r2")]
    assert login() == "two"
    assert issuer.asked[-1] == {"grant_type": "refresh_token", "refresh_token": "r1", "client_id": "wsistore"}
    assert len(told) == 1

    clock.sleep(280)
    issuer.answers = [(400, {"error": "invalid_grant"}), token("three")]
    assert login() == "three"
    assert len(told) == 2, "the person is asked when nothing else is left"


@pytest.mark.parametrize("answer", [(400, {"error": "access_denied"}), (400, {"error": "expired_token"}), (400, [])])
def test_a_login_that_is_refused_is_said(issuer: Issuer, answer: tuple[int, Any]) -> None:
    issuer.answers = [answer]
    with pytest.raises(DeniedError, match="not confirmed"):
        DeviceLogin(issuer.url, client_id="wsistore", tell=lambda line: None, clock=ManualClock())()


def test_a_login_that_nobody_confirms_ends(issuer: Issuer) -> None:
    issuer.answers = [(400, {"error": "authorization_pending"})] * 12
    with pytest.raises(DeniedError, match="not confirmed"):
        DeviceLogin(issuer.url, client_id="wsistore", tell=lambda line: None, clock=ManualClock())()


def test_an_issuer_that_is_none_is_said(issuer: Issuer) -> None:
    def log_in() -> None:
        DeviceLogin(issuer.url, client_id="wsistore", tell=lambda line: None, clock=ManualClock())()

    issuer.grant = {"device_code": "x"}
    with pytest.raises(StorageError, match="no device authorization"):
        log_in()
    del issuer.configuration["device_authorization_endpoint"]
    with pytest.raises(StorageError, match="no device flow"):
        log_in()
    issuer.configuration["issuer"] = "https://somebody.else"
    with pytest.raises(StorageError, match="no configuration"):
        log_in()


def test_the_gateway_says_where_to_log_in(issuer: Issuer) -> None:
    told: list[str] = []
    gateway = Gateway(login={"issuer": issuer.url, "client_id": "notebooks"})
    issuer.answers = [token(TOKEN)]
    issuer.grant["interval"] = 0
    with serving(gateway), connect(gateway.url, login=True, tell=told.append) as connection:
        assert told == []
        assert connection.project == "study"
        assert "login.example.org" in told[0]
        assert issuer.asked[0]["client_id"] == "notebooks"
        assert all("Bearer" not in str(form) for form in issuer.asked)
        gateway.login = None
        with pytest.raises(StorageError, match="Nobody can log in"):
            connect(gateway.url, login=True)
    tokens.forget(gateway.url)


def test_a_login_stays_in_its_process(issuer: Issuer) -> None:
    with pytest.raises(DeniedError, match="share_token"):
        pickle.dumps(DeviceLogin(issuer.url, client_id="wsistore"))
