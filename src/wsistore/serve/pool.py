"""Blocking work beside the event loop: a bounded number of threads, a bounded queue before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from wsistore.serve.answers import Refusal, too_many

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """Runs blocking calls in threads.

    Parameters
    ----------
    threads
        How many run at once.
    waiting
        How many may wait for a thread; one more is refused, for it would wait for longer than its client does.
    seconds
        How long a call may take, with its wait; it is given up then (its thread goes on until it ends).

    """

    def __init__(self, *, threads: int, waiting: int, seconds: float) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="gateway")
        self._most, self._seconds = threads + waiting, seconds
        self._pending = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `function` returns.

        Raises
        ------
        Refusal
            If there is too much to do, or it takes too long (503).

        """
        if self._pending >= self._most:
            raise Refusal(too_many("The gateway has too much to do.", 1.0, status=503))
        self._pending += 1
        loop = asyncio.get_running_loop()
        future = self._executor.submit(function, *args, **kwargs)

        def ended(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._end)

        future.add_done_callback(ended)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except TimeoutError:
            raise Refusal(too_many("The store takes too long.", 5.0, status=503)) from None

    def close(self) -> None:
        """Wait for what runs; what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _end(self) -> None:
        self._pending -= 1
