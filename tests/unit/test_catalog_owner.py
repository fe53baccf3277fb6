"""Whether the process that holds an attempt still lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from wsistore.catalog import Owner, is_alive, owner
from wsistore.clock import iso

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
OVER = iso(NOW - timedelta(seconds=1))
RUNNING = iso(NOW + timedelta(seconds=1))
LEASES = [OVER, RUNNING]

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def test_owner_is_told_as_text_and_back() -> None:
    me = Owner.current()
    assert Owner.parse(str(me)) == me
    assert me.pid == os.getpid()
    assert str(me).count(":") == 3


@pytest.mark.parametrize("text", ["", "a:b:c:d", "h:b:1", "h:b:1:2:3", "h:b:-1:2", f"h:b:{'9' * 5000}:1"])
def test_text_that_names_no_owner(text: str) -> None:
    assert Owner.parse(text) is None
    assert is_alive(text, NOW, RUNNING)
    assert not is_alive(text, NOW, OVER)


@pytest.mark.parametrize("lease", LEASES)
def test_this_process_is_alive_whatever_its_lease(lease: str) -> None:
    assert is_alive(str(Owner.current()), NOW, lease)


def start() -> subprocess.Popen[str]:
    program = "from wsistore.catalog.owner import Owner; print(Owner.current(), flush=True); input()"
    return subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True)


@pytest.mark.parametrize("reaped", [True, False])
def test_killed_process_is_dead_at_once(reaped: bool) -> None:
    with start() as child:
        assert child.stdout is not None
        text = child.stdout.readline().strip()
        assert is_alive(text, NOW, OVER)
        child.send_signal(signal.SIGKILL)
        if reaped:
            child.wait()
        else:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie until the block is left
        assert not is_alive(text, NOW, RUNNING)


@pytest.mark.parametrize("lease", LEASES)
def test_process_id_that_is_used_again_is_another_process(lease: str) -> None:
    me = Owner.current()
    assert not is_alive(str(replace(me, start=me.start - 1)), NOW, lease)


@pytest.mark.parametrize("lease", LEASES)
def test_process_of_another_boot_is_dead(lease: str) -> None:
    assert not is_alive(str(replace(Owner.current(), boot="another-boot")), NOW, lease)


@pytest.mark.parametrize("change", [{"host": "elsewhere/1"}, {"boot": ""}, {"start": 0}])
def test_where_nothing_can_be_known_the_lease_decides(change: dict[str, Any]) -> None:
    other = str(replace(Owner.current(), **change))
    assert is_alive(other, NOW, RUNNING)
    assert not is_alive(other, NOW, OVER)
    assert not is_alive(other, NOW, iso(NOW))


def test_container_with_the_same_host_name_is_another_host() -> None:
    me = Owner.current()
    name, _, namespace = me.host.partition("/")
    assert namespace.isdecimal()
    other = str(replace(me, host=f"{name}/1", pid=2**22 + 1))
    assert is_alive(other, NOW, RUNNING)


def test_hidden_process_is_judged_by_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = str(Owner.current())
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to(Path("/proc/self/ns/pid").readlink())
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    monkeypatch.setattr(owner, "_PROC", tmp_path)
    assert is_alive(me, NOW, RUNNING)
    assert not is_alive(me, NOW, OVER)
