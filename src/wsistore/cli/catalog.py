"""Commands about the catalogue itself: backup, restore, rebuild, check."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, options, reported
from wsistore.cli.output import print_json, print_table, say, tell, warn
from wsistore.errors import IntegrityError, StorageError
from wsistore.settings import find_site
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops.gathering import LedgerProof

_HELP = """Back up the catalogue, make a lost one anew from the tiers, and prove that both tell the same.

The catalogue says what is where. Every tier is told what it says, in a signed ledger, so that it can be made anew from
the tiers alone.

\b
  wsistore catalog backup --keep 30
  wsistore catalog check
  wsistore catalog rebuild
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

_Tiers = Annotated[list[str] | None, typer.Option("--from", metavar="TIER", help="By default all tiers; repeat.")]
_Replace = Annotated[
    bool, typer.Option("--replace", help="Set a catalogue aside that is there; it stays beside the new one.")
]
_SHOWN = 20
"""Problems that people are shown; --json has all."""


@app.command("backup")
def backup(
    context: typer.Context,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="A new file; by default in backups/.", **ANY_PATH)
    ] = None,
    keep: Annotated[int, typer.Option(min=0, help="How many backups to keep in backups/; 0 for all.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Copy the catalogue while it is in use, check the copy, and bring all tiers' ledgers up to date.

    \b
      wsistore catalog backup --keep 30
      wsistore catalog backup --to /mnt/elsewhere/catalog.db

    Exit code 6: the copy was made, but a tier could not be told.
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            done = ops.backup_catalog(site, to, keep=keep)
        if as_json:
            print_json(asdict(done))
        else:
            say(f"{done.path}: {done.slides} slides, {format_bytes(done.bytes)}, SHA-256 {done.sha256}")
            rows = [(told.tier, str(told.segments), str(told.written), told.head[:16]) for told in done.ledgers]
            print_table(("ledger of", "segments", "new", "signed root of"), rows, right=("segments", "new"))
        for tier, failure in done.untold:
            warn(f"tier {tier} was not told: {failure.message}")
        if done.untold:
            raise typer.Exit(StorageError.exit_code)


@app.command("restore")
def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup of the catalogue.", **ANY_PATH)],
    tiers: _Tiers = None,
    replace: _Replace = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup of the catalogue back, brought up to date with what the tiers were told since.

    \b
      wsistore catalog restore backups/catalog-20261122T023000000000Z.db --replace

    As rebuild, with the backup as one more source.
    """  # noqa: D301
    _rebuild(context, tiers, file, replace=replace, as_json=as_json)


@app.command("rebuild")
def rebuild(
    context: typer.Context, tiers: _Tiers = None, replace: _Replace = False, as_json: JsonOption = False
) -> None:
    """Make a lost catalogue anew from the tiers alone.

    \b
      wsistore catalog rebuild
      wsistore catalog rebuild --from hot --from cold

    Needs wsistore.toml, and the folder of keys where tiers are encrypted. Nothing else should work with the site
    meanwhile. Then run 'wsistore recover', and 'wsistore scrub' when there is time. Exit code 7: something is not as it
    should be; what could be read is in the new catalogue all the same.
    """  # noqa: D301
    _rebuild(context, tiers, None, replace=replace, as_json=as_json)


def _quiet(_what: str) -> None:
    pass


def _rebuild(
    context: typer.Context, tiers: list[str] | None, base: Path | None, *, replace: bool, as_json: bool
) -> None:
    with reported(as_json=as_json):
        folder = find_site(options(context).folder, os.environ)
        done = ops.rebuild_catalog(folder, tiers or (), base=base, replace=replace, tell=_quiet if as_json else tell)
        if as_json:
            print_json(asdict(done))
        else:
            _print_rebuilt(done)
        if done.problems or done.suspect or done.without_copies:
            raise typer.Exit(IntegrityError.exit_code)


def _print_rebuilt(done: ops.Rebuilding) -> None:
    say(
        f"{done.slides} slides, {done.copies} good copies in {', '.join(done.tiers)}, {done.holds} holds, "
        f"{done.events} events, in {done.seconds:.1f} s"
    )
    if done.set_aside:
        say(f"The catalogue that was there is {done.set_aside}.")
    _print_proofs(list(done.proofs))
    if done.from_companions:
        say(f"{done.from_companions} slides were in no ledger: what the site said of them has to be said again.")
    _print_some("no good copy in these tiers", done.without_copies)
    _print_some("incomplete", done.suspect)
    _print_some("problem", done.problems)


def _print_proofs(proofs: list[LedgerProof]) -> None:
    rows = [
        (
            proof.tier,
            str(proof.segments),
            {"known": "yes", "foreign": "by a key that is not here", "not": "no"}[str(proof.signed)],
            proof.head_at[:16],
            ("yes" if proof.head_agrees else "NO") if proof.head_at else "",
        )
        for proof in proofs
    ]
    print_table(("ledger of", "segments", "signed", "root of", "agrees"), rows, right=("segments",))


def _print_some(what: str, found: tuple[str, ...]) -> None:
    for one in found[:_SHOWN]:
        warn(f"{what}: {one}")
    if len(found) > _SHOWN:
        warn(f"{what}: {len(found) - _SHOWN} more; --json names all")


@app.command("check")
def check(
    context: typer.Context,
    tiers: Annotated[list[str] | None, typer.Argument(metavar="TIER", help="By default all tiers.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that no event was altered or taken away: compare the catalogue with the signed ledgers on the tiers.

    \b
      wsistore catalog check
      wsistore catalog check cold

    Exit code 7: they differ, or a ledger was altered. 6: a tier could not be read.
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            own = site.catalog.check_chains()
            found = list(ops.check_ledgers(site, tiers or ()))
        if as_json:
            for one in found:
                print_json(asdict(one))
        else:
            _print_proofs([one.proof for one in found if one.proof is not None])
            say(f"slides that tiers wait to hear of: {sum(one.waiting for one in found)}")
        problems = (*own, *(problem for one in found for problem in one.problems))
        _print_some("problem", problems)
        for one in found:
            if one.error is not None:
                warn(f"tier {one.tier}: {one.error.message}")
        if problems:
            raise typer.Exit(IntegrityError.exit_code)
        if any(one.error is not None for one in found):
            raise typer.Exit(StorageError.exit_code)
