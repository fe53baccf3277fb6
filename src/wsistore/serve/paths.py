"""The gateway's URLs: from a path to what it means. Nothing here looks whether it exists, or who asks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from wsistore.serve.views import View

MOST_BYTES = 1024
"""Of a path; no canonical one is nearly as long."""

_MOST_KNOWN = 4096
"""Paths whose meaning is kept: readers of shards ask for parts of the same few again and again."""

NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""Of projects and pseudonyms."""
_NAME = re.compile(NAME_PATTERN)
_STATIC = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TILE = re.compile(r"(0|[1-9][0-9]{0,2})/(0|[1-9][0-9]{0,8})/(0|[1-9][0-9]{0,8})\.jpeg")
_SUFFIXES = ((".jpeg.zarr", View.JPEG), (".zstd.zarr", View.ZSTD), (".zarr", View.RAW))


class Kind(StrEnum):
    """What a path leads to; the access log says it too."""

    NOTHING = "nothing"
    HEALTH = "health"
    OPENAPI = "openapi"
    SESSION = "session"
    STATIC = "static"
    PROJECTS = "projects"
    PROJECT = "project"
    SLIDES = "slides"
    SLIDE = "slide"
    ZARR = "zarr"
    TILES = "tiles"
    TILE = "tile"
    PAGE = "page"
    RECALL = "recall"
    PRESIGN = "presign"


METHODS: dict[Kind, tuple[str, ...]] = {
    Kind.HEALTH: ("GET", "HEAD"),
    Kind.OPENAPI: ("GET", "HEAD"),
    Kind.SESSION: ("POST", "DELETE"),
    Kind.STATIC: ("GET", "HEAD"),
    Kind.PROJECTS: ("GET", "HEAD"),
    Kind.PROJECT: ("GET", "HEAD"),
    Kind.SLIDES: ("GET", "HEAD"),
    Kind.SLIDE: ("GET", "HEAD"),
    Kind.ZARR: ("GET", "HEAD"),
    Kind.TILES: ("GET", "HEAD"),
    Kind.TILE: ("GET", "HEAD"),
    Kind.PAGE: ("GET", "HEAD"),
    Kind.RECALL: ("GET", "HEAD", "POST"),
    Kind.PRESIGN: ("POST",),
}
"""What may be done with each."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    kind: Kind
    project: str = ""
    pseudonym: str = ""
    view: View = View.RAW
    key: str = ""
    """Within the slide's Zarr hierarchy, or name of a static file."""
    tile: tuple[int, int, int] = (0, 0, 0)
    """Level, y, x."""


NOTHING = Target(Kind.NOTHING)
_FIXED = {
    "/health": Target(Kind.HEALTH),
    "/openapi.json": Target(Kind.OPENAPI),
    "/session": Target(Kind.SESSION),
    "/projects": Target(Kind.PROJECTS),
}
_OF_SLIDE = {"tiles": Kind.TILES, "view": Kind.PAGE, "recall": Kind.RECALL, "presign": Kind.PRESIGN}


@lru_cache(_MOST_KNOWN)
def parse(raw_path: bytes) -> Target:
    """Return what a path means, exactly as the client sent it.

    There is one way to write each: with nothing percent-encoded, no empty and no dotted segments. All others mean
    nothing, so that no two texts ever stand for the same object.
    """
    if len(raw_path) > MOST_BYTES or not raw_path.isascii() or b"%" in raw_path:
        return NOTHING
    path = raw_path.decode("ascii")
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    first, _, rest = path[1:].partition("/")
    if first == "projects":
        return _of_project(rest)
    if first == "viewer":
        return _static(rest)
    return NOTHING


def _static(name: str) -> Target:
    if all(_STATIC.fullmatch(part) for part in name.split("/")):
        return Target(Kind.STATIC, key=name)
    return NOTHING


def _of_project(path: str) -> Target:
    project, slash, rest = path.partition("/")
    if not _NAME.fullmatch(project):
        return NOTHING
    if not slash:
        return Target(Kind.PROJECT, project)
    if rest == "slides":
        return Target(Kind.SLIDES, project)
    if not rest.startswith("slides/"):
        return NOTHING
    name, slash, rest = rest[7:].partition("/")
    if not _NAME.fullmatch(name):
        return NOTHING
    if name.endswith(".zarr"):
        return _zarr(project, name, rest)
    if not slash:
        return Target(Kind.SLIDE, project, name)
    if rest in _OF_SLIDE:
        return Target(_OF_SLIDE[rest], project, name)
    match = _TILE.fullmatch(rest[6:]) if rest.startswith("tiles/") else None
    if match is None:
        return NOTHING
    return Target(Kind.TILE, project, name, View.JPEG, tile=(int(match[1]), int(match[2]), int(match[3])))


def _zarr(project: str, name: str, key: str) -> Target:
    for suffix, view in _SUFFIXES:
        if name.endswith(suffix):
            pseudonym = name[: -len(suffix)]
            return Target(Kind.ZARR, project, pseudonym, view, key) if pseudonym and key else NOTHING
    return NOTHING
