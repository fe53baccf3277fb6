"""What is read of a slide: documents, stored objects, chunks of views, tiles; from memory where that can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from wsistore.errors import IntegrityError, ObjectMissingError, TransientError
from wsistore.model import Preset
from wsistore.ops.research_access import SharedSlide
from wsistore.serve import bodies
from wsistore.serve.answers import Answer, Refusal, json_answer, missing
from wsistore.serve.bodies import Headers
from wsistore.serve.files import OpenFiles
from wsistore.serve.paths import Target
from wsistore.serve.pool import Pool
from wsistore.serve.views import SlideViews, StoredObject, View
from wsistore.storage.base import Span

T = TypeVar("T")
_MOST_KNOWN = 4096
"""Objects of a slide of which is kept where they lie."""
_DOCUMENT = "zarr.json"
_JPEG = b"image/jpeg"


class ReplacedError(TransientError):
    """The copy of which an answer had begun is not the slide's any more: nothing of the next one belongs to it."""


class Opened(Protocol):
    """Slides that are open; `wsistore.serve.views.OpenViews` is it."""

    def using(self, slide: str, first_level: int = 0) -> AbstractContextManager[SlideViews]:
        """Open a slide, or take it if it is open; it stays so within the ``with`` statement."""
        ...

    def known(self, slide: str, first_level: int = 0) -> SlideViews | None:
        """Return a slide if it is open, at once."""
        ...

    def close(self) -> None:
        """Close all."""
        ...


class SlideReader:
    """Answers for slides.

    Parameters
    ----------
    opened
        Slides that are open.
    pool
        Where opening, reading and decoding wait.
    files
        Parts of local files that the system has in memory.

    """

    def __init__(self, opened: Opened, pool: Pool, files: OpenFiles) -> None:
        self._opened, self._pool, self._files = opened, pool, files
        self._known: WeakKeyDictionary[SlideViews, dict[tuple[str, str], tuple[StoredObject, bytes]]]
        self._known = WeakKeyDictionary()

    async def zarr(self, slide: SharedSlide, target: Target, headers: Headers, *, head: bool) -> Answer:
        """Return what lies at a key of a slide's Zarr hierarchy.

        Raises
        ------
        Refusal
            If there is nothing that may be shown.
        WsistoreError
            If it cannot be read.

        """
        return await self._of_one_copy(slide, lambda views: self._zarr(slide, views, target, headers, head=head))

    async def _of_one_copy(self, slide: SharedSlide, answer: Callable[[SlideViews], Awaitable[Answer]]) -> Answer:
        """Return an answer whose every part is of one copy; begun anew if that copy was replaced meanwhile."""
        try:
            return await answer(await self._views(slide))
        except ReplacedError:
            return await answer(await self._views(slide))

    async def _views(self, slide: SharedSlide) -> SlideViews:
        views = self._opened.known(slide.slide, slide.first_level)
        return views if views is not None else await self.using(slide, lambda opened: opened)

    async def _zarr(
        self, slide: SharedSlide, views: SlideViews, target: Target, headers: Headers, *, head: bool
    ) -> Answer:
        if target.key == _DOCUMENT or target.key.endswith("/" + _DOCUMENT):
            body = views.document(target.view, target.key)
            if body is None:
                raise Refusal(missing())
            return bodies.document(body, self._etag(target, views), headers)
        if target.view is View.RAW:
            return await self._raw(slide, views, target, headers, head=head)
        return await self._made(slide, views, target, headers, head=head)

    async def tile(self, slide: SharedSlide, target: Target, headers: Headers, *, head: bool) -> Answer:
        """Return a tile for the viewer. Raises as `zarr`."""
        level, y, x = target.tile
        data, state = await self.using(slide, lambda views: (views.tile(level, y, x), views.etag(View.JPEG, _DOCUMENT)))
        if data is None:
            raise Refusal(missing())
        etag = bodies.etag_for(target.project, f"{state}/{level}/{y}/{x}")

        async def read(spans: Sequence[Span]) -> list[bytes]:
            return [data[span.start : span.start + span.length_bytes] for span in spans]

        return await bodies.object_answer(len(data), etag, headers, read, content_type=_JPEG, head=head)

    async def levels(self, slide: SharedSlide) -> Answer:
        """Return what a viewer has to know of a slide's levels and tiles. Raises as `zarr`."""
        levels = await self.using(slide, lambda views: views.levels)
        return json_answer({"levels": [asdict(level) for level in levels]})

    async def using(self, slide: SharedSlide, read: Callable[[SlideViews], T], *, like: SlideViews | None = None) -> T:
        """Return what `read` returns, called in a thread with the opened slide.

        A copy that was moved or encoded anew meanwhile is looked up once more.

        Parameters
        ----------
        slide
            Which.
        read
            Reads.
        like
            Views of the copy that it has to be.

        Raises
        ------
        ReplacedError
            If it is another copy than that of `like`.
        WsistoreError
            If it cannot be read.

        """

        def once() -> T:
            with self._opened.using(slide.slide, slide.first_level) as views:
                if like is not None and views.copy.place != like.copy.place:
                    msg = "The slide's copy was moved or encoded anew."
                    raise ReplacedError(msg, remedy="Open the slide again.")
                return read(views)

        def work() -> T:
            try:
                return once()
            except (IntegrityError, ObjectMissingError):
                return once()

        return await self._pool.run(work)

    def _etag(self, target: Target, views: SlideViews) -> bytes:
        return bodies.etag_for(target.project, views.etag(target.view, target.key))

    async def _raw(
        self, slide: SharedSlide, views: SlideViews, target: Target, headers: Headers, *, head: bool
    ) -> Answer:
        known = self._known.setdefault(views, {})
        found = known.get((target.project, target.key))
        if found is None:
            if views.copy.preset is Preset.PACK:  # its list of entries may have to be read
                looked_up = await self.using(slide, lambda opened: opened.stored(target.key), like=views)
            else:
                looked_up = views.stored(target.key)
            if looked_up is None:
                raise Refusal(missing())
            if len(known) >= _MOST_KNOWN:
                known.clear()
            found = (looked_up, bodies.etag_for(target.project, looked_up.etag))
            known[target.project, target.key] = found
        stored, etag = found

        async def read(spans: Sequence[Span]) -> list[bytes]:
            return await self._stored(slide, views, stored, target.key, spans)

        answer = await bodies.object_answer(stored.size_bytes, etag, headers, read, head=head)
        answer.part_of = stored
        return answer

    async def _stored(
        self, slide: SharedSlide, views: SlideViews, stored: StoredObject, key: str, spans: Sequence[Span]
    ) -> list[bytes]:
        """Return parts of a stored object, each whole."""
        if stored.path is not None:
            at_hand = [self._files.read(stored.path, stored.start + span.start, span.length_bytes) for span in spans]
            if None not in at_hand:
                return cast(list[bytes], at_hand)

        def read(opened: SlideViews) -> list[bytes]:
            found = opened.raw_parts(key, spans)
            if found is None or [len(part) for part in found] != [span.length_bytes for span in spans]:
                msg = "A stored object is not what it was when it was looked up."
                raise IntegrityError(msg, remedy="Ask again; verify the slide if that does not help.")
            return found

        return await self.using(slide, read, like=views)

    async def _made(
        self, slide: SharedSlide, views: SlideViews, target: Target, headers: Headers, *, head: bool
    ) -> Answer:
        etag = self._etag(target, views)
        if is_same(headers, etag):
            return bodies.not_modified(etag, bodies.KEPT_FOR_EVER)
        data = await self.using(slide, lambda opened: opened.read(target.view, target.key), like=views)
        if data is None:
            raise Refusal(missing())

        async def read(spans: Sequence[Span]) -> list[bytes]:
            return [data[span.start : span.start + span.length_bytes] for span in spans]

        return await bodies.object_answer(len(data), etag, headers, read, head=head)


def is_same(headers: Headers, etag: bytes) -> bool:
    """Say whether the client names this very ETag: it can have it only from an answer, so there is such an object."""
    return headers.get(b"if-none-match") == etag
