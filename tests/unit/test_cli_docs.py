"""docs/command-line.md says what the program does: commands, options, JSON fields, exit codes, kinds, both ways."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.site_kit import Json, cli, new_site, tiny_svs
from wsistore.catalog.columns import COLUMNS
from wsistore.cli import context
from wsistore.cli.main import app
from wsistore.errors import Kind, WsistoreError
from wsistore.events import EventKind

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
PROGRAM: Any = typer.main.get_command(app)


def commands_of(group: Any, prefix: str = "") -> dict[str, Any]:
    """Return commands by name; those of a group by the group's name and theirs."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found |= commands_of(command, f"{prefix}{name} ") if inner else {f"{prefix}{name}": command}
        if inner and command.invoke_without_command:
            found[f"{prefix}{name}"] = command  # a command by itself, too
    return found


COMMANDS = commands_of(PROGRAM)


def section(title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, f"no section {title!r}"
    return match[1]


def first_column(text: str) -> list[str]:
    """Return the code words of the first column of the tables in `text`."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def options_of(command: Any) -> set[str]:
    names = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    found = {name for name in names if name.startswith("-")}
    return found - {"-h", "--help"}


def all_kinds_of_errors(root: type[WsistoreError] = WsistoreError) -> set[type[WsistoreError]]:
    return {root}.union(*(all_kinds_of_errors(one) for one in root.__subclasses__()))


def test_every_command_has_a_section_and_no_other() -> None:
    titles = set(re.findall(r"^## (.*)$", TEXT, re.MULTILINE))
    general = {"Options before the command", "Exit codes", "Errors", "Naming a slide"}
    assert titles - general == set(COMMANDS)


def test_options_before_the_command() -> None:
    documented = {word.split()[0] for word in first_column(section("Options before the command"))}
    assert documented - {"-h", "--help"} == options_of(PROGRAM)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_options(name: str) -> None:
    text = section(name)
    real = options_of(COMMANDS[name])
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    elsewhere = {"--where", "--metadata"} if name in {"ingest", "ls"} else set()
    assert {option for option in real if option.startswith("--")} <= mentioned
    assert mentioned - elsewhere <= real
    tabled = {word for word in first_column(text) if word.startswith("-")}
    assert tabled == real or (name == "show" and real == {"--json"})
    assert f"wsistore {name}" in text


def test_exit_codes() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)}
    real = {error.exit_code for error in all_kinds_of_errors()}
    assert documented == real | {0, 2, context.SEVERAL_REASONS, context.INTERRUPTED}
    in_help = {int(code) for code in re.findall(r"(?:^|, )(\d+) ", str(PROGRAM.epilog).partition("Exit codes: ")[2])}
    assert in_help == documented - {context.INTERRUPTED}


def test_kinds() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", section("Errors"), re.MULTILINE)
    assert [kind for kind, _ in rows] == [str(kind) for kind in Kind]
    codes = {kind: int(code) for kind, code in rows}
    for error in all_kinds_of_errors():
        assert codes[str(error.default_kind)] == error.exit_code, error


def test_kinds_of_events() -> None:
    text = section("events").partition("Kinds are")[2].partition(";")[0]
    assert set(re.findall(r"`([a-z-]+)`", text)) == {str(kind) for kind in EventKind}


def test_columns_of_conditions() -> None:
    text = section("ls").partition("A condition is")[2].partition("Prints one object")[0]
    assert first_column(text) == [column.name for column in COLUMNS]
    for column in COLUMNS:
        assert re.search(rf"`{column.name}`[^|]*\| {re.escape(column.type)} \|", text), column


def listed(text: str) -> set[str]:
    """Return the field names of a sentence ``Prints one object…: `a` (…), `b`…``."""
    sentence = re.split(r"\.\s", re.sub(r"\([^)]*\)", "", text.partition(":")[2]))[0]
    return set(re.findall(r"`(\w+)`", sentence))


def test_fields_of_json(tmp_path: Path) -> None:
    site = tmp_path / "site"
    slide = tiny_svs(tmp_path / "a.svs")

    def one(*arguments: object) -> Json:
        return cli(site, *arguments, "--json").lines[0]

    made = cli(None, "init", site, "--json").lines[0]
    assert set(made) == listed(section("init").partition("Prints one object")[2])

    ingested = one("ingest", slide)
    assert list(ingested) == first_column(section("ingest").partition("Prints one object")[2])

    ls = section("ls").partition("Prints one object")[2]
    assert set(one("ls")) == set(first_column(ls))

    more, _, copies = section("show").partition("Each of `copies`")
    shown = one("show", "a.svs")
    assert set(shown) == set(first_column(ls)) | set(first_column(more))
    assert set(shown["copies"][0]) == set(first_column(copies))
    files = re.search(r"^\| `files` .*$", more, re.MULTILINE)
    assert files
    assert set(shown["files"][0]) == set(re.findall(r"`(\w+)`", files[0])) - {"files"}

    for arguments in (
        ("verify", "a.svs"),
        ("restore", "a.svs", "--to", tmp_path),
        ("export", "a.svs", "--to", site / "x.ozx"),
    ):
        text = section(str(arguments[0])).partition("Prints one object")[2]
        assert set(one(*arguments)) == listed(text), arguments
    commands: tuple[list[Any], ...] = (["ls"], ["add", "nas", tmp_path / "nas"], ["check", "hot", "--size", "1kB"])
    for command in commands:
        text = section(f"tier {command[0]}").partition("Prints one object")[2]
        assert set(one("tier", *command)) == listed(text), command
    checks = [line["check"] for line in cli(site, "tier", "check", "hot", "--size", "1kB", "--json").lines]
    tabled = section("tier check").partition("The checks are")[2].partition("Prints one object")[0]
    assert first_column(tabled) == checks
    events = section("events")
    assert set(one("events")) == listed(events.partition("Prints one object")[2])
    assert set(one("events", "--check")) == {"ok", "problems"}
    assert "`ok`" in events
    assert "`problems`" in events


def test_altered_trail_ends_as_documented(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    assert cli(site, "ingest", tiny_svs(tmp_path / "a.svs")).code == 0
    with sqlite3.connect(site / "catalog.db") as connection:
        connection.execute("UPDATE events SET actor = 'nobody'")
    connection.close()
    done = cli(site, "events", "--check", "--json")
    assert done.code == 7
    (line,) = done.lines
    assert line["ok"] is False
    assert line["problems"]
    done = cli(site, "events", "--check")
    assert done.code == 7
    assert "altered" in done.err
