"""A service that looks at a site's shares: one run of the flow `ingest` after the other, in one warm process."""

from __future__ import annotations

import time

from bench.support.serving import Answer, peak_memory_bytes, serve
from wsistore_flows.ingest import ingest


def look(site: str) -> Answer:
    """Run the flow once, as its schedule does every few minutes."""
    before, cpu = time.perf_counter(), time.process_time()
    state = ingest(site=site, return_state=True)
    return {
        "state": str(state.name),
        "failed": state.is_failed() or state.is_crashed(),
        "message": str(state.message),
        "seconds": time.perf_counter() - before,
        "cpu": time.process_time() - cpu,
        "peak_bytes": peak_memory_bytes(),
    }


if __name__ == "__main__":
    serve({"look": look})
