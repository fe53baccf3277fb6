"""What the tiers know of a site's slides, read from them alone: ledgers, commits, and whether the objects are there."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from wsistore.catalog.changes import Cursor
from wsistore.catalog.states import State
from wsistore.compress.keys import PRIVATE, STORE
from wsistore.errors import WsistoreError
from wsistore.events import Event
from wsistore.storage.base import Storage
from wsistore.tiers import commits, ledger
from wsistore.tiers.commits import Commit
from wsistore.tiers.ledger import Signed

_READERS = 32
"""Small objects that are read at once: they cost a round trip each."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class LedgerProof:
    """What a tier's ledger proves of itself."""

    tier: str
    segments: int
    signed: Signed
    """The weakest of its segments' signatures."""
    head_at: str
    """When its last signed root was made; empty if there is none."""
    head_agrees: bool
    """Whether the chains in the segments have that root."""


@dataclass(slots=True)
class Found:
    """What lies on a tier."""

    tier: str
    states: dict[str, tuple[int, State]] = field(default_factory=dict)
    """The newest state of each slide, with the number of the change that it knows of."""
    events: dict[str, dict[int, Event]] = field(default_factory=lambda: defaultdict(dict))
    commits: list[Commit] = field(default_factory=list)
    incomplete: dict[str, str] = field(default_factory=dict)
    """Copies, by their attempt, of which objects are missing or of another size: why."""
    cursor: Cursor | None = None
    proof: LedgerProof | None = None
    problems: list[str] = field(default_factory=list)


def gather(tier: str, tier_id: str, storage: Storage, known: Collection[str], tell: Callable[[str], None]) -> Found:
    """Read all that a tier knows.

    What is damaged is told among `Found.problems` and left out; what follows a damaged segment of the ledger counts.

    Parameters
    ----------
    tier, tier_id, storage
        The tier.
    known
        Ids of the site's signing keys.
    tell
        Hears what is being done.

    Raises
    ------
    StorageError
        If the tier fails.

    """
    found = Found(tier)
    with ThreadPoolExecutor(_READERS, "wsistore-gather") as pool:
        tell(f"{tier}: reading the ledger")
        _read_ledger(found, tier_id, storage, known, pool)
        tell(f"{tier}: reading commits")
        _read_commits(found, storage, pool)
    tell(f"{tier}: looking for the objects of {len(found.commits)} copies")
    _check_objects(found, storage)
    return found


def gather_ledger(tier: str, tier_id: str, storage: Storage, known: Collection[str]) -> Found:
    """Read what a tier's ledger tells and nothing else; as `gather`."""
    found = Found(tier)
    with ThreadPoolExecutor(_READERS, "wsistore-gather") as pool:
        _read_ledger(found, tier_id, storage, known, pool)
    return found


def _read_ledger(
    found: Found, tier_id: str, storage: Storage, known: Collection[str], pool: ThreadPoolExecutor
) -> None:
    weakest, previous, number, head_at, agrees = Signed.KNOWN, ledger.NO_SEGMENT, 0, "", True
    last_heads = ledger.find_heads(storage)[-1:]
    chains: dict[str, tuple[int, str]] = {}
    for key, data in _read(pool, lambda key: ledger.get(storage, key), ledger.find_segments(storage)):
        try:
            if isinstance(data, WsistoreError):
                raise data
            segment, signed = ledger.decode_segment(data, known, where=key)
        except WsistoreError as error:
            found.problems.append(f"{found.tier}: {error.message}")
            previous = ""
            continue
        if segment.tier != tier_id:
            found.problems.append(f"{found.tier}: {key} is of another tier ({segment.tier}), and was left out.")
            continue
        if segment.number != number + 1 or (previous and segment.previous != previous):
            found.problems.append(f"{found.tier}: {key} does not follow the one before it: something was taken out.")
        number, previous = segment.number, ledger.digest(data)
        weakest = _weaker(weakest, signed)
        for slide, state in segment.slides.items():
            if segment.seq >= found.states.get(slide, (0, state))[0]:
                found.states[slide] = (segment.seq, state)
        for event in segment.events:
            found.events[event.slide][event.number] = event
            if event.number >= chains.get(event.slide, (0, ""))[0]:
                chains[event.slide] = (event.number, event.hash)
        if ledger.head_key(number) in last_heads:
            head_at, agrees = _check_head(found, storage, number, previous, chains, known)
        found.cursor = Cursor(number=number, digest=previous, seq=segment.seq, head_at=head_at)
    if number:
        found.proof = LedgerProof(found.tier, number, weakest, head_at, agrees)


def _check_head(
    found: Found,
    storage: Storage,
    number: int,
    digest: str,
    chains: dict[str, tuple[int, str]],
    known: Collection[str],
) -> tuple[str, bool]:
    """Compare the root over all chains with the signed one."""
    key = ledger.head_key(number)
    try:
        head, _ = ledger.decode_head(ledger.get(storage, key), known, where=key)
    except WsistoreError as error:
        found.problems.append(f"{found.tier}: {error.message}")
        return "", False
    root = ledger.chains_root((slide, *last) for slide, last in sorted(chains.items()))
    agrees = (head.digest, head.root) == (digest, root)
    if not agrees:
        found.problems.append(f"{found.tier}: the chains of events do not have the root that {key} was signed for.")
    return head.at, agrees


def _weaker(one: Signed, other: Signed) -> Signed:
    order = (Signed.KNOWN, Signed.FOREIGN, Signed.NOT)
    return max(one, other, key=order.index)


def _read_commits(found: Found, storage: Storage, pool: ThreadPoolExecutor) -> None:
    for _, commit in _read(pool, lambda key: commits.read(storage, key), commits.find(storage)):
        if isinstance(commit, WsistoreError):
            found.problems.append(f"{found.tier}: {commit.message}")
        else:
            found.commits.append(commit)


def _check_objects(found: Found, storage: Storage) -> None:
    """Compare what lies under each copy's keys with what its commit names: by number and size, from one listing."""
    lying: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for tree in (STORE, PRIVATE):
        for info in storage.list(f"{tree}/"):
            parts = info.key.split("/", 3)
            if len(parts) == 4:
                sums = lying[parts[2]]
                sums[0] += 1
                sums[1] += info.size_bytes
    for commit in found.commits:
        count, size = lying.get(commit.attempt, (0, 0))
        if (count, size) != (len(commit.objects), commit.bytes_stored):
            wrong = _wrong_objects(storage, commit)
            if wrong:
                found.incomplete[commit.attempt] = wrong


def _wrong_objects(storage: Storage, commit: Commit) -> str:
    """Say what is wrong with a copy's objects, one by one: something else may lie among them."""
    sizes = {
        info.key: info.size_bytes
        for prefix in (commit.place.store, commit.place.private)
        for info in storage.list(prefix)
    }
    wrong = [record.key for record in commit.objects if sizes.get(record.key) != record.size_bytes]
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{wrong[0]}{more} missing or of another size" if wrong else ""


def _read(
    pool: ThreadPoolExecutor, read: Callable[[str], V], keys: Iterable[str]
) -> Iterator[tuple[str, V | WsistoreError]]:
    """Yield what is read of each key, in order, several at once; an error that is of one object only is yielded too."""

    def one(key: str) -> V | WsistoreError:
        try:
            return read(key)
        except WsistoreError as error:
            return error

    left = iter(keys)
    window = deque((key, pool.submit(one, key)) for key in islice(left, 4 * _READERS))
    while window:
        key, task = window.popleft()
        window += [(more, pool.submit(one, more)) for more in islice(left, 1)]
        yield key, task.result()
