"""Keys of a tier: where store, companion and commit of a slide lie. Keys are random and say nothing of the content."""

from __future__ import annotations

from dataclasses import dataclass

STORE, PRIVATE, COMMITS = "store", "private", "commits"
KEYRING = "keyring"
"""Holds the data keys of companions that are encrypted; see `wsistore.tiers.keyring`."""

LAYOUT, SKELETON, FILES = "layout.parquet", "skeleton.zst", "files.json.zst"
SOURCE = "source"
"""Folder of the companion that holds the files of a `whole` slide, by number."""


@dataclass(frozen=True, slots=True)
class Place:
    """One attempt at writing a slide; its keys are never used again."""

    slide: str
    attempt: str

    @property
    def store(self) -> str:
        """Prefix of what may be shared, with a trailing slash."""
        return f"{STORE}/{self.slide}/{self.attempt}/"

    @property
    def private(self) -> str:
        """Prefix of the companion, with a trailing slash."""
        return f"{PRIVATE}/{self.slide}/{self.attempt}/"

    @property
    def data_key(self) -> str:
        """Key of the object that holds the companion's data key, where it is encrypted."""
        return f"{KEYRING}/{self.slide}/{self.attempt}.json"

    def source(self, number: int) -> str:
        """Key of a file of a `whole` slide."""
        return f"{self.private}{SOURCE}/{number}"


def commit_key(slide: str, number: int) -> str:
    """Key of a slide's commit; numbers sort as text up to ten million versions."""
    return f"{COMMITS}/{slide}/{number:08d}.json"
