"""Counts what goes over a connection to a server: bytes, requests, and how many of them wait for one another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK_BYTES = 1 << 18


@dataclass(slots=True)
class Traffic:
    """What went over all connections since the last `clear`."""

    bytes_received: int = 0
    """By the client: headers too."""
    requests: list[list[float]] = field(default_factory=list)
    """When each began, and when the last of its answer came."""

    def clear(self) -> None:
        """Begin anew."""
        self.bytes_received = 0
        self.requests = []

    def round_trips(self) -> int:
        """Return the longest row of requests of which each began after the one before was answered."""
        count, end = 0, float("-inf")
        for began, ended in sorted(self.requests, key=lambda one: one[1]):
            if began >= end:
                count, end = count + 1, ended
        return count


@contextmanager
def counted(port: int) -> Iterator[tuple[int, Traffic]]:
    """Pass connections on to a port of this machine; yield the port to connect to, and what is counted.

    Requests are told apart by whose turn it is: HTTP/1.1 without pipelining.
    """
    traffic = Traffic()
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    listening: list[int] = []
    tasks: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            there, to = await asyncio.open_connection("127.0.0.1", port)
            connection = _Connection(traffic)
            await asyncio.gather(_pass_on(reader, to, connection.asked), _pass_on(there, writer, connection.answered))
        tasks.discard(task)

    async def run() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        listening.append(server.sockets[0].getsockname()[1])
        ready.set()
        with suppress(asyncio.CancelledError):
            await server.serve_forever()
        for task in tasks:
            task.cancel()

    main = loop.create_task(run())

    def work() -> None:
        loop.run_until_complete(main)
        loop.close()

    thread = threading.Thread(target=work, name="counting", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield listening[0], traffic
    finally:
        loop.call_soon_threadsafe(main.cancel)
        thread.join(10)


class _Connection:
    """Whose turn it is on one connection."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._request: list[float] | None = None
        self._clients_turn = True

    def asked(self, _: int) -> None:
        if self._clients_turn:
            now = time.monotonic()
            self._request = [now, now]
            self._traffic.requests.append(self._request)
            self._clients_turn = False

    def answered(self, size_bytes: int) -> None:
        self._clients_turn = True
        self._traffic.bytes_received += size_bytes
        if self._request is not None:
            self._request[1] = time.monotonic()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tell: Callable[[int], object]) -> None:
    while data := await reader.read(_BLOCK_BYTES):
        tell(len(data))
        writer.write(data)
        await writer.drain()
    writer.close()
