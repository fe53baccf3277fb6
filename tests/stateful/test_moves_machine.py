"""The machine of `tests.stateful.moves`, for a few dozen steps; run that for thousands."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.stateful.moves import MovesMachine

TestMoves = MovesMachine.TestCase
# A step takes a tenth of a second: each proves every copy.
TestMoves.settings = settings(
    max_examples=5, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
