"""Commands about tokens of the gateway: token create, token ls, token revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from wsistore import ops
from wsistore.cli.context import JsonOption, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, tell
from wsistore.clock import iso

_HELP = """Tokens of the gateway: what people show who may see research projects.

A token is shown once, when it is made; the site keeps a hash of it. It gives access to what its user was granted.

\b
  wsistore token create alice --days 90
  wsistore token ls
  wsistore token revoke 4szq0v8m2c1k
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

ScopeOption = Annotated[
    list[str] | None,
    typer.Option("--scope", metavar="NAME", help="read (always), or recall: asking for cold slides; may be repeated."),
]


@app.command("create")
def create(
    context: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="Whom it is for, as in grants.")],
    days: Annotated[int, typer.Option(metavar="N", min=1, max=3650, help="How long it is in force.")] = 90,
    scope: ScopeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and show it, once.

    \b
      wsistore token create alice --days 90
      wsistore token create bob --scope recall
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            until = site.clock.now() + timedelta(days=days)
            made = ops.create_token(site, user, expires_at=until, scopes=scope or ())
        row = made.row
        if as_json:
            scopes = list(row.scopes)
            fields = {"token": made.text, "id": row.token, "user": row.user}
            print_json(fields | {"scopes": scopes, "expires_at": row.expires_at})
            return
        tell(f"Token {row.token} of {row.user}, in force until {short(row.expires_at)}. It is shown this once:")
        say(made.text)


@app.command("ls")
def ls(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all tokens, the oldest first: whose they are, and when they were last used.

    \b
      wsistore token ls
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            rows, now = ops.list_tokens(site), iso(site.clock.now())
        states = ["revoked" if row.revoked_at else "expired" if row.expires_at <= now else "in force" for row in rows]
        if as_json:
            for row, state in zip(rows, states, strict=True):
                fields = {"id": row.token, "user": row.user, "state": state, "scopes": list(row.scopes)}
                more = {"created_at": row.created_at, "created_by": row.created_by, "expires_at": row.expires_at}
                print_json(fields | more | {"revoked_at": row.revoked_at, "last_used_at": row.last_used_at})
        elif rows:
            shown = [
                (row.token, row.user, state, ", ".join(row.scopes), short(row.expires_at), short(row.last_used_at))
                for row, state in zip(rows, states, strict=True)
            ]
            print_table(("token", "user", "state", "scopes", "until", "last used"), shown)
        else:
            say("There are no tokens.")


@app.command("revoke")
def revoke(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as 'wsistore token ls' lists it, or itself.")],
    as_json: JsonOption = False,
) -> None:
    """End a token, from the next request on.

    \b
      wsistore token revoke 4szq0v8m2c1k
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            row = ops.revoke_token(site, token)
        if as_json:
            print_json({"id": row.token, "user": row.user, "revoked_at": row.revoked_at})
        else:
            say(f"Token {row.token} of {row.user} is revoked.")
