"""What tests of pages and workbooks share: a real browser and a real spreadsheet program, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE_MS = 120_000
"""How long a page may take: the machine may be busy."""

_RECALCULATES = """\
<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load">
<prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop>
</item>
</oor:items>
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser without a window; skip the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Debian's package chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, **options: Any) -> Page:
    """Return an empty page that waits for what it is asked for."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE_MS)
    return page


def recalculated(book: Path, folder: Path) -> Path:
    """Return a workbook as LibreOffice has calculated it anew; skip the test where it is not installed."""
    program = shutil.which("soffice")
    if program is None:
        pytest.skip("needs Debian's package libreoffice-calc")
    user = folder / "profile" / "user"
    user.mkdir(parents=True)
    (user / "registrymodifications.xcu").write_text(_RECALCULATES, "utf-8")
    place = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = [
        program,
        place,
        "--headless",
        "--convert-to",
        "xlsx:Calc MS Excel 2007 XML",
        "--outdir",
        str(folder),
        str(book),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return folder / book.name
