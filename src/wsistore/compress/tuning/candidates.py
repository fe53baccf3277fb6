"""What the tuner tries: the source's own encoding, and every lossless one that its tiles can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs

from wsistore.compress import recoded, source_chain
from wsistore.compress.presets import ENCODINGS, Encoding
from wsistore.model import Preset

Json = Mapping[str, Any]

FOLD_HEIGHTS = (1, 4, 8, 16, 32, 64)
"""Tiles per fold: twice as many bring less and less, and cost twice as much to read one of them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to keep a slide."""

    name: str
    """For people: ``keep``, ``fold 16``, or the name of what tiles are recoded to."""
    encoding: Encoding
    """`Preset.KEEP` or `Preset.FOLD`; packed or not is decided by its cost."""

    @property
    def fold_height(self) -> int:
        """Tiles that are undone to read one of them; 0 where nothing is to be undone."""
        return 0 if self.encoding.preset is Preset.KEEP else self.encoding.fold_height

    @property
    def is_recoding(self) -> bool:
        """Whether it is for tiles that are not JPEG."""
        return self.encoding.preset is not Preset.KEEP and self.encoding.candidate != "auto"

    def in_preset(self, preset: Preset) -> Encoding:
        """Return the encoding of this candidate in a preset."""
        if preset is Preset.KEEP or self.encoding.preset is Preset.KEEP:
            return ENCODINGS[Preset.KEEP]
        return replace(self.encoding, preset=preset, packed=preset is Preset.PACK)


KEEP = Candidate("keep", ENCODINGS[Preset.KEEP])


def folds(heights: Sequence[int] = FOLD_HEIGHTS) -> tuple[Candidate, ...]:
    """Return the candidates for a slide of JPEG tiles, the lowest fold first."""
    return (KEEP, *(Candidate(f"fold {k}", Encoding(Preset.FOLD, fold_height=k)) for k in sorted(set(heights))))


def recodings(names: Sequence[str]) -> tuple[Candidate, ...]:
    """Return the candidates for a slide of other tiles, by what they can be recoded to."""
    return (KEEP, *(Candidate(name, Encoding(Preset.FOLD, candidate=name)) for name in names))


def candidates_for(document: Json) -> tuple[Candidate, ...]:
    """Return what can be tried for a slide, by the zarr.json of its largest level in the preset `keep`."""
    if codec_name(document) in {"jpeg", "jpeg-strips"}:
        return folds()
    config = document["codecs"][0]["configuration"]
    channels, height, width = config["chunk_shape"]
    chain = source_chain.parse(config["codecs"], (channels, height, width), document["data_type"])
    return recodings([name for name in recoded.candidates_for(chain) if name != recoded.SOURCE])


def codec_name(document: Json) -> str:
    """Return the name of the tile codec of a level, by its zarr.json in the preset `keep`.

    It is ``jpeg``, ``lzw`` and so on; ``jpeg-strips`` for strips between the restart markers of one large JPEG, and
    ``bytes`` for tiles that are not compressed.
    """
    names = [str(codec["name"]) for codec in document["codecs"][0]["configuration"]["codecs"]]
    if "wsistore.fold" in names:
        return "jpeg-strips"
    return names[-1].removeprefix("imagecodecs_").removeprefix("wsistore.").lower()


def libraries() -> dict[str, str]:
    """Return the versions of what encodes: other versions may give other bytes."""
    return {"imagecodecs": str(imagecodecs.__version__)}
