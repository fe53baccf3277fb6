"""What the answers of an S3 service, and the failures of the two libraries that ask it, mean for a tier.

Both libraries' exceptions are boiled down to an `Answer` first, so that one table decides for both. Messages carry the
service's error code, never its text or the libraries': those may hold signatures, access keys and request headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from wsistore.errors import FullError, Kind, StorageError, TransientError
from wsistore.storage._errors import object_archived, object_exists, object_missing

_MARK = "Server returned non-2xx status code: "
_CODE = re.compile(r"<Code>([A-Za-z0-9_.]{1,100})</Code>")
_TLS = re.compile(r"certificate|InvalidMessage|UnknownIssuer|tls|ssl|CaUsedAsEndEntity", re.IGNORECASE)

_TRANSIENT = {408, 429, 500, 502, 503, 504}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
_PASSING = {"RequestTimeout", "SlowDown", "ServiceUnavailable", "InternalError", "OperationAborted", "Busy"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity"}
_UNSIGNED = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "AccountProblem", "NotSignedUp", "UnrecognizedClientException",
}  # fmt: skip
_ARCHIVED = {"InvalidObjectState", "ObjectNotInActiveTierError"}
"""Of reads and of copies."""
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a request that failed."""

    status: int | None = None
    """HTTP status, or None if there was no answer."""
    code: str = ""
    """S3's error code, where the answer had one; answers to HEAD have none."""
    reason: str = ""
    """Why there was no answer: ``connection``, ``timeout``, ``tls``, ``credentials``, ``settings``, ``body``."""
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, for the message and for the meaning of the answer."""

    url: str
    key: str
    act: str
    """As a past participle: ``written``."""
    version: str | None = None
    if_absent: bool = False


def of_obstore(error: Exception) -> Answer:
    """Return what an exception of obstore says. Its text is all that it gives."""
    text, _, source = str(error).partition("\n\nDebug source:")
    _, found, rest = text.rpartition(_MARK)
    if found and rest[:3].isdigit():
        code = _CODE.search(rest)
        return Answer(int(rest[:3]), code[1] if code else "")
    if "inner: BareRedirect" in source:
        return Answer(301)
    if "credential provider" in text:
        return Answer(reason="credentials")
    if "kind: Timeout" in source or "TimedOut" in source:
        return Answer(reason="timeout")
    if _TLS.search(source.partition("inner:")[2]):
        return Answer(reason="tls")
    return Answer(reason="body" if "Error performing" not in text else "connection")


def of_botocore(error: Exception, now: datetime) -> Answer:
    """Return what an exception of botocore says; `now` turns a date in Retry-After into seconds."""
    if isinstance(error, boto.ClientError):
        meta = error.response.get("ResponseMetadata", {})
        code = str(error.response.get("Error", {}).get("Code", ""))
        headers = meta.get("HTTPHeaders", {})
        status = meta.get("HTTPStatusCode") or (int(code) if code.isdigit() else None)
        return Answer(status, "" if code.isdigit() else code, "", retry_after(headers.get("retry-after"), now))
    if isinstance(error, boto.SSLError):
        return Answer(reason="tls")
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError):
        return Answer(reason="timeout")
    if isinstance(error, boto.HTTPClientError | ResponseParserError):
        return Answer(reason="connection")
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return Answer(reason="credentials")
    return Answer(reason="settings")


def retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for: it is a number of them, or a date."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        due = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max((due.replace(tzinfo=due.tzinfo or UTC) - now).total_seconds(), 0.0)


def meaning(answer: Answer, asked: Asked) -> StorageError:
    """Return the error that `answer` is for the caller."""
    if answer.status is None:
        return _unanswered(answer, asked)
    code = answer.code
    if code in {"NoSuchBucket", "InvalidBucketName"}:
        return bucket_missing(asked.url)
    if code in {"PreconditionFailed", "ConditionalRequestConflict"} or answer.status == 412:
        return _precondition(answer, asked)
    if answer.status == 404 and code != "NoSuchUpload":
        return object_missing(asked.url, asked.key, asked.version)
    if asked.version is not None and (answer.status == 405 or code in {"InvalidArgument", "NoSuchVersion"}):
        return object_missing(asked.url, asked.key, asked.version)
    if code in _ARCHIVED:
        return object_archived(asked.url, asked.key)
    if code == "GlacierExpeditedRetrievalNotAvailable":
        remedy = "Ask again later, or for standard retrieval; provisioned capacity would be kept for you."
        return TransientError(_what(answer, asked), kind=Kind.RETRIEVAL_REFUSED, remedy=remedy)
    if code in _FULL or answer.status == 507:
        return FullError(_what(answer, asked), remedy="Make room in the bucket, or raise its quota, and run it again.")
    if answer.status in _TRANSIENT or code in _PASSING or code in _DAMAGED:
        return TransientError(_what(answer, asked), retry_after_seconds=answer.retry_after_seconds)
    return _refused(answer, asked)


def bucket_missing(url: str) -> StorageError:
    """Return the error for a bucket that is not there."""
    return StorageError(
        f"The bucket of the tier, {url}, is not there.",
        kind=Kind.TIER_MISSING,
        remedy="Check the bucket's name, the endpoint and the account; nothing was created in its place.",
    )


def changed(asked: Asked) -> TransientError:
    """Return the error for an object that was replaced while its parts were read."""
    return TransientError(f"{asked.key!r} in {asked.url} was replaced while it was read.")


def cut_short(asked: Asked, got_bytes: int, wanted_bytes: int) -> TransientError:
    """Return the error for an answer with fewer bytes than it announced."""
    return TransientError(f"{asked.key!r} could not be read in {asked.url}: {got_bytes} of {wanted_bytes} bytes came.")


def _precondition(answer: Answer, asked: Asked) -> StorageError:
    if not asked.if_absent:
        return changed(asked)
    if answer.status == 412 or answer.code == "PreconditionFailed":
        return object_exists(asked.url, asked.key)
    # Two writes, or a write and a deletion, met: the key may be free or taken, and asking again tells.
    return TransientError(_what(answer, asked), retry_after_seconds=answer.retry_after_seconds)


def _refused(answer: Answer, asked: Asked) -> StorageError:
    message = _what(answer, asked)
    code = answer.code
    if code == "RequestTimeTooSkewed":
        message = (
            f"{_thing(asked)} could not be {asked.act}: the clocks of this machine and of the service differ by more "
            "than 15 minutes."
        )
        return StorageError(message, kind=Kind.STORAGE_DENIED, remedy="Set this machine's clock (NTP), then run again.")
    if code in _UNSIGNED or answer.status == 401:
        remedy = "Check the access key and its secret in the environment, the profile or the credentials file."
        return StorageError(message, kind=Kind.STORAGE_DENIED, remedy=remedy)
    if code in _ELSEWHERE or answer.status in {301, 307}:
        remedy = "Set the region and the endpoint of the bucket in the tier's settings."
        return StorageError(message, kind=Kind.SETTINGS_INVALID, remedy=remedy)
    if code == "NotImplemented" or answer.status == 501:
        return StorageError(message, remedy="The service does not offer this; docs/archive.md says which do.")
    if code == "KeyTooLongError" or answer.status == 414:
        return StorageError(message, kind=Kind.KEY_INVALID, remedy="Use shorter names, or a shorter prefix.")
    if answer.status == 403:
        remedy = "Give the account the right to do so; an object under Object Lock can be deleted only after its time."
        return StorageError(message, kind=Kind.STORAGE_DENIED, remedy=remedy)
    return StorageError(message, remedy="Look at the service's log, then run the same again.")


def _unanswered(answer: Answer, asked: Asked) -> StorageError:
    start = f"{_thing(asked)} could not be {asked.act}: "
    match answer.reason:
        case "tls":
            remedy = "Check the endpoint's https://, and name the authority's certificates in ca_bundle."
            return StorageError(start + "no trusted TLS connection can be made to the service.", remedy=remedy)
        case "credentials":
            remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile or a credentials_file."
            return StorageError(start + "there are no credentials.", kind=Kind.STORAGE_DENIED, remedy=remedy)
        case "settings":
            remedy = "Check the tier's endpoint, region and profile in the settings."
            return StorageError(start + "the settings do not fit.", kind=Kind.SETTINGS_INVALID, remedy=remedy)
        case "timeout":
            return TransientError(start + "the service did not answer in time.")
        case "body":
            return TransientError(start + "the connection broke off, or the answer makes no sense.")
        case _:
            return TransientError(
                start + "the service cannot be reached.", remedy="Check the endpoint and the network."
            )


def _what(answer: Answer, asked: Asked) -> str:
    said = " ".join(part for part in (str(answer.status or ""), answer.code) if part)
    return f"{_thing(asked)} could not be {asked.act}: the service answered {said}."


def _thing(asked: Asked) -> str:
    return f"{asked.key!r} in {asked.url}" if asked.key else asked.url
