"""What is answered of projects and slides, once it is known that the caller may see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow.compute as pc

from wsistore.clock import iso
from wsistore.ops.research_access import ProjectView, SharedSlide
from wsistore.serve import pages
from wsistore.serve.answers import Answer, Refusal, error_answer, json_answer, missing
from wsistore.serve.paths import Kind
from wsistore.serve.recalls import RecallRoutes
from wsistore.serve.requests import Request
from wsistore.serve.signed_urls import SigningRoutes
from wsistore.serve.slides import SlideReader
from wsistore.serve.tables import Query

Json = dict[str, Any]


class ProjectRoutes:
    """Answers for projects.

    Parameters
    ----------
    reader
        Of slides.
    recalls
        Of slides that are cold.
    signing
        Of URLs that lead to the store itself.

    """

    def __init__(self, reader: SlideReader, recalls: RecallRoutes, signing: SigningRoutes) -> None:
        self._reader, self._recalls, self._signing = reader, recalls, signing

    def projects(self, views: Iterable[ProjectView]) -> Answer:
        """Return the caller's projects."""
        return json_answer({"projects": [_project(view) for view in views]})

    async def answer(self, request: Request) -> Answer:
        """Return what a request asks for of `Request.view`, and `Request.slide` where it names one.

        Raises
        ------
        Refusal
            If it is not there, or not the caller's to ask.
        WsistoreError
            If it cannot be read.

        """
        view, slide, target = request.view, request.slide, request.target
        if view is None:
            raise Refusal(missing())
        if target.kind is Kind.PROJECT:
            return json_answer(_project(view))
        if target.kind is Kind.SLIDES:
            return Query(request.query).answer(view.table())
        if slide is None:
            raise Refusal(missing())
        match target.kind:
            case Kind.ZARR:
                return await self._reader.zarr(slide, target, request.headers, head=request.is_head)
            case Kind.TILE:
                return await self._reader.tile(slide, target, request.headers, head=request.is_head)
            case Kind.TILES:
                return await self._reader.levels(slide)
            case Kind.SLIDE:
                return _slide(view, slide)
            case Kind.PAGE:
                return pages.page(request.headers)
            case Kind.RECALL:
                return await self._recalls.answer(request, view, slide)
            case Kind.PRESIGN:
                return await self._signing.answer(request, slide)
            case _:
                raise Refusal(missing())

    async def cold(self, request: Request) -> Answer:
        """Return where to ask for the recall of a slide, and how long that takes."""
        target, slide = request.target, request.slide
        hours = None if slide is None else await self._recalls.expected_hours(slide.slide)
        more = {"recall": f"{_path(target.project, target.pseudonym)}/recall", "expected_hours": hours}
        remedy = "POST to the path under 'recall', and ask again later."
        return error_answer(409, "cold", "The slide is in an archive and must be recalled first.", remedy, more=more)


def _path(project: str, pseudonym: str) -> str:
    return f"/projects/{project}/slides/{pseudonym}"


def _project(view: ProjectView) -> Json:
    return {
        "name": view.name,
        "purpose": view.purpose,
        "expires_at": None if view.expires_at is None else iso(view.expires_at),
        "first_level": view.first_level,
        "scopes": sorted(view.scopes),
        "slides": view.table().num_rows,
        "limits": {
            "requests_per_second": view.limits.requests_per_second,
            "bytes_per_second": view.limits.bytes_per_second,
            "concurrent": view.limits.concurrent,
            "bytes_quota": view.limits.bytes_quota,
        },
        "links": {"slides": f"/projects/{view.name}/slides"},
    }


def _slide(view: ProjectView, slide: SharedSlide) -> Answer:
    """Return a slide's row. Under a pseudonym of an earlier generation it is the same row, with today's pseudonyms."""
    row = _row(view, slide.pseudonym)
    if row is None:
        today = (name for name, one in view.slides.items() if one.slide == slide.slide)
        row = next((found for name in today if (found := _row(view, name)) is not None), None)
    if row is None:
        raise Refusal(missing())
    return json_answer({**row, "links": _links(view.name, str(row["slide"]))})


def _row(view: ProjectView, pseudonym: str) -> Json | None:
    table = view.table()
    found: list[Json] = table.filter(pc.equal(table["slide"], pseudonym)).to_pylist() if table.num_rows else []
    return found[0] if found else None


def _links(project: str, pseudonym: str) -> Mapping[str, str]:
    path = _path(project, pseudonym)
    return {
        "zarr": f"{path}.zarr",
        "jpeg": f"{path}.jpeg.zarr",
        "zstd": f"{path}.zstd.zarr",
        "tiles": f"{path}/tiles",
        "view": f"{path}/view",
        "recall": f"{path}/recall",
    }
