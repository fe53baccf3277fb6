"""URLs that lead to objects in the store itself, signed for a short while, where the site allows that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wsistore.model import Preset
from wsistore.ops.research_access import SharedSlide
from wsistore.serve.answers import Answer, Refusal, error_answer, invalid, json_answer
from wsistore.serve.requests import Request
from wsistore.serve.slides import SlideReader
from wsistore.serve.views import SlideViews
from wsistore.storage.signed_urls import signed_urls

MOST_KEYS = 1000
MOST_SECONDS = 900
"""How long a URL works at most: so long it does, whatever is revoked meanwhile."""
_SECONDS = 300
_REMEDY = "Send {'keys': [...], 'seconds': 300}, as /openapi.json describes it."

Sign = Callable[[SlideViews, Sequence[str], int], "list[str] | None"]
"""Signs URLs of objects of `View.RAW`, by name, for so many seconds; None where the copy's tier cannot."""


def sign(views: SlideViews, keys: Sequence[str], seconds: int) -> list[str] | None:
    """Return URLs of objects of a slide's store; None if they lie within others, or in no service that signs."""
    if views.copy.preset is Preset.PACK:
        return None
    prefix = views.copy.place.store
    return signed_urls(views.copy.storage, [prefix + key for key in keys], seconds)


class SigningRoutes:
    """Signs URLs.

    Parameters
    ----------
    reader
        Of slides.
    sign
        Signs; None where the site does not allow it.

    """

    def __init__(self, reader: SlideReader, sign: Sign | None) -> None:
        self._reader, self._sign = reader, sign

    async def answer(self, request: Request, slide: SharedSlide) -> Answer:
        """Return a URL for each key that is asked for.

        Raises
        ------
        Refusal
            If the site does not allow it, the tier cannot, or a key is none of the slide's objects.

        """
        sign = self._sign
        if sign is None:
            raise Refusal(_unsupported())
        keys, seconds = _wanted(await request.json())
        urls = await self._reader.using(slide, lambda views: _signed(views, keys, seconds, sign))
        return json_answer({"urls": dict(zip(keys, urls, strict=True)), "expires_in": seconds})


def _wanted(document: Any) -> tuple[list[str], int]:
    keys, seconds = document.get("keys"), document.get("seconds", _SECONDS)
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_KEYS or not all(isinstance(key, str) for key in keys):
        raise Refusal(invalid(f"'keys' is no list of 1 to {MOST_KEYS} keys.", _REMEDY))
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds <= MOST_SECONDS:
        raise Refusal(invalid(f"'seconds' is no whole number from 1 to {MOST_SECONDS}.", _REMEDY))
    return list(dict.fromkeys(keys)), seconds


def _signed(views: SlideViews, keys: Sequence[str], seconds: int, sign: Sign) -> list[str]:
    # Documents are not among them: as they lie they tell of levels that a project may not see.
    if any(views.stored(key) is None for key in keys):
        raise Refusal(invalid("A key is no stored object of this slide.", _REMEDY))
    urls = sign(views, keys, seconds)
    if urls is None:
        raise Refusal(_unsupported())
    return urls


def _unsupported() -> Answer:
    return error_answer(409, "presign", "There are no signed URLs for this slide.", "Read it through the gateway.")
