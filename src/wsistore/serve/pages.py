"""The viewer's files: its page, and what the page loads. None of them says anything of a slide."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from wsistore.serve.answers import Answer, Header, Refusal, missing, unauthorized
from wsistore.serve.bodies import is_known
from wsistore.serve.paths import Target

FOLDER = Path(__file__).parent / "viewer"
_PAGE = "view.html"
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURE: tuple[Header, ...] = (
    (b"content-security-policy", _POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def static(name: str, headers: Mapping[bytes, bytes]) -> Answer:
    """Return a file that pages load.

    Raises
    ------
    Refusal
        If there is none of this name.

    """
    return _answer(f"static/{name}", headers)


def page(headers: Mapping[bytes, bytes]) -> Answer:
    """Return the page that shows a slide; which one, it takes from its own address.

    Raises
    ------
    Refusal
        If the viewer is not installed.

    """
    return _answer(_PAGE, headers)


def sign_in_first(target: Target) -> Answer:
    """Return the answer to a browser that shows no token, for the page of a slide that there is or is not."""
    # Nothing of a project's or slide's name needs to be quoted: see `wsistore.serve.paths`.
    link = f"/viewer/sign-in.html#/projects/{target.project}/slides/{target.pseudonym}/view"
    refresh = f'<meta http-equiv="refresh" content="0; url={link}">'
    text = f'<!doctype html><title>Sign in</title>{refresh}<a href="{link}">Sign in</a>'
    answer = unauthorized()
    kept = [header for header in answer.headers if header[0] != b"content-type"]
    return Answer(401, [(b"content-type", _TYPES[".html"]), *kept, *_SECURE], text.encode())


@cache
def _files() -> Mapping[str, Path]:
    """Return all files by name: what is not among them is not there, whatever a path says."""
    return {
        path.relative_to(FOLDER).as_posix(): path
        for path in FOLDER.rglob("*")
        if path.is_file() and path.suffix in _TYPES
    }


@cache
def _content(name: str) -> tuple[bytes, bytes]:
    data = _files()[name].read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:24]}"'.encode()


def _answer(name: str, headers: Mapping[bytes, bytes]) -> Answer:
    if name not in _files():
        raise Refusal(missing())
    data, etag = _content(name)
    common = [(b"etag", etag), (b"cache-control", b"private, no-cache"), *_SECURE]
    if is_known(headers, etag):
        return Answer(304, common)
    return Answer(200, [(b"content-type", _TYPES[Path(name).suffix]), *common], data)
