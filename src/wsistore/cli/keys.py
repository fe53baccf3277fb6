"""Commands about keys: keys init, show, sheet, recover, check, rotate, seal, destroy."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, exit_code, opened, options, reported
from wsistore.cli.moves import SlidesArgument
from wsistore.cli.output import print_json, print_table, say, short, tell, warn
from wsistore.clock import SystemClock
from wsistore.errors import InputError, Kind, MissingError, SiteError, StorageError
from wsistore.settings import Settings, find_site, load

if TYPE_CHECKING:
    from wsistore.ops import ShownKeys

_HELP = """Make, show, check, rotate and bring back the keys that encrypt what identifies patients.

They encrypt the companions of slides in tiers with encrypt_companions = true. Losing them is losing those slides'
files: print the recovery sheets at once.

\b
  wsistore keys init
  wsistore keys sheet --to sheets
  wsistore keys check
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

_MOST_SHEET_BYTES = 1 << 16


@app.command("init")
def init(context: typer.Context, as_json: JsonOption = False) -> None:
    """Make the keys that the site does not have yet, in the folder that 'keys' in wsistore.toml names.

    \b
      wsistore keys init

    Keys that are there stay as they are.
    """  # noqa: D301
    with reported(as_json=as_json):
        shown = ops.init_keys(_settings(context), SystemClock())
        _print(shown, as_json)
        if not shown.sheets_fit:
            warn("Whoever loses these keys loses the slides' files. Now make the recovery sheets:")
            tell("         wsistore keys sheet --to DIR")


@app.command("show")
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show which keys there are, without any secret.

    \b
      wsistore keys show
    """  # noqa: D301
    with reported(as_json=as_json):
        _print(ops.show_keys(_settings(context)), as_json)


@app.command("sheet")
def sheet(
    context: typer.Context,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the files are written.", **ANY_PATH)],
    as_json: JsonOption = False,
) -> None:
    """Write two recovery sheets, each for another custodian; both together bring the keys back.

    \b
      wsistore keys sheet --to /media/stick

    Print them, delete the files, and keep the sheets in different buildings. One alone tells nothing.
    """  # noqa: D301
    with reported(as_json=as_json):
        paths = ops.write_sheets(_settings(context), to, SystemClock())
        if as_json:
            print_json({"files": [str(path) for path in paths]})
            return
        for path in paths:
            say(str(path))
        warn("Print them, give each to another custodian, and delete these files. Older sheets hold older keys only.")


@app.command("recover")
def recover(
    context: typer.Context,
    sheets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SHEET1 SHEET2", help="Files with the sheets' texts; else they are typed.", **ANY_PATH),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the keys back from two recovery sheets, from files or typed.

    \b
      wsistore keys recover sheet-1.txt sheet-2.txt
      wsistore keys recover

    A line that was mistyped is named. Keys that are there stay as they are.
    """  # noqa: D301
    with reported(as_json=as_json):
        if sheets and len(sheets) != 2:
            msg = f"{len(sheets)} sheets were named; it takes two."
            raise InputError(msg, kind=Kind.SHEET_INVALID, remedy="Name both files, or none to type them.")
        texts = [_read(path) for path in sheets] if sheets else [_typed("first"), _typed("second")]
        _print(ops.recover_keys(_settings(context), texts, SystemClock()), as_json)


@app.command("check")
def check(context: typer.Context, as_json: JsonOption = False) -> None:
    """Prove that every encrypted companion has a data key that the site's keys open.

    \b
      wsistore keys check

    Looks at the folder of keys, the recovery sheets, and every data key on every tier. Fails loudly where one is lost.
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            findings = list(ops.check_keys(site))
        if as_json:
            for finding in findings:
                print_json(asdict(finding))
        else:
            rows = [(f.check, f.tier, str(f.result), f.figure, f.remedy) for f in findings]
            print_table(("check", "tier", "result", "seen", "to do"), rows)
        failed = [finding for finding in findings if finding.result == "failed"]
        if failed:
            if not as_json:
                warn(f"{len(failed)} checks failed: slides' files may be lost. See docs/keys.md, 'When a key is lost'.")
            raise typer.Exit(SiteError.exit_code)


@app.command("rotate")
def rotate(
    context: typer.Context,
    forget_old: Annotated[
        bool, typer.Option("--forget-old", help="Make no new version; remove old ones that nothing needs.")
    ] = False,
    signing: Annotated[bool, typer.Option("--signing", help="Replace the signing key as well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new version of the site key, and wrap all data keys by it; companions stay as they are.

    \b
      wsistore keys rotate
      wsistore keys sheet --to DIR
      wsistore keys rotate --forget-old

    Run again after an interruption it goes on. Old versions are kept until --forget-old.
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            done = ops.rotate_keys(site, signing_too=signing, forget_old=forget_old)
        if as_json:
            print_json(asdict(done))
        else:
            say(f"Version {done.version} is current; {done.rewrapped} data keys were wrapped by it.")
            if done.forgotten:
                say(f"Forgotten: version {', '.join(map(str, done.forgotten))}.")
            elif not done.failures and not forget_old:
                warn("The recovery sheets do not hold the new version yet: wsistore keys sheet --to DIR")
        for failure in done.failures:
            if not as_json:
                warn(f"{failure.tier}: {failure.message} Run it again when that is mended.")
        code = exit_code({StorageError.exit_code for _ in done.failures})
        if code:
            raise typer.Exit(code)


@app.command("seal")
def seal(context: typer.Context, as_json: JsonOption = False) -> None:
    """Encrypt the identities of patients that the catalogue and the tiers' ledgers hold in the clear.

    \b
      wsistore keys seal

    Needs encrypt_identities = true in wsistore.toml. Run it once after setting that; it may be run again at any time.
    Nothing else should work with the site meanwhile.
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            done = ops.seal_identities(site)
        if as_json:
            print_json(asdict(done))
        else:
            say(f"{done.rows} rows of the catalogue were sealed.")
            if done.ledgers:
                say(f"Ledgers that began anew: {', '.join(done.ledgers)}.")
            if done.copies:
                warn(f"Older files may hold identities in the clear; delete them: {', '.join(done.copies)}")
            for tier, failure in done.failures:
                warn(f"{tier}: {failure.message} Run it again when that is mended.")
        if done.failures:
            raise typer.Exit(StorageError.exit_code)


@app.command("destroy")
def destroy(
    context: typer.Context,
    slides: SlidesArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Really: there is no way back.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase slides' companions by destroying their keys, in all copies at once. There is no way back.

    \b
      wsistore keys destroy SLIDE --yes

    Pixels can be read as before; the vendor's files, label and metadata never again. Refused while a slide is held.
    """  # noqa: D301
    with reported(as_json=as_json):
        if not yes:
            msg = f"This would destroy the keys of {len(slides)} slides for good; nothing was done."
            raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Say --yes if that is meant.")
        with opened(context, writing=True) as site:
            done = ops.destroy_keys(site, slides)
        for erased in done:
            if as_json:
                print_json(asdict(erased))
            else:
                say(f"{erased.name} ({erased.slide}): {erased.destroyed} keys destroyed in {', '.join(erased.tiers)}")


def _settings(context: typer.Context) -> Settings:
    # Not the whole site: keys come back also where the catalogue is lost.
    return load(find_site(options(context).folder, os.environ))


def _print(shown: ShownKeys, as_json: bool) -> None:
    if as_json:
        found: dict[str, Any] = asdict(shown)
        print_json({**found, "folder": str(shown.folder)})
        return
    say(f"folder   {shown.folder}")
    say(f"site     {shown.site or 'none'}")
    say(f"signing  {shown.signing or 'none'}")
    say(f"sheets   {short(shown.sheets_made) or 'none'}{'' if shown.sheets_fit else ' (do not hold all keys)'}")
    rows = [(str(one.version), one.name, short(one.made), "yes" if one.current else "") for one in shown.versions]
    if rows:
        print_table(("version", "name", "made", "current"), rows)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_SHEET_BYTES).decode("utf-8", "replace")
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror or error})."
        raise MissingError(msg, remedy="Check the path.") from error


def _typed(which: str) -> str:
    tell(
        f"Type the {which} sheet: the lines Site, Pair and Sheet, then those with numbers. End with a line of one dot."
    )
    lines: list[str] = []
    for line in sys.stdin:
        if line.strip() == "." or sum(map(len, lines)) > _MOST_SHEET_BYTES:
            break
        lines.append(line)
    return "".join(lines)
