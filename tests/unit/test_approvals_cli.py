"""The commands approve, approver, visa and plan export, as several people use them, each under their own account."""

from __future__ import annotations

import os
import re
import shutil
from datetime import timedelta
from pathlib import Path

import openpyxl
import pyarrow as pa
import pytest

from tests.site_kit import Ran, as_nobody, cli, ingest, new_site, tiny_tiff
from tests.unit.test_cli_docs import section
from wsistore import ops
from wsistore.clock import SystemClock
from wsistore.keys.people import Account
from wsistore.ops import facts

RULES = """\
version: 1
retention:
  - {name: old, keep_until: "DATE '2020-01-01'"}
limits: {move_at_most: 100 %, delete_at_most: 100 %}
"""
SETTINGS = """
[approvals]
visas = ["director", "archives"]
"""
PASSPHRASE = "a passphrase of tests"
WORDS = {"nonce", "key", "token"}
"""Words of the documentation that are no fields."""
TODAY = f"{SystemClock().now():%Y-%m-%d}"


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody be asked."""
    monkeypatch.setenv("WSISTORE_PASSPHRASE", PASSPHRASE)


def fed(*arguments: object, **options: object) -> pa.Table:
    """Return facts as if the hospital's feed were of just now: slides may be deleted."""
    table = facts.facts_table(*arguments, **options)  # type: ignore[arg-type]
    now = SystemClock().now().replace(tzinfo=None) - timedelta(hours=1)
    column = pa.array([now] * table.num_rows, pa.timestamp("us"))
    place = table.schema.get_field_index("feed_as_of")
    return table.set_column(place, table.schema.field(place), column)


class Crew:
    """A site, and people who work on it under accounts of their own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.site, self._patch = folder, folder / "site", patch
        self.plan = folder / "plan.parquet"
        self.accounts = {name: Account(5000 + n, name) for n, name in enumerate(["head", "path", "dim", "clerk"])}

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def run(self, name: str, *arguments: object) -> Ran:
        """Run a command as somebody."""
        self._patch.setattr(Account, "current", classmethod(lambda _: self.accounts[name]))
        return cli(self.site, *arguments, "--key", self.key(name))

    def good(self, name: str, *arguments: object) -> Ran:
        done = self.run(name, *arguments)
        assert done.code == 0, done
        return done


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a site of three slides that the rules let go, a roster, keys and a plan."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSISTORE_PASSPHRASE", PASSPHRASE)
        made = Crew(folder, patch)
        new_site(made.site)
        with (made.site / "wsistore.toml").open("a", encoding="utf-8") as file:
            file.write(SETTINGS)
        (made.site / "rules.yaml").write_text(RULES, "utf-8")
        with ops.open_site(made.site) as site:
            ingest(site, *[tiny_tiff(folder / f"{name}.tiff", seed) for seed, name in enumerate("abc", start=1)])
        for name in made.accounts:
            (folder / f"{name}.txt").write_text(made.good(name, "approver", "key").out, "utf-8")
        made.good("head", "approver", "add", "Head", "--role", "administrator")
        for name, role in (("path", "approver"), ("dim", "dim-physician"), ("clerk", "clerk")):
            made.good("head", "approver", "add", name, "--role", role, "--introduction", folder / f"{name}.txt")
        patch.setattr("wsistore.ops.planning.facts_table", fed)
        assert cli(made.site, "plan", "-o", made.plan).code == 0
    return folder


@pytest.fixture
def crew(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Return a copy of it."""
    shutil.copytree(template, tmp_path / "copy")
    return Crew(tmp_path / "copy", monkeypatch)


def fields(name: str) -> set[str]:
    """Return the fields that the documentation names for a command's JSON."""
    text = section(name).partition("Prints one object")[2]
    return set(re.findall(r"`(\w+)`", text.partition(". ")[0] + text.partition("`add` or")[0]))


def test_a_deletion_from_plan_to_approval(crew: Crew, tmp_path: Path) -> None:
    plan = crew.plan
    listed = cli(crew.site, "plan", "export", plan, "--bordereau", "--to", tmp_path / "b.xlsx", "--json").lines
    assert (listed[0]["slides"], set(listed[0])) == (3, {"path", "slides", "bytes", "groups"})
    slides = [row[1] for row in openpyxl.load_workbook(tmp_path / "b.xlsx")["Lames"].iter_rows(2, 4, values_only=True)]
    assert len(set(slides)) == 3

    refused = crew.run("clerk", "approve", plan, "--json")
    assert (refused.code, refused.error["kind"]) == (3, "not-allowed")
    first = crew.good("path", "approve", plan)
    assert re.search(r"delete +3 slides", first.err)
    assert "It lacks an approval of its deletions as dim-physician; the visa of director" in first.out
    crew.good("dim", "approve", plan, "--role", "dim-physician")
    crew.good("clerk", "visa", "add", plan, "--role", "director", "--reference", "DG/1", "--date", TODAY)
    (tmp_path / "kept.txt").write_text("b.tiff\n\n", "utf-8")
    said = ("--role", "archives", "--reference", "AD/1", "--date", TODAY, "--keep-list", tmp_path / "kept.txt")
    (kept,) = crew.good("clerk", "visa", "add", plan, *said, "--json").lines
    assert set(kept) == fields("visa add")
    assert kept["kept"][0] in slides

    status = cli(crew.site, "approve", plan, "--status", "--json").lines[0]
    assert status["missing"] == []
    assert set(status) | {"approved", "person", "name", "role", "scope", "at", "by"} >= fields("approve") - WORDS
    assert {one["role"] for one in status["approvals"]} == {"approver", "dim-physician"}
    assert "Nothing is missing" in cli(crew.site, "approve", plan, "--status").out
    assert [one["role"] for one in cli(crew.site, "visa", "ls", plan, "--json").lines] == ["archives", "director"]
    assert "AD/1" in cli(crew.site, "visa", "ls", plan).out
    again = crew.good("dim", "approve", plan, "--role", "dim-physician", "--scope", "deletions")
    assert "takes the place of what dim said" in " ".join(again.err.split())
    assert "(all)" in again.err
    more = ("--reference", "DG/2", "--date", TODAY)
    again = crew.good("clerk", "visa", "add", plan, "--role", "director", *more)
    assert "takes the place of DG/1" in " ".join(again.err.split())
    with ops.open_site(crew.site) as site:
        found = ops.check_approved(site, ops.read_plan(plan))
        assert found.left_out == set(kept["kept"])

    # A plan that is altered in one byte is no plan any more.
    body = bytearray(plan.read_bytes())
    body[len(body) // 2] ^= 1
    plan.write_bytes(body)
    assert crew.run("path", "approve", plan).code in {3, 4}
    assert cli(crew.site, "approve", plan, "--status").code in {3, 4}


def test_the_roster(crew: Crew) -> None:
    rows = cli(crew.site, "approver", "ls", "--json").lines
    assert [row["name"] for row in rows] == ["Head", "path", "dim", "clerk"]
    assert set(rows[0]) == fields("approver add")
    shown = cli(crew.site, "approver", "ls").out
    assert re.search(r"^roster +[0-9a-f]{64}$", shown, re.MULTILINE)
    again = crew.run("head", "approver", "add", "path2", "--role", "x", "--introduction", crew.folder / "path.txt")
    assert again.code == 3
    assert "shares" in again.err
    assert crew.run("head", "approver", "add", "nobody", "--role", "x").code == 3
    assert crew.run("path", "approver", "revoke", "dim").code == 3
    crew.good("head", "approver", "revoke", "dim", "--reason", "has left")
    log = cli(crew.site, "approver", "ls", "--log", "--json").lines
    assert (len(log), log[-1]["do"], log[-1]["by"], log[-1]["reason"]) == (5, "revoke", "Head", "has left")
    assert "has left" in cli(crew.site, "approver", "ls", "--log").out
    assert crew.run("dim", "approve", crew.plan, "--role", "dim-physician").code == 3


def test_passphrases(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = crew.plan
    monkeypatch.setenv("WSISTORE_PASSPHRASE", "another passphrase")
    wrong = crew.run("path", "approve", plan, "--json")
    assert (wrong.code, wrong.error["kind"]) == (3, "passphrase-wrong")
    for given, code in ((PASSPHRASE, 0), ("another", 3)):
        reading, writing = os.pipe()
        os.write(writing, f"{given}\n".encode())
        os.close(writing)
        assert crew.run("path", "approve", plan, "--passphrase-fd", reading).code == code
        os.close(reading)
    monkeypatch.delenv("WSISTORE_PASSPHRASE")
    nobody = crew.run("path", "approve", plan)
    assert nobody.code == 3
    assert "nobody to ask" in nobody.err
    assert crew.run("path", "approve", plan, "--passphrase-fd", 987).code == 3
    short = cli(None, "approver", "key", "--key", crew.folder / "new.key", "--passphrase-fd", 987)
    assert short.code == 3


def test_nobody_is_asked_for_a_passphrase_for_a_plan_that_cannot_be_approved(crew: Crew, tmp_path: Path) -> None:
    ahead = tmp_path / "ahead.parquet"
    assert cli(crew.site, "plan", "--at", "2090-01-01", "-o", ahead).code == 0
    done = cli(crew.site, "approve", ahead, "--key", tmp_path / "none.key")
    assert done.code == 5
    assert "looks ahead" in done.err


def test_a_dry_run_says_what_is_missing(crew: Crew) -> None:
    done = cli(crew.site, "apply", crew.plan, "--dry-run")
    assert "Before it can be applied it lacks an approval of its deletions as approver" in done.err
    assert "the visa of director" in done.err


def test_anothers_key_is_refused(crew: Crew) -> None:
    crew.accounts["thief"] = Account(6000, "thief")
    (crew.folder / "thief.key").write_bytes((crew.folder / "path.key").read_bytes())
    (crew.folder / "thief.key").chmod(0o600)
    done = crew.run("thief", "approve", crew.plan)
    assert done.code == 3
    assert "is the key of path" in done.err


def test_wrong_usage(crew: Crew) -> None:
    for arguments, code in (
        (("--scope", "everything"), 2),
        (("--nonce",), 3),
        (("--token", "none.jwt", "--as", "path"), 4),
        (("--token", "none.jwt"), 3),
    ):
        done = crew.run("path", "approve", crew.plan, *arguments)
        assert (done.code, done.out) == (code, ""), arguments
    assert cli(crew.site, "plan", "export", crew.plan).code == 2
    assert cli(crew.site, "visa", "add", crew.plan, "--role", "x").code == 2
    said = ("--role", "director", "--reference", "x", "--date", TODAY, "--scope", "x")
    assert crew.run("clerk", "visa", "add", crew.plan, *said).code == 2


def test_two_accounts_of_this_machine(tmp_path: Path) -> None:
    """The site is the administrator's; somebody else makes a key and approves under their own account, for real."""
    site = new_site(tmp_path / "site")
    with (site / "wsistore.toml").open("a", encoding="utf-8") as file:
        file.write('[approvals]\nfree_moves = "0 B"\n')
    (site / "rules.yaml").write_text(
        "version: 1\nplacement:\n  - {name: cold, tier: cold}\nlimits: {move_at_most: 100 %, delete_at_most: 0 %}\n"
    )
    with ops.open_site(site) as opened:
        ingest(opened, tiny_tiff(tmp_path / "a.tiff"))
    plan = tmp_path / "plan.parquet"
    assert cli(site, "plan", "-o", plan).code == 0
    mine, home = tmp_path / "mine.key", tmp_path / "home"
    home.mkdir()
    assert cli(None, "approver", "key", "--key", mine).code == 0
    assert cli(site, "approver", "add", "me", "--role", "administrator", "--role", "approver", "--key", mine).code == 0
    own = cli(site, "approve", plan, "--key", mine)
    assert own.code == 3
    assert "made the plan" in own.err
    # A group that both are in would do; the folder of keys stays closed.
    for path in (site, *site.glob("catalog.db*"), tmp_path):
        path.chmod(0o777)
    cli(None, "--help")
    with as_nobody(home):
        line = cli(None, "approver", "key", "--key", home / "own.key").out
        assert line.split()[1] == str(os.geteuid())
        (home / "line.txt").write_text(line)
        stranger = cli(site, "approve", plan, "--key", home / "own.key")
        assert "not on the roster" in stranger.err
    said = ("--role", "approver", "--introduction", home / "line.txt", "--key", mine)
    added = cli(site, "approver", "add", "other", *said)
    assert added.code == 0, added
    for path in site.glob("catalog.db*"):
        path.chmod(0o777)
    with as_nobody(home):
        done = cli(site, "approve", plan, "--key", home / "own.key")
        assert done.code == 0, done
    with ops.open_site(site) as opened:
        assert [one.name for one in ops.check_approved(opened, ops.read_plan(plan)).approvals] == ["other"]
