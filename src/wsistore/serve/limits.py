"""Limits per token and project, over all processes of a gateway: requests and bytes per second, requests at once.

The processes share a small file in memory. Each entry has two buckets that fill with time, one of requests and one of
bytes, and the requests that are under way, counted per process: what a process that died left is forgotten when
another takes its place. Answers that are there already come by the thousand: for those a process takes a small share
out of the buckets at once, and gives back what it did not use. So never more is had than the limits allow.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wsistore.clock import Clock
from wsistore.errors import SiteError

PROCESSES = 16
"""At most share a table."""
_SLOTS, _PROBES = 4096, 16
_HEAD = struct.Struct("<16sddd")
"""Whose; requests and bytes that may still be had; when that was (monotonic seconds)."""
_UNDER_WAY = struct.Struct(f"<{PROCESSES}i")
_COUNT = struct.Struct("<i")
_NONE_UNDER_WAY = bytes(_UNDER_WAY.size)
_SLOT_BYTES = _HEAD.size + _UNDER_WAY.size
_BURST_SECONDS = 2.0
"""So much of a rate may be had at once."""
_BUSY_SECONDS = 1.0
_MOST_SHARE, _SHARE = 32, 1 / 16
"""Requests that a process takes at once at most, and the part of what is left: others are to find something, too."""
_SHARE_SECONDS = 0.02
"""After which a share is not used any more."""
_FREE = bytes(16)


class Rates(Protocol):
    """What a caller may have; `wsistore.ops.research_access.Limits` is it."""

    @property
    def requests_per_second(self) -> float:
        """Mean of a few seconds."""
        ...

    @property
    def bytes_per_second(self) -> float | None:
        """Mean of a few seconds, or longer where single answers are large; None: no limit."""
        ...

    @property
    def concurrent(self) -> int:
        """Requests under way at once."""
        ...


def new_table(path: Path) -> Path:
    """Make the file that the processes of a gateway share."""
    path.write_bytes(bytes(_SLOTS * _SLOT_BYTES))
    return path


@dataclass(slots=True)
class _Share:
    """What a process has taken out of an entry's buckets: it is its own to give."""

    key: bytes
    start: int
    limits: Rates
    requests: int
    size_bytes: float
    until: float


class Limiter:
    """Lets requests in, or says how long to wait. For one thread.

    Parameters
    ----------
    path
        Made by `new_table`.
    clock
        Its monotonic clock is the same in all processes.

    Raises
    ------
    SiteError
        If too many processes share the table.

    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(self._descriptor, _SLOTS * _SLOT_BYTES)
        self._mine = self._take_place()
        self._slots: dict[str, tuple[bytes, int]] = {}
        self._shares: dict[str, _Share] = {}

    def enter(self, who: str, limits: Rates) -> float:
        """Let a request in: 0.0, and `leave` must be called; or return the seconds after which to try again."""
        key, first = self._place(who)
        self._lock(first)
        try:
            start = self._find(key, first)
            requests, left, under_way = self._refilled(key, start, limits, self._shares.pop(who, None))
            wait = _wait(requests, left, sum(under_way), limits)
            if not wait:
                requests -= 1.0
                under_way[self._mine] += 1
            _HEAD.pack_into(self._map, start, key, requests, left, self._clock.monotonic_seconds())
            _UNDER_WAY.pack_into(self._map, start + _HEAD.size, *under_way)
            return wait
        finally:
            self._unlock(first)

    def leave(self, who: str, size_bytes: int) -> None:
        """Count what was sent; the request is over."""
        key, first = self._place(who)
        self._lock(first)
        try:
            start = self._find(key, first)
            owner, requests, left, then = _HEAD.unpack_from(self._map, start)
            if owner != key:
                return  # so many others came meanwhile that this entry had to make room
            _HEAD.pack_into(self._map, start, key, requests, left - size_bytes, then)
            place = start + _HEAD.size + _COUNT.size * self._mine
            (count,) = _COUNT.unpack_from(self._map, place)
            _COUNT.pack_into(self._map, place, max(0, count - 1))
        finally:
            self._unlock(first)

    def pass_through(self, who: str, limits: Rates, size_bytes: int) -> bool:
        """Do what `enter` and `leave` do, for an answer that is there already; False: not now, and nothing counted."""
        share = self._shares.get(who)
        charged = 0 if limits.bytes_per_second is None else size_bytes
        if (
            share is None
            or share.limits is not limits
            or share.requests < 1
            or share.size_bytes < charged
            or self._clock.monotonic_seconds() > share.until
        ):
            return self._take_share(who, limits, charged)
        start = share.start
        if self._map[start : start + len(share.key)] != share.key:
            return self._take_share(who, limits, charged)
        under_way = self._map[start + _HEAD.size : start + _SLOT_BYTES]
        if under_way != _NONE_UNDER_WAY and sum(_UNDER_WAY.unpack(under_way)) >= limits.concurrent:
            return False
        share.requests -= 1
        share.size_bytes -= charged
        return True

    def _take_share(self, who: str, limits: Rates, size_bytes: int) -> bool:
        """Let one answer pass, and take a share for those that follow; what is left of the last one is given back."""
        key, first = self._place(who)
        self._lock(first)
        try:
            start = self._find(key, first)
            requests, left, under_way = self._refilled(key, start, limits, self._shares.pop(who, None))
            now, may_pass = self._clock.monotonic_seconds(), not _wait(requests, left, sum(under_way), limits)
            if may_pass:
                requests, left = requests - 1.0, left - size_bytes
                share = min(_MOST_SHARE, int(max(0.0, requests) * _SHARE)), max(0.0, left) * _SHARE
                requests, left = requests - share[0], left - share[1]
                if len(self._shares) >= _SLOTS:
                    self._shares.clear()  # what they had is lost to their callers, but fills again with time
                self._shares[who] = _Share(key, start, limits, *share, now + _SHARE_SECONDS)
            _HEAD.pack_into(self._map, start, key, requests, left, now)
            _UNDER_WAY.pack_into(self._map, start + _HEAD.size, *under_way)
            return may_pass
        finally:
            self._unlock(first)

    def close(self) -> None:
        """Leave the table."""
        self._map.close()
        os.close(self._descriptor)

    def _refilled(self, key: bytes, start: int, limits: Rates, share: _Share | None) -> tuple[float, float, list[int]]:
        """Return what an entry's buckets hold now, with what is left of a share, and what is under way."""
        owner, requests, left, then = _HEAD.unpack_from(self._map, start)
        burst = max(1.0, limits.requests_per_second * _BURST_SECONDS)
        rate = limits.bytes_per_second or 0.0
        if owner != key:
            return burst, rate * _BURST_SECONDS, [0] * PROCESSES
        passed = max(0.0, self._clock.monotonic_seconds() - then)
        under_way = list(_UNDER_WAY.unpack_from(self._map, start + _HEAD.size))
        if share is not None:
            requests, left = requests + share.requests, left + share.size_bytes
        requests = min(burst, requests + passed * limits.requests_per_second)
        if limits.bytes_per_second is None:
            left = 0.0  # nobody is to pay for it once there is a limit
        return requests, min(rate * _BURST_SECONDS, left + passed * rate), under_way

    def _place(self, who: str) -> tuple[bytes, int]:
        """Return an entry's key, and the first of the slots where it is, or is to be."""
        known = self._slots.get(who)
        if known is None:
            key = hashlib.blake2b(who.encode(), digest_size=16).digest()
            if len(self._slots) >= _SLOTS:
                self._slots.clear()
            known = self._slots[who] = (key, int.from_bytes(key[:4], "little") % (_SLOTS - _PROBES))
        return known

    def _lock(self, first: int) -> None:
        # Held for microseconds. Locks end with the process that holds them, however it ends.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _PROBES * _SLOT_BYTES, first * _SLOT_BYTES)

    def _unlock(self, first: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _PROBES * _SLOT_BYTES, first * _SLOT_BYTES)

    def _find(self, key: bytes, first: int) -> int:
        """Return where an entry begins: its own, a free one, or the one that was used longest ago."""
        oldest, oldest_then = first * _SLOT_BYTES, float("inf")
        for slot in range(first, first + _PROBES):
            start = slot * _SLOT_BYTES
            owner, _, _, then = _HEAD.unpack_from(self._map, start)
            if owner in (key, _FREE):
                return start
            if then < oldest_then and not any(_UNDER_WAY.unpack_from(self._map, start + _HEAD.size)):
                oldest, oldest_then = start, then
        return oldest

    def _take_place(self) -> int:
        """Take a column of counts that no living process has, and forget what its last owner left in it."""
        end = _SLOTS * _SLOT_BYTES
        for number in range(PROCESSES):
            try:
                # Beyond the table: bytes that only stand for the columns. Held until the process ends.
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, end + number)
            except OSError:
                continue
            for slot in range(_SLOTS):
                _COUNT.pack_into(self._map, slot * _SLOT_BYTES + _HEAD.size + _COUNT.size * number, 0)
            return number
        msg = f"More than {PROCESSES} processes of one gateway run."
        raise SiteError(msg, remedy="Start fewer workers.")


def _wait(requests: float, left: float, under_way: int, limits: Rates) -> float:
    if under_way >= limits.concurrent:
        return _BUSY_SECONDS
    if requests < 1.0:
        return (1.0 - requests) / max(limits.requests_per_second, 1e-6)
    if limits.bytes_per_second is not None and left <= 0.0:
        return max(-left / limits.bytes_per_second, _BUSY_SECONDS / 10)
    return 0.0
