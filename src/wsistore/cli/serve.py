"""The command ``serve``: the gateway for research."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import JsonOption, options, reported
from wsistore.cli.output import print_json, tell
from wsistore.errors import Kind, SiteError

if TYPE_CHECKING:
    from wsistore.serve.server import Serving


def serve(
    context: typer.Context,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen; by default as the settings say: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="By default as the settings say: 8090; 0: any that is free.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=16, help="Processes; 0: one for each processor, four at most.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the slides of projects to researchers over HTTP, until the command is ended.

    Who may see what, 'wsistore project' and 'wsistore token' decide. docs/gateway.md tells more; deploy/ has units, and
    how to put TLS in front of it.

    \b
      wsistore serve
      wsistore -C /srv/slides serve --port 8090 --workers 4
    """  # noqa: D301 - \b keeps typer from joining the lines
    with reported(as_json=as_json):
        _need_server()
        from wsistore.serve.server import serve as serve_site  # uvicorn, which other commands do not need

        with ops.open_site(options(context).folder) as site:
            folder, settings = site.folder, site.settings.serve
        serve_site(
            folder,
            address=address or settings.address,
            port=settings.port if port is None else port,
            workers=settings.workers if workers is None else workers,
            ready=lambda serving: _print_ready(serving, as_json=as_json),
        )


def _print_ready(serving: Serving, *, as_json: bool) -> None:
    if as_json:
        print_json({"url": serving.url, "workers": serving.workers})
    else:
        tell(f"Serving at {serving.url} ({serving.workers} processes); Ctrl-C ends it.")


def _need_server() -> None:
    if any(importlib.util.find_spec(name) is None for name in ("uvicorn", "httptools", "uvloop")):
        msg = "uvicorn is not installed, without which nothing is served."
        raise SiteError(msg, kind=Kind.DEPENDENCY_MISSING, remedy="Install it: pip install 'wsistore[serve]'.")
