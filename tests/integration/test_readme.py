"""What the README tells research to type works as it is printed."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsistore import ops

README = Path(__file__).parents[2] / "README.md"


def run_block() -> list[Any]:
    """Run the README's first block of Python, unchanged; return what a notebook would show of it, then `tile`."""
    code, _ = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    shown: list[Any] = []
    tree = ast.parse(code)
    (opened,) = (node for node in tree.body if isinstance(node, ast.With))
    for line in opened.body:
        if isinstance(line, ast.Expr):
            line.value = ast.Call(ast.Name("_show", ast.Load()), [line.value], [])
    # what is lazy is loaded while the slide is open, as a notebook would
    names: dict[str, Any] = {"_show": lambda value: shown.append(value.load() if hasattr(value, "load") else value)}
    exec(compile(ast.fix_missing_locations(tree), str(README), "exec"), names)
    return [*shown, names["tile"]]


@pytest.fixture(params=["path of a scanner's file", "name in a site"])
def _slide(request: pytest.FixtureRequest, real_slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the README's slide where its name finds it."""
    file = real_slides / "aperio" / "hpylori-IHC.svs"
    if not file.is_file():
        pytest.skip(f"no {file}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if request.param == "name in a site":
        ops.init_site(tmp_path / "site")
        with ops.open_site(tmp_path / "site") as site:
            assert [result.error for result in ops.ingest(site, [file], jobs=1)] == [None]
        monkeypatch.setenv("WSISTORE_HOME", str(tmp_path / "site"))
    else:
        Path(file.name).symlink_to(file)


@pytest.mark.usefixtures("_slide")
def test_the_block_for_research_runs_as_printed() -> None:
    (levels, mpp, magnification), selected, tile = run_block()

    assert len(levels) == 3
    assert mpp == pytest.approx(0.25)
    assert magnification == 20
    assert (tile.shape, tile.dtype) == ((512, 512, 3), np.uint8)
    # the micrometres name the same place as the pixels do; with both ends, as xarray selects
    assert selected.dims == ("c", "y", "x")
    assert selected.shape == (3, 513, 513)
    assert np.array_equal(np.moveaxis(selected.to_numpy(), 0, -1)[:512, :512], tile)
