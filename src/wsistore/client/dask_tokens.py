"""Giving a gateway's token to the workers of a Dask cluster: into their memory, not into any task."""

from __future__ import annotations

from typing import Any

from wsistore.client import tokens
from wsistore.optional import needing

with needing("Sharing a token with a cluster", None):
    from distributed import WorkerPlugin


class TokenPlugin(WorkerPlugin):  # type: ignore[misc]  # has no types
    """Tells each worker, those that join later too, the token of a gateway.

    The scheduler keeps it in its memory for these, and it goes over the cluster's own connections: use one whose
    connections are encrypted, or whose network is closed.
    """

    def __init__(self, url: str, token: str) -> None:
        self.name = f"wsistore-token-{url}"
        self._url, self._token = url, token

    def __repr__(self) -> str:
        """Show no token."""
        return f"<TokenPlugin {self._url}>"

    def setup(self, worker: Any) -> None:
        """Remember the token in the worker."""
        tokens.give(self._url, tokens.Fixed(self._token))

    def teardown(self, worker: Any) -> None:
        """Forget it."""
        tokens.forget(self._url)
