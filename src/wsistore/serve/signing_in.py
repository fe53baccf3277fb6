"""How a browser gets a session: it shows a token once, and has a cookie from then on."""

from __future__ import annotations

from wsistore.ops.research_access import Caller
from wsistore.serve.answers import Answer, Refusal, invalid, json_answer, unauthorized
from wsistore.serve.requests import Request
from wsistore.serve.sessions import Sessions, set_cookie


async def shown(request: Request) -> str:
    """Return the token in the body (``{"token": …}``), as a header.

    Raises
    ------
    Refusal
        If there is none, or the request comes from another site's page.

    """
    if b"origin" in request.headers and not request.is_same_origin():
        raise Refusal(unauthorized())
    token = (await request.json()).get("token")
    if not isinstance(token, str):
        raise Refusal(unauthorized())
    return f"Bearer {token}"


def sign_in(request: Request, sessions: Sessions, authorization: str, caller: Caller) -> Answer:
    """Begin a session for a token that is in force.

    Raises
    ------
    Refusal
        If the token does not fit into a cookie.

    """
    value = sessions.seal(authorization)
    if value is None:
        raise Refusal(invalid("The token is too long for a session.", "Use a token of the gateway's own."))
    cookie = (b"set-cookie", set_cookie(value, secure=request.is_secure))
    return json_answer({"user": caller.user, "projects": sorted(caller.projects)}, headers=(cookie,))


def sign_out(request: Request) -> Answer:
    """End a session."""
    cookie = (b"set-cookie", set_cookie("", secure=request.is_secure, seconds=0))
    return json_answer({"user": None, "projects": []}, headers=(cookie,))
