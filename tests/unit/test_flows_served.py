"""What runs when, at this site and at others; the files of deploy/; the server's place. No server is started."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.events.schemas.automations import AutomationCore
from prefect.server.schemas.schedules import CronSchedule
from ruamel.yaml import YAML

from tests.prefect_kit import free_port
from tests.site_kit import cli, new_site
from wsistore.errors import ConflictError, SiteError
from wsistore.settings import FLOW_NAMES, load
from wsistore.testing.clock import ManualClock
from wsistore_flows import environment
from wsistore_flows.deployments import NIGHTS, Night, deployed, flow_of
from wsistore_flows.server import Server, noted
from wsistore_flows.serving import serve

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DAILY = [night for night in NIGHTS if "*/" not in night.cron]
CHANGES = {
    "Europe/Paris": (date(2027, 3, 28), date(2027, 10, 31)),
    "Atlantic/Azores": (date(2027, 3, 28), date(2027, 10, 31)),
    "America/Miquelon": (date(2027, 3, 14), date(2027, 11, 7)),
    "America/Havana": (date(2027, 3, 14), date(2027, 11, 7)),
    "America/Santiago": (date(2027, 4, 4), date(2027, 9, 5)),
    "Asia/Beirut": (date(2027, 3, 28), date(2027, 10, 31)),
    "Australia/Lord_Howe": (date(2027, 4, 4), date(2027, 10, 3)),
    "America/Nuuk": (date(2027, 3, 27), date(2027, 10, 30)),
}
"""Days on which clocks are changed, or that follow such a night."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return new_site(tmp_path / "site")


def said(folder: Path, text: str) -> None:
    with (folder / "wsistore.toml").open("a") as file:
        file.write(text)


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_flow_of_the_settings_runs_by_itself() -> None:
    assert {night.name for night in NIGHTS} == set(FLOW_NAMES)
    assert all(flow_of(night).name == night.flow_name for night in NIGHTS)


def test_nothing_daily_begins_while_clocks_are_changed() -> None:
    for night in DAILY:
        minute, hour, *_ = night.cron.split()
        assert time(4) <= time(int(hour), int(minute)) <= time(22, 30), night.name


@pytest.mark.parametrize("zone", CHANGES)
def test_a_daily_flow_begins_once_a_day_at_its_time_when_clocks_change(zone: str) -> None:
    local = ZoneInfo(zone)
    for night in (one for one in DAILY if one.cron.endswith("* * *")):
        minute, hour, *_ = map(str, night.cron.split())
        for day in CHANGES[zone]:
            first = datetime.combine(day - timedelta(days=2), time(), local)
            begins = dates(night.cron, zone, first, first + timedelta(days=5))
            assert Counter(one.astimezone(local).date() for one in begins) == {
                day + timedelta(days=offset): 1 for offset in range(-2, 3)
            }
            assert {one.astimezone(local).timetz().replace(tzinfo=None) for one in begins} == {
                time(int(hour), int(minute))
            }


def test_a_time_that_clocks_skip_would_be_moved() -> None:
    """Why daily flows keep out of these hours: the test above can fail."""
    local = ZoneInfo("Europe/Paris")
    first = datetime(2027, 3, 28, tzinfo=local)
    begins = dates("30 2 * * *", "Europe/Paris", first, first + timedelta(hours=20))
    assert [one.astimezone(local).time() for one in begins] != [time(2, 30)]


def test_the_settings_change_time_zone_times_parameters_and_whether_a_flow_begins(site: Path) -> None:
    said(
        site,
        '\n[flows]\ntime_zone = "Europe/Paris"\n[flows.scrub]\ncron = "0 22 * * 6"\npaused = true\n'
        'timeout_minutes = 90\n[flows.scrub.parameters]\nbudget = "2GB"\n[flows.lifecycle-apply]\npaused = true\n',
    )
    found = {one.night.name: one for one in deployed(load(site))}
    assert {one.zone for one in found.values()} == {"Europe/Paris"}
    assert (found["scrub"].cron, found["scrub"].paused, found["scrub"].timeout) == (
        "0 22 * * 6",
        True,
        timedelta(minutes=90),
    )
    assert found["scrub"].parameters == {"site": str(site), "budget": "2GB"}
    assert found["lifecycle-apply"].parameters == {"site": str(site), "plan": False}
    assert not found["lifecycle"].paused
    assert (found["lifecycle"].full_name, found["lifecycle-apply"].full_name) == (
        "lifecycle/site",
        "lifecycle/site-apply",
    )


def test_every_parameter_that_is_delivered_is_one_of_its_flow(site: Path) -> None:
    for one in deployed(load(site)):
        one.flow.validate_parameters(dict(one.parameters))


def test_prefect_is_told_of_one_at_a_time(site: Path) -> None:
    for one in deployed(load(site)):
        made = asyncio.run(one.for_prefect(paused=True))
        assert made.paused
        assert made.concurrency_limit == 1
        assert made.concurrency_options is not None
        assert made.concurrency_options.collision_strategy == "CANCEL_NEW"
        assert made.entrypoint == one.night.entrypoint


# --- deploy/ ----------------------------------------------------------------------------------------------------------


def test_the_deployments_for_a_pool_are_those_of_one_machine() -> None:
    document = parsed(DEPLOY / "prefect.yaml")
    assert [row_of(one) for one in document["deployments"]] == [row_of_night(night) for night in NIGHTS]
    for one in document["deployments"]:
        assert one["concurrency_limit"]["limit"] == 1
        assert one["concurrency_limit"]["collision_strategy"] == "CANCEL_NEW"
        assert one["work_pool"] == {"name": "wsistore"}


def test_the_automation_is_one_that_prefect_knows() -> None:
    made = AutomationCore.model_validate(parsed(DEPLOY / "automations.yaml"))
    within: Any = getattr(made.trigger, "within", None)
    assert within >= timedelta(seconds=3 * environment.HEARTBEAT_SECONDS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", sorted(path.name for path in (DEPLOY / "systemd").iterdir()))
def test_units_are_sound(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / name).read_text()
    unit = tmp_path / name
    unit.write_text(text.replace("/opt/wsistore/.venv/bin/", "/bin/true "))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if name in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr


def test_no_call_leaves_the_machine_wherever_prefect_is_started() -> None:
    compose = parsed(DEPLOY / "compose.yaml")
    server = compose["services"]["prefect"]["environment"]
    unit = (DEPLOY / "systemd" / "prefect-server.service").read_text()
    ours = environment.server_environment(Path("/site"), "http://127.0.0.1:4200/api", {})
    names = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE")
    for name in names:
        assert server[name] == ours[name]
        assert f"Environment={name}={ours[name]}\n" in unit
    assert ours["HTTPS_PROXY"] == ours["https_proxy"] == "http://127.0.0.1:9"  # nobody listens there
    assert "Environment=DO_NOT_TRACK=1\n" in (DEPLOY / "systemd" / "wsistore-worker.service").read_text()


def test_the_compose_file_shows_nothing_to_the_network_and_has_no_password() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    services = YAML(typ="safe").load(text)["services"]
    assert [port for one in services.values() for port in one.get("ports", [])] == ["127.0.0.1:4200:4200"]
    assert "${POSTGRES_PASSWORD:?" in text
    assert "${PREFECT_LOGIN:?" in text
    assert services["prefect"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert all(one["restart"] == "unless-stopped" and "healthcheck" in one for one in services.values())


# --- the server's place -----------------------------------------------------------------------------------------------


def test_prefect_keeps_everything_in_the_site() -> None:
    found = environment.server_environment(Path("/site"), "http://127.0.0.1:4200/api", {"NO_PROXY": "tiers.example"})
    assert found["PREFECT_HOME"] == "/site/prefect"
    assert found["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "sqlite+aiosqlite:////site/prefect/prefect.db"
    assert found["NO_PROXY"].split(",") == ["tiers.example", "127.0.0.1", "localhost", "::1"]
    assert found["WSISTORE_HOME"] == "/site"


def test_the_password_of_the_server_is_that_of_its_clients() -> None:
    found = environment.client_environment(
        Path("/site"), "http://127.0.0.1:4200/api", {"PREFECT_SERVER_API_AUTH_STRING": "a:b"}
    )
    assert found["PREFECT_API_AUTH_STRING"] == "a:b"


def test_a_port_that_is_taken_is_said(site: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConflictError, match=f"Port {port} .*--port"):
            serve(site, port=port)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"port": "x", "pid": 1}', '{"port": 1}', "null"])
def test_a_damaged_note_is_no_note(site: Path, text: str) -> None:
    (site / "prefect").mkdir()
    (site / "prefect" / "server.json").write_text(text)
    assert noted(site) is None


def test_the_port_is_kept_over_restarts(site: Path) -> None:
    (site / "prefect").mkdir()
    port = free_port()
    # The process of this number is not a server of ours, and is left alone.
    (site / "prefect" / "server.json").write_text(json.dumps({"port": port, "pid": os.getpid()}))
    assert Server(site, clock=ManualClock()).address.api_url == f"http://127.0.0.1:{port}/api"


def test_a_server_that_cannot_start_is_told_with_its_last_words(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(SiteError, match=r"ended as it was started.*server\.log"):
        Server(site, 0).start()


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["ls"], ["history"], ["run", "scrub"], ["pause", "scrub"], ["resume", "scrub"]])
def test_what_is_not_served_is_said(site: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli(site, "flows", *arguments)
    assert done.code == 10
    assert "wsistore flows serve" in done.err
    assert cli(site, "flows", *arguments, "--json").lines[0]["error"]["kind"] == "cluster-unreachable"


def test_one_service_for_a_site(site: Path) -> None:
    import fcntl

    (site / "prefect").mkdir()
    with (site / "prefect" / "service.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = cli(site, "flows", "serve", "--port", "0")
    assert done.code == 5
    assert "served already" in done.err


# --- helpers ----------------------------------------------------------------------------------------------------------


def parsed(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def dates(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    found = asyncio.run(CronSchedule(cron=cron, timezone=zone).get_dates(start=start, end=end - timedelta(seconds=1)))
    return [datetime.fromtimestamp(one.timestamp(), tz=UTC) for one in found]


def row_of(one: dict[str, Any]) -> tuple[Any, ...]:
    (schedule,) = one["schedules"]
    assert schedule["timezone"] == "{{ $WSISTORE_TIME_ZONE }}"
    assert schedule["slug"] == "site"
    return one["name"], one["entrypoint"], schedule["cron"], one["tags"], one.get("parameters", {})


def row_of_night(night: Night) -> tuple[Any, ...]:
    name = night.deployment_name("{{ $WSISTORE_SITE }}")
    return name, night.entrypoint, night.cron, ["wsistore", *night.tags], dict(night.parameters)
