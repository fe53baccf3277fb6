"""What tests of keys share: sites with tiers that encrypt companions, and what must not show in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from wsistore import ops
from wsistore.keys import site_keys
from wsistore.storage.base import Storage
from wsistore.storage.wrapper import WrappedStorage
from wsistore.testing.clock import ManualClock


def encrypting(folder: Path, tiers: Iterable[str] = ("warm",), *, keys: bool = True) -> Path:
    """Make a site on disk of which some tiers encrypt companions."""
    ops.init_site(folder)
    for tier in tiers:
        set_encrypting(folder, tier, is_on=True)
    if keys:
        site_keys.make(folder / "keys", ManualClock())
    return folder


def set_encrypting(folder: Path, tier: str, *, is_on: bool) -> None:
    """Change the setting of a tier."""
    path = folder / "wsistore.toml"
    text = re.sub(rf"(\[tiers\.{tier}\]\n)(encrypt_companions = \w+\n)?", r"\1", path.read_text("utf-8"))
    line = f"encrypt_companions = {'true' if is_on else 'false'}\n"
    path.write_text(text.replace(f"[tiers.{tier}]\n", f"[tiers.{tier}]\n{line}"), "utf-8")


def bytes_of(folder: Path, tier: str, tree: str = "") -> dict[str, bytes]:
    """Return all that lies on a tier's disk."""
    root = folder / "tiers" / tier
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted((root / tree).rglob("*")) if p.is_file()}


def innermost(storage: Storage) -> Storage:
    """Return a tier without its decorators."""
    while isinstance(storage, WrappedStorage):
        storage = storage.inner
    return storage
