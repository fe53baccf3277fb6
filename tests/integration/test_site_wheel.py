"""What is released: the wheel, installed where the source tree is not, opens stores and runs a site.

The environment has the dependencies of this one (installing them anew would take minutes) and the wheel; the editable
installation of the source tree is not seen, because the ``.pth`` files of a folder on the path are not read.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

from tests.site_kit import cli, new_site, tiny_svs, tiny_tiff

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    if importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("the wheel cannot be built here: hatchling or pip is missing")
    out = tmp_path_factory.mktemp("wheel")
    arguments = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(REPOSITORY)]
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the dependencies and the wheel."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(site_packages), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def run(python: Path, script: str, *arguments: object) -> str:
    """Run a script in the clean environment, from a folder that has nothing to do with the project."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "WSISTORE"))}
    done = subprocess.run(
        [str(python), "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=python.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/", 1)[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"wsistore", "wsistore_flows"}
    source = {
        path.relative_to(REPOSITORY / folder).as_posix()
        for folder, package in (("src", "wsistore"), ("flows", "wsistore_flows"))
        for path in (REPOSITORY / folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.split("/", 1)[0].endswith(".dist-info")} == source
    assert any("LICENSE" in name for name in names)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ozx"])
def test_store_opens_with_plain_zarr_and_xarray(tmp_path: Path, python: Path, suffix: str) -> None:
    site = new_site(tmp_path / "site")
    assert cli(site, "ingest", tiny_svs(tmp_path / "a.svs")).code == 0
    target = tmp_path / f"a{suffix}"
    assert cli(site, "export", "a.svs", "--to", target).code == 0
    script = """
        import sys, warnings
        warnings.filterwarnings("ignore", module="zarr")  # of codecs that its specification does not have yet
        warnings.filterwarnings("ignore", message=".*specification.*")
        import numpy as np, xarray, zarr
        path, package = sys.argv[1:]
        store = zarr.storage.ZipStore(path, mode="r") if path.endswith(".ozx") else path
        group = zarr.open(store, mode="r")
        pixels = np.asarray(group["0/image"][:])
        assert pixels.shape == (3, 320, 400) and pixels.std() > 10
        tree = xarray.open_datatree(store, engine="zarr", chunks=None, consolidated=False)
        np.testing.assert_array_equal(tree["0/image"].values, pixels)
        assert tree["0/image"].dims == ("c", "y", "x")
        # The codec came from the wheel, through Zarr's entry points; nobody here imported wsistore.
        assert sys.modules["wsistore"].__file__.startswith(package), sys.modules["wsistore"].__file__
        print("good")
        """
    (package,) = (python.parents[1] / "lib").glob("python*/site-packages")
    assert run(python, script, target, package) == "good\n"


def test_site_from_the_wheel(tmp_path: Path, python: Path) -> None:
    slide = tiny_tiff(tmp_path / "a.tiff")
    script = "from wsistore.cli.main import main; main()"
    site = tmp_path / "site"
    run(python, script, "init", site)
    line = json.loads(run(python, script, "-C", site, "ingest", slide, "--json"))
    assert line["status"] == "ingested"
    run(python, script, "-C", site, "verify", "--all")
    assert run(python, script, "-C", site, "ls", "--where", "width = 128", "--json").count("\n") == 1
    run(python, script, "-C", site, "restore", line["slide"], "--to", tmp_path / "out")
    assert (tmp_path / "out" / "a.tiff").read_bytes() == slide.read_bytes()
