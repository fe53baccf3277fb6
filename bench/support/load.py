"""Many HTTP requests over connections that stay, by wrk, which takes little of the processors itself."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.support.environments import require_program
from bench.support.worker import WorkerError

_SCRIPT = """\
local requests, at = {}, 0
function init(arguments)
  for line in io.lines(arguments[1]) do
    local headers = {}
    for name, value in line:gmatch("\\t([^:\\t]+):([^\\t]*)") do headers[name] = value end
    requests[#requests + 1] = wrk.format("GET", line:match("^[^\\t]+"), headers)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests":%d,"seconds":%f,"bytes":%d,"refused":%d,"broken":%d,"late":%d,"p50":%f,"p99":%f,"most":%f}\\n',
    summary.requests, summary.duration / 1e6, summary.bytes, e.status, e.connect + e.read + e.write, e.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6))
end
"""

Request = tuple[str, Mapping[str, str]]
"""Path and headers."""


@dataclass(frozen=True, slots=True)
class Load:
    """What many requests came to."""

    requests: int
    """Answered."""
    seconds: float
    bytes: int
    refused: int
    """Answered with a status of 400 and more."""
    broken: int
    """Connections that were not made, or ended early."""
    late: int
    """Not answered within ten seconds."""
    p50: float
    p99: float
    most: float
    """Seconds of an answer."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    @property
    def failures(self) -> int:
        """Requests that were not answered as they should."""
        return self.refused + self.broken + self.late


def load(
    url: str, requests: Sequence[Request], folder: Path, *, seconds: float, connections: int, may_fail: bool = False
) -> Load:
    """Send requests for some seconds, each connection one after another.

    Parameters
    ----------
    url
        Of the server, without a path.
    requests
        Sent in an order of chance, again and again.
    folder
        For files that wrk reads.
    seconds
        For how long.
    connections
        How many stay open.
    may_fail
        Whether failures are for the caller to look at.

    Raises
    ------
    UnavailableError
        If wrk is not there and cannot be installed.
    WorkerError
        If it fails, or any request does and none may.

    """
    program = require_program("wrk", "wrk")
    script, listed = folder / "load.lua", folder / "requests"
    script.write_text(_SCRIPT)
    mixed = list(requests)
    random.Random(len(mixed)).shuffle(mixed)
    listed.write_text(
        "".join(
            path + "".join(f"\t{name}:{value}" for name, value in headers.items()) + "\n" for path, headers in mixed
        )
    )
    command = [
        str(program),
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        url,
    ]
    done = subprocess.run([*command, "--", str(listed)], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"wrk: {(done.stderr or done.stdout).strip()}"
        raise WorkerError(msg)
    found = Load(**json.loads(done.stdout.strip().splitlines()[-1]))
    if not found.requests or (found.failures and not may_fail):
        msg = f"{url} {mixed[0][0]}: {found}"
        raise WorkerError(msg)
    return found
