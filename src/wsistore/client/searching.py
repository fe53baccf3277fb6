"""A project's slides as a table: page by page from the gateway, as pandas or Arrow has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from wsistore.errors import Kind, MissingError, ObjectMissingError, StorageError
from wsistore.optional import needing
from wsistore.storage.http_service import HttpService

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PAGE = 1000
"""Slides that are asked for at once."""
COLUMNS = (
    "slide", "patient", "case", "block", "organ", "diagnoses", "stain", "age_at", "received", "magnification",
    "um_per_px", "width", "height", "levels", "bytes_stored", "readiness", "mode", "preset",
)  # fmt: skip
_WHOLE = {"age_at": "Int32", "width": "Int64", "height": "Int64", "levels": "Int32", "bytes_stored": "Int64"}

Row = dict[str, Any]


def path_of(project: str, *more: str) -> str:
    """Return the path of something of a project."""
    return "/".join(["/projects", *(quote(part, safe="") for part in (project, *more))])


def rows(
    service: HttpService,
    project: str,
    filters: Mapping[str, Any],
    *,
    limit: int | None = None,
) -> Iterator[Row]:
    """Yield the slides of a project that filters select, by pseudonym.

    Parameters
    ----------
    service
        The gateway.
    project
        Its name.
    filters
        ``column=value``, or a list of values; ``min_column=value``, ``max_column=value``. None counts for nothing.
    limit
        Of all pages together; None: all.

    Raises
    ------
    MissingError
        If there is no such project, or the filters cannot be understood.
    DeniedError, StorageError
        If the gateway refuses or cannot be reached.

    """
    asked: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    left, after = limit, None
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        query = {**asked, "format": "json", "limit": size, **({} if after is None else {"after": after})}
        target = f"{path_of(project, 'slides')}?{urlencode(query, doseq=True)}"
        page = service.get(target).json(f"{service.url}, {project}")
        found = _rows_of(page, service.url)
        yield from found[:left] if left is not None else found
        following = page.get("next") if isinstance(page, dict) else None
        if not found or following is None or following == after:
            return
        after = str(following)
        left = None if left is None else left - len(found)


def row(service: HttpService, project: str, slide: str) -> Row:
    """Return what the gateway says of one slide.

    Raises
    ------
    MissingError
        If the project has no such slide.

    """
    found = service.get(path_of(project, "slides", slide)).json(f"{service.url}, {slide}")
    if not isinstance(found, dict):
        msg = f"What {service.url} says of {slide} cannot be understood."
        raise StorageError(msg, remedy="Check that the address is a wsistore gateway's.")
    return found


def frame(found: Iterator[Row]) -> pd.DataFrame:
    """Return slides as a DataFrame, with the columns `COLUMNS`.

    Raises
    ------
    SiteError
        If pandas is not installed.

    """
    with needing("A table of slides", "client"):
        import pandas as pd  # half a second that most callers do not need
    table = pd.DataFrame(list(found))
    columns = [*COLUMNS, *(name for name in table.columns if name not in COLUMNS and name != "links")]
    return table.reindex(columns=columns).astype(_WHOLE)


def arrow(found: Iterator[Row]) -> pa.Table:
    """Return slides as an Arrow table.

    Raises
    ------
    SiteError
        If pyarrow is not installed.

    """
    with needing("An Arrow table", None):
        import pyarrow as pa  # half a second that most callers do not need
    whole, real, text = pa.int64(), pa.float64(), pa.string()
    types = dict.fromkeys(_WHOLE, whole) | {"um_per_px": real, "magnification": real, "diagnoses": pa.list_(text)}
    schema = pa.schema([pa.field(name, types.get(name, text)) for name in COLUMNS])
    return pa.Table.from_pylist([{name: one.get(name) for name in COLUMNS} for one in found], schema=schema)


def _rows_of(page: Any, where: str) -> list[Row]:
    found = page.get("slides") if isinstance(page, dict) else page
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        msg = f"{where} did not answer with a list of slides."
        raise StorageError(msg, remedy="Check that the address is a wsistore gateway's.")
    return found


def no_project(names: list[str], url: str) -> MissingError:
    """Return the error for a caller who named no project where there is not exactly one."""
    if not names:
        return MissingError(
            f"The token gives no project of {url}.", kind=Kind.PROJECT_MISSING, remedy="Ask for a grant."
        )
    msg = f"The token gives {len(names)} projects of {url}."
    return MissingError(msg, kind=Kind.PROJECT_MISSING, remedy=f"Name one of: {', '.join(names[:10])}.")


@contextmanager
def naming(url: str, project: Callable[[], str], slide: str | None = None) -> Iterator[None]:
    """Turn the gateway's one answer about what is not there into an error that names what was asked for."""
    try:
        yield
    except ObjectMissingError as error:
        where = f"project {project()} of {url}"
        msg = f"There is no {where}." if slide is None else f"There is no slide {slide} in {where}."
        kind = Kind.PROJECT_MISSING if slide is None else Kind.SLIDE_MISSING
        raise MissingError(msg, kind=kind, remedy="Check the name, and whether it is granted to you.") from error
