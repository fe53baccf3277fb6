"""The tables [flows] and [flows.NAME]: what they say, and what is wrong with them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from wsistore import settings as site_settings
from wsistore.errors import Kind, SiteError
from wsistore.settings import FLOW_NAMES, FlowSettings, FlowsSettings, MailSettings
from wsistore.settings.read_flows import _FLOW, _KEYS, _MAIL

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "flows.md").read_text("utf-8")


def read(folder: Path, text: str) -> FlowsSettings:
    """Return what a site's settings say when this is written below them."""
    site_settings.write_new(folder)
    file = folder / "wsistore.toml"
    file.write_text(f"{file.read_text('utf-8')}\n{text}", "utf-8")
    return site_settings.load(folder).flows


def test_a_site_that_says_nothing_has_nights_as_they_are_delivered(tmp_path: Path) -> None:
    assert read(tmp_path, "") == FlowsSettings()
    assert FlowsSettings().flow("lifecycle") == FlowSettings()


def test_everything_that_a_site_decides_is_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
[flows]
time_zone = "Europe/Paris"
api_url = "http://prefect.hospital.example:4200/api"
scheduler = "tcp://10.0.0.5:8786"
workers = 3
retry_seconds = [1, 2]
webhook_file = "secrets/webhook"

[flows.mail]
to = ["storage@hospital.example", "night@hospital.example"]
from = "wsistore@hospital.example"
server = "mail.hospital.example"
tls = "starttls"
login_file = "/etc/wsistore/mail"

[flows.lifecycle]
cron = "0 20 * * 1-5"
paused = true
timeout_minutes = 600
parameters = {anytime = true}

[flows.catalog-backup]
paused = false
""",
    )

    assert (found.time_zone, found.workers, found.retry_seconds) == ("Europe/Paris", 3, (1, 2))
    assert found.api_url == "http://prefect.hospital.example:4200/api"
    assert found.scheduler == "tcp://10.0.0.5:8786"
    assert found.webhook_file == str(tmp_path / "secrets" / "webhook")
    assert found.mail == MailSettings(
        to=("storage@hospital.example", "night@hospital.example"),
        sender="wsistore@hospital.example",
        server="mail.hospital.example",
        port=587,
        tls="starttls",
        login_file="/etc/wsistore/mail",
    )
    assert found.flow("lifecycle") == FlowSettings("0 20 * * 1-5", True, timedelta(hours=10), {"anytime": True})
    assert set(found.flows) == {"lifecycle", "catalog-backup"}


def test_mail_needs_but_its_receivers(tmp_path: Path) -> None:
    mail = read(tmp_path, '[flows.mail]\nto = ["storage@hospital.example"]').mail

    assert mail == MailSettings(("storage@hospital.example",), "storage@hospital.example", "localhost", 25)


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_every_flow_has_a_table(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f'[flows.{name}]\ncron = "5 4 * * *"').flow(name).cron == "5 4 * * *"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[flows]\ntime_zone = "Europe/Atlantis"', "flows.time_zone"),
        ('[flows]\ntime_zone = "../../etc/passwd"', "flows.time_zone"),
        ("[flows]\nretry_seconds = 60", "flows.retry_seconds"),
        ("[flows]\nretry_seconds = [60, -1]", "flows.retry_seconds"),
        ("[flows]\nretry_seconds = [true]", "flows.retry_seconds"),
        ('[flows]\napi_url = "prefect:4200"', "flows.api_url"),
        ('[flows]\nwebhook = "https://user:hush@chat.example/x"', "flows.webhook"),
        ('[flows]\nwebhook = "https://chat.example/x"\nwebhook_file = "w"', "flows.webhook_file"),
        ('[flows]\nscheduler = "10.0.0.5:8786"', "flows.scheduler"),
        ("[flows]\nworkers = -1", "flows.workers"),
        ("[flows]\nlifecycle = 5", "flows.lifecycle"),
        ("[flows.lifecycel]\npaused = true", "flows.lifecycel"),
        ('[flows.scrub]\ncron = "every night"', "flows.scrub.cron"),
        ('[flows.scrub]\ncron = "0 20 * *"', "flows.scrub.cron"),
        ("[flows.scrub]\ntimeout_minutes = 0", "flows.scrub.timeout_minutes"),
        ('[flows.scrub]\nparameters = {site = "/elsewhere"}', "flows.scrub.parameters"),
        ("[flows.mail]\nto = []", "flows.mail.to"),
        ('[flows.mail]\nto = ["nobody"]', "flows.mail.to"),
        ('[flows.mail]\nto = ["a@b.example\\nBcc: c@d.example"]', "flows.mail.to"),
        ('[flows.mail]\nto = ["a@b.example"]\nlogin_file = "x"', "flows.mail.tls"),
        ('[flows.mail]\nto = ["a@b.example"]\ntls = "ssl"', "flows.mail.tls"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SiteError) as caught:
        read(tmp_path, text)

    assert caught.value.kind is Kind.SETTINGS_INVALID
    assert repr(key) in caught.value.message
    assert "hush" not in caught.value.message, "a password in an address is not shown"


def test_the_documentation_names_every_key_and_no_other() -> None:
    section = DOCS.partition("\n## Settings\n")[2].partition("\n## ")[0]
    tables = [line for line in section.splitlines() if line.startswith("| `")]
    named = {key for line in tables for key in re.findall(r"`(\w+)`", line.split("|")[1])}

    assert named == {*_KEYS, *_FLOW, *_MAIL} - {"mail"}


def test_the_documented_flows_are_those_that_may_be_set() -> None:
    section = DOCS.partition("\n## What runs when\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == set(FLOW_NAMES)
