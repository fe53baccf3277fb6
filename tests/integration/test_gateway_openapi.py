"""The gateway is what its OpenAPI document says, whatever is sent to it: asked by Schemathesis."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack_kit import Wire
from tests.gateway_world import World, world_of

pytestmark = pytest.mark.slow

EXAMPLES = 6
"""Per operation and phase: some thousand requests in all."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(tmp_path_factory.mktemp("gateway")) as made:
        yield made


def schemathesis(world: World, folder: Path, *options: str, parameters: dict[str, str]) -> subprocess.CompletedProcess:
    """Let it run; what it finds is its output."""
    lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in parameters.items()]
    config = folder / "schemathesis.toml"
    config.write_text("[parameters]\n" + "\n".join(lines) + "\n", "utf-8")
    url = "http://{}:{}/openapi.json".format(*world.address)
    usual = [
        "--seed=1",
        f"--max-examples={EXAMPLES}",
        "--phases=coverage,fuzzing",
        "--continue-on-failure",
        "--no-color",
    ]
    usual += ["--header", f"Authorization: Bearer {world.tokens['alice']}", "--no-shrink", "--request-timeout=120"]
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run", url, *usual, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=450)


def test_the_document_is_open_and_names_every_path(world: World) -> None:
    with Wire(world.address) as wire:
        reply = wire.ask("/openapi.json")
    assert reply.status == 200
    document = reply.json()
    assert document["openapi"].startswith("3.")
    base = "/projects/{}/slides/{}"
    wanted = {"/health", "/session", "/projects", "/projects/{}", "/projects/{}/slides", base, f"{base}/recall",
              f"{base}/presign", f"{base}/view", *(f"{base}{view}/{{}}" for view in (".zarr", ".jpeg.zarr",
              ".zstd.zarr"))}  # fmt: skip
    named = {"".join("{}" if part.startswith("{") else part for part in _parts(path)) for path in document["paths"]}
    assert wanted <= named
    for secret in (*world.keys.values(), *world.slides["lung"], "lung", str(world.site)):
        assert secret not in json.dumps(document)


def _parts(path: str) -> list[str]:
    parts, rest = [], path
    while rest:
        head, brace, tail = rest.partition("{")
        name, _, rest = tail.partition("}")
        parts += [head, "{" + name + "}"] if brace else [head]
    return parts


def _path_parameters(world: World) -> set[str]:
    with Wire(world.address) as wire:
        document = wire.ask("/openapi.json").json()
    operations = [one for item in document["paths"].values() for one in item.values()]
    return {one["name"] for operation in operations for one in operation["parameters"] if one["in"] == "path"}


def test_schemathesis_finds_nothing(world: World, tmp_path: Path) -> None:
    """Ask with names that mostly mean nothing: what is not allowed is refused, in the form that is documented."""
    ran = schemathesis(world, tmp_path, "--checks=all", "--mode=all", parameters={})
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-3000:]


def test_schemathesis_finds_nothing_in_a_project_of_ones_own(world: World, tmp_path: Path) -> None:
    """Ask with names that mean something. (Values that it breaks would be put right again by these.)"""
    slide = world.slides["lung"][0]
    values = {"project": "lung", "slide": slide, "key": "0/image/c/0/0/0", "level": "0", "y": "0", "x": "0"}
    assert {"project", "slide", "key"} <= _path_parameters(world)
    parameters = {f"path.{name}": values[name] for name in _path_parameters(world) if name in values}
    checks = ("--checks=all", "--exclude-checks=negative_data_rejection")
    ran = schemathesis(world, tmp_path, *checks, parameters=parameters)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-3000:]
    assert any(line["status"] == 200 and line["what"] == "zarr" for line in world.lines())
