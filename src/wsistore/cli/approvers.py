"""Commands about people who approve: approver key, add, revoke, ls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, warn
from wsistore.cli.passphrases import FdOption, passphrase
from wsistore.clock import SystemClock
from wsistore.errors import InputError, Kind, MissingError

if TYPE_CHECKING:
    from wsistore.keys.people import Account, PersonKey, PublicPerson
    from wsistore.keys.people_roster import Person
    from wsistore.ops import Site

_HELP = """Say who may approve plans: people with keys of their own, or known to the hospital's identity provider.

Everybody makes their own key under their own account; an administrator of the roster adds them with their roles, and
signs that. The first one adds themselves. Nobody can be on the roster twice.

\b
  wsistore approver key
  wsistore approver add "Head of IT" --role administrator
  wsistore approver add "Head of pathology" --role approver --introduction theirs.txt
  wsistore approver ls
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", help="Your key; by default .config/wsistore/approver.key in your home.", **ANY_PATH
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The person, as the roster calls them.")]


@app.command("key")
def make_key(
    key: KeyOption = None,
    passphrase_fd: FdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make your own key, sealed by a passphrase; print the line that you hand to the roster's administrator.

    \b
      wsistore approver key
      wsistore approver key > introduction.txt

    The key is bound to the account that makes it, and signs for no other. The line holds no secret.
    """  # noqa: D301
    with reported(as_json=as_json):
        path = key or ops.own_key_path()
        secret = passphrase(passphrase_fd, for_what=f"the new key {path}", twice=True)
        made = ops.make_own_key(path, secret, SystemClock())
        if as_json:
            print_json({"key": str(path), "introduction": made.to_text(), "account": made.account.login})
        else:
            say(made.to_text())
            warn(f"Your key is {path}. Without its passphrase it is lost: it can be replaced, not recovered.")


@app.command("add")
def add(
    context: typer.Context,
    name: NameArgument,
    roles: Annotated[list[str], typer.Option("--role", metavar="ROLE", help="What they approve as; may be repeated.")],
    introduction: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The line that 'approver key' printed for them; - is stdin.", **ANY_PATH),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="SUB", help="Who they are for the identity provider of wsistore.toml.")
    ] = None,
    login: Annotated[
        str | None, typer.Option(metavar="LOGIN", help="The account of somebody who has no key of their own.")
    ] = None,
    key: KeyOption = None,
    passphrase_fd: FdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put somebody on the roster, signed by your key as its administrator; the first one adds themselves.

    \b
      wsistore approver add "Head of IT" --role administrator --role approver
      wsistore approver add "Physician" --role dim-physician --introduction theirs.txt
      wsistore approver add "Archivist" --role approver --subject 8f1c… --login archivist
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=True) as site:
        is_first = not ops.roster_of(site).people
        who = _introduced(introduction)
        # Whoever keeps the site's keys may begin the roster with somebody else.
        own = None if is_first and who is not None else own_key(key, passphrase_fd)
        if is_first and own is not None and subject is None:
            who = own.introduction()
        if who is None and subject is None:
            msg = f"It is not said who {name!r} is."
            remedy = "Give --introduction FILE (their 'wsistore approver key' prints it), or --subject SUB."
            raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy=remedy)
        known: Account | None = None if login is None else ops.account_of(login)
        found = None if subject is None else ops.subject_of(site, subject)
        added = ops.add_approver(site, name, roles, own, introduction=who, subject=found, account=known)
        root = ops.roster_of(site).root
        if as_json:
            print_json(_shown(added))
            return
        say(f"{added.name} is on the roster as {', '.join(added.roles)}.")
        if is_first:
            say(f'To pin the roster, put this under [approvals] in wsistore.toml: roster = "{root}"')


@app.command("revoke")
def revoke(
    context: typer.Context,
    name: NameArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "",
    key: KeyOption = None,
    passphrase_fd: FdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take somebody off the roster, signed by your key: what they approved and is not applied does not count any more.

    \b
      wsistore approver revoke "Head of pathology" --reason "has left"
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=True) as site:
        revoked = ops.revoke_approver(site, name, own_key(key, passphrase_fd), reason)
        if as_json:
            print_json(_shown(revoked))
        else:
            say(f"{revoked.name} is off the roster.")


@app.command("ls")
def ls(
    context: typer.Context,
    log: Annotated[bool, typer.Option("--log", help="How the roster came about, entry by entry.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List who is on the roster, once every signature in it is verified.

    \b
      wsistore approver ls
      wsistore approver ls --log
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        roster = ops.roster_of(site)
        if log:
            _print_log(site, as_json=as_json)
        elif as_json:
            for person in roster.people.values():
                print_json(_shown(person))
        else:
            columns = ("name", "roles", "account", "key", "subject", "since", "until")
            print_table(columns, [_row(person) for person in roster.people.values()])
            if roster.root:
                say("")
                say(f"roster  {roster.root}")


def own_key(path: Path | None, fd: int | None) -> PersonKey:
    """Open the key of whoever runs a command, asking for its passphrase."""
    where = path or ops.own_key_path()
    return ops.open_own_key(where, passphrase(fd, for_what=f"your key {where}"))


def _introduced(path: Path | None) -> PublicPerson | None:
    if path is None:
        return None
    try:
        if str(path) == "-":
            return ops.read_introduction(sys.stdin.read(4096), where="stdin")
        with path.open("rb") as file:
            return ops.read_introduction(file.read(4096).decode("utf-8", "replace"), where=str(path))
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror or error})."
        raise MissingError(msg, remedy="Check the path.") from error


def _shown(person: Person) -> dict[str, Any]:
    return {
        "person": person.id,
        "name": person.name,
        "roles": list(person.roles),
        "account": None if person.account is None else person.account.login,
        "uid": None if person.account is None else person.account.uid,
        "key": person.key or None,
        "subject": None if person.subject is None else person.subject.subject,
        "since": person.since,
        "until": person.until,
    }


def _row(person: Person) -> tuple[str, ...]:
    account = "" if person.account is None else f"{person.account.login} ({person.account.uid})"
    subject = "" if person.subject is None else person.subject.subject
    since, until = short(person.since), short(person.until)
    return (person.name, ", ".join(person.roles), account, person.key[:16], subject, since, until)


def _print_log(site: Site, *, as_json: bool) -> None:
    entries = ops.roster_entries(site)
    if as_json:
        for entry in entries:
            print_json(entry)
    else:
        rows = [(short(e["at"]), e["do"], e["person"], e["by"], e["reason"]) for e in entries]
        print_table(("at", "do", "person", "by", "reason"), rows)
