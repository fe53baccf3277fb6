"""Invoices: what can be imported, what lines are for, and months computed by hand against them."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.report_kit import begun, costs, dropped, exactly, metered, model
from tests.site_kit import cli
from wsistore import ops
from wsistore.errors import ConflictError, InputError, SiteError
from wsistore.ops.closing_month import NoticeCode, close_month, month_before
from wsistore.ops.invoicing import Matched, import_invoice, list_invoices, match_invoices
from wsistore.reports.columns import INVOICES, VARIANCES
from wsistore.reports.focus import rows_of
from wsistore.reports.invoice_units import converted
from wsistore.reports.matching import Status, Variance
from wsistore.reports.models import charges
from wsistore.reports.periods import Month
from wsistore.reports.sets import USAGE, partition, read_about, write_about, write_rows
from wsistore.testing.clock import ManualClock

OCTOBER = Month(2026, 10)
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "invoices.md").read_text("utf-8")
TYPED = re.findall(r"```csv\n(.*?)```", DOCS, re.DOTALL)[0]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    ops.init_site(tmp_path / "site")
    with ops.open_site(tmp_path / "site", clock=ManualClock(datetime(2026, 11, 3, tzinfo=UTC))) as opened:
        yield opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder with the usage of October that docs/invoices.md computes by hand: 10 TB, and 4 from the 16th."""
    return october(tmp_path / "out")


def october(out: Path, **prices: Any) -> Path:
    warm = model("warm", storage_per_tb_month=exactly(7.0), egress_per_gb=exactly(0.01), **prices)
    tiers = costs(replace(warm, provider="OVHcloud", id="TIER"))
    events = [
        begun("a", 1, "2026-01-01T00:00", "warm", size=10 * 10**12),
        begun("b", 1, "2026-10-16T00:00", "warm", size=4 * 10**12),
    ]
    found = charges(metered(events, OCTOBER).by_month[OCTOBER], OCTOBER, tiers)
    rows = rows_of(found, OCTOBER, tiers, account="CHU-01")
    folder = partition(out, USAGE, OCTOBER)
    write_rows(folder / "part-0.parquet", rows, "1.2", {})
    write_about(folder, {"closed_at": None})
    return out


def focus_line(**changes: Any) -> dict[str, Any]:
    line = {
        "BilledCost": "84.45",
        "BillingAccountId": "ACCOUNT-0001",
        "BillingAccountName": "PERSON-0001",
        "BillingCurrency": "EUR",
        "BillingPeriodStart": "2026-10-01T00:00:00Z",
        "BillingPeriodEnd": "2026-11-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": "Object Storage Standard",
        "ChargePeriodStart": "2026-10-01T00:00:00Z",
        "ChargePeriodEnd": "2026-11-01T00:00:00Z",
        "InvoiceId": "F-1",
        "InvoiceIssuerName": "OVHcloud",
        "PricingQuantity": "12064.516129",
        "PricingUnit": "GB-Months",
        "ResourceId": "",
        "ServiceCategory": "Storage",
        "ServiceName": "Object Storage",
        "SkuId": "storage-standard",
        "Tags": '{"owner": "PERSON-0001"}',
    }
    return line | changes


def csv_of(path: Path, *lines: dict[str, Any], delimiter: str = ",") -> Path:
    rows = [delimiter.join(lines[0])]
    rows += [delimiter.join('"' + str(cell).replace('"', '""') + '"' for cell in line.values()) for line in lines]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def typed(path: Path, text: str = TYPED) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def one(matched: Matched, meter: str, tier: str = "warm") -> Variance:
    (found,) = [row for row in matched.variances if (row.tier, row.meter) == (tier, meter)]
    return found


# --- a month computed by hand -----------------------------------------------------------------------------------------


def test_a_month_agrees_with_its_invoice_to_the_cent(site: ops.Site, out: Path, tmp_path: Path) -> None:
    made = import_invoice(site, typed(tmp_path / "october.csv"), out)
    assert [made.eur, made.tax, made.unassigned] == [Decimal("124.45"), Decimal("24.89"), Decimal(0)]
    matched = match_invoices(site, "2026-10", out)
    stored, read = one(matched, "storage"), one(matched, "egress")
    # 10 000 GB all the month, 4000 GB for 16 of 31 days, at 0.007 EUR.
    assert stored.metered_quantity == pytest.approx(10_000 + 4000 * 16 / 31)
    assert stored.modelled.quantize(Decimal("0.01")) == Decimal("84.45")
    assert stored.invoiced == Decimal("84.45")
    assert [read.modelled, read.invoiced] == [Decimal(40), Decimal(40)]
    assert read.metered_quantity == 4000
    assert abs(matched.invoiced - matched.modelled) < Decimal("0.01")
    assert (matched.alerts, matched.invoices) == ([], 1)
    # The price list has no tax: the hospital recovers it, and it is compared with nothing.
    assert [row.status for row in matched.variances if row.meter == "tax"] == [Status.NOT_COMPARED]


def test_a_dearer_price_is_an_alert_and_all_of_it_is_of_price(site: ops.Site, out: Path, tmp_path: Path) -> None:
    import_invoice(site, typed(tmp_path / "x.csv", TYPED.replace("84,45", "86,86")), out)
    stored = one(match_invoices(site, "2026-10", out), "storage")
    assert stored.is_alert
    assert stored.part is not None
    assert f"{stored.part:+.2%}" == "+2.85%"
    assert stored.effects is not None
    of_quantity, of_price = stored.effects
    assert abs(of_quantity) < Decimal("0.01")
    assert of_quantity + of_price == stored.variance


def test_more_bytes_than_were_metered_are_of_quantity(site: ops.Site, out: Path, tmp_path: Path) -> None:
    line = focus_line(BilledCost="92.896774", PricingQuantity=str(12064.516129 * 1.1))
    import_invoice(site, csv_of(tmp_path / "x.csv", line), out)
    stored = one(match_invoices(site, "2026-10", out), "storage")
    assert stored.effects is not None
    assert [round(float(part), 2) for part in stored.effects] == [8.45, 0.0]
    assert stored.is_alert


def test_gigabytes_that_are_gibibytes_look_like_it(site: ops.Site, out: Path, tmp_path: Path) -> None:
    amount = str(12064.516129 / 1.024**3)
    path = csv_of(tmp_path / "x.csv", focus_line(PricingQuantity=amount, BilledCost="78.60"))
    import_invoice(site, path, out)
    assert "GiB" in one(match_invoices(site, "2026-10", out), "storage").hint
    (site.folder / "reports.toml").write_text('[[invoice]]\nissuer = "OVH*"\ngigabyte = "GiB"\n')
    import_invoice(site, path, out)
    stored = one(match_invoices(site, "2026-10", out), "storage")
    assert stored.invoiced_quantity == pytest.approx(12064.516129)


@pytest.mark.parametrize(("cost", "is_alert"), [("86.13", False), ("86.15", True), ("82.77", False), ("82.75", True)])
def test_two_percent_is_the_most(site: ops.Site, out: Path, tmp_path: Path, cost: str, is_alert: bool) -> None:
    # 2 % of 84.4516 EUR are 1.689 EUR.
    import_invoice(site, csv_of(tmp_path / "x.csv", focus_line(BilledCost=cost)), out)
    assert one(match_invoices(site, "2026-10", out), "storage").is_alert is is_alert


def test_tax_is_compared_where_it_is_not_recovered(site: ops.Site, tmp_path: Path) -> None:
    out = october(tmp_path / "out", vat=exactly(0.2))
    import_invoice(site, typed(tmp_path / "x.csv"), out)
    (tax,) = [row for row in match_invoices(site, "2026-10", out).variances if row.meter == "tax"]
    assert (tax.status, tax.invoiced) == (Status.MATCHED, Decimal("24.89"))
    assert tax.modelled.quantize(Decimal("0.01")) == Decimal("24.89")


def test_what_is_not_invoiced_and_what_is_not_metered(site: ops.Site, out: Path, tmp_path: Path) -> None:
    lines = [focus_line(), focus_line(SkuId="early-delete", ChargeDescription="early deletion", BilledCost="3")]
    import_invoice(site, csv_of(tmp_path / "x.csv", *lines), out)
    matched = match_invoices(site, "2026-10", out)
    assert (one(matched, "egress").status, one(matched, "egress").is_alert) == (Status.NOT_INVOICED, True)
    assert (one(matched, "early-deletion").status, one(matched, "early-deletion").part) == (Status.NOT_METERED, None)


def test_credits_lessen_and_corrections_of_later_invoices_count(site: ops.Site, out: Path, tmp_path: Path) -> None:
    credit = focus_line(ChargeCategory="Credit", BilledCost="-4.45", PricingQuantity="", ChargeDescription="storage")
    import_invoice(site, csv_of(tmp_path / "x.csv", focus_line(), credit), out)
    later = {"BillingPeriodStart": "2026-11-01T00:00:00Z", "BillingPeriodEnd": "2026-12-01T00:00:00Z"}
    right = focus_line(**later, ChargeClass="Correction", BilledCost="1.00", PricingQuantity="0", InvoiceId="F-2")
    import_invoice(site, csv_of(tmp_path / "y.csv", right), out)
    matched = match_invoices(site, "2026-10", out)
    assert one(matched, "storage").invoiced == Decimal("81.00")
    assert one(matched, "storage").invoiced_quantity == pytest.approx(12064.516129)
    assert matched.invoices == 2


# --- formats ----------------------------------------------------------------------------------------------------------


def test_exports_of_any_form_say_the_same(site: ops.Site, tmp_path: Path) -> None:
    line = focus_line()
    plain = csv_of(tmp_path / "a.csv", line)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    csv_of(tmp_path / "c.csv", line, delimiter=";")
    moments = {name: datetime.fromisoformat(line[name]) for name in line if "Period" in name}
    numbers = {"BilledCost": 84.45, "PricingQuantity": 12064.516129}
    newer = {"ServiceProviderName": "OVHcloud", "HostProviderName": "OVHcloud"}
    table = pa.Table.from_pylist([line | moments | numbers | newer])
    pq.write_table(table, tmp_path / "d.parquet")
    pq.write_table(table.rename_columns([name.lower() for name in table.column_names]), tmp_path / "e.parquet")
    said = set()
    for name in ("a.csv", "b.csv.gz", "c.csv", "d.parquet", "e.parquet"):
        out = october(tmp_path / name.replace(".", "-"))
        import_invoice(site, tmp_path / name, out)
        said.add(json.dumps(match_invoices(site, "2026-10", out).to_json()["variances"]))
    assert len(said) == 1


def test_nothing_of_people_is_kept(site: ops.Site, out: Path, tmp_path: Path) -> None:
    import_invoice(site, csv_of(tmp_path / "x.csv", focus_line(ResourceId="PERSON-0001")), out)
    rows = [row for path in (out / "invoices").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert "PERSON-0001" not in repr(rows)


def test_lines_of_aws_are_known_by_their_usage_types(site: ops.Site, out: Path, tmp_path: Path) -> None:
    settings = site.folder / "wsistore.toml"
    settings.write_text(settings.read_text().replace("[tiers.warm]\n", '[tiers.warm]\nprices = "aws-s3-standard"\n'))
    aws = {"InvoiceIssuerName": "Amazon Web Services", "BillingCurrency": "USD", "SkuId": "ABCDEF", "ResourceId": ""}
    kinds = {
        "EUW3-TimedStorage-ByteHrs": "storage",
        "EUW3-Requests-Tier1": "write-requests",
        "EUW3-Requests-Tier2": "read-requests",
        "EUW3-DataTransfer-Out-Bytes": "egress",
        "EUW3-EarlyDelete-SIA": "early-deletion",
        "EUW3-Retrieval-SIA": "egress",
    }
    lines = [focus_line(**aws, ChargeDescription="$ per GB", x_UsageType=name, PricingUnit="GB-Mo") for name in kinds]
    path = csv_of(tmp_path / "x.csv", *lines)
    with ops.open_site(site.folder, clock=site.clock) as changed:
        with pytest.raises(SiteError, match="rate of 'USD'"):
            import_invoice(changed, path, out)
        (site.folder / "reports.toml").write_text('[[rate]]\ncurrency = "USD"\nfrom = 2026-01-01\ncentral = 0.5\n')
        import_invoice(changed, path, out)
    rows = pq.read_table(next((out / "invoices").rglob("*.parquet"))).to_pylist()
    assert [row["x_Meter"] for row in sorted(rows, key=lambda row: row["x_Line"])] == list(kinds.values())
    assert {row["x_BilledCostEur"] for row in rows} == {Decimal("42.225")}
    # What AWS calls GB are 2^30 bytes.
    assert rows[0]["x_Quantity"] == pytest.approx(12064.516129 * 1.024**3)


def test_lines_that_nobody_knows_are_never_guessed(site: ops.Site, out: Path, tmp_path: Path) -> None:
    lines = [
        focus_line(),
        focus_line(SkuId="vps-2026", ChargeDescription="VPS", ServiceName="VPS", ServiceCategory="Compute"),
        focus_line(InvoiceIssuerName="Another Cloud"),
        focus_line(ChargePeriodEnd="2027-10-01T00:00:00Z"),
    ]
    path = csv_of(tmp_path / "x.csv", *lines)
    made = import_invoice(site, path, out)
    assert made.unassigned == 3 * Decimal("84.45")
    matched = match_invoices(site, "2026-10", out)
    assert sum(row.lines for row in matched.variances if row.status is Status.UNASSIGNED) == 2
    (site.folder / "reports.toml").write_text(
        '[[invoice]]\nsku = "vps*"\nignore = true\n[[invoice]]\nissuer = "another*"\ntier = "cold"\n'
    )
    assert import_invoice(site, path, out).unassigned == Decimal("84.45")
    found = match_invoices(site, "2026-10", out)
    assert one(found, "storage", "cold").status is Status.NOT_METERED
    assert not [row for row in found.variances if row.status is Status.UNASSIGNED]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nobody|lacks|no lines"),
        ("month,amount\n", "no lines"),
        ("month,amount\n2026-10,1\n", "issuer"),
        ("month,amount,issuer\n2026-13,1,X\n", "2026-13"),
        ("month,amount,issuer\n2026-10,many,X\n", "line 1: 'amount' is 'many'"),
        ('month,amount,issuer\n2026-10,"1,234",X\n', "'1,234'"),
        ("month,amount,issuer\n2026-10,nan,X\n", "'nan'"),
        ("month,amount,issuer\n2026-10,1e30,X\n", "sixteen"),
        ("month,amount,issuer\n2026-10,1\n", "as many cells"),
        ("month,amount,montant,issuer\n2026-10,1,1,X\n", "two columns"),
        ("month,amuont,issuer\n2026-10,1,X\n", "amuont.*amount"),
        ("month,amount,issuer,tier\n2026-10,1,X,wram\n", "wram.*warm"),
        ("month,amount,issuer,meter\n2026-10,1,X,stroage\n", "stroage.*storage"),
        ("BilledCost,ChargeCategory\n1,Usage\n", "lacks the columns BillingCurrency"),
        ("PAR1 is no file", "Parquet"),
        ("\x1f\x8b", "lacks|nobody|UTF-8|CSV"),
    ],
)
def test_what_is_no_invoice_is_refused(site: ops.Site, out: Path, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        import_invoice(site, typed(tmp_path / "x.csv", text), out)
    assert not (out / "invoices").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"ChargeCategory": "Usge"},
        {"BilledCost": ""},
        {"BilledCost": "Infinity"},
        {"BillingCurrency": "euro"},
        {"ChargePeriodStart": "yesterday"},
        {"ChargePeriodEnd": "2026-10-01T00:00:00Z"},
        {"InvoiceIssuerName": ""},
    ],
)
def test_a_wrong_line_is_named(site: ops.Site, out: Path, tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(InputError, match="line 2") as caught:
        import_invoice(site, csv_of(tmp_path / "x.csv", focus_line(), focus_line(**change)), out)
    assert next(iter(change)) in str(caught.value)


@pytest.mark.parametrize(
    ("quantity", "unit", "expected"),
    [
        (1, "GB-Months", (1, "GB-Months")),
        (1, "GB-Mo", (1, "GB-Months")),
        (1, "TB-Month", (1000, "GB-Months")),
        (1, "GiB-Months", (1.024**3, "GB-Months")),
        (744, "GB-Hours", (1, "GB-Months")),
        (744e9, "Byte-Hours", (1, "GB-Months")),
        (2, "Go", (2, "GB")),
        (2, "Go-mois", (2, "GB-Months")),
        (5e8, "Bytes", (0.5, "GB")),
        (3, "1000 Requests", (3000, "Requests")),
        (3, "10K requests", (30000, "Requests")),
        (3, "Requests", (3, "Requests")),
        (3, "vCPU-Hours", (3, "Core-Hours")),
        (3, "Hours", None),
        (3, "", None),
        (3, "GB-Weeks", None),
        (3, "apples", None),
    ],
)
def test_units_of_invoices(quantity: float, unit: str, expected: tuple[float, str] | None) -> None:
    found = converted(quantity, unit, OCTOBER)
    if found is None or expected is None:
        assert found is expected
    else:
        assert found[0] == pytest.approx(expected[0])
        assert found[1] == expected[1]


# --- importing again --------------------------------------------------------------------------------------------------


def test_an_invoice_counts_once(site: ops.Site, out: Path, tmp_path: Path) -> None:
    first = import_invoice(site, csv_of(tmp_path / "x.csv", focus_line()), out)
    again = import_invoice(site, tmp_path / "x.csv", out)
    assert (first.is_new, again.is_new) == (True, False)
    anew = csv_of(tmp_path / "y.csv", focus_line(BilledCost="85.00"))
    with pytest.raises(ConflictError, match="F-1"):
        import_invoice(site, anew, out)
    assert import_invoice(site, anew, out, replace=True).replaced == 1
    (listed,) = list_invoices(site, out)
    assert (listed.invoice, listed.eur, listed.lines) == ("F-1", Decimal("85.00"), 1)
    # Another invoice of the same month is no double; one without a number might be.
    import_invoice(site, csv_of(tmp_path / "z.csv", focus_line(InvoiceId="F-2")), out)
    with pytest.raises(ConflictError):
        import_invoice(site, csv_of(tmp_path / "w.csv", focus_line(InvoiceId="", BilledCost="1")), out)
    assert len(list_invoices(site, out)) == 2


def test_the_same_invoices_are_the_same_bytes(site: ops.Site, tmp_path: Path) -> None:
    path, found = typed(tmp_path / "x.csv"), []
    for name in ("one", "two"):
        out = october(tmp_path / name)
        import_invoice(site, path, out)
        match_invoices(site, "2026-10", out)
        found.append({str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()})
    assert found[0] == found[1]


def test_months_of_utc_are_the_months_of_the_site(site: ops.Site, tmp_path: Path) -> None:
    (site.folder / "reports.toml").write_text('timezone = "Indian/Reunion"\n')
    import_invoice(site, csv_of(tmp_path / "x.csv", focus_line()), tmp_path / "out")
    (file,) = (tmp_path / "out" / "invoices").rglob("*.parquet")
    assert file.parent.name == "month=2026-10"
    assert pq.read_table(file, partitioning=None)["x_ChargeMonth"].to_pylist() == ["2026-10"]


# --- the close --------------------------------------------------------------------------------------------------------


def test_the_monthly_close_says_what_people_are_to_be_told(site: ops.Site, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    assert month_before(site) == "2026-10"
    import_invoice(site, typed(tmp_path / "x.csv"), out)
    done = close_month(site, "2026-10", out)
    # Nothing was stored: all that was invoiced is too much, and the month closes all the same.
    assert done.is_closed
    assert {notice.code for notice in done.notices} == {NoticeCode.VARIANCE, NoticeCode.CLOSED}
    assert done.needs_action
    assert json.dumps(done.to_json())
    # What a closed month was compared with is not replaced; a correction of its own number is taken.
    changed = typed(tmp_path / "y.csv", TYPED.replace("84,45", "80,00"))
    with pytest.raises(ConflictError, match="closed month"):
        import_invoice(site, changed, out, replace=True)
    import_invoice(site, typed(tmp_path / "z.csv", TYPED.replace("F-2026-10", "F-2026-10-A")), out)
    assert close_month(site, "2026-10", out).matched.invoices == 2


def test_a_month_that_does_not_close_is_a_notice(site: ops.Site, tmp_path: Path) -> None:
    done = close_month(site, "2026-11", tmp_path / "out")
    assert not done.is_closed
    assert [notice.code for notice in done.notices] == [NoticeCode.NOT_CLOSED]
    assert (read_about(partition(tmp_path / "out", USAGE, Month(2026, 11))) or {})["closed_at"] is None


def test_matching_needs_a_report(site: ops.Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report of 2026-10"):
        match_invoices(site, "2026-10", tmp_path)


def test_early_ends_and_recalls_of_an_archive_by_hand(site: ops.Site, tmp_path: Path) -> None:
    # 1 TB left the archive after 30 of 180 days: 150 days of 30.4375 at 1.30 EUR are 6.41 EUR.
    cold = model("cold", storage_per_tb_month=exactly(1.3))
    tiers = costs(replace(cold, provider="OVHcloud"))
    events = [begun("a", 1, "2026-09-10T00:00", "cold"), dropped("a", 2, "2026-10-10T00:00", "cold")]
    meter = metered(events, OCTOBER, least_us={"cold": 180 * 86_400_000_000})
    rows = rows_of(charges(meter.by_month[OCTOBER], OCTOBER, tiers), OCTOBER, tiers, account="x")
    folder = partition(tmp_path / "out", USAGE, OCTOBER)
    write_rows(folder / "part-0.parquet", rows, "1.2", {})
    write_about(folder, {"closed_at": None})
    text = (
        "month,description,amount,issuer,tier\n"
        "2026-10,Cold Archive storage,0.38,OVHcloud,cold\n"  # 9 of 31 days of 1.30 EUR
        "2026-10,early deletion,6.41,OVHcloud,cold\n"
    )
    import_invoice(site, typed(tmp_path / "x.csv", text), tmp_path / "out")
    matched = match_invoices(site, "2026-10", tmp_path / "out")
    early, stored = one(matched, "early-deletion", "cold"), one(matched, "storage", "cold")
    assert early.modelled.quantize(Decimal("0.01")) == Decimal("6.41")
    assert stored.modelled.quantize(Decimal("0.01")) == Decimal("0.38")
    assert not early.is_alert
    assert not stored.is_alert


# --- tools and pages --------------------------------------------------------------------------------------------------


def test_duckdb_pandas_and_polars_read_all_sets(site: ops.Site, out: Path, tmp_path: Path) -> None:
    import_invoice(site, typed(tmp_path / "x.csv"), out)
    match_invoices(site, "2026-10", out)
    for name, column in (("usage", "EffectiveCost"), ("invoices", "BilledCost"), ("variances", "x_VarianceEur")):
        files = sorted(map(str, (out / name).rglob("*.parquet")))
        tables = [pq.read_table(file, partitioning=None) for file in files]
        expected = sum((value for table in tables for value in table[column].to_pylist()), Decimal(0))
        (found,) = duckdb.execute(f"select sum({column}) from read_parquet({files})").fetchone() or ()
        assert found == expected
        assert sum(pd.concat(pd.read_parquet(file, partitioning=None) for file in files)[column]) == expected
        assert pl.read_parquet(files)[column].sum() == expected


def test_the_page_is_true(site: ops.Site) -> None:
    for title, columns in (("invoices", INVOICES), ("variances", VARIANCES)):
        text = DOCS.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        told = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines()]
        rows = [row for row in told if row[0].startswith("`")]
        names = [(f"`{c.name}`", str(c.type), "yes" if c.nullable else "no", c.meaning) for c in columns]
        assert rows == names
    for text in re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL):
        (site.folder / "reports.toml").write_text(text)
        assert list_invoices(site, site.folder) == []
    assert set(re.findall(r"^\| `([a-z-]+)` \|", DOCS, re.MULTILINE)) >= {str(status) for status in Status}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[invoice]]\ntier = "wram"\n', "wram"),
        ('[[invoice]]\ntire = "warm"\n', "tire"),
        ('[[invoice]]\nmeter = "stroage"\n', "stroage"),
        ('[[invoice]]\ngigabyte = "GO"\n', "GO"),
        ('[[invoice]]\nissuer = "x"\n', "a tier"),
        ('[[invoice]]\nignore = "yes"\n', "true or false"),
        ("invoice = 3\n", r"\[\[invoice\]\]"),
        ('[[rate]]\ncurrency = "EUR"\nfrom = 2026-01-01\ncentral = 1\n', "EUR"),
        ('[[rate]]\ncurrency = "USD"\nfrom = "2026"\ncentral = 1\n', "rate.from"),
        ('[[rate]]\ncurrency = "USD"\nfrom = 2026-01-01\ncentral = 0\n', "rate.central"),
        (2 * '[[rate]]\ncurrency = "USD"\nfrom = 2026-01-01\ncentral = 1\n', "same currency"),
    ],
)
def test_wrong_terms_are_named(site: ops.Site, out: Path, tmp_path: Path, text: str, said: str) -> None:
    (site.folder / "reports.toml").write_text(text)
    with pytest.raises(SiteError, match=said):
        import_invoice(site, typed(tmp_path / "x.csv"), out)


def test_the_commands(site: ops.Site, out: Path, tmp_path: Path) -> None:
    path = typed(tmp_path / "x.csv", TYPED.replace("84,45", "86,86"))
    done = cli(site.folder, "invoice", "import", str(path), "-o", str(out))
    assert (done.code, "126.86 EUR" in done.out) == (0, True)
    assert "F-2026-10" in cli(site.folder, "invoice", "ls", "-o", str(out)).out
    matched = cli(site.folder, "invoice", "match", "--month", "2026-10", "-o", str(out))
    assert (matched.code, "ALERT" in matched.out, "+2.85%" in matched.out) == (0, True, True)
    assert "1 variances" in matched.err
    as_json = cli(site.folder, "invoice", "match", "--month", "2026-10", "-o", str(out), "--json")
    assert json.loads(as_json.out)["alerts"] == 1
