"""A process is killed at any statement of an ingest; several processes write at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import catalog_kit as kit
from wsistore.catalog import AttemptState, Catalog, SourceState, is_alive
from wsistore.testing.clock import ManualClock

REPOSITORY = Path(__file__).parents[2]

# One program forks a child per place to die, so that Python starts once only. It runs no threads.
KILLED = """
import json, os, signal, sys
from pathlib import Path
from sqlalchemy import event
from tests import catalog_kit as kit
from wsistore.catalog import Catalog, Owner

folder = Path(sys.argv[1])

def run(url, die_at):
    passed = 0
    def step(*_):
        nonlocal passed
        passed += 1
        if passed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    catalog = Catalog.open(url)
    event.listen(catalog._database._engine, "before_cursor_execute", step)
    event.listen(catalog._database._engine, "commit", step)
    event.listen(catalog._database._engine, "checkin", step)
    attempt = kit.begin(catalog, "slide1", owner=str(Owner.current()))
    kit.claim(catalog, attempt, "new", n=2, metadata={"case_id": "C", "patient_id": "PATIENT-0001"})
    (folder / f"{die_at}.commit").touch()
    catalog.commit(attempt.attempt, kit.INGESTED)

die_at = 0
while True:
    die_at += 1
    (folder / str(die_at)).mkdir()
    url = kit.new_url(folder / str(die_at))
    with Catalog.open(url) as catalog:
        kit.ingest(catalog, "slide1", "old")
    child = os.fork()
    if child == 0:
        run(url, die_at)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(die_at)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Give a folder with a catalogue per place to die, and the number of places."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return folder, int(done.stdout) - 1


def test_killed_ingest_is_in_one_of_the_legal_states_and_can_be_finished_or_undone(killed: tuple[Path, int]) -> None:
    folder, places = killed
    assert places > 20
    seen = set()
    for place in range(1, places + 1):
        url = f"sqlite:///{folder}/{place}/catalog.db"
        commit_object = (folder / f"{place}.commit").exists()
        with Catalog.open(url, clock=ManualClock(kit.NOW)) as catalog:
            seen.add(_check_and_recover(catalog, url, commit_object=commit_object))
    assert seen == {"nothing", AttemptState.WRITING, AttemptState.CLAIMED, AttemptState.COMMITTED}


def _check_and_recover(catalog: Catalog, url: str, *, commit_object: bool) -> str:
    assert kit.sql(url, "PRAGMA integrity_check") == [("ok",)]
    assert catalog.check_chains() == []
    open_attempts = catalog.open_attempts()
    (slide,) = catalog.slides()
    if not open_attempts:
        version = slide.version
        assert version == (2 if commit_object else 1)
        assert len(catalog.events("slide1")) == version
        assert catalog.find_current(kit.fingerprint_of("new" if version == 2 else "old")) == slide
        return AttemptState.COMMITTED if version == 2 else "nothing"
    (attempt,) = open_attempts
    assert not is_alive(attempt.owner, kit.NOW, attempt.lease_until)
    assert slide.version == 1
    assert len(catalog.events("slide1")) == 1
    if commit_object:
        assert attempt.state is AttemptState.CLAIMED
        catalog.commit(attempt.attempt, kit.INGESTED)
        assert catalog.slide("slide1").version == 2
        assert catalog.source("slide1", 1).state is SourceState.SUPERSEDED
    else:
        assert attempt.state in {AttemptState.WRITING, AttemptState.CLAIMED}
        catalog.abandon(attempt.attempt, "its owner died")
        catalog.forget_attempt(attempt.attempt)
        kit.ingest(catalog, "slide1", "new", n=2)
    assert catalog.check_chains() == []
    assert catalog.open_attempts() == []
    return attempt.state


WRITER = """
import sys
from tests import catalog_kit as kit
from wsistore.catalog import AlreadyClaimed, Catalog
from wsistore.events import EventKind
url, name = sys.argv[1:]
won = 0
with Catalog.open(url) as catalog:
    print("ready", flush=True)
    input()
    for number in range(40):
        catalog.append_event("shared", EventKind.RESTORED, name, {"number": number})
        attempt = kit.begin(catalog, f"{name}{number}")
        try:
            kit.claim(catalog, attempt, f"content{number}")
        except AlreadyClaimed as error:
            assert error.slide.endswith(str(number))
            catalog.abandon(attempt.attempt, "exists")
            catalog.forget_attempt(attempt.attempt)
        else:
            catalog.commit(attempt.attempt, kit.INGESTED)
            won += 1
print(won)
"""


def test_processes_that_write_at_once_fork_no_chain_and_keep_no_content_twice(tmp_path: Path) -> None:
    url = kit.new_url(tmp_path)
    with Catalog.open(url) as catalog:
        kit.ingest(catalog, "shared", "shared")
    names = ["a", "b", "c"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name], cwd=REPOSITORY, stdin=-1, stdout=-1, text=True)
        for name in names
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    won = [int(writer.communicate(timeout=240)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with Catalog.open(url, read_only=True) as catalog:
        assert sum(won) == 40
        assert len(catalog.slides()) == 41
        assert catalog.check_chains() == []
        events = catalog.events("shared")
        assert [event.number for event in events] == list(range(1, 122))
        for name in names:
            assert [event.detail["number"] for event in events if event.actor == name] == list(range(40))
        assert json.loads(catalog.source("shared").files[0].name.join('""')) == "shared.svs"
