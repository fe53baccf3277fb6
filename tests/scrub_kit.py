"""What tests of scrubs share: running one, damaging what lies in a tier, and the classes of places that can rot."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.move_kit import bare
from wsistore import ops
from wsistore.catalog.records import CopyRow
from wsistore.execute import SerialExecutor
from wsistore.model import CopyState, Preset
from wsistore.ops.results import Failure
from wsistore.ops.scrub_results import Finding, Result, ScrubRow, TierReport
from wsistore.ops.stored import commit_of, place_of


class Scrubbed:
    """What one scrub found."""

    def __init__(self, results: list[Result]) -> None:
        self.rows = [one for one in results if isinstance(one, ScrubRow)]
        self.findings = [one for one in results if isinstance(one, Finding)]
        self.tiers = {one.tier: one for one in results if isinstance(one, TierReport)}

    @property
    def found(self) -> list[tuple[str, str]]:
        """Kind and tier of all findings."""
        return [(str(one.what), one.tier) for one in self.findings]

    def statuses(self, slide: str | None = None) -> dict[str, str]:
        """Return the status of every copy that was read, by tier and slide; by tier if a slide is given.

        Where time stands still a copy that was just made is read once more; it is the first row that counts.
        """
        rows = [row for row in reversed(self.rows) if slide in (None, row.slide)]
        return {row.tier if slide else f"{row.tier}/{row.slide}": str(row.status) for row in rows}

    @property
    def errors(self) -> list[Failure]:
        """Why tiers were left out."""
        return [one.error for one in self.tiers.values() if one.error is not None]


def scrub(site: ops.Site, *tiers: str, everything: bool = True, **options: object) -> Scrubbed:
    """Scrub in this process; all copies, unless told otherwise."""
    options.setdefault("executor", SerialExecutor())
    return Scrubbed(list(ops.scrub(site, tiers, everything=everything, **options)))  # type: ignore[arg-type]


def copy_in(site: ops.Site, slide: str, tier: str) -> CopyRow:
    """Return a slide's copy in a tier."""
    (found,) = [copy for copy in site.catalog.copies(slide) if copy.tier == tier and copy.state != CopyState.SUPERSEDED]
    return found


def rot(site: ops.Site, tier: str, key: str, change: Callable[[bytes], bytes]) -> None:
    """Alter an object where it lies."""
    storage = bare(site, tier)
    data = storage.get(key)
    altered = change(data)
    assert altered != data
    storage.put(key, altered)


def flip(at: float) -> Callable[[bytes], bytes]:
    """Return what turns over one bit of the byte at this part of an object's length."""

    def change(data: bytes) -> bytes:
        place = min(len(data) - 1, int(at * len(data)))
        return data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :]

    return change


def rotting(copy: CopyRow) -> Iterator[tuple[str, str]]:
    """Yield the name and key of one object for every class of objects that a copy has."""
    yield "commit", copy.commit_key
    place = place_of(copy)
    keys = [record.key for record in commit_of(copy).objects]
    if copy.preset is Preset.PACK:
        yield from (("store archive" if key.startswith(place.store) else "private archive", key) for key in keys)
        return
    seen = set()
    for key in keys:
        name = key.removeprefix(place.store).removeprefix(place.private)
        kind = _kind(name, is_private=key.startswith(place.private))
        if kind not in seen:
            seen.add(kind)
            yield kind, key


def _kind(name: str, *, is_private: bool) -> str:
    if is_private:
        return name.split("/")[0]
    parts = name.split("/")
    if parts[-1] == "zarr.json":
        return "zarr.json of the root" if len(parts) == 1 else f"zarr.json of {parts[-2]}"
    return "shard" if "image" in parts else next(part for part in parts if not part.isdigit())
