"""What Prefect is told through the environment: where it keeps its things, and that no call leaves the machine.

Prefect reads its settings when it is imported, and hands them to the processes that it starts: so this comes first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from wsistore.settings import HOME_VARIABLE

HOME_NAME = "prefect"
"""Folder in the site's folder where Prefect keeps its database, its logs and what it remembers."""
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""In memory, which is the default, a holder that was killed around a restart of the server keeps its slot for ever."""
PATIENCE_SECONDS = 300
"""For how long a server is waited for: 29 seconds on a busy machine, two minutes on one that is at its limit."""
HEARTBEAT_SECONDS = 30
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""What would call its makers, or invite people to."""
_NO_WAY_OUT = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
"""Nobody listens there. Prefect's page of work pools has its server ask GitHub for kinds of workers, and nothing turns
that off; refused, it takes the list that it came with."""
_PATIENT = {
    # 2 + 4 + … + 64 seconds: longer than a server takes to start again, or a database to fail over.
    "PREFECT_CLIENT_MAX_RETRIES": "6",
    # What the server answers while its database is away. Left alone, that ends a run, and it shows as running for ever.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
}
"""How long a run waits for its server, which only shows it."""


def prefect_home(folder: Path) -> Path:
    """Return where Prefect keeps its things for the site in `folder`."""
    return folder / HOME_NAME


def client_environment(folder: Path, api_url: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of a process that works with a Prefect server, other than those it has.

    Parameters
    ----------
    folder
        The site's folder.
    api_url
        Where the server answers, such as ``http://127.0.0.1:4200/api``.
    environment
        What is there already; proxies are told to leave this machine's own addresses alone.

    """
    said = {
        **_QUIET,
        **_PATIENT,
        HOME_VARIABLE: str(folder),
        "PREFECT_HOME": str(prefect_home(folder)),
        "PREFECT_PROFILES_PATH": str(prefect_home(folder) / "profiles.toml"),
        "PREFECT_API_URL": api_url,
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        **_direct(environment),
    }
    password = environment.get("PREFECT_SERVER_API_AUTH_STRING", "")
    if password and not environment.get("PREFECT_API_AUTH_STRING"):
        said["PREFECT_API_AUTH_STRING"] = password
    return said


def server_environment(folder: Path, api_url: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of Prefect's server of the site in `folder`: all on the site's own disk, and no way out."""
    home = prefect_home(folder)
    return {
        **client_environment(folder, api_url, environment),
        **_NO_WAY_OUT,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        # A night's burst of task runs and a slow disk: better late than "database is locked".
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        # Beside the package, its default, a service account may not write.
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
    }


def _direct(environment: Mapping[str, str]) -> dict[str, str]:
    said = {}
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in environment.get(name, "").split(",") if host.strip()]
        said[name] = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])
    return said
