"""Documents that an identity provider publishes, read from where the settings say, or not at all."""

from __future__ import annotations

import urllib.request
from http.client import HTTPException
from typing import Any

from wsistore.errors import TransientError

MOST_BYTES = 1 << 20
"""Of a document."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where the settings say, or not at all."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nowhere."""


def fetch(url: str, *, seconds: float, remedy: str) -> bytes:
    """Return what lies under a URL, as far as `MOST_BYTES`; no redirection is followed.

    Parameters
    ----------
    url
        That the settings allow.
    seconds
        How long to wait for it.
    remedy
        What to do about it if it cannot be had.

    Raises
    ------
    TransientError
        If it cannot be had.

    """
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(url, timeout=seconds) as answer:
            content: bytes = answer.read(MOST_BYTES)
            return content
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        msg = f"The identity provider's document cannot be read from {url} ({error})."
        raise TransientError(msg, remedy=remedy) from error
