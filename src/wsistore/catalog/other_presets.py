"""Copies that are encoded otherwise than their tier wants: what is left to be encoded anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from wsistore.catalog import schema
from wsistore.catalog.session import Session
from wsistore.model import CopyState, Mode, Preset

_C = schema.copies
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Otherwise:
    """A copy of a slide's current version in another preset."""

    slide: str
    tier: str
    preset: Preset
    bytes_stored: int


def in_other_presets(catalog: Session, tier: str, preset: Preset, *, whole: bool = False) -> Iterator[Otherwise]:
    """Yield the copies of a tier that stay there and are not in a preset, by the keys of their slides.

    Left out are slides on hold, whose copies may not be replaced, temporary copies, and, unless `whole` is true, slides
    that are kept whole: what they gain was measured when they came, and is little. They come in pages, so what is
    yielded may be out of date; who acts on it looks again.
    """
    last = ""
    held = select(schema.holds.c.slide)
    kept_whole = select(schema.slides.c.slide).where(schema.slides.c.mode == str(Mode.WHOLE))
    query = select(_C.c.slide, _C.c.tier, _C.c.preset, _C.c.bytes_stored).where(
        _C.c.tier == tier,
        _C.c.state == str(CopyState.COMMITTED),
        _C.c.preset != str(preset),
        _C.c.expires_at.is_(None),
        _C.c.slide.not_in(held),
    )
    if not whole:
        query = query.where(_C.c.slide.not_in(kept_whole))
    while True:
        with catalog._database.read() as connection:
            page = connection.execute(query.where(_C.c.slide > last).order_by(_C.c.slide).limit(_PAGE)).all()
        yield from (Otherwise(slide, name, Preset(found), size) for slide, name, found, size in page)
        if len(page) < _PAGE:
            return
        last = page[-1].slide
