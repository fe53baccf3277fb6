"""What the gateway answers: status, headers and a body, which may come in blocks; and errors, in one form."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from wsistore.errors import (
    ConflictError,
    DeniedError,
    InputError,
    IntegrityError,
    Kind,
    MissingError,
    ObjectArchivedError,
    StorageError,
    TransientError,
    UnsupportedError,
    WsistoreError,
)
from wsistore.serve.views import StoredObject

Header = tuple[bytes, bytes]

JSON = b"application/json"
BINARY = b"application/octet-stream"
SAFE_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Of every answer: nothing is guessed of a body, and no pseudonym goes out in a referrer."""
_RETRY_SECONDS = 2
ERRORS: Mapping[int, str] = {
    400: "The request means nothing",
    401: "No token that is in force: one text for all reasons",
    403: "The token lacks the scope",
    404: "Not there, or not for the caller: one text for all reasons",
    405: "The resource has no such method",
    409: "The slide is cold (with where to ask for its recall), or cannot be given in this way",
    415: "The slide cannot be shown in this way",
    416: "Nothing lies in the range, or there are too many ranges",
    429: "Above a limit; see Retry-After",
    500: "The gateway failed",
    502: "What is stored cannot be read",
    503: "Too much to do, or the store cannot be reached; see Retry-After",
}
"""What every error status means."""


@dataclass(slots=True)
class Answer:
    """One answer. The body is `body`, or what `blocks` yields: `length_bytes` bytes."""

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    blocks: AsyncIterator[bytes] | None = None
    length_bytes: int | None = None
    """Of the body, where that is not `body`: of `blocks`, or of what a request for the head alone is not sent."""
    part_of: StoredObject | None = None
    """The object of which this is a part or the whole, where one is sent as it lies."""


class Refusal(Exception):  # noqa: N818 - no error of ours: what a client is told
    """Ends a request with an answer that is no success."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(document: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Answer:
    """Return a JSON document, which no cache keeps."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Answer(status, [(b"content-type", JSON), (b"cache-control", b"private, no-store"), *headers], body)


def error_answer(
    status: int,
    error: str,
    message: str,
    remedy: str,
    *,
    more: Mapping[str, Any] | None = None,
    headers: tuple[Header, ...] = (),
) -> Answer:
    """Return an error as the gateway tells it."""
    return json_answer({"error": error, "message": message, "remedy": remedy, **(more or {})}, status, headers)


def unauthorized() -> Answer:
    """Return the one answer to all who show no token that is in force."""
    return error_answer(
        401,
        "unauthorized",
        "A valid token is needed.",
        "Send 'Authorization: Bearer TOKEN'; ask the project's owner for a new token if yours is refused.",
        headers=((b"www-authenticate", b'Bearer realm="wsistore"'),),
    )


def missing() -> Answer:
    """Return the one answer about all that is not there, or not for the caller."""
    return error_answer(404, "missing", "There is no such thing here.", "Follow the links that /projects begins with.")


def forbidden(what: str) -> Answer:
    """Return the answer to a caller whose token lacks a scope."""
    return error_answer(403, "forbidden", f"This token may not {what}.", "Ask for a token with this scope.")


def not_allowed(allow: str) -> Answer:
    """Return the answer to a method that a resource does not have."""
    headers = ((b"allow", allow.encode()),)
    return error_answer(405, "method", "This cannot be done here.", f"Use {allow}.", headers=headers)


def invalid(message: str, remedy: str) -> Answer:
    """Return the answer to a request that does not mean anything."""
    return error_answer(400, "invalid", message, remedy)


def too_many(what: str, seconds: float, *, status: int = 429) -> Answer:
    """Return the answer to a caller above a limit, or of a gateway that has too much to do (503)."""
    wait = max(1, int(seconds + 0.999))
    error = "limit" if status == 429 else "busy"
    headers = ((b"retry-after", str(wait).encode()),)
    return error_answer(status, error, what, f"Try again in {wait} s.", more={"retry_after": wait}, headers=headers)


def over_quota(now: datetime) -> Answer:
    """Return the answer to a caller whose grant has no bytes left in this month (of UTC)."""
    following = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    wait = int((following - now).total_seconds()) + 1
    message = "The bytes of this project's grant are used up for this month."
    headers = ((b"retry-after", str(wait).encode()),)
    remedy = "Ask the project's owner for a larger quota."
    return error_answer(429, "quota", message, remedy, more={"retry_after": wait}, headers=headers)


def of_error(error: WsistoreError) -> Answer:
    """Return how an error of ours is told outside: by its class only, for its text may name keys and places."""
    if isinstance(error, DeniedError):
        return unauthorized()
    if isinstance(error, MissingError):
        return missing()
    if isinstance(error, InputError) and not isinstance(error, UnsupportedError):
        return invalid("The request cannot be understood.", "See /openapi.json.")
    if isinstance(error, UnsupportedError):
        return error_answer(
            415, "unsupported", "This slide cannot be shown in this way.", "Ask for another view of it."
        )
    if isinstance(error, ObjectArchivedError):
        return error_answer(409, "cold", "The slide is in an archive.", "Ask for its recall.")
    if isinstance(error, TransientError | ConflictError) or error.kind is Kind.TIER_MISSING:
        return too_many("The store cannot be reached just now.", _RETRY_SECONDS, status=503)
    if isinstance(error, IntegrityError | StorageError):
        return error_answer(502, "store", "What is stored cannot be read.", "Tell the site's administrator.")
    return failed()


def failed() -> Answer:
    """Return the answer where something went wrong that is nobody's business outside."""
    return error_answer(500, "internal", "The gateway failed.", "Try again; tell the site's administrator.")
