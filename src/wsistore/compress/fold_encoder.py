"""Making folds: which tiles of a chunk go together, what libjxl makes of them, and what is kept otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from wsistore.compress import transcoded
from wsistore.compress.coding import Encoded, Payloads
from wsistore.compress.fold import FoldError
from wsistore.compress.fold_container import FIRST_PART, MISSING, REPEATED, Kind, Part, pack
from wsistore.compress.fold_forms import (
    ARITHMETIC,
    BEYOND_LIBJXL,
    NOT_A_JPEG,
    OTHER_SIZE,
    PROGRESSIVE,
    RESTART_INTERVALS,
    SAMPLING_FACTORS,
    SEVERAL_SCANS,
    STRAY_BYTES,
    TOO_MANY_MCUS,
    TWELVE_BIT,
    UNUSUAL,
    Form,
    HeaderVerdict,
    Look,
)
from wsistore.compress.transcoded import TranscodedError

MOST_FOLD_PIXELS = 2**23
"""Of one JPEG: libjxl takes up to 30 bytes for each (measured), and what is higher saves next to nothing more."""

TABLES_DIFFER = "tables-differ"
TOO_TALL = "too-tall"
REFUSED = "refused-by-libjxl"
NOT_EXACT = "not-exact"
NOT_SMALLER = "not-smaller"

FALLBACKS = {
    TABLES_DIFFER: "have other headers than most tiles of their fold, and are folded with their like",
    TOO_TALL: "did not fit into a JPEG of 65 535 rows with the others, and are in another",
    PROGRESSIVE: "are progressive, and kept alone as JPEG XL",
    SEVERAL_SCANS: "have several scans, and are kept alone as JPEG XL",
    OTHER_SIZE: "have another size than the level's tiles, and are kept alone as JPEG XL",
    RESTART_INTERVALS: "have restart markers of their own, and are kept alone as JPEG XL",
    TOO_MANY_MCUS: "are too large for a restart interval, and are kept alone as JPEG XL",
    STRAY_BYTES: "have bytes that no picture needs, and are kept alone as JPEG XL",
    SAMPLING_FACTORS: "are subsampled as JPEG XL cannot be, and kept as they are",
    TWELVE_BIT: "have 12 bits, and are kept as they are",
    ARITHMETIC: "are coded arithmetically, and kept as they are",
    UNUSUAL: "are JPEG of an unusual kind, and kept as they are",
    NOT_A_JPEG: "are no JPEG, and kept as they are",
    REFUSED: "were refused by libjxl, and are kept as they are",
    NOT_EXACT: "did not come back exactly from JPEG XL, and are kept as they are",
    NOT_SMALLER: "would not be smaller, and are kept as they are",
}
"""Why tiles were not folded with all others of their chunk: stable names, and what to tell people of such tiles."""


def most_payload(tile_shape: tuple[int, int]) -> int:
    """Return how many bytes a tile's payload can have: 27 bits for each of three samples, all stuffed, and a header."""
    height, width = (edge + -edge % 32 for edge in tile_shape)
    return 7 * 3 * height * width + 2**17


def undo(part: Part, tiles: int, form: Form, tile_shape: tuple[int, int]) -> list[bytes]:
    """Return the payloads of a part.

    Parameters
    ----------
    part
        The part.
    tiles
        How many tiles it has.
    form
        Of the payloads.
    tile_shape
        Height and width of a tile in pixels.

    Raises
    ------
    TranscodedError, FoldError
        If it cannot be undone, or not within the memory that sound tiles take.

    """
    if part.jpeg_bytes is None:
        return [part.data]
    most = most_payload(tile_shape)
    if part.jpeg_bytes > tiles * most or any(zeros > most for zeros in part.zeros):
        msg = "it announces more than its tiles can have"
        raise TranscodedError(msg)
    height = tile_shape[0] + -tile_shape[0] % 32
    jpeg = transcoded.decode(part.data, part.jpeg_bytes, (tiles * height, tile_shape[1]))
    payloads = [form.payload(jpeg, part.own)] if tiles == 1 else form.split(jpeg, part.own, tile_shape[0])
    if len(payloads) != tiles:
        msg = f"it has {len(payloads)} tiles where {tiles} are due"
        raise FoldError(msg)
    return [one + bytes(zeros) for one, zeros in zip(payloads, part.zeros, strict=True)] if part.zeros else payloads


class ChunkEncoder:
    """Encodes one chunk.

    Parameters
    ----------
    form
        Of the payloads.
    tile_shape
        Height and width of a tile in pixels.
    payloads
        Of the chunk's tiles.

    """

    def __init__(self, form: Form, tile_shape: tuple[int, int], payloads: Payloads) -> None:
        self._form, self._shape = form, tile_shape
        self._payloads = payloads
        self._looks: dict[int, Look] = {}
        self._parts: list[tuple[tuple[int, ...], Part]] = []
        self._reasons: dict[int, str] = {}
        """Of each tile that is not encoded as wanted; the last one that is found says most."""

    def encode(self) -> Encoded:
        """Return the chunk."""
        codes = [MISSING] * len(self._payloads)
        before: bytes | None = None
        groups: dict[bytes, list[int]] = {}
        known: HeaderVerdict | None = None
        for number, payload in enumerate(self._payloads):
            if payload is None:
                continue
            if payload == before:
                codes[number] = REPEATED
                continue
            before = payload
            known = self._sort(number, payload, groups, known)
        self._fold_groups(list(groups.values()))
        self._parts.sort(key=lambda item: item[0])
        for place, (tiles, _) in enumerate(self._parts):
            for number in tiles:
                codes[number] = FIRST_PART + place
        fallbacks = dict(sorted(Counter(self._reasons.values()).items()))
        return Encoded(pack(codes, [part for _, part in self._parts]), fallbacks)

    def _sort(
        self, number: int, payload: bytes, groups: dict[bytes, list[int]], known: HeaderVerdict | None
    ) -> HeaderVerdict | None:
        """Put a tile into the group of its header, or keep it alone; return what is known of its header."""
        try:
            look = self._form.look(payload, known)
        except FoldError:
            self._keep(number, NOT_A_JPEG)
            return known
        if look.reason in BEYOND_LIBJXL:
            self._keep(number, look.reason)
        elif look.reason:
            self._alone(number, look)
        else:
            self._looks[number] = look
            groups.setdefault(look.verdict.header, []).append(number)
        return look.verdict

    def _fold_groups(self, groups: Sequence[list[int]]) -> None:
        largest = max(groups, key=len, default=[])
        for tiles in groups:
            if tiles is not largest:
                self._reasons.update(dict.fromkeys(tiles, TABLES_DIFFER))
            for some in self._cut(tiles):
                self._fold(some)

    def _cut(self, tiles: list[int]) -> list[list[int]]:
        """Return a group as folds that are not too high, of nearly equal size."""
        highest = self._looks[tiles[0]].verdict.most_tiles
        most = max(1, min(highest, MOST_FOLD_PIXELS // (self._shape[0] * self._shape[1])))
        if most == highest:
            self._reasons.update(dict.fromkeys(tiles[most:], TOO_TALL))
        count = -(-len(tiles) // most)
        borders = [len(tiles) * i // count for i in range(count + 1)]
        return [tiles[a:b] for a, b in pairwise(borders)]

    def _fold(self, tiles: list[int]) -> None:
        """Keep tiles as one fold; if libjxl does not give it back, halve it until the culprits are found."""
        if len(tiles) == 1:
            self._alone(tiles[0], self._looks[tiles[0]])
            return
        looks = [self._looks[number] for number in tiles]
        zeros = tuple(look.zeros for look in looks)
        made = self._part(self._form.join(looks), tiles, looks[0].verdict.own, zeros if any(zeros) else ())
        if isinstance(made, Part):
            self._parts.append((tuple(tiles), made))
        elif made == NOT_SMALLER:
            for number in tiles:
                self._keep(number, made)
        else:
            half = len(tiles) // 2
            self._fold(tiles[:half])
            self._fold(tiles[half:])

    def _alone(self, number: int, look: Look) -> None:
        """Keep one tile as JPEG XL, if that gives it back."""
        own = look.verdict.own
        made = self._part(self._form.complete(self._payload(number), own), [number], own, ())
        if isinstance(made, Part):
            self._parts.append(((number,), made))
            self._reasons.update({number: look.reason} if look.reason else {})
        else:
            self._keep(number, made)

    def _keep(self, number: int, reason: str) -> None:
        """Keep one tile as it is."""
        self._parts.append(((number,), Part(self._payload(number))))
        self._reasons[number] = reason

    def _part(self, jpeg: bytes, tiles: list[int], own: Kind, zeros: tuple[int, ...]) -> Part | str:
        """Return a part that was undone and compared, or the reason why there is none."""
        payloads = [self._payload(number) for number in tiles]
        try:
            part = Part(transcoded.encode(jpeg), len(jpeg), zeros, own)
        except TranscodedError:
            return REFUSED
        try:
            exact = undo(part, len(tiles), self._form, self._shape) == payloads
        except (TranscodedError, FoldError):
            exact = False
        if not exact:
            return NOT_EXACT
        return part if len(part.data) < sum(map(len, payloads)) else NOT_SMALLER

    def _payload(self, number: int) -> bytes:
        payload = self._payloads[number]
        assert payload is not None  # noqa: S101 - only tiles that are there are sorted
        return payload
