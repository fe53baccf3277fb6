"""Notices by webhook and mail, and what is shown in Prefect: to real servers, and without a server of Prefect's."""

from __future__ import annotations

import base64
import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.context import FlowRunContext
from prefect.states import Completed, Crashed, Failed

from tests.site_kit import memory_site
from wsistore.settings import FlowsSettings, MailSettings
from wsistore_flows import artifacts, hooks
from wsistore_flows.artifacts import MOST_ROWS, Shown, cell, markdown_table

RUN = SimpleNamespace(name="brave-otter", id=uuid4())
FLOW = SimpleNamespace(name="lifecycle")
NOTICE = hooks.Notice("site", "lifecycle", "brave-otter", "TierFailed", "The tier cold is away.", "http://x/1")


@pytest.fixture
def hook() -> Iterator[SimpleNamespace]:
    """Run a web server that notes what is posted to it and answers with `status`."""
    found = SimpleNamespace(posted=[], status=200)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posted.append((self.path, json.loads(body)))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}/hooks/secret-word"
        yield found
        server.shutdown()


@pytest.fixture
def post() -> Iterator[SimpleNamespace]:
    """Run a mail server that notes what is said to it."""
    found = SimpleNamespace(lines=[])

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            in_letter = False
            for raw in self.rfile:
                line = raw.decode().rstrip("\r\n")
                found.lines.append(line)
                if in_letter and line != ".":
                    continue
                in_letter = line.upper() == "DATA"
                answer = {"DATA": "354 go on", "QUIT": "221 bye"}.get(line.upper(), "250 fine")
                self.wfile.write(answer.encode() + b"\r\n")
                if line.upper() == "QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        found.port = server.server_address[1]
        yield found
        server.shutdown()


def site(folder: Path, text: str) -> dict[str, str]:
    """Make a site with these settings; return the parameters of a run of its flows."""
    memory_site(folder).close()
    file = folder / "wsistore.toml"
    file.write_text(f"{file.read_text('utf-8')}\n{text}", "utf-8")
    return {"site": str(folder)}


def run_of(parameters: dict[str, str]) -> Any:
    return SimpleNamespace(name=RUN.name, id=RUN.id, parameters=parameters)


# --- the webhook ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", [Failed(name="TierFailed", message="The tier cold is away."), Crashed(message="Died.")]
)
def test_a_failed_or_crashed_run_is_posted(tmp_path: Path, hook: SimpleNamespace, state: Any) -> None:
    parameters = site(tmp_path / "pathology", f'[flows]\nwebhook = "{hook.url}"')
    hooks.notify(FLOW, run_of(parameters), state)

    ((path, body),) = hook.posted
    assert path == "/hooks/secret-word"
    assert (body["site"], body["flow"], body["run"]) == ("pathology", "lifecycle", "brave-otter")
    assert (body["state"], body["message"]) == (state.name, state.message)
    assert body["text"].splitlines()[:2] == [f"wsistore pathology: lifecycle {state.name}", state.message]


@pytest.mark.parametrize(("name", "count"), [("WaitingForApproval", 1), ("Completed", 0), ("Skipped", 0)])
def test_of_good_ends_only_a_waiting_plan_is_told(tmp_path: Path, hook: SimpleNamespace, name: str, count: int) -> None:
    parameters = site(tmp_path / "site", f'[flows]\nwebhook = "{hook.url}"')
    hooks.notify_waiting(FLOW, run_of(parameters), Completed(name=name, message="Well."))

    assert len(hook.posted) == count


def test_the_address_may_lie_in_a_file_that_nobody_else_reads(
    tmp_path: Path, hook: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "address"
    secret.write_text(f"{hook.url}\n")
    secret.chmod(0o644)
    hooks.deliver(FlowsSettings(webhook_file=str(secret)), NOTICE)
    assert hook.posted == []
    assert "can be read by others" in caplog.text
    secret.chmod(0o600)
    hooks.deliver(FlowsSettings(webhook_file=str(secret)), NOTICE)
    assert len(hook.posted) == 1


def test_a_webhook_that_refuses_harms_nothing_and_its_address_is_not_logged(
    hook: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = 500
    hooks.deliver(FlowsSettings(webhook=hook.url), NOTICE)
    hooks.deliver(FlowsSettings(webhook="http://127.0.0.1:1/secret-word"), NOTICE)

    assert "the server answered 500" in caplog.text
    assert "ConnectError" in caplog.text
    assert "secret-word" not in caplog.text


def test_a_run_of_a_site_that_is_gone_is_told_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hooks.notify(FLOW, run_of({"site": str(tmp_path / "gone")}), Failed())

    assert "nobody is told of the run brave-otter" in caplog.text


# --- mail -------------------------------------------------------------------------------------------------------------


def test_a_notice_is_mailed(post: SimpleNamespace) -> None:
    mail = MailSettings(("a@hospital.example", "b@hospital.example"), "w@hospital.example", "127.0.0.1", post.port)
    hooks.deliver(FlowsSettings(mail=mail), NOTICE)

    assert "Subject: wsistore site: lifecycle TierFailed" in post.lines
    assert "To: a@hospital.example, b@hospital.example" in post.lines
    assert "Auto-Submitted: auto-generated" in post.lines
    assert "The tier cold is away." in post.lines
    assert [line.lower() for line in post.lines if line.lower().startswith("rcpt")] == [
        "rcpt to:<a@hospital.example>",
        "rcpt to:<b@hospital.example>",
    ]


def test_a_mail_server_that_is_away_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    hooks.deliver(FlowsSettings(mail=MailSettings(("a@b.example",), "a@b.example", "127.0.0.1", 1)), NOTICE)

    assert "no mail was sent of brave-otter" in caplog.text


# --- artifacts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Note what is shown as if a run were under way."""
    found: list[tuple[str, dict[str, Any]]] = []
    for kind in ("table", "markdown", "image", "link"):
        name = f"create_{kind}_artifact"
        monkeypatch.setattr(artifacts, name, lambda _kind=kind, **options: found.append((_kind, options)))
    monkeypatch.setattr(FlowRunContext, "get", lambda: object())
    return found


def test_without_a_run_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda **_: pytest.fail("shown"))

    Shown("site", "scrub").table("copies", [{"slide": "x"}], "Copies.")


def test_keys_name_site_and_flow_as_prefect_wants_them(made: list[tuple[str, dict[str, Any]]]) -> None:
    shown = Shown("CHU Île_de 1", "catalog-backup")
    shown.text("Ledgers & more", "# Text")

    assert made == [
        ("markdown", {"markdown": "# Text", "key": "chu-le-de-1-catalog-backup-ledgers-more", "description": ""})
    ]


def test_a_long_table_is_cut_and_says_so(made: list[tuple[str, dict[str, Any]]]) -> None:
    Shown("site", "scrub").table("copies", [{"slide": str(number)} for number in range(MOST_ROWS + 5)], "Copies.")

    ((_, options),) = made
    assert len(options["table"]) == MOST_ROWS
    assert options["description"] == f"Copies. The first {MOST_ROWS} of {MOST_ROWS + 5} are shown."


def test_pictures_are_in_the_artifact_and_links_are_addresses(made: list[tuple[str, dict[str, Any]]]) -> None:
    shown = Shown("site", "lifecycle")
    shown.picture("plan", b"\x89PNG", "Plan.")
    shown.link("file", Path("/site/plans/a b.parquet"), "a b.parquet")

    assert made[0][1]["image_url"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    assert made[1][1]["link"] == "file:///site/plans/a%20b.parquet"


def test_a_server_that_takes_no_artifact_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(**_: object) -> None:
        msg = "away"
        raise httpx.ConnectError(msg)

    monkeypatch.setattr(FlowRunContext, "get", lambda: object())
    monkeypatch.setattr(artifacts, "create_table_artifact", away)
    with caplog.at_level(logging.WARNING):
        Shown("site", "scrub").table("copies", [], "Copies.")

    assert "did not take an artifact" in caplog.text


def test_cells_of_a_table_in_markdown_stay_cells() -> None:
    text = markdown_table(("a", "b"), [("x|y", 5), ("line\nbreak", "")], right=[1])

    assert text.splitlines() == ["| a | b |", "| --- | ---: |", "| x\\|y | 5 |", "| line break |  |"]
    assert cell(" a  b ") == "a b"
