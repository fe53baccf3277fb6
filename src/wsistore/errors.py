"""The one error tree of wsistore, its stable kinds and the exit codes they map to.

::

    WsistoreError
    ├── InputError          the source cannot be taken as it is: mend or replace it      exit 3
    │   ├── UnsupportedError    sound, but of a kind that wsistore does not keep
    │   ├── BrokenError         damaged, truncated or lying about itself
    │   └── IncompleteError     parts are missing, or parts of two slides are mixed
    ├── MissingError        what was named is not there: name another                    exit 4
    ├── ConflictError       somebody else is at it, or it changed: try again later       exit 5
    ├── StorageError        a tier does not do what it should: look at the tier          exit 6
    │   ├── TransientError      may pass by itself: worth a retry
    │   ├── FullError           no space left
    │   ├── ObjectMissingError  no object under this key
    │   ├── ObjectExistsError   a conditional write found an object under this key
    │   └── ObjectArchivedError the object lies in an archive: it must be restored before it can be read
    ├── IntegrityError      stored bytes are not what they were: restore from a copy     exit 7
    ├── SiteError           settings, catalogue or permissions of the site: mend the site  exit 8
    ├── WorkersError        worker processes or the cluster fail: look at them, run again  exit 10
    └── DeniedError         a caller of the gateway shows no token that is in force: get one  exit 11

The second level says what the caller does next. ``kind`` is stable and append-only: scripts may compare it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class Kind(StrEnum):
    """Machine-readable reason of an error. Members are added, never renamed or removed."""

    UNSUPPORTED_FORMAT = "unsupported-format"
    UNSUPPORTED_PIXELS = "unsupported-pixels"
    NOT_A_SLIDE = "not-a-slide"
    SOURCE_BROKEN = "source-broken"
    SOURCE_EMPTY = "source-empty"
    SOURCE_TRUNCATED = "source-truncated"
    SOURCE_IMPLAUSIBLE = "source-implausible"
    SOURCE_INCOMPLETE = "source-incomplete"
    SOURCE_MIXED = "source-mixed"
    SOURCE_UNREADABLE = "source-unreadable"
    SOURCE_CHANGED = "source-changed"
    SOURCE_BUSY = "source-busy"
    METADATA_INVALID = "metadata-invalid"
    PATH_MISSING = "path-missing"
    SLIDE_MISSING = "slide-missing"
    SLIDE_AMBIGUOUS = "slide-ambiguous"
    TIER_UNKNOWN = "tier-unknown"
    TIER_CLOSED = "tier-closed"
    CONDITION_INVALID = "condition-invalid"
    BUSY = "busy"
    HELD = "held"
    LAST_COPY = "last-copy"
    TARGET_EXISTS = "target-exists"
    TIER_MISSING = "tier-missing"
    STORAGE_FAILED = "storage-failed"
    STORAGE_TRANSIENT = "storage-transient"
    STORAGE_FULL = "storage-full"
    CAPACITY_EXCEEDED = "capacity-exceeded"
    STORAGE_DENIED = "storage-denied"
    OBJECT_MISSING = "object-missing"
    OBJECT_EXISTS = "object-exists"
    OBJECT_ARCHIVED = "object-archived"
    RETRIEVAL_REFUSED = "retrieval-refused"
    KEY_INVALID = "key-invalid"
    CORRUPT = "corrupt"
    FORMAT_UNKNOWN = "format-unknown"
    CHAIN_BROKEN = "chain-broken"
    SITE_MISSING = "site-missing"
    SITE_EXISTS = "site-exists"
    SITE_READ_ONLY = "site-read-only"
    SETTINGS_INVALID = "settings-invalid"
    CATALOG_FAILED = "catalog-failed"
    DEPENDENCY_MISSING = "dependency-missing"
    INTERNAL = "internal"
    CLUSTER_UNREACHABLE = "cluster-unreachable"
    CLUSTER_UNFIT = "cluster-unfit"
    WORKERS_LOST = "workers-lost"
    WORKERS_MEMORY = "workers-memory"
    KEY_MISSING = "key-missing"
    KEY_DESTROYED = "key-destroyed"
    SHEET_INVALID = "sheet-invalid"
    RULES_INVALID = "rules-invalid"
    PLAN_MISSING = "plan-missing"
    PLAN_INVALID = "plan-invalid"
    PLAN_CLOSED = "plan-closed"
    PLAN_EXPIRED = "plan-expired"
    PLAN_OVER_LIMIT = "plan-over-limit"
    NOT_APPROVED = "not-approved"
    NOT_ALLOWED = "not-allowed"
    PASSPHRASE_WRONG = "passphrase-wrong"  # noqa: S105 - a kind of error
    SIGNATURE_INVALID = "signature-invalid"
    CLOCK_WRONG = "clock-wrong"
    SCENARIO_INVALID = "scenario-invalid"
    TOKEN_MISSING = "token-missing"  # noqa: S105 - a kind of error, as those below
    TOKEN_INVALID = "token-invalid"  # noqa: S105
    TOKEN_EXPIRED = "token-expired"  # noqa: S105
    PROJECT_MISSING = "project-missing"
    PROJECT_EXISTS = "project-exists"


class WsistoreError(Exception):
    """Root of all errors that wsistore raises on purpose.

    Parameters
    ----------
    message
        One sentence: what is wrong and where (file, key, slide or tier by name).
    kind
        Stable reason; each class has a default.
    remedy
        One sentence: what to do about it.

    """

    exit_code: ClassVar[int] = 1
    default_kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, message: str, *, kind: Kind | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind or self.default_kind
        self.remedy = remedy

    def __str__(self) -> str:
        """Message and remedy as one text for people."""
        return f"{self.message} {self.remedy}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the keyword-only parts, so that errors cross process borders whole."""
        return (_rebuild, (type(self), self.message, self.kind, self.remedy))


def _rebuild(cls: type[WsistoreError], message: str, kind: Kind, remedy: str) -> WsistoreError:
    return cls(message, kind=kind, remedy=remedy)


class InputError(WsistoreError):
    """The source cannot be taken as it is."""

    exit_code = 3
    default_kind = Kind.SOURCE_BROKEN


class UnsupportedError(InputError):
    """The source is sound, but of a kind that wsistore does not keep."""

    default_kind = Kind.UNSUPPORTED_FORMAT


class BrokenError(InputError):
    """The source is damaged, truncated or lies about itself."""


class IncompleteError(InputError):
    """Parts of the source are missing, or parts of several slides are mixed."""

    default_kind = Kind.SOURCE_INCOMPLETE


class MissingError(WsistoreError):
    """What was named is not there."""

    exit_code = 4
    default_kind = Kind.PATH_MISSING


class ConflictError(WsistoreError):
    """Somebody else is at work on the same thing, or it changed meanwhile."""

    exit_code = 5
    default_kind = Kind.BUSY


class StorageError(WsistoreError):
    """A tier does not do what it should."""

    exit_code = 6
    default_kind = Kind.STORAGE_FAILED


class TransientError(StorageError):
    """A failure that may pass by itself.

    Parameters
    ----------
    message, kind, remedy
        As for `WsistoreError`.
    retry_after_seconds
        What the server asked for, if it did.

    """

    default_kind = Kind.STORAGE_TRANSIENT

    def __init__(
        self,
        message: str,
        *,
        kind: Kind | None = None,
        remedy: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, kind=kind, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the delay that the server asked for."""
        return (_rebuild_transient, (self.message, self.kind, self.remedy, self.retry_after_seconds))


def _rebuild_transient(message: str, kind: Kind, remedy: str, seconds: float | None) -> TransientError:
    return TransientError(message, kind=kind, remedy=remedy, retry_after_seconds=seconds)


class FullError(StorageError):
    """No space left on a tier."""

    default_kind = Kind.STORAGE_FULL


class ObjectMissingError(StorageError):
    """No object lies under this key."""

    default_kind = Kind.OBJECT_MISSING


class ObjectExistsError(StorageError):
    """A conditional write found an object under its key."""

    default_kind = Kind.OBJECT_EXISTS


class ObjectArchivedError(StorageError):
    """The object is there, but in an archive: it must be restored before it can be read."""

    default_kind = Kind.OBJECT_ARCHIVED


class IntegrityError(WsistoreError):
    """Stored bytes are not what they were."""

    exit_code = 7
    default_kind = Kind.CORRUPT


class SiteError(WsistoreError):
    """Settings, catalogue or permissions of the site need mending."""

    exit_code = 8
    default_kind = Kind.SETTINGS_INVALID


class WorkersError(WsistoreError):
    """Worker processes die, lack memory or cannot be had; nothing is wrong with what they work on."""

    exit_code = 10
    default_kind = Kind.WORKERS_LOST


class DeniedError(WsistoreError):
    """A caller shows no token that is in force. All have one message: the kind is for the access log only."""

    exit_code = 11
    default_kind = Kind.TOKEN_INVALID
