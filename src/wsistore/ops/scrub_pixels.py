"""Whether the copies of a slide show the same: their pixels, decoded block by block, as one hash per level.

Blocks are taken in an order that has nothing to do with how a copy is encoded, so copies of all presets have the same
hashes. A hash is kept with the copy's verification: so every copy is decoded once, not once for each of the others.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping

from wsistore.catalog.records import CopyRow
from wsistore.client.slide import Slide
from wsistore.compress.archive import open_stored
from wsistore.compress.zarr_store import TierStore
from wsistore.errors import IntegrityError, WsistoreError
from wsistore.events import EventKind
from wsistore.model import CopyState, Mode, Preset
from wsistore.ops.scrub_plan import is_archived
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, current_copies, place_of

BLOCK = 1024
"""Pixels: side of what is decoded at a time. A column of blocks is gone through from top to bottom, for tall folds are
undone once then."""

Hashes = Mapping[str, str]

_log = logging.getLogger(__name__)


def pixel_hashes(site: Site, copy: CopyRow, *, progress: Callable[[int], None] = lambda _: None) -> Hashes:
    """Return for each level of a copy, by its number, the SHA-256 of its pixels; nothing for one that is kept whole.

    Hashed are the level's blocks of `BLOCK` × `BLOCK` pixels, (y, x, c), column by column from the left, each from top
    to bottom; those at the edges are smaller.

    Raises
    ------
    IntegrityError
        If something cannot be decoded.
    StorageError
        If the tier fails.

    """
    stored = open_stored(site.tier(copy.tier), place_of(copy), packed=copy.preset is Preset.PACK)
    if stored.companion.mode is Mode.WHOLE:
        return {}
    required = frozenset(record.key for record in commit_of(copy).objects)
    found = {}
    with Slide(TierStore(stored.storage, stored.place.store, required=required), copy.slide) as slide:
        for number, level in enumerate(slide.levels):
            digest = hashlib.sha256()
            for x in range(0, level.width, BLOCK):
                for y in range(0, level.height, BLOCK):
                    height, width = min(BLOCK, level.height - y), min(BLOCK, level.width - x)
                    pixels = slide.read_region(number, y, x, height, width)
                    digest.update(pixels.tobytes())
                    progress(pixels.nbytes)
            found[str(number)] = digest.hexdigest()
    return found


class PixelComparison:
    """Compares each copy with another one of its slide, as it is now or as it was when it was read last."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def compare(self, copy: CopyRow, mine: Hashes) -> str:
        """Return what is compared with, in words; nothing where the slide has no other copy that can be read.

        Raises
        ------
        IntegrityError
            If the other copy shows something else, now. One that cannot be decoded is found when it is read itself.

        """
        if not mine:
            return ""
        kept = self._kept(copy)
        if kept is not None and kept[1] == mine:
            return kept[0]
        other = self._other(copy)
        if other is None:
            return ""
        # What was kept may have been decoded by another release of a codec: only what is decoded now counts.
        try:
            theirs = pixel_hashes(self._site, other)
        except WsistoreError as error:
            _log.info("copy %s of slide %s cannot be compared with: %s", other.attempt, other.slide, error)
            return ""
        differing = sorted(level for level in {*mine, *theirs} if mine.get(level) != theirs.get(level))
        if differing:
            msg = f"Level {', '.join(differing)} of slide {copy.slide} shows other pixels in tier {copy.tier} than in "
            msg += f"tier {other.tier}, though both give its source back."
            raise IntegrityError(msg, remedy="Restore the source, keep both copies, and report it.")
        return other.tier

    def _kept(self, copy: CopyRow) -> tuple[str, Hashes] | None:
        """Return what was kept when another copy of the same version was read last."""
        standing = {
            other.attempt for other in current_copies(self._site, copy.slide) if other.state is CopyState.COMMITTED
        }
        for event in reversed(self._site.catalog.events(copy.slide)):
            if event.kind != EventKind.VERIFIED or event.detail.get("attempt") not in standing - {copy.attempt}:
                continue
            pixels = event.detail.get("pixels")
            if isinstance(pixels, dict) and pixels:
                return str(event.detail.get("tier")), {str(level): str(value) for level, value in pixels.items()}
        return None

    def _other(self, copy: CopyRow) -> CopyRow | None:
        site = self._site
        for other in current_copies(site, copy.slide):
            if other.attempt == copy.attempt or other.state is not CopyState.COMMITTED:
                continue
            if not is_archived(site.tier_settings(other.tier)) and self._answers(other):
                return other
        return None

    def _answers(self, copy: CopyRow) -> bool:
        try:
            self._site.tier(copy.tier)
        except WsistoreError:
            return False
        return True
