"""Commands that approve plans: approve, visa add, visa ls."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.approvers import KeyOption, own_key
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, tell, warn
from wsistore.cli.passphrases import FdOption
from wsistore.errors import InputError, Kind, MissingError
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.keys.people import PersonKey
    from wsistore.ops import GivenVisa, IdToken, Standing

_HELP = """Record the visas that deletions need, and what the archives keep.

Which visas those are is said by 'visas' under [approvals] in wsistore.toml: by default those of French public archives.

\b
  wsistore visa add plan.parquet --role departmental-archives --reference "AD/2026/117" --date 2026-12-01
  wsistore visa ls plan.parquet
"""

visa = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan's file.", **ANY_PATH)]


def approve(
    context: typer.Context,
    plan: PlanArgument,
    role: Annotated[str, typer.Option(metavar="ROLE", help="As what you approve it.")] = "approver",
    scope: Annotated[str, typer.Option(metavar="all|moves|deletions", help="What of it you approve.")] = "all",
    key: KeyOption = None,
    passphrase_fd: FdOption = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="With --nonce or --token: your name on the roster.")
    ] = None,
    nonce: Annotated[
        bool, typer.Option("--nonce", help="Only print the nonce that your sign-in has to carry to approve this.")
    ] = False,
    token: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The ID token of that sign-in, instead of your key; - is stdin.", **ANY_PATH),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only show what the plan needs, has and lacks.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a plan does, and approve it by your key, or by signing in at the identity provider.

    \b
      wsistore approve plan.parquet
      wsistore approve plan.parquet --role dim-physician
      wsistore approve plan.parquet --status

    Nobody approves their own plan, and nobody approves one twice. Your signature is verified again when it is applied.
    """  # noqa: D301
    wanted = _scope(scope)
    with reported(as_json=as_json), opened(context, writing=not (status or nonce)) as site:
        read = ops.read_plan(plan)
        if nonce:
            _print_nonce(ops.approval_nonce(site, read, role, _named(name), wanted), as_json=as_json)
            return
        standing = ops.standing(site, read)
        if status:
            _print_standing(standing, as_json=as_json)
            return
        if not as_json:
            _tell_totals(standing)
        ops.check_plan(site, read)  # before anybody is asked for a passphrase
        proof: PersonKey | IdToken = _token(token, name) if token is not None else own_key(key, passphrase_fd)
        before = {one.person: one for one in standing.given}
        given = ops.approve(site, read, role, proof, wanted)
        standing = ops.standing(site, read)
        if as_json:
            print_json({**_standing(standing), "approved": asdict(given)})
            return
        say(f"{given.name} approved the plan {read.digest[:12]} as {given.role} ({given.scope}).")
        if given.person in before:
            said = before[given.person]
            tell(f"This takes the place of what {said.name} said at {short(said.at)}, as {said.role} ({said.scope}).")
        _tell_missing(standing)


@visa.command("add")
def add(
    context: typer.Context,
    plan: PlanArgument,
    role: Annotated[str, typer.Option(metavar="ROLE", help="Whose visa it is: director, dim-physician, …")],
    reference: Annotated[str, typer.Option(metavar="TEXT", help="By which it is found again.")],
    date: Annotated[str, typer.Option(metavar="DAY", help="The day on it: 2026-12-01.")],
    scope: Annotated[str, typer.Option(metavar="all|delete|detach-identity", help="What of the plan it is for.")] = (
        "all"
    ),
    keep: Annotated[
        list[str] | None, typer.Option(metavar="SLIDE", help="A slide that they keep; may be repeated.")
    ] = None,
    keep_list: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Slides that they keep, one per line; - is stdin.", **ANY_PATH)
    ] = None,
    key: KeyOption = None,
    passphrase_fd: FdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a visa that was given on paper or elsewhere, signed by your key; it takes the place of an earlier one.

    \b
      wsistore visa add plan.parquet --role director --reference "DG/2026/31" --date 2026-11-28
      wsistore visa add plan.parquet --role departmental-archives --reference "AD/2026/117" --date 2026-12-01 \\
               --keep-list kept.txt

    What they keep is left out when the plan is applied.
    """  # noqa: D301
    wanted = _visa_scope(scope)
    with reported(as_json=as_json), opened(context, writing=True) as site:
        read = ops.read_plan(plan)
        kept = [*(keep or []), *_lines(keep_list)]
        before = {one.role: one for one in ops.standing(site, read).visas}
        found = ops.add_visa(site, read, role, reference, date, own_key(key, passphrase_fd), scope=wanted, kept=kept)
        if as_json:
            print_json(asdict(found))
        else:
            left = f"; slides that are kept: {len(found.kept)}" if found.kept else ""
            say(f"The visa of {found.role} ({found.reference}, {found.date}) is recorded{left}.")
            _tell_replaced(before.get(found.role))


@visa.command("ls")
def ls(context: typer.Context, plan: PlanArgument, as_json: JsonOption = False) -> None:
    """List the visas of a plan that count.

    \b
      wsistore visa ls plan.parquet
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        standing = ops.standing(site, ops.read_plan(plan))
        if as_json:
            for one in standing.visas:
                print_json(asdict(one))
            return
        print_table(_VISA_COLUMNS, [_visa_row(one) for one in standing.visas], right=("kept",))
        for why in standing.refused:
            warn(f"Not counted: {why}.")


_VISA_COLUMNS = ("role", "reference", "date", "scope", "kept", "recorded by", "at")


def _visa_row(one: GivenVisa) -> tuple[str, ...]:
    return (one.role, one.reference, one.date, str(one.scope), str(len(one.kept)), one.recorded_by, short(one.at))


def _tell_replaced(old: GivenVisa | None) -> None:
    if old is not None:
        left = f", which kept {len(old.kept)} slides" if old.kept else ""
        tell(f"It takes the place of {old.reference} of {old.date}{left}, recorded by {old.recorded_by}.")


def _standing(found: Standing) -> dict[str, Any]:
    totals = found.totals
    return {
        "plan": found.plan,
        "actions": totals.actions,
        "postponed": totals.postponed,
        "bytes_touched": totals.bytes_touched,
        "bytes_deleted": totals.bytes_deleted,
        "eur_once": totals.eur_once,
        "eur_year_saved": totals.eur_year_saved,
        "needs": found.sentence,
        "approvals": [asdict(one) for one in found.given],
        "visas": [asdict(one) for one in found.visas],
        "missing": list(found.missing),
        "refused": list(found.refused),
    }


def _print_standing(found: Standing, *, as_json: bool) -> None:
    if as_json:
        print_json(_standing(found))
        return
    _tell_totals(found)
    if found.given:
        rows = [(one.name, one.role, str(one.scope), one.by, short(one.at)) for one in found.given]
        print_table(("approved by", "as", "scope", "by", "at"), rows)
    if found.visas:
        print_table(_VISA_COLUMNS, [_visa_row(one) for one in found.visas], right=("kept",))
    _tell_missing(found)


def _tell_totals(found: Standing) -> None:
    totals = found.totals
    tell(f"Plan {found.plan}")
    for action, count in totals.actions.items():
        tell(f"  {action:<16} {count:>9} slides")
    tell(f"  touched {format_bytes(totals.bytes_touched)}, deleted for good {format_bytes(totals.bytes_deleted)}")
    tell(f"  {totals.eur_once:.2f} € once, {totals.eur_year_saved:+.2f} € saved a year")
    if totals.postponed:
        tell(f"  {totals.postponed} slides wait for a later plan")
    tell(found.sentence)


def _tell_missing(found: Standing) -> None:
    for why in found.refused:
        warn(f"Not counted: {why}.")
    if found.missing:
        say("It lacks " + "; ".join(found.missing) + ".")
    else:
        say("Nothing is missing: it may be applied.")


def _print_nonce(nonce: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"nonce": nonce})
    else:
        say(nonce)


def _scope(text: str) -> ops.ApprovalScope:
    try:
        return ops.ApprovalScope(text)
    except ValueError:
        msg = f"{text!r} is no scope: all, moves or deletions."
        raise typer.BadParameter(msg, param_hint="--scope") from None


def _visa_scope(text: str) -> ops.VisaScope:
    try:
        return ops.VisaScope(text)
    except ValueError:
        msg = f"{text!r} is no scope: all, delete or detach-identity."
        raise typer.BadParameter(msg, param_hint="--scope") from None


def _named(name: str | None) -> str:
    if name is None:
        msg = "It is not said who signs in."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Say your name on the roster: --as NAME.")
    return name


def _token(path: Path, name: str | None) -> IdToken:
    return ops.IdToken(person=_named(name), token=_read(path, 1 << 17).strip())


def _lines(path: Path | None) -> list[str]:
    return [] if path is None else [line for line in _read(path, 1 << 26).splitlines() if line.strip()]


def _read(path: Path, most: int) -> str:
    try:
        if str(path) == "-":
            return sys.stdin.read(most)
        with path.open("rb") as file:
            return file.read(most).decode("utf-8")
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read ({error})."
        raise MissingError(msg, remedy="Check the path.") from error
