"""Commands about the rules: check, test, explain, and those that ship."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, SlideArgument, opened, options, reported
from wsistore.cli.output import print_json, print_table, say, warn
from wsistore.errors import InputError, Kind, SiteError
from wsistore.settings import find_site, load

if TYPE_CHECKING:
    from wsistore.settings import Settings

_HELP = """Write down how long slides are kept and where, and see what that means before anything happens.

\b
  wsistore rules copy france-csp-r1112-7
  wsistore rules check
  wsistore rules test
  wsistore rules explain slide.svs --at 2040-01-01

The rules are the file rules.yaml in the site's folder; docs/rules.md tells how to write them. They do nothing by
themselves: wsistore plan makes a plan of them.
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

_FILE = "rules.yaml"

FileArgument = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="Rules; by default the site's rules.yaml.", **ANY_PATH)
]
RulesOption = Annotated[
    Path | None, typer.Option("--rules", metavar="FILE", help="Other rules than the site's.", **ANY_PATH)
]


@app.command("check")
def check(context: typer.Context, file: FileArgument = None, as_json: JsonOption = False) -> None:
    """Read the rules, compare them with the site's tiers, and say what is easily overlooked in them.

    \b
      wsistore rules check
      wsistore rules check draft.yaml

    Exit code 3: they are wrong; the message has line and column.
    """  # noqa: D301
    with reported(as_json=as_json):
        settings = _settings(context, needed=file is None)
        done = ops.check_rules(_path(settings, file), settings)
        rules = done.rules
        if as_json:
            print_json(
                {
                    "rules": rules.name,
                    "digest": rules.digest,
                    "retention": [rule.name for rule in rules.retention],
                    "placement": [rule.name for rule in rules.placement],
                    "remarks": list(done.remarks),
                }
            )
            return
        say(f"{rules.name} is in order: {len(rules.retention)} retention and {len(rules.placement)} placement rules.")
        for remark in done.remarks:
            warn(remark)


@app.command("test")
def try_rules(
    context: typer.Context,
    tests: Annotated[
        Path | None,
        typer.Argument(metavar="TESTS", help="Golden cases; by default rules.tests.yaml beside the rules.", **ANY_PATH),
    ] = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try the rules on golden cases: made-up slides, and what must be decided about them.

    \b
      wsistore rules test
      wsistore rules test cases.yaml --rules draft.yaml

    Exit code 3: a case does not come out as expected.
    """  # noqa: D301
    with reported(as_json=as_json):
        settings = _settings(context, needed=rules is None)
        done = ops.try_rules(_path(settings, rules), tests)
        for case in done.cases:
            if as_json:
                print_json({**asdict(case), "passed": not case.failures})
            for failure in () if as_json else case.failures:
                say(f"{done.tests}, line {case.line}: {case.name!r}: {failure}.")
        if not as_json:
            say(f"{len(done.cases) - done.failed} of {len(done.cases)} cases come out as expected.")
        if done.failed:
            raise typer.Exit(InputError.exit_code)


@app.command("explain")
def explain(
    context: typer.Context,
    slide: SlideArgument,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
            metavar="DATE",
            help="The rules' now, in UTC; by default the present.",
        ),
    ] = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say in sentences which rules match a slide, which win and why, what is done, and what comes next and when.

    \b
      wsistore rules explain slide.svs
      wsistore rules explain 4szq --at 2040-01-01
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        sentences = ops.explain_slide(site, slide, None if at is None else at.replace(tzinfo=UTC), rules)
        if as_json:
            print_json({"slide": site.catalog.resolve(slide), "sentences": sentences})
        else:
            for sentence in sentences:
                say(sentence)


@app.command("columns")
def columns(as_json: JsonOption = False) -> None:
    """List what conditions of rules may speak of.

    \b
      wsistore rules columns

    Beside these there is now: the moment for which the rules are asked, in UTC.
    """  # noqa: D301
    with reported(as_json=as_json):
        found = ops.rule_columns()
        if as_json:
            for column in found:
                print_json(asdict(column))
        else:
            print_table(("column", "type", "what it is"), [(one.name, one.type, one.meaning) for one in found])


@app.command("show")
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One of them, to print it; by default all are listed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the rule sets that come with wsistore, or print one.

    \b
      wsistore rules show
      wsistore rules show france-csp-r1112-7
    """  # noqa: D301
    with reported(as_json=as_json):
        if name is None:
            for one in ops.rule_sets().values():
                rules = one.rules()
                if as_json:
                    print_json({"name": one.name, "about": rules.about, "sources": list(rules.sources)})
                else:
                    say(f"{one.name}: {rules.about}")
            return
        rules = ops.rule_set(name).rules()
        if as_json:
            print_json({"name": name, "digest": rules.digest, "text": rules.text})
        else:
            for line in rules.text.splitlines():
                say(line)


@app.command("copy")
def copy(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of those that 'wsistore rules show' lists.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="A new file; by default the site's.", **ANY_PATH)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take a rule set that comes with wsistore, with its golden cases, to change it.

    \b
      wsistore rules copy france-csp-r1112-7
      wsistore rules copy slides-of-interest --to draft.yaml
    """  # noqa: D301
    with reported(as_json=as_json):
        rules, tests = ops.copy_rules(name, _path(_settings(context, needed=to is None), to))
        if as_json:
            print_json({"rules": str(rules), "tests": str(tests)})
        else:
            say(f"{rules} and its golden cases {tests.name}. Change the tiers' names, then: wsistore rules check")


def _settings(context: typer.Context, *, needed: bool) -> Settings | None:
    """Return the settings of the site; None where there is none and none is needed."""
    try:
        return load(find_site(options(context).folder, os.environ))
    except SiteError as error:
        if needed or error.kind is not Kind.SITE_MISSING or options(context).folder is not None:
            raise
        return None


def _path(settings: Settings | None, file: Path | None) -> Path:
    """Return the file that is meant: the one that is named, or the site's."""
    if file is not None:
        return file
    return Path(_FILE) if settings is None else settings.rules
