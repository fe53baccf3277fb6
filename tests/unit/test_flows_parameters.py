"""What flows take is documented: each parameter in docs/flows.md, by its name, and no other."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from wsistore_flows.ingest import ingest
from wsistore_flows.recall import recall
from wsistore_flows.reencode import reencode
from wsistore_flows.report import report
from wsistore_flows.scrub import scrub

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "flows.md"


def documented() -> dict[str, list[str]]:
    """Return the parameters that the document's table tells of, by flow."""
    table = DOCUMENT.read_text("utf-8").partition("### What the flows take")[2].partition("\n## ")[0]
    found: dict[str, list[str]] = {}
    flow = ""
    for line in table.splitlines():
        cells = [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[1] not in {"parameter", "---"}:
            flow = cells[0] or flow
            found.setdefault(flow, []).append(cells[1])
    return found


@pytest.mark.parametrize("flow", [ingest, reencode, recall, scrub, report], ids=lambda flow: flow.name)
def test_the_document_tells_of_every_parameter(flow: Any) -> None:
    taken = [name for name in inspect.signature(flow.fn).parameters if name != "site"]
    assert documented()[flow.name] == taken


@pytest.mark.parametrize("flow", [ingest, reencode, recall, scrub, report], ids=lambda flow: flow.name)
def test_prefect_keeps_no_results_and_shows_what_a_flow_does(flow: Any) -> None:
    assert flow.persist_result is False
    assert all(name in flow.description for name in flow.parameters.properties)
