"""The rows of a plan: the decisions, with what they cost and when they are done."""

from __future__ import annotations

import pyarrow as pa

from wsistore.tiers.rules.decisions import DECISIONS

COSTS = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),  # a short sentence: rule, what it wants, or why it waits
        pa.field("state", pa.string(), nullable=False),  # the facts' `state` at the time of planning
        pa.field("bytes_now", pa.int64(), nullable=False),
        pa.field("bytes_after", pa.int64(), nullable=False),  # estimated where a copy is yet to be encoded
        pa.field("bytes_moved", pa.int64(), nullable=False),  # read from one tier and written to another
        pa.field("eur_year_now", pa.float64(), nullable=False),
        pa.field("eur_year_after", pa.float64(), nullable=False),
        pa.field("eur_once", pa.float64(), nullable=False),  # requests, encoding, reading back
        pa.field("eur_retrieval", pa.float64(), nullable=False),
        pa.field("eur_early", pa.float64(), nullable=False),  # what a class charges for leaving it early
        pa.field("payback_years", pa.float64()),  # null: it never pays back, or costs nothing
        pa.field("kwh_year_now", pa.float64(), nullable=False),
        pa.field("kwh_year_after", pa.float64(), nullable=False),
        pa.field("gco2e_year_now", pa.float64(), nullable=False),
        pa.field("gco2e_year_after", pa.float64(), nullable=False),
        pa.field("kwh_once", pa.float64(), nullable=False),
        pa.field("gco2e_once", pa.float64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),  # at measured rates
        pa.field("postponed", pa.string()),  # the limit for which it waits for a later night; null: it is in this plan
    ]
)

PLAN = pa.schema([*DECISIONS, *COSTS])
"""Of the table in a plan's Parquet file: euros without tax, central estimates."""
