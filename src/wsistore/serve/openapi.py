"""The gateway's OpenAPI document, from the tables that its paths are read with."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyarrow as pa

from wsistore import __version__
from wsistore.ops.research_access import SLIDE_COLUMNS
from wsistore.serve.answers import ERRORS
from wsistore.serve.paths import METHODS, NAME_PATTERN, Kind
from wsistore.serve.signed_urls import MOST_KEYS, MOST_SECONDS
from wsistore.serve.tables import MOST_ARROW, PAGE

Json = dict[str, Any]

PATHS: dict[Kind, tuple[str, ...]] = {
    Kind.HEALTH: ("/health",),
    Kind.OPENAPI: ("/openapi.json",),
    Kind.SESSION: ("/session",),
    Kind.STATIC: ("/viewer/{file}",),
    Kind.PROJECTS: ("/projects",),
    Kind.PROJECT: ("/projects/{project}",),
    Kind.SLIDES: ("/projects/{project}/slides",),
    Kind.SLIDE: ("/projects/{project}/slides/{slide}",),
    Kind.ZARR: (
        "/projects/{project}/slides/{slide}.zarr/{key}",
        "/projects/{project}/slides/{slide}.jpeg.zarr/{key}",
        "/projects/{project}/slides/{slide}.zstd.zarr/{key}",
    ),
    Kind.TILES: ("/projects/{project}/slides/{slide}/tiles",),
    Kind.TILE: ("/projects/{project}/slides/{slide}/tiles/{level}/{y}/{x}.jpeg",),
    Kind.PAGE: ("/projects/{project}/slides/{slide}/view",),
    Kind.RECALL: ("/projects/{project}/slides/{slide}/recall",),
    Kind.PRESIGN: ("/projects/{project}/slides/{slide}/presign",),
}
"""As people write them; every kind but `Kind.NOTHING`."""

_SAYS: dict[tuple[Kind, str], str] = {
    (Kind.HEALTH, "GET"): "Say whether the gateway serves, and where people log in",
    (Kind.OPENAPI, "GET"): "This document",
    (Kind.SESSION, "POST"): "Begin a browser's session: a cookie in place of the token",
    (Kind.SESSION, "DELETE"): "End a browser's session",
    (Kind.STATIC, "GET"): "A file that the viewer's page loads",
    (Kind.PROJECTS, "GET"): "The projects that the token gives",
    (Kind.PROJECT, "GET"): "One project",
    (Kind.SLIDES, "GET"): "A page of a project's slides, by pseudonym",
    (Kind.SLIDE, "GET"): "One slide, with links to what there is of it",
    (Kind.ZARR, "GET"): "What lies at a key of the slide's Zarr hierarchy",
    (Kind.TILES, "GET"): "Levels and tiles, as a viewer needs them",
    (Kind.TILE, "GET"): "One tile as a JPEG",
    (Kind.PAGE, "GET"): "The page that shows the slide",
    (Kind.RECALL, "GET"): "How the slide stands: ready, cold, or on its way",
    (Kind.RECALL, "POST"): "Ask for the slide's recall from its archive",
    (Kind.PRESIGN, "POST"): "Signed URLs of stored objects, where the site allows them",
}
_OPEN = frozenset({Kind.HEALTH, Kind.OPENAPI, Kind.STATIC, Kind.SESSION})
_BYTES: Json = {"schema": {"type": "string", "format": "binary"}}
_OBJECT: Json = {"schema": {"type": "object"}}
_CONTENT: dict[Kind, Json] = {
    Kind.STATIC: {"*/*": _BYTES},
    Kind.ZARR: {"application/octet-stream": _BYTES, "application/json": _OBJECT, "multipart/byteranges": _BYTES},
    Kind.TILE: {"image/jpeg": _BYTES},
    Kind.PAGE: {"text/html": _BYTES},
}
_PARAMETERS = {
    "project": {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
    "slide": {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
    "key": {"type": "string", "description": "Canonical Zarr key, with its slashes as they are"},
    "file": {"type": "string"},
    "level": {"type": "integer", "minimum": 0},
    "y": {"type": "integer", "minimum": 0},
    "x": {"type": "integer", "minimum": 0},
}


@cache
def document() -> Json:
    """Return the document."""
    paths: Json = {}
    for kind, templates in PATHS.items():
        for template in templates:
            verbs = [verb for verb in METHODS[kind] if verb != "HEAD"]
            paths[template] = {verb.lower(): _operation(kind, verb, template) for verb in verbs}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wsistore gateway",
            "version": __version__,
            "description": "Slides of research projects by pseudonym, as Zarr over HTTP. Not for primary diagnosis.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "wsistore_session"},
            },
            "schemas": {"Error": _error(), "Slide": _row(), "Recall": _recall()},
        },
        "security": [{"token": []}, {"session": []}],
    }


def _operation(kind: Kind, verb: str, template: str) -> Json:
    names = [part.split("}")[0] for part in template.split("{")[1:]]
    parameters = [{"name": n, "in": "path", "required": True, "schema": _PARAMETERS[n]} for n in names]
    number = PATHS[kind].index(template)
    found: Json = {
        "summary": _SAYS[kind, verb],
        "operationId": f"{verb.lower()}_{kind}" + (f"_{number}" if number else ""),
        "parameters": [*parameters, *_queries(kind)],
        "responses": _responses(kind, verb),
    }
    if kind in _OPEN:
        found["security"] = []
    body = _body(kind, verb)
    if body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return found


def _queries(kind: Kind) -> list[Json]:
    if kind is Kind.ZARR:
        names = ("Range", "If-None-Match", "If-Range")
        return [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in names]
    if kind is not Kind.SLIDES:
        return []
    found = [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_ARROW, "default": PAGE}),
        _query("after", {"type": "string", "description": "Last pseudonym of the page before"}),
        _query("format", {"type": "string", "enum": ["json", "arrow"], "default": "json"}),
    ]
    for field in SLIDE_COLUMNS:
        schema = _column(field.type)
        is_list = schema["type"] == "array"
        schema = schema["items"] if is_list else {"type": "number"} if schema["type"] == "integer" else schema
        found.append(_query(field.name, schema))
        if not is_list:
            found += [_query(f"{bound}_{field.name}", schema) for bound in ("min", "max")]
    return found


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _responses(kind: Kind, verb: str) -> Json:
    content = _CONTENT.get(kind, {"application/json": {"schema": _answer(kind)}})
    if kind is Kind.SLIDES:
        content = {**content, "application/vnd.apache.arrow.stream": _BYTES}
    found: Json = {"200": {"description": "As asked", "content": content}}
    if (kind, verb) == (Kind.RECALL, "POST"):
        found["202"] = {"description": "It is on its way, or needs somebody's approval", "content": content}
    if kind in (Kind.ZARR, Kind.TILE):
        found["206"] = {"description": "A part, or several", "content": content}
    if kind in (Kind.ZARR, Kind.TILE, Kind.STATIC, Kind.PAGE):
        found["304"] = {"description": "The client has it already"}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return found | {str(status): {"description": text, "content": error} for status, text in ERRORS.items()}


def _answer(kind: Kind) -> Json:
    if kind is Kind.SLIDES:
        rows = {"type": "array", "items": {"$ref": "#/components/schemas/Slide"}}
        following = {"type": ["string", "null"]}
        properties = {"slides": rows, "next": following, "total": {"type": "integer"}}
        return {"type": "object", "properties": properties, "required": ["slides", "next", "total"]}
    if kind is Kind.SLIDE:
        return {"$ref": "#/components/schemas/Slide"}
    if kind is Kind.RECALL:
        return {"$ref": "#/components/schemas/Recall"}
    return {"type": "object"}


def _body(kind: Kind, verb: str) -> Json | None:
    if (kind, verb) == (Kind.SESSION, "POST"):
        return {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}
    if kind is not Kind.PRESIGN:
        return None
    keys = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_KEYS}
    seconds = {"type": "integer", "minimum": 1, "maximum": MOST_SECONDS}
    return {"type": "object", "properties": {"keys": keys, "seconds": seconds}, "required": ["keys"]}


def _row() -> Json:
    properties: Json = {}
    for field in SLIDE_COLUMNS:
        schema = _column(field.type)
        properties[field.name] = {**schema, "type": [schema["type"], "null"]} if field.nullable else schema
    properties["links"] = {"type": "object", "additionalProperties": {"type": "string"}}
    required = [field.name for field in SLIDE_COLUMNS]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _column(dtype: pa.DataType) -> Json:
    if pa.types.is_list(dtype):
        return {"type": "array", "items": _column(dtype.value_type)}
    if pa.types.is_integer(dtype):
        return {"type": "integer"}
    return {"type": "number"} if pa.types.is_floating(dtype) else {"type": "string"}


def _recall() -> Json:
    states = ["ready", "cold", "coming", "needs-approval", "failed"]
    properties = {"state": {"type": "string", "enum": states}, "expected_hours": {"type": ["number", "null"]}}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _error() -> Json:
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {"error": text, "message": text, "remedy": text},
        "required": ["error", "message", "remedy"],
    }
