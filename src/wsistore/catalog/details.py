"""Details of events, which are JSON, as columns of texts: many at once."""

from __future__ import annotations

import json
from collections.abc import Sequence

import duckdb
import pyarrow as pa


def detail_texts(details: pa.Array, names: Sequence[str]) -> pa.Table | None:
    """Return what details say, as one column of texts per name; None if one of them is no JSON.

    DuckDB reads JSON half again as fast as Arrow does. What is no text in the JSON is its JSON text.
    """
    wanted = json.dumps(dict.fromkeys(names, "VARCHAR"))
    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("details", pa.table({"detail": details}))
            query = "select unnest(json_transform(detail, ?::json)) from details"
            return connection.sql(query, params=[wanted]).to_arrow_table()
    except duckdb.Error:
        return None
