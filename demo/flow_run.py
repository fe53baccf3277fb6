"""One run of the lifecycle flow, as a process of its own: ``python -m demo.flow_run SITE [apply]``.

It prints how the run ended. What Prefect is told stands in the environment before it is imported: `demo.prefect_nights`
sees to that.
"""

from __future__ import annotations

import json
import sys

from wsistore_flows.lifecycle import lifecycle


def main(site: str, *rest: str) -> None:
    """Run it, also outside the rules' hours."""
    state = lifecycle(site, plan="apply" not in rest, anytime=True, return_state=True)
    print(json.dumps({"name": state.name, "message": state.message}))


if __name__ == "__main__":
    main(*sys.argv[1:])
