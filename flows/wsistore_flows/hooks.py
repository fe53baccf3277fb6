"""Notices when somebody is needed: a run failed, crashed, or waits for approval; by webhook and mail.

They say which flow of which site, its state and message, and where to look; Prefect's states name no patient
(`wsistore_flows.states`), so neither do they. A notice that cannot be delivered is a line in the log, no more.
"""

from __future__ import annotations

import logging
import os
import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings

from wsistore.clock import SystemClock
from wsistore.errors import SiteError, WsistoreError
from wsistore.settings import FlowsSettings, MailSettings, Settings, find_site, load
from wsistore_flows.repeats import is_news, is_over
from wsistore_flows.states import (
    NEEDS_ACTION,
    NOT_IN_TIME,
    SKIPPED,
    WAITING_FOR_APPROVAL,
    WAITING_FOR_CONFIRMATION,
)

_SECONDS = 10.0
_OPEN_TO_OTHERS = 0o077

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """What people are told."""

    site: str
    flow: str
    run: str
    state: str
    message: str
    link: str
    """Where the run is shown; nothing if Prefect does not know its own address."""

    @property
    def headline(self) -> str:
        """One line."""
        return " ".join(f"wsistore {self.site}: {self.flow} {self.state}".split())

    @property
    def text(self) -> str:
        """All of it, for people."""
        return "\n".join(line for line in (self.headline, self.message, self.link) if line)

    def to_json(self) -> dict[str, str]:
        """Return what is posted; chat servers (Mattermost, Rocket.Chat, Slack) show ``text``."""
        return {**asdict(self), "text": self.text}


def notify(flow: Any, flow_run: Any, state: State[Any]) -> None:
    """Tell people how a run ended."""
    try:
        settings = _settings(flow_run.parameters or {})
    except WsistoreError as error:
        _log.warning("nobody is told of the run %s: %s", flow_run.name, error)
        return
    notice = Notice(
        site=settings.name,
        flow=str(flow.name),
        run=str(flow_run.name),
        state=str(state.name),
        message=str(state.message or ""),
        link=_link(str(flow_run.id)),
    )
    if is_news(settings.folder, notice.flow, f"{notice.state}: {notice.message}", SystemClock().now()):
        deliver(settings.flows, notice)


def notify_waiting(flow: Any, flow_run: Any, state: State[Any]) -> None:
    """Tell people that something waits for them; of all other ends that are good, nobody needs to be told."""
    if state.name in _FOR_PEOPLE:
        notify(flow, flow_run, state)
    elif state.name != SKIPPED:
        with suppress(WsistoreError):
            is_over(_settings(flow_run.parameters or {}).folder, str(flow.name))


_FOR_PEOPLE = frozenset({WAITING_FOR_APPROVAL, WAITING_FOR_CONFIRMATION, NOT_IN_TIME, NEEDS_ACTION})

HOOKS: Mapping[str, Any] = {"on_failure": [notify], "on_crashed": [notify], "on_completion": [notify_waiting]}
"""Options of every flow."""


def deliver(flows: FlowsSettings, notice: Notice) -> None:
    """Send a notice wherever the site wants it; what cannot be delivered is logged."""
    try:
        address = flows.webhook or _secret(flows.webhook_file)
        if address:
            _post(address, notice)
    except (httpx.HTTPError, httpx.InvalidURL, SiteError) as error:
        _log.warning("the webhook was not told of %s: %s", notice.run, _why(error))
    try:
        if flows.mail is not None:
            _send(flows.mail, notice)
    except (OSError, smtplib.SMTPException, ValueError, SiteError) as error:
        _log.warning("no mail was sent of %s: %s", notice.run, _why(error))


def _post(address: str, notice: Notice) -> None:
    answer = httpx.post(address, json=notice.to_json(), timeout=_SECONDS)
    answer.raise_for_status()


def _send(mail: MailSettings, notice: Notice) -> None:
    letter = EmailMessage()
    letter["Subject"], letter["From"], letter["To"] = notice.headline, mail.sender, ", ".join(mail.to)
    letter["Auto-Submitted"] = "auto-generated"  # nobody's absence notice need answer
    letter.set_content(notice.text)
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if mail.tls == "tls":
        server = smtplib.SMTP_SSL(mail.server, mail.port, timeout=_SECONDS, context=context)
    else:
        server = smtplib.SMTP(mail.server, mail.port, timeout=_SECONDS)
    with server:
        if mail.tls == "starttls":
            server.starttls(context=context)
        if mail.login_file:
            user, _, password = _secret(mail.login_file).partition("\n")
            server.login(user.strip(), password.strip())
        server.send_message(letter)


def _secret(path: str) -> str:
    """Return the text of a file that only this account reads; nothing if there is none to read."""
    if not path:
        return ""
    try:
        if Path(path).stat().st_mode & _OPEN_TO_OTHERS:
            msg = f"{path} can be read by others."
            raise SiteError(msg, remedy=f"chmod 600 {path}")
        return Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read ({type(error).__name__})."
        raise SiteError(msg, remedy="Mend it, or the line of wsistore.toml that names it.") from error


def _why(error: Exception) -> str:
    """Return why something was not delivered, without the address: it may be a secret by itself."""
    if isinstance(error, WsistoreError):
        return str(error)
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answered {error.response.status_code}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__} {reason}".strip()


def _settings(parameters: Mapping[str, Any]) -> Settings:
    site = parameters.get("site")
    return load(find_site(Path(site) if site else None, os.environ))


def _link(run: str) -> str:
    address = get_current_settings().ui_url
    return f"{address}/runs/flow-run/{run}" if address else ""
