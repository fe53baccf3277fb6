"""The lock files fit the project, each other, and any machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIME = REPOSITORY / "requirements" / "runtime.lock"
DEV = REPOSITORY / "requirements" / "dev.lock"


def pins(lock: Path, python: str) -> dict[str, str]:
    """Return name to version of what `lock` installs on Linux with this Python."""
    environment: dict[str, str] = {
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
    }
    found: dict[str, str] = {}
    for line in re.findall(r"^[A-Za-z0-9].*", lock.read_text("utf-8"), re.MULTILINE):
        requirement = Requirement(line.rstrip(" \\"))
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is locked twice"
            found[name] = str(requirement.specifier).removeprefix("==")
    return found


def declared() -> list[Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    return [found for line in lines if (found := Requirement(line)).name != project["name"]]


def wanted_for_development() -> list[Requirement]:
    lines = (REPOSITORY / "requirements" / "dev.in").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_the_project_declares_is_locked(python: str) -> None:
    runtime, dev = pins(RUNTIME, python), pins(DEV, python)

    for requirement in declared():
        version = runtime.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not locked: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: make lock"
    for requirement in wanted_for_development():
        version = dev.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not locked: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: make lock"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_development_runs_on_what_is_released(python: str) -> None:
    assert pins(RUNTIME, python).items() <= pins(DEV, python).items()


@pytest.mark.parametrize("lock", [RUNTIME, DEV], ids=lambda path: path.name)
def test_every_locked_package_has_a_hash_and_no_address(lock: Path) -> None:
    text = lock.read_text("utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]

    assert len(entries) > 10
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"^--(index-url|extra-index-url|find-links)", text, re.MULTILINE)
