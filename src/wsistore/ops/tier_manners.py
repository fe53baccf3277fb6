"""How a tier behaves beside keeping bytes: who wins a race, what is listed, deleted, kept, forbidden and locked."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

from wsistore.errors import ObjectExistsError, ObjectMissingError, StorageError
from wsistore.ops.tier_bench import Bench
from wsistore.ops.tier_rows import Found, Result
from wsistore.settings import CertificateState

RACERS = 16
_RACES = 5
_LISTED = 12
_LAG_SECONDS = 10.0
_AT_ONCE_SECONDS = 0.1
_SKEW_WARNING_SECONDS, _SKEW_MOST_SECONDS = 60.0, 900.0
"""S3 services refuse requests that are signed more than 15 minutes off."""
_NO_GUARD = "Two writers could both believe that they won: do not use this service for a tier."


def conditional(bench: Bench) -> Found:
    """Let threads race for a key: exactly one may write, and the object is the winner's."""
    for n in range(_RACES):
        key = bench.key(f"race-{n}")
        contents = [os.urandom(64) for _ in range(RACERS)]
        winners = _race(bench, key, contents)
        if len(winners) != 1:
            return Found(
                Result.FAILED,
                f"{len(winners)} of {RACERS} racing writers of one key were told that they wrote it",
                _NO_GUARD,
                {"winners": len(winners), "writers": RACERS},
            )
        if bench.storage.get(key) != contents[winners[0]]:
            return Found(Result.FAILED, "the object is not the winner's", _NO_GUARD)
        if _race(bench, key, [b"late"]):
            return Found(Result.FAILED, "a later writer replaced the object", _NO_GUARD)
    return Found(
        Result.OK,
        f"{RACERS} writers, {_RACES} races, one winner each",
        values={"winners": 1, "writers": RACERS},
    )


def _race(bench: Bench, key: str, contents: list[bytes]) -> list[int]:
    """Return which of the writers of `contents` were told that they wrote `key`."""
    start = threading.Barrier(len(contents))

    def write(content: bytes) -> bool:
        start.wait()
        try:
            bench.storage.put(key, content, if_absent=True)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(len(contents)) as pool:
        return [n for n, won in enumerate(pool.map(write, contents)) if won]


def listing(bench: Bench) -> Found:
    """List what was just written: all of it, once each, in order, and nothing else."""
    keys = [bench.key(f"list/{n:02d}/{kind}") for n in range(_LISTED // 2) for kind in ("a", "é")]
    for key in keys:
        bench.storage.put(key, b"x")
    begun = bench.clock.monotonic_seconds()
    prefix = f"{bench.prefix}list/"
    while True:
        # Until this listing was asked for: how long a service takes to answer is no lag of what it knows.
        lag = bench.clock.monotonic_seconds() - begun
        found = [info.key for info in bench.storage.list(prefix)]
        if found == keys or lag > _LAG_SECONDS:
            break
        bench.clock.sleep(0.2)
        if set(found) - set(keys) or len(found) != len(set(found)) or found != sorted(found, key=str.encode):
            return Found(Result.FAILED, "names what is not there, twice, or out of order", _LIST)
    rest = [info.key for info in bench.storage.list(prefix, after=keys[3])]
    if found != keys:
        return Found(Result.WARNING, f"{len(found)} of {len(keys)} objects listed after {lag:.0f} s", _LAG)
    if rest != keys[4:]:
        return Found(Result.FAILED, "cannot be begun in the middle", _LIST)
    if lag > _AT_ONCE_SECONDS:
        return Found(Result.WARNING, f"complete only after {lag:.1f} s", _LAG, {"lag_seconds": lag})
    return Found(Result.OK, f"{len(keys)} objects at once, in order", values={"lag_seconds": lag})


_LIST = "Orphans are found, and lost catalogues rebuilt, by listing: use a service that lists what it holds."
_LAG = "The listing lags. Slides are safe, but let no rebuild or cleaning run right after writes."


def overwrite(bench: Bench) -> Found:
    """Replace an object by a shorter one."""
    key = bench.key("overwritten")
    bench.storage.put(key, b"first, and longer")
    bench.storage.put(key, b"second")
    if bench.storage.get(key) != b"second":
        return Found(Result.FAILED, "the object is as it was before", "Look for a cache or a policy that forbids it.")
    return Found(Result.OK)


def delete(bench: Bench) -> Found:
    """Delete an object, twice: it is gone at once, and the second time is no error."""
    key = bench.key("deleted")
    bench.storage.put(key, b"x")
    bench.remove(key)
    for ask in (bench.storage.get, bench.storage.head):
        try:
            ask(key)
        except ObjectMissingError:
            continue
        return Found(Result.WARNING, "a deleted object is still there", "Copies can be dropped only later, or never.")
    bench.storage.delete(key, version="null" if bench.storage.properties.versions else None)
    how = "with its version" if bench.storage.properties.versions else "and again"
    return Found(Result.OK, how)


def versions(bench: Bench) -> Found:
    """See whether replaced objects are kept, and can be read."""
    if not bench.storage.properties.versions:
        return Found(Result.NO, "keeps no versions", values={"versions": False})
    key = bench.key("versions")
    old = bench.storage.put(key, b"old").version
    bench.storage.put(key, b"new")
    kept = [info for info in bench.storage.versions(key) if info.key == key]
    if old is None or len(kept) != 2 or bench.storage.get(key, version=old) != b"old":
        return Found(Result.FAILED, f"{len(kept)} of 2 versions are there", "Look at the bucket's versioning.")
    note = "Dropped copies take room until their versions are gone: let a lifecycle rule end noncurrent versions."
    return Found(Result.OK, "replaced objects are kept", note, {"versions": True})


def clock(bench: Bench) -> Found:
    """Compare the tier's clock with ours."""
    abilities = bench.abilities()
    skew = None if abilities is None else abilities.skew_seconds
    if skew is None:
        bench.storage.put(key := bench.key("clock"), b"x")
        info = bench.storage.head(key)
        skew = (info.modified - bench.clock.now()).total_seconds()
    values = {"skew_seconds": skew}
    if abs(skew) <= _SKEW_WARNING_SECONDS:
        return Found(Result.OK, f"{abs(skew):.0f} s off", values=values)
    result = Result.FAILED if abs(skew) > _SKEW_MOST_SECONDS else Result.WARNING
    ahead = "ahead of" if skew > 0 else "behind"
    remedy = "Let both use a time server: requests are refused, and locks end at the wrong time."
    return Found(result, f"the tier's clock is {abs(skew):.0f} s {ahead} ours", remedy, values)


def permissions(bench: Bench) -> Found:
    """Say what was denied, and whether others may look into a tier that is a folder."""
    if bench.denied:
        return Found(
            Result.FAILED,
            f"denied: {', '.join(bench.denied)}",
            "Give the account what docs/tiers.md lists.",
            {"denied": " ".join(bench.denied)},
        )
    path = bench.tier.path
    if path is not None and path.is_dir():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & stat.S_IRWXO:
            remedy = f"The companions hold identities of patients. Run: chmod o= {path}"
            return Found(Result.WARNING, f"everybody may look into the folder (mode {mode:04o})", remedy)
    return Found(Result.OK, "nothing that was tried is denied")


def lock(bench: Bench) -> Found:
    """See whether a locked object can be deleted. Leaves one behind: nobody can remove it before its time."""
    wanted = bench.tier.object_lock
    abilities = bench.abilities()
    if wanted is None:
        default = None if abilities is None else abilities.default_lock
        return Found(Result.NO, f"the bucket's own: {default}" if default else "not configured")
    if abilities is not None and not abilities.object_lock:
        return Found(
            Result.FAILED,
            "the bucket was made without Object Lock",
            "Make a bucket with Object Lock, or take object_lock out of the tier's settings.",
        )
    if bench.locking is None:
        left = f"leaves one object for {wanted.days} days"
        return Found(Result.SKIPPED, f"{wanted.mode}, {wanted.days} days: not tried", f"Run with --lock, which {left}.")
    key = f"{bench.prefix}locked"
    info = bench.locking.put(key, b"locked by a check of the tier\n")
    try:
        bench.locking.delete(key, version=info.version)
    except StorageError:
        bench.kept.add(key)
        seen = f"{wanted.mode}: {key} stays for {wanted.days} days"
        return Found(Result.OK, seen, values={"key": key, "days": wanted.days})
    return Found(
        Result.FAILED, "a locked object was deleted", "Do not count on this lock; ask whoever runs the service."
    )


def certificate(bench: Bench) -> Found:
    """See whether the hosting certificate still holds."""
    today = bench.clock.now().date()
    state, found = bench.tier.certificate_state(today), bench.tier.certificate
    if found is None:
        return Found(Result.NO, "none named", values={"state": str(state)})
    seen = f"{found.number}, valid until {found.valid_until.isoformat()}"
    values = {"state": str(state), "valid_until": found.valid_until.isoformat()}
    if state is CertificateState.VALID:
        return Found(Result.OK, seen, values=values)
    remedy = "Ask the host for its new certificate, then mend hds_certificate in wsistore.toml."
    if state is CertificateState.EXPIRED:
        remedy = f"The tier may take no new copies. {remedy}"
    return Found(Result.WARNING, f"{seen} ({state})", remedy, values)
