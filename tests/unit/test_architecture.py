"""The shape of the code: small modules, short functions, imports at the top, nothing undocumented in the README.

The direction of imports is checked by import-linter (`make lint`).
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import wsistore
from wsistore import ops

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "wsistore"
FLOWS = REPOSITORY / "flows" / "wsistore_flows"
MODULES = [*sorted(PACKAGE.rglob("*.py")), *sorted(FLOWS.rglob("*.py"))]

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
"""Without the docstring: nobody should save on documentation to pass."""

LONG_MODULES: set[str] = set()
"""Modules that may be longer, as ``package/module.py``, each with its reason in a comment. Better: split them."""

LONG_FUNCTIONS: set[str] = set()
"""Functions that may be longer, as ``package/module.py:function``, each with its reason in a comment."""

INNER_IMPORTS = {
    # `import wsistore` is cheap: what it names is loaded when it is first asked for.
    "__init__.py:__getattr__ imports wsistore.client.connecting",
    "__init__.py:__getattr__ imports wsistore.client.slide",
    "__init__.py:__getattr__ imports wsistore.ops.opening",
    # Alembic, DuckDB and sqlglot are loaded by the few commands that need them: the others start in half the time.
    "catalog/__init__.py:create imports wsistore.catalog",
    "catalog/__init__.py:migrate imports wsistore.catalog",
    "catalog/catalog.py:slides imports wsistore.catalog",
    "catalog/rebuilt.py:create imports wsistore.catalog",
    # Dask takes two seconds to load, and is needed by those only who distribute work.
    "execute/choose.py:open_executor imports wsistore.execute.dask_existing",
    "execute/choose.py:open_executor imports wsistore.execute.dask_local",
    # Where only research's side is installed, most of what the command line needs is missing.
    "cli/start.py:main imports wsistore.cli.main",
    # PyTorch and Dask's scheduler take seconds to load, and need not be there.
    "client/connecting.py:share_token imports wsistore.client.dask_tokens",
    "client/patches.py:to_torch imports wsistore.client.torch_data",
    # Prefect, which an extra brings, takes seconds to load, and reads its settings from the environment then.
    "cli/flows.py:_watching imports wsistore_flows.watching",
    "cli/flows.py:serve imports wsistore_flows.serving",
    # The gateway's server, which an extra brings.
    "cli/serve.py:serve imports wsistore.serve.server",
    "wsistore_flows/serving.py:_work imports wsistore_flows.service",
    # obstore and botocore take half a second to load, and are needed by sites with a bucket only.
    "storage/open.py:_opened imports wsistore.storage.s3",
}
"""First-party imports inside functions that are allowed, as ``package/module.py:function imports wsistore.x``."""

HEAVY = {
    "aiohttp", "alembic", "botocore", "click", "dask", "distributed", "duckdb", "imagecodecs", "obstore", "openslide",
    "matplotlib", "pandas", "prefect", "pyarrow", "pydicom", "rich", "s3fs", "sqlalchemy",
    "sqlglot", "tifffile", "typer", "urllib3", "xarray", "zarr",
}  # fmt: skip
"""What `import wsistore` must not load: it is to take less than 0.3 s."""

KINDS_OF_TESTS = {"unit", "property", "stateful", "contract", "fault", "integration"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else FLOWS.parent).as_posix()


@functools.cache
def functions_of(path: Path) -> tuple[Function, ...]:
    return tuple(node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, Function))


def code_lines(function: Function) -> int:
    """Return the lines from ``def`` to the end, without the docstring."""
    end = function.end_lineno or function.lineno
    lines = end - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def inner_imports(function: Function) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def test_the_package_is_found() -> None:
    assert PACKAGE / "errors.py" in MODULES
    assert FLOWS / "running.py" in MODULES


# Each of these looks at all modules and tells all offenders: a test per module would take longer to count than to run.


def test_modules_are_short_enough_to_read() -> None:
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    long = {name: lines for name, lines in lengths.items() if lines > MAX_MODULE_LINES}

    assert set(long) <= LONG_MODULES, f"split them by their jobs: {long}"


def test_functions_are_short_enough_to_read() -> None:
    long = {
        f"{name_of(path)}:{function.name}": code_lines(function)
        for path in MODULES
        for function in functions_of(path)
        if code_lines(function) > MAX_FUNCTION_LINES
    }

    assert set(long) <= LONG_FUNCTIONS, long


def test_first_party_imports_stand_at_the_top() -> None:
    found = {
        f"{name_of(path)}:{function.name} imports {name}"
        for path in MODULES
        for function in functions_of(path)
        for name in inner_imports(function)
        if name.startswith((".", "wsistore"))
    }

    assert found <= INNER_IMPORTS, sorted(found - INNER_IMPORTS)


def test_no_exemption_outlives_its_reason() -> None:
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    functions = {(f"{name_of(path)}:{f.name}", code_lines(f)) for path in MODULES for f in functions_of(path)}
    imports = {
        f"{name_of(path)}:{f.name} imports {name}"
        for path in MODULES
        for f in functions_of(path)
        for name in inner_imports(f)
    }

    assert {name for name, lines in lengths.items() if lines > MAX_MODULE_LINES} >= LONG_MODULES
    assert {name for name, lines in functions if lines > MAX_FUNCTION_LINES} >= LONG_FUNCTIONS
    assert imports >= INNER_IMPORTS


def test_the_readme_names_every_package() -> None:
    """Section "Code structure": a table whose first column is the package or module, the second its one job."""
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    section = re.search(r"^## Code structure$(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert section, 'README.md has no section "## Code structure"'
    named = re.findall(r"^\| `(\w+)/?` \| \S", section[1], re.MULTILINE)
    there = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or (path.suffix == ".py" and path.stem != "__init__")
    }

    assert len(named) == len(set(named))
    assert there - set(named) == set(), "name them in README.md, section Code structure"
    assert set(named) - there == set(), "README.md names what is not there"


def test_importing_wsistore_loads_nothing_heavy() -> None:
    program = "import sys, wsistore; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "wsistore" in loaded
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_there_is_one_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

    assert wsistore.__version__ == project["version"]


def test_every_test_has_its_place() -> None:
    folder = REPOSITORY / "tests"
    misplaced = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("test_*.py")
        if path.relative_to(folder).parts[0] not in KINDS_OF_TESTS
    ]

    assert misplaced == []


def test_every_operation_can_be_had_again_and_again() -> None:
    """A module of an operation's own name would take its place once it is imported."""
    for name in ops.__all__:
        first = getattr(ops, name)
        assert getattr(ops, name) is first, name
        assert callable(first), name
