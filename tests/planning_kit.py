"""What tests of plans share: facts and decisions of made-up slides, prices that are easy to reckon with, plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from wsistore.storage.archive import Retrieval
from wsistore.tiers.plans import Header
from wsistore.tiers.plans.coefficients import Coefficients, TierTerms
from wsistore.tiers.plans.header import RulesUsed
from wsistore.tiers.plans.making import Circumstances, make
from wsistore.tiers.plans.speeds import Speeds
from wsistore.tiers.prices import Energy, Medium, Prices, RetrievalPrice, Value
from wsistore.tiers.rules.decisions import DECISIONS
from wsistore.tiers.rules.facts import SCHEMA
from wsistore.tiers.rules.values import Limits

Json = dict[str, Any]

AT = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
GENEROUS = Limits(delete_at_most=1.0, move_at_most=1.0)
"""Under which everything goes."""
ENERGY = Energy(
    kwh_per_tb_year=Value(5.0, 10.0, 20.0),
    embodied_kg_per_tb_year=Value(1.0, 2.0, 3.0),
    pue=Value(1.5, 1.5, 1.5),
    grid_g_per_kwh=Value(50.0, 100.0, 150.0),
    watts_per_core=Value(2.0, 2.0, 2.0),
    network_kwh_per_gb=Value(0.001, 0.001, 0.001),
)
HOT = Prices(
    name="disk", title="Disk", medium=Medium.HDD, energy=ENERGY, storage_per_tb_month=Value(10.0, 20.0, 30.0),
    cpu_per_core_hour=Value(0.36, 0.36, 0.36),
)  # fmt: skip
COLD = Prices(
    name="vault", title="Vault", medium=Medium.TAPE, energy=ENERGY, storage_per_tb_month=Value(1.0, 2.0, 3.0),
    raw_per_usable=Value(2.0, 2.0, 2.0), put_per_1000=Value(1.0, 1.0, 1.0), transition_per_1000=Value(2.0, 2.0, 2.0),
    get_per_1000=Value(0.5, 0.5, 0.5), egress_per_gb=Value(0.01, 0.01, 0.01), least_days=Value(180.0, 180.0, 180.0),
    overhead_bytes_per_object=Value(1e6, 1e6, 1e6), standard_per_tb_month=Value(12.0, 12.0, 12.0),
    cpu_per_core_hour=Value(0.36, 0.36, 0.36),
    retrievals=(
        RetrievalPrice(Retrieval.STANDARD, Value(5.0, 5.0, 12.0), per_gb=Value(0.02, 0.02, 0.02)),
        RetrievalPrice(Retrieval.BULK, Value(12.0, 12.0, 48.0), per_gb=Value(0.005, 0.005, 0.005)),
    ),
)  # fmt: skip
WARM = replace(HOT, name="nas", title="NAS", storage_per_tb_month=Value(5.0, 10.0, 15.0))
SPEEDS = Speeds(
    copying={"cold": 50e6, "warm": 100e6, "hot": 100e6},
    encoding={"fold": 10e6, "pack": 5e6},
    encoding_cpu={"fold": 100e-9, "pack": 200e-9},
    samples=9,
)
TIERS = (
    TierTerms(name="cold", prices=COLD, is_archive=True, service=("s3", "vault", "")),
    TierTerms(name="hot", prices=HOT, service=("file", "", "")),
    TierTerms(name="warm", prices=WARM, service=("file", "", "")),
)
TERMS = Coefficients(TIERS, speeds=SPEEDS)
RULES = RulesUsed("rules.yaml", "ab" * 32, "version: 1\n")


def a_copy(tier: str = "hot", size: int = 1_000_000_000, preset: str = "keep", **other: Any) -> Json:
    """Return one copy of a slide."""
    found = {
        "attempt": f"attempt-{tier}-{preset}",
        "tier": tier,
        "preset": preset,
        "state": "committed",
        "bytes_stored": size,
        "objects": 3 if preset == "pack" else 40,
        "created_at": datetime(2026, 1, 1),  # noqa: DTZ001 - Arrow's column has no time zone
        "verified_at": datetime(2026, 11, 1),  # noqa: DTZ001
        "expires_at": None,
        "charged_until": None,
    }
    return found | other


def facts_of(slides: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return facts: what is not told is null, or that of a plain slide of 1 GB in hot."""
    rows = []
    for n, told in enumerate(slides):
        row: Json = dict.fromkeys(SCHEMA.names)
        row |= {
            "slide": f"slide{n:04d}",
            "name": f"{n}.svs",
            "format": "aperio-svs",
            "mode": "tiles",
            "bytes_source": 1_000_000_000,
            "identity_detached": False,
            "holds": 0,
            "version": 1,
            "copies": [a_copy()],
            "state": f"{n:064x}",
        }
        rows.append(row | dict(told))
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["slide"]), SCHEMA)


def step(action: str, tier: str | None = None, source: str | None = None, preset: str | None = None) -> Json:
    """Return one step of a decision."""
    return {"action": action, "tier": tier, "source": source, "preset": preset}


def decisions_of(facts: pa.Table, told: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return decisions for the rows of `facts`, in their order: what is not told is nothing."""
    rows = []
    for fact, one in zip(facts.select(["slide", "case_id"]).to_pylist(), told, strict=True):
        row: Json = dict.fromkeys(DECISIONS.names)
        row |= fact | {"retention": "kept", "action": "none", "place_rule": "archive", "tier": "cold"}
        steps = one.get("steps")
        rows.append(row | ({"action": steps[-1]["action"]} if steps else {}) | dict(one))
    return pa.Table.from_pylist(rows, DECISIONS)


def around(**other: Any) -> Circumstances:
    """Return who makes a plan, where and when."""
    told: Json = {
        "site": "example",
        "author": "account-1",
        "made_at": AT,
        "at": AT,
        "rules": RULES,
        "software": "wsistore 0",
    }
    return Circumstances(**(told | other))


def a_plan(
    slides: Sequence[Mapping[str, Any]],
    told: Sequence[Mapping[str, Any]],
    *,
    limits: Limits = GENEROUS,
    terms: Coefficients = TERMS,
    **other: Any,
) -> tuple[Header, pa.Table]:
    """Return the header and rows of a plan."""
    facts = facts_of(slides)
    return make(facts, decisions_of(facts, told), terms, limits, around(**other))


MOVE = {"steps": [step("move", "cold", "hot", "pack")], "preset": "pack"}
"""To the archive."""
DELETE = {"steps": [step("delete")], "retention": "ended", "keep_rule": "csp", "place_rule": None, "tier": None}
