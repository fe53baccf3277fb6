"""The how-to for researchers, as they would do it: real slides in a bucket, `wsistore serve`, the notebook of docs/.

Once in a kernel, and once as a program that sees what ``wsistore[client]`` installs, and nothing else.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import select
import subprocess
import sys
import textwrap
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import wsistore
from tests.s3_kit import S3Bucket, S3Server
from tests.site_kit import cli, command, new_site

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "research.ipynb"
SLIDES = (
    "aperio/CMU-1-Small-Region.svs",
    "tiff/CMU-1-jpeg420.tiff",
)


@dataclass(frozen=True)
class Hospital:
    """A gateway that runs, and a researcher's token."""

    url: str
    token: str


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> Iterator[S3Bucket]:
    with pytest.MonkeyPatch.context() as patch, s3_server.credentials(patch), s3_server.bucket() as made:
        yield made


@pytest.fixture(scope="module")
def hospital(bucket: S3Bucket, real_slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    site = new_site(folder / "site")
    there = ("--endpoint", bucket.server.endpoint, "--allow-http", "--region", "default")
    good(site, "tier", "add", "s3", f"{bucket.url}/slides", *there)
    lines = good(site, "ingest", "--tier", "s3", "--json", *(real_slides / name for name in SLIDES))
    # By a list: nobody knows whose these slides are, so that no condition chooses them.
    chosen = folder / "slides.txt"
    chosen.write_text("".join(f"{json.loads(line)['slide']}\n" for line in lines.splitlines()))
    good(site, "project", "create", "study", "--purpose", "trying it")
    good(site, "project", "cohort", "study", "--list", chosen)
    good(site, "project", "grant", "study", "researcher-1")
    token = json.loads(good(site, "token", "create", "researcher-1", "--json"))["token"]
    serve = subprocess.Popen(
        command(site, "serve", "--port", "0", "--workers", "1", "--json"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert serve.stdout is not None
        assert select.select([serve.stdout], [], [], 240)[0], "it does not begin"
        told = json.loads(serve.stdout.readline())
        assert "url" in told, told
        answers(told["url"])
        yield Hospital(told["url"], token)
    finally:
        serve.terminate()
        serve.wait(240)
        if serve.stdout is not None:
            serve.stdout.close()


def answers(url: str) -> None:
    """Wait until the gateway's workers have begun: the socket listens before."""
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=240):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def good(site: Path, *arguments: object) -> str:
    ran = cli(site, *arguments)
    assert ran.code == 0, ran.err
    return ran.out


def test_the_notebook_runs(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSISTORE_GATEWAY", hospital.url)
    monkeypatch.setenv("WSISTORE_TOKEN", hospital.token)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=240, startup_timeout=240, kernel_name="python3").execute()
    text = json.dumps(notebook)
    assert hospital.token not in text
    assert text.count("image/png") == 2, "a region and a row of patches"
    for name in SLIDES:
        assert Path(name).stem not in text


def test_the_readme_shows_what_works(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSISTORE_TOKEN", hospital.token)
    _, code = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    there = "https://slides.hospital.example"
    assert code.count(there) == 1
    names: dict[str, Any] = {"wsistore": wsistore}
    exec(code.replace(there, hospital.url), names)
    assert len(names["slides"]) == len(SLIDES)
    assert next(iter(names["patches"])).pixels.shape[1:] == (256, 256, 3)
    names["hospital"].close()


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")


def allowed_modules() -> set[str]:
    """Return the top-level modules that ``pip install 'wsistore[client]'`` brings, by the metadata of what is here."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    waiting = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["client"]]]
    names = {"wsistore"}
    while waiting:
        one = waiting.pop()
        for extra in ("", *one.extras):
            for line in importlib.metadata.requires(one.name) or ():
                more = Requirement(line)
                wanted = more.marker is None or more.marker.evaluate({"extra": extra})
                if wanted and canonicalize_name(more.name) not in names:
                    waiting.append(more)
        names.add(canonicalize_name(one.name))
    found = importlib.metadata.packages_distributions()
    brought = {top for top, owners in found.items() if names & {canonicalize_name(owner) for owner in owners}}
    return brought | {"wsistore"}  # which an editable installation does not name


GUARD = """
    import sys, sysconfig
    from importlib.machinery import PathFinder

    # What the interpreter was built with is a module of the standard library under a name of its own.
    allowed = {*sys.argv[1].split(","), *sys.stdlib_module_names, sysconfig._get_sysconfigdata_name()}

    class Only:
        find_distributions = staticmethod(PathFinder.find_distributions)  # codecs are found by entry points

        def find_spec(self, name, path=None, target=None):
            hidden = path is None and name not in allowed
            return None if hidden else PathFinder.find_spec(name, path, target)

    sys.meta_path[sys.meta_path.index(PathFinder)] = Only()
    """


def alone(program: str, hospital: Hospital | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program that sees the standard library, wsistore, and what the extra ``client`` brings."""
    hidden = ("PYTHON", "WSISTORE", "AWS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    if hospital is not None:
        environment |= {"WSISTORE_GATEWAY": hospital.url, "WSISTORE_TOKEN": hospital.token}
    script = textwrap.dedent(GUARD) + program
    arguments = [sys.executable, "-c", script, ",".join(sorted(allowed_modules()))]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=240)


def test_research_needs_what_its_extra_installs(hospital: Hospital) -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    program = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    ran = alone(program, hospital)
    assert ran.returncode == 0, ran.stderr
    assert "requests" in ran.stdout


def test_what_is_missing_is_said_with_its_extra() -> None:
    program = """
import wsistore
try:
    wsistore.open_slide
except wsistore.WsistoreError as error:
    print(error)
from wsistore.cli.start import main
main()
"""
    ran = alone(program)
    assert "pip install 'wsistore[site]'" in ran.stdout
    assert "The command wsistore needs" in ran.stderr
    assert "pip install 'wsistore[site]'" in ran.stderr
    assert ran.returncode == 8
    assert "Traceback" not in ran.stderr
    for name in ("pyarrow", "duckdb", "sqlalchemy", "openslide", "botocore", "typer"):
        assert name not in allowed_modules()
