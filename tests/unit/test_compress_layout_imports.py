"""Layouts are written and read without pandas: importing it would take 40 MB and half a second of every process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
from wsistore.compress import layout
table = np.zeros(3, layout.LAYOUT_DTYPE)
table["offset"], table["length"] = (8, 20, 40), 10
assert np.array_equal(layout.decode(layout.encode(table), where="layout"), table)
print("pandas" in sys.modules)
"""


def test_layouts_do_not_import_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
