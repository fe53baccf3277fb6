"""How the command line behaves: help, JSON and nothing else, pipes, signals, terminals, odd text."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.site_kit import cli, command, new_site, run, tiny_series, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog.columns import COLUMNS
from wsistore.cli import output
from wsistore.cli.main import app
from wsistore.errors import InputError
from wsistore.testing import mutate

COMMANDS = (
    *(
        "init",
        "ingest",
        "intake",
        "flows",
        "invoice",
        "ls",
        "show",
        "tier",
        "keys",
        "reencode",
        "copy",
        "move",
        "drop",
        "hold",
        "recall",
        "report",
        "forecast",
        "approve",
        "approver",
        "visa",
        "apply",
        "receipt",
        "rules",
        "serve",
    ),
    *("recover", "scrub", "verify", "restore", "export", "tune", "catalog", "events", "metadata", "collection", "tag"),
    "plan",
    "project",
    "token",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a site with three slides."""
    folder = tmp_path_factory.mktemp("site")
    new_site(folder / "site")
    slides = [tiny_svs(folder / "in" / "a.svs"), tiny_tiff(folder / "in" / "b.tiff"), tiny_series(folder / "in" / "c")]
    assert cli(folder / "site", "ingest", *slides).code == 0
    return folder / "site"


# --- help -------------------------------------------------------------------------------------------------------------


def test_commands_are_those_of_the_specification() -> None:
    assert sorted(command.name or "" for command in typer.main.get_command(app).commands.values()) == sorted(COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str) -> None:
    done = cli(None, name, "--help")
    assert done.code == 0
    text = done.out.partition("Options")[0]
    assert len(text.split()) > 15
    assert re.search(rf"^ +wsistore {name}", done.out, re.MULTILINE), "no example"
    assert all(line.strip() for line in re.findall(r"^ +--?[a-z].*$", done.out, re.MULTILINE))
    assert done.out == cli(None, name, "-h").out


def test_help_of_all_names_commands_and_exit_codes() -> None:
    done = cli(None, "--help")
    for name in COMMANDS:
        assert re.search(rf"^ *│? *{name} ", done.out, re.MULTILINE), name
    assert "Exit codes" in done.out
    assert "ingest" in cli(None).err
    assert cli(None, "--version").out.startswith("wsistore 0.")


def test_help_of_ls_names_every_column() -> None:
    text = cli(None, "ls", "--help").out
    for column in COLUMNS:
        assert re.search(rf"\b{column.name}\b", text), column.name


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ls", "--nonsense"],
        ["ingest"],
        ["ingest", "x", "--jobs", "0"],
        ["ingest", "x", "--jobs", "many"],
        ["verify"],
        ["verify", "x", "--all"],
        ["restore", "x"],
        ["export", "x"],
        ["export", "x", "--to", "y.ozx", "--codec", "avif"],
        ["events", "x", "--check"],
        ["init"],
    ],
)
def test_wrong_usage(site: Path, arguments: list[str]) -> None:
    done = cli(site, *arguments)
    assert done.code == 2
    assert done.out == ""
    assert "wsistore" in done.err


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["ls", "--where", "width > 1"],
        ["ls", "--where", "drop table"],
        ["show", "a.svs"],
        ["show", "nothing"],
        ["verify", "--all"],
        ["verify", "nothing"],
        ["events"],
        ["events", "a.svs"],
        ["events", "--check"],
        ["restore", "nothing", "--to", "x"],
        ["export", "nothing", "--to", "x.ozx"],
        ["export", "a.svs", "--to", "x.jpg"],
        ["ingest", "no/such/path"],
        ["ingest", "x", "--tier", "none"],
    ],
    ids=" ".join,
)
def test_json_prints_nothing_but_objects(site: Path, arguments: list[str]) -> None:
    done = cli(site, *arguments, "--json")
    assert done.lines
    assert all(isinstance(line, dict) for line in done.lines)
    assert done.err == ""
    failed = done.code != 0
    assert failed == any(line.get("error") for line in done.lines)
    for line in done.lines:
        if line.get("error"):
            assert set(line["error"]) == {"kind", "message"}


def test_json_is_utf_8_whatever_the_locale(site: Path, tmp_path: Path) -> None:
    slide = tiny_svs(tmp_path / "été µ 切.svs", seed=77)
    for encoding in ("utf-8", "latin-1", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command(site, "ingest", slide, "--json"), env=environment, capture_output=True)
        assert json.loads(done.stdout)["source"] == str(slide)
        assert done.returncode == 0
        plain = subprocess.run(command(site, "ls"), env=environment, capture_output=True)
        assert plain.returncode == 0, plain.stderr


def test_errors_for_people_are_on_stderr(site: Path) -> None:
    done = cli(site, "show", "nothing")
    assert done.out == ""
    assert done.err.startswith("error: There is no slide 'nothing'")
    assert "wsistore ls" in done.err


def test_unexpected_exception_is_no_traceback(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("wsistore.ops.describe.list_slides", fail)
    done = cli(site, "ls", "--json")
    assert done.code == 1
    assert done.error["kind"] == "internal"
    assert "oops" in done.error["message"]


# --- text -------------------------------------------------------------------------------------------------------------


def test_nothing_in_names_is_markup_or_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "[red]a[/] [/b] :smile: \x1b[31m\r\n\\[x] \udcff"
    output.print_table(("[col]", "b"), [(nasty, "x")])
    output.warn(nasty)
    output.say(nasty)
    captured = capsys.readouterr()
    shown = "[red]a[/] [/b] :smile: \\x1b[31m\\x0d\\x0a\\[x] \\udcff"
    assert shown in captured.out
    assert shown in captured.err
    assert "[col]" in captured.out
    assert captured.out.count("\n") == 3


def test_errors_of_several_lines_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error(InputError("a.csv, line 2: \x1b.\na.csv, line 3: wrong.", remedy="Mend it."), as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "error: a.csv, line 2: \\x1b.",
        "       a.csv, line 3: wrong.",
        "       Mend it.",
    ]


def test_pipes_get_whole_lines(site: Path, tmp_path: Path) -> None:
    name = "x" * 200 + ".svs"
    assert cli(site, "ingest", tiny_svs(tmp_path / name, seed=78)).code == 0
    done = cli(site, "ls")
    (line,) = [line for line in done.out.splitlines() if name in line]
    assert "aperio-svs" in line
    error = cli(site, "show", "y" * 300)
    assert "y" * 300 in error.err


# --- pipes and signals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["ls", "--json"], ["ls"], ["events"], ["verify", "--all", "--json"]], ids=" ".join
)
def test_broken_pipe_is_quiet(site: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(command(site, *arguments), stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        _, err = process.communicate(timeout=240)
    assert err == b""
    assert process.returncode == 0


def test_head_of_a_long_ingest(site: Path, tmp_path: Path) -> None:
    for number in range(12):
        tiny_tiff(tmp_path / "in" / f"{number}.tiff", seed=500 + number)
    with subprocess.Popen(
        command(site, "ingest", tmp_path / "in", "--json", "--jobs", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["status"] == "ingested"
        process.stdout.close()
        assert process.stderr.read() == b""
    with ops.open_site(site) as opened:
        assert opened.catalog.open_attempts() == []


def test_interrupt_in_process(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsistore.ops.describe.list_slides", interrupt)
    result = CliRunner().invoke(app, ["-C", str(site), "ls"])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


# --- terminals --------------------------------------------------------------------------------------------------------


def on_a_terminal(arguments: list[str], columns: int = 100) -> tuple[int, str, str]:
    """Run a command with stderr on a terminal, and stdout too unless it is for a program; return what each got."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "24", "TERM": "xterm", "NO_COLOR": ""}
    is_json = "--json" in arguments
    process = subprocess.Popen(
        arguments, stderr=slave, stdin=slave, stdout=subprocess.PIPE if is_json else slave, env=environment
    )
    os.close(slave)
    seen: list[bytes] = []

    def watch() -> None:
        while True:
            try:
                seen.append(os.read(master, 65536))
            except OSError:  # the last process has closed the terminal
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate(timeout=240)
    watcher.join()
    os.close(master)
    return process.returncode, (out or b"").decode(), b"".join(seen).decode()


def test_bar_on_a_terminal_only(site: Path, tmp_path: Path) -> None:
    slides = [tiny_svs(tmp_path / f"{n}.svs", seed=600 + n) for n in range(4)]
    code, _, shown = on_a_terminal(command(site, "ingest", slides[0], slides[1]))
    assert code == 0
    assert "━" in shown
    assert "2/2 slides" in shown
    assert "\x1b[" in shown
    code, out, shown = on_a_terminal(command(site, "ingest", slides[2], "--json"))
    assert code == 0
    assert shown == ""
    assert json.loads(out)["status"] == "ingested"
    done = run(site, "ingest", slides[3])
    assert done.err == ""
    assert "━" not in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize("columns", [20, 80, 300])
def test_any_width(site: Path, columns: int) -> None:
    for arguments in (["ls"], ["show", "a.svs"], ["verify", "--all"]):
        code, _, shown = on_a_terminal(command(site, *arguments), columns)
        assert code == 0
        assert "Traceback" not in shown
        # Nothing is cut off, however narrow: the first letters of the name are there.
        assert "a" in shown
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        if arguments == ["ls"]:
            assert all(len(line.rstrip("\r\n")) <= columns for line in plain.splitlines())


def test_ctrl_c_on_a_terminal(site: Path) -> None:
    script = "import os, signal; from wsistore import ops\n"
    script += "def stop(*a, **k): os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)\n"
    script += "import wsistore.ops.describe as d; d.list_slides = stop\n"
    script += "from wsistore.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "-C", str(site), "ls"], capture_output=True, text=True)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_verbose_says_more_and_only_on_stderr(site: Path, tmp_path: Path) -> None:
    bad = mutate.zero_length(tmp_path / "bad.svs")
    done = run(site, "ingest", bad, "--json")
    assert done.err == ""
    with_more = subprocess.run([*command(site, "-v"), "ingest", str(bad), "--json"], capture_output=True, text=True)
    assert json.loads(with_more.stdout)["status"] == "failed"
