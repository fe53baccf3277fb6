"""Slides that are open: opening one costs requests, so those that were used last stay open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from wsistore.clock import Clock, SystemClock
from wsistore.errors import IntegrityError, MissingError, ObjectMissingError
from wsistore.ops.serving import ServedCopy
from wsistore.serve.views.levels import folds
from wsistore.serve.views.slide_views import SlideViews

LOOK_SECONDS = 1.0
"""For so long an open slide is believed to be the one that counts; then it is looked up."""

_Key = tuple[str, int]


@dataclass(slots=True)
class _Open:
    """One open slide."""

    views: Future[SlideViews] = field(default_factory=Future)
    users: int = 0
    is_dropped: bool = False
    """It is no longer found; who leaves last closes it."""
    looked_seconds: float = float("inf")
    """When it was last seen that its copy counts; not before it is open."""


class OpenViews:
    """Opens slides once and keeps those that were used last. Threads share it.

    Parameters
    ----------
    open_copy
        Opens a slide by its key, as `wsistore.ops.serving.open_served` of a site does.
    is_current
        Says whether an opened copy is still the one to answer from, as `wsistore.ops.serving.is_current` of a site
        does. It is asked at most every `LOOK_SECONDS` for each slide, and once it says no the slide is opened anew.
    clock
        Tells how long ago that was.
    most
        Slides that are kept open.

    """

    def __init__(
        self,
        open_copy: Callable[[str], ServedCopy],
        *,
        is_current: Callable[[ServedCopy], bool] = lambda _: True,
        clock: Clock | None = None,
        most: int = 64,
    ) -> None:
        self._open_copy, self._is_current, self._most = open_copy, is_current, most
        self._clock = clock or SystemClock()
        self._folds = folds()
        self._slides: OrderedDict[_Key, _Open] = OrderedDict()
        self._lock = Lock()
        self._is_closed = False

    @contextmanager
    def using(self, slide: str, first_level: int = 0) -> Iterator[SlideViews]:
        """Yield a slide, opened if it was not or is another one now; it is not closed within the ``with`` statement.

        If what is read within raises `IntegrityError` or `ObjectMissingError` the slide is opened anew the next time:
        the copy may have been moved or encoded anew. So the caller tries once more.

        Raises
        ------
        MissingError
            If there is no such slide, none of its levels may be shown, or `close` was called.
        StorageError, IntegrityError
            If it cannot be opened.

        """
        key = (slide, first_level)
        found = self._enter_current(key)
        try:
            yield found.views.result()
        except (IntegrityError, ObjectMissingError):
            self._drop(key, found)
            raise
        finally:
            self._leave(found)

    def known(self, slide: str, first_level: int = 0) -> SlideViews | None:
        """Return a slide if it is open, at once: for what is answered from memory (`document`, `etag`, `stored`).

        It may be closed meanwhile; these still answer then. None too if `using` has to look whether it is still the
        one that counts.
        """
        with self._lock:
            found = self._slides.get((slide, first_level))
            if found is None or not found.views.done() or found.views.exception() is not None:
                return None
            if self._clock.monotonic_seconds() - found.looked_seconds >= LOOK_SECONDS:
                return None
            self._slides.move_to_end((slide, first_level))
            return found.views.result()

    def close(self) -> None:
        """Close all slides, each once nobody reads it any more; opens none from then on. May be repeated."""
        with self._lock:
            self._is_closed = True
            slides = list(self._slides.items())
        for key, found in slides:
            self._drop(key, found)

    def _enter_current(self, key: _Key) -> _Open:
        """Return an open slide with one user more, whose copy was the one that counts a moment ago."""
        found = self._enter(key)
        try:
            if self._still_counts(found):
                return found
            self._drop(key, found)
        except BaseException:
            self._leave(found)
            raise
        self._leave(found)
        return self._enter(key)

    def _still_counts(self, found: _Open) -> bool:
        copy, now = found.views.result().copy, self._clock.monotonic_seconds()
        with self._lock:
            if now - found.looked_seconds < LOOK_SECONDS:
                return True
            before, found.looked_seconds = found.looked_seconds, now  # the others need not look, too
        try:
            return self._is_current(copy)
        except BaseException:
            found.looked_seconds = before
            raise

    def _enter(self, key: _Key) -> _Open:
        """Return an open slide with one user more; who comes first opens it, the others wait for that."""
        with self._lock:
            if self._is_closed:
                msg = "The gateway is being stopped."
                raise MissingError(msg, remedy="Ask again later.")
            found = self._slides.get(key)
            is_first = found is None
            if found is None:
                found = self._slides[key] = _Open()
            self._slides.move_to_end(key)
            found.users += 1
            beyond = [] if len(self._slides) <= self._most else [next(iter(self._slides.items()))]
        for old in beyond:
            self._drop(*old)
        if is_first:
            self._open(key, found)
        return found

    def _open(self, key: _Key, found: _Open) -> None:
        slide, first_level = key
        found.looked_seconds = self._clock.monotonic_seconds()
        try:
            copy = self._open_copy(slide)
            try:
                found.views.set_result(SlideViews(copy, first_level=first_level, kept=self._folds))
            except BaseException:
                copy.close()
                raise
        except BaseException as error:  # the others who wait get it too
            self._drop(key, found)
            found.views.set_exception(error)

    def _drop(self, key: _Key, found: _Open) -> None:
        with self._lock:
            if self._slides.get(key) is found:
                del self._slides[key]
            is_last = not found.is_dropped and not found.users
            found.is_dropped = True
        if is_last:
            _close(found)

    def _leave(self, found: _Open) -> None:
        with self._lock:
            found.users -= 1
            is_last = found.is_dropped and not found.users
        if is_last:
            _close(found)


def _close(found: _Open) -> None:
    if found.views.done() and found.views.exception() is None:
        found.views.result().close()
