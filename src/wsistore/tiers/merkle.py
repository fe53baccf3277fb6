"""Merkle trees as RFC 6962 (Certificate Transparency), section 2.1, defines them, with SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

EMPTY = hashlib.sha256(b"").hexdigest()
"""The root of no leaves."""


def root(leaves: Iterable[bytes]) -> str:
    """Return the root over `leaves` in their order, 64 lower-case hexadecimal digits.

    A leaf's hash is SHA-256 of a zero byte and the leaf; a node's that of a one byte and its two children; the left
    child has the largest power of two of leaves that is smaller than the node's. Holds as many hashes as the tree is
    high.
    """
    # Complete subtrees, their heights falling: as the digits of a binary counter.
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        height, node = 0, hashlib.sha256(b"\0" + leaf).digest()
        while stack and stack[-1][0] == height:
            node = hashlib.sha256(b"\1" + stack.pop()[1] + node).digest()
            height += 1
        stack.append((height, node))
    if not stack:
        return EMPTY
    node = stack.pop()[1]
    while stack:
        node = hashlib.sha256(b"\1" + stack.pop()[1] + node).digest()
    return node.hex()
