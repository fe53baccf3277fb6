"""The FinOps Foundation's own validator finds nothing wrong with usage/ but what its only release has wrong itself."""

from __future__ import annotations

import csv
import re
import subprocess
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bench.support.environments import UnavailableError, environment
from tests.report_kit import begun, costs, exactly, metered, model
from wsistore.reports.focus import rows_of
from wsistore.reports.models import charges
from wsistore.reports.periods import Month

OCTOBER = Month(2026, 10)
DRAFT = {"InvoiceIssuer_Required", "Provider_Required", "Publisher_Required", "ResourceID_Required"}
"""Names that the columns had in a draft of FOCUS 1.0."""
CONDITIONAL = {
    *(f"CommitmentDiscount{name}_Required" for name in ("Category", "Id", "Name", "Status", "Type")),
    *("SubAccountId_Required", "SubAccountName_Required", "Tags_Required"),
}
"""Asked for only where there are discounts for commitments, accounts below the account, tags: there are none."""
BROKEN = {"BillingCurrency_IsCurrencyCode", "SkuPriceId_Nullable"}
"""The one fetches a list from elsewhere, the other looks for the draft's ChargeType: both end in an exception."""


@pytest.fixture(scope="module")
def validator() -> Path:
    try:
        return environment("focus-validator").parent / "focus-validator"
    except UnavailableError as error:
        pytest.skip(f"focus_validator cannot be installed here: {error}")


def cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, Decimal):
        return f"{value:.10f}"  # a column of nothing but 0 would be taken for whole numbers
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)


def failures(validator: Path, folder: Path, **changes: str) -> set[str]:
    """Return the rules that a month's rows fail, with some cells changed in all rows."""
    warm = replace(model("warm", egress_per_gb=exactly(0.01), vat=exactly(0.2)), provider="OVHcloud", id="TIER")
    tiers = costs(warm)
    events = [begun("a", 1, "2026-01-01T00:00", "warm"), begun("b", 1, "2026-10-16T00:00", "warm", cpu_seconds=30.0)]
    rows = rows_of(
        charges(metered(events, OCTOBER).by_month[OCTOBER], OCTOBER, tiers), OCTOBER, tiers, account="CHU-01"
    )
    path = folder / "usage.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        names = sorted({name for row in rows for name in row})
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([changes.get(name, cell(row.get(name))) for name in names] for row in rows)
    command = [str(validator), "--data-file", str(path), "--validate-version", "1.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=450, check=False)
    return set(re.findall(r"^(\w+_\w+) failed:", done.stdout + done.stderr, re.MULTILINE))


def test_the_foundations_validator(validator: Path, tmp_path: Path) -> None:
    assert failures(validator, tmp_path) <= DRAFT | CONDITIONAL | BROKEN


def test_it_would_find_what_is_wrong(validator: Path, tmp_path: Path) -> None:
    found = failures(validator, tmp_path, ChargePeriodStart="yesterday", BilledCost="much", ServiceCategory="Slides")
    assert {name.partition("_")[0] for name in found} >= {"ChargePeriodStart", "BilledCost", "ServiceCategory"}
