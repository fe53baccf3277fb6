"""The rows behind figures, as queries that DuckDB runs in the report's folder: what a page shows can be looked up."""

from __future__ import annotations

from wsistore.reports.periods import Month

FILES = "read_parquet('usage/*/*.parquet', union_by_name = true)"
_SUMS = """\
       sum(EffectiveCost) as eur,
       sum(x_BytesStored) as bytes,
       sum(x_EnergyKwhCentral) as kwh,
       sum(x_OperationalGco2eCentral + x_EmbodiedGco2eCentral) as gco2e"""


def _where(month: Month) -> str:
    return f"where ChargePeriodStart = timestamptz '{month.begins:%Y-%m-%d %H:%M:%S}+00' and ChargeCategory = 'Usage'"


def total(month: Month) -> str:
    """Return the query of a month's total."""
    return f"select{_SUMS[6:]}\nfrom {FILES}\n{_where(month)}"


def by_tier(month: Month) -> str:
    """Return the query of a month's tiers; one row of rows each."""
    return f"select ResourceName as tier,\n{_SUMS}\nfrom {FILES}\n{_where(month)}\ngroup by 1 order by 2 desc"


def by_department(month: Month) -> str:
    """Return the query of a month's departments; own capacity that nobody used is none of them."""
    who = "case when SkuMeter = 'idle-capacity' then '(idle)' else coalesce(nullif(x_Department, ''), '(unknown)') end"
    return f"select {who} as department,\n{_SUMS}\nfrom {FILES}\n{_where(month)}\ngroup by 1 order by 2 desc"


def by_month(first: Month, last: Month) -> str:
    """Return the query of months and their tiers."""
    begin, end = (f"timestamptz '{one.begins:%Y-%m-%d %H:%M:%S}+00'" for one in (first, last))
    return (
        "select ChargePeriodStart, ResourceName as tier,\n"
        f"{_SUMS}\nfrom {FILES}\nwhere ChargeCategory = 'Usage' and ChargePeriodStart between {begin} and {end}\n"
        "group by 1, 2 order by 1, 2"
    )


def by_meter(before: Month, month: Month) -> str:
    """Return the query of what changed: both months by tier, department and kind of usage."""
    begins = [f"timestamptz '{one.begins:%Y-%m-%d %H:%M:%S}+00'" for one in (before, month)]
    return (
        "select ResourceName as tier, x_Department as department, SkuMeter as usage,\n"
        f"       sum(EffectiveCost) filter (ChargePeriodStart = {begins[0]}) as before,\n"
        f"       sum(EffectiveCost) filter (ChargePeriodStart = {begins[1]}) as now\n"
        f"from {FILES}\nwhere ChargeCategory = 'Usage' and ChargePeriodStart in ({', '.join(begins)})\n"
        "group by all order by abs(coalesce(now, 0) - coalesce(before, 0)) desc"
    )
