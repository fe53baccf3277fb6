"""Working with the slides of a research project through its hospital's gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from wsistore.client import searching, tokens
from wsistore.client.cache import ChunkCache
from wsistore.client.device_login import DeviceLogin
from wsistore.client.gateway_store import GatewayStore
from wsistore.client.patches import Member, Opens, Patches, Recipe
from wsistore.client.searching import Row, path_of
from wsistore.client.slide import Slide
from wsistore.clock import Clock
from wsistore.errors import Kind, MissingError, ObjectArchivedError, StorageError
from wsistore.storage.http import HttpStorage
from wsistore.storage.http_service import HttpOptions, HttpService

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

View = Literal["stored", "jpeg", "zstd"]
"""``stored``: chunks as they lie; ``jpeg``: one JPEG per tile; ``zstd``: decoded, for any reader of Zarr."""
_ENDINGS: dict[str, str] = {"stored": ".zarr", "jpeg": ".jpeg.zarr", "zstd": ".zstd.zarr"}


class Connection:
    """A gateway, and one project of it. Threads share it. `connect` makes one.

    It pickles without the token: another process looks for it in its own environment (see `wsistore.client.tokens`).
    """

    def __init__(
        self,
        url: str,
        project: str | None = None,
        *,
        token_file: str | None = None,
        cache: ChunkCache | None = None,
        options: HttpOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._authorization = tokens.Authorization(url.rstrip("/"), token_file)
        self.service = HttpService(url, authorization=self._authorization, options=options, clock=clock)
        """The gateway; counts requests and bytes."""
        self.cache = cache
        """What is kept on this machine; None if nothing is."""
        self._project, self._token_file = project, token_file

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as where to connect; the token stays."""
        service = self.service
        return (_connected, (service.url, self._project, self._token_file, self.cache, service.options))

    @property
    def url(self) -> str:
        """Of the gateway."""
        return self.service.url

    @property
    def project(self) -> str:
        """Name of the project; the only one that the token gives, if none was named.

        Raises
        ------
        MissingError
            If the token gives none, or several, of kind ``project-missing``.

        """
        if self._project is None:
            names = [str(one.get("name")) for one in self.projects()]
            if len(names) != 1:
                raise searching.no_project(names, self.url)
            self._project = names[0]
        return self._project

    def projects(self) -> list[Row]:
        """Return what the gateway says of each project that the token gives: its name, its purpose, when it ends.

        Raises
        ------
        DeniedError
            If the token is not in force.
        StorageError
            If the gateway cannot be reached.

        """
        found = self.service.get("/projects").json(self.url)
        listed = found.get("projects") if isinstance(found, dict) else found
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            msg = f"{self.url} did not answer with a list of projects."
            raise StorageError(msg, remedy="Check that the address is a wsistore gateway's.")
        return listed

    def search(self, *, limit: int | None = None, **filters: Any) -> pd.DataFrame:
        """Return the project's slides as a DataFrame, one row each, sorted by pseudonym.

        Parameters
        ----------
        limit
            At most so many; None: all.
        filters
            ``organ="colon"``, ``stain=["HE", "HES"]``; ``min_width=20000``, ``max_age_at=60`` for bounds.

        Raises
        ------
        MissingError
            If there is no such project, or a filter names no column.
        DeniedError, StorageError
            If the gateway refuses or cannot be reached.
        SiteError
            If pandas is not installed.

        """
        with searching.naming(self.url, lambda: self.project):
            return searching.frame(searching.rows(self.service, self.project, filters, limit=limit))

    def search_arrow(self, *, limit: int | None = None, **filters: Any) -> pa.Table:
        """Return what `search` does as a `pyarrow.Table`."""
        with searching.naming(self.url, lambda: self.project):
            return searching.arrow(searching.rows(self.service, self.project, filters, limit=limit))

    def about(self, slide: str) -> Row:
        """Return what the gateway says of one slide: the columns of `search`, and links.

        Raises
        ------
        MissingError
            If the project has no slide of this pseudonym.

        """
        with searching.naming(self.url, lambda: self.project, slide):
            return searching.row(self.service, self.project, slide)

    def open(self, slide: str, *, view: View | None = None) -> Slide:
        """Open a slide: the same `Slide` as of a file or a store here.

        Parameters
        ----------
        slide
            Its pseudonym.
        view
            By default as it is stored; of slides that are kept whole, decoded.

        Raises
        ------
        MissingError
            If the project has no slide of this pseudonym.
        ObjectArchivedError
            If it lies in an archive: `recall` asks for it.
        DeniedError, StorageError
            If the gateway refuses or cannot be reached.

        """
        about = self.about(slide)
        if about.get("readiness") == "cold":
            msg = f"Slide {slide} lies in an archive and cannot be read now."
            raise ObjectArchivedError(msg, remedy=f"Ask for it: connection.recall({slide!r}).")
        chosen = view or ("zstd" if about.get("mode") == "whole" else "stored")
        return self._opened(slide, chosen)

    def patches(
        self,
        size: int,
        mpp: float | None,
        *,
        slides: pd.DataFrame | Iterable[str] | None = None,
        group: str = "patient",
        view: View | None = None,
        **how: Any,
    ) -> Patches:
        """Return patches of many slides, for training: batches in an order that a seed decides.

        Parameters
        ----------
        size
            Pixels of a patch's side.
        mpp
            Micrometres per pixel of a patch: the level that is at least as fine is read and made smaller. None takes
            the largest level as it is.
        slides
            What `search` returned, or pseudonyms; None: all that are ready.
        group
            Column whose values are never in two parts of `Patches.split`; a slide without a value is its own group.
        view
            As for `open`.
        how
            Fields of `wsistore.client.patches.Recipe`: ``mask`` (``"tissue"``, a function of a slide, or None),
            ``least`` (part of a patch that must be tissue), ``per_slide`` (random ones; None: a grid), ``stride``,
            ``batch``, ``seed``, ``shuffle``, ``mixed``, ``ahead``.

        Raises
        ------
        MissingError
            If a slide is not in the project, or what is asked for makes no sense.
        DeniedError, StorageError
            If the gateway refuses or cannot be reached.

        """
        try:
            recipe = Recipe(size, mpp, **how)
        except TypeError as error:
            msg = f"Patches cannot be asked for so: {error}."
            raise MissingError(msg, remedy="See wsistore.client.patches.Recipe.") from error
        source: Opens = self if view is None else _Viewed(self, view)
        return Patches(source, self._members(slides, group), recipe)

    def _members(self, slides: pd.DataFrame | Iterable[str] | None, group: str) -> list[Member]:
        with searching.naming(self.url, lambda: self.project):
            known = {str(one["slide"]): one for one in searching.rows(self.service, self.project, {})}
        if slides is None:
            names = [name for name, one in known.items() if one.get("readiness") != "cold"]
        else:
            chosen: Any = slides
            names = [str(name) for name in (chosen["slide"] if hasattr(chosen, "columns") else chosen)]
        for name in names:
            if name not in known:
                msg = f"There is no slide {name} in project {self.project} of {self.url}."
                raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="Check the name, and whether it is granted.")
        if group not in searching.COLUMNS:
            msg = f"Slides have no column {group!r}."
            raise MissingError(msg, remedy=f"Name one of: {', '.join(searching.COLUMNS)}.")
        return [Member(name, str(known[name].get(group) or name)) for name in dict.fromkeys(names)]

    def share_token(self, cluster: Any) -> None:
        """Give the token to the workers of a Dask cluster, those that join later too: into memory, not into tasks.

        Not needed where the workers find a token in their own environment. A token of a login lasts as long as the
        issuer says: share it anew then.

        Parameters
        ----------
        cluster
            A `distributed.Client`.

        Raises
        ------
        DeniedError
            If there is no token.

        """
        from wsistore.client.dask_tokens import TokenPlugin  # Dask's scheduler takes a second to load

        cluster.register_plugin(TokenPlugin(self.url, self._authorization.token()))

    def recall(self, slide: str) -> Row:
        """Ask that a cold slide be made ready; return what the gateway says of it (asking again is harmless).

        Raises
        ------
        MissingError
            If the project has no slide of this pseudonym.
        StorageError
            If the token may not, of kind ``storage-denied``.

        """
        with searching.naming(self.url, lambda: self.project, slide):
            path = path_of(self.project, "slides", slide, "recall")
            found = self.service.send("POST", path).json(self.url)
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Close the connections. Slides that are open go on, with new ones."""
        self.service.close()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Where, and which project."""
        return f"<Connection {self.url}, project {self._project}>"

    def _opened(self, slide: str, view: str) -> Slide:
        if view not in _ENDINGS:
            msg = f"There is no view {view!r}."
            raise MissingError(msg, remedy=f"Name one of: {', '.join(_ENDINGS)}.")
        path = path_of(self.project, "slides", slide) + _ENDINGS[view]
        store = GatewayStore(HttpStorage(self.service, path), self.cache)
        return Slide(store, slide, reopen=partial(_reopened, self, slide, view))


@dataclass(frozen=True, slots=True)
class _Viewed:
    """A connection that opens slides in one view."""

    connection: Connection
    view: View

    def open(self, slide: str) -> Slide:
        """Open a slide."""
        return self.connection.open(slide, view=self.view)


def connect(
    url: str,
    project: str | None = None,
    *,
    token: str | None = None,
    token_file: str | Path | None = None,
    login: bool = False,
    cache: str | Path | None = None,
    cache_bytes: int = 10 * 1024**3,
    tell: Callable[[str], None] = print,
    options: HttpOptions | None = None,
) -> Connection:
    """Connect to a hospital's gateway.

    Parameters
    ----------
    url
        Of the gateway.
    project
        Name of the project; may be left out where the token gives only one.
    token
        Kept in this process only. Without, it comes from ``WSISTORE_TOKEN``, or a file of mode 0600.
    token_file
        That file; by default ``WSISTORE_TOKEN_FILE``, or ``~/.config/wsistore/token``.
    login
        Instead of a token: log in where the gateway says, by OpenID Connect. A link is shown, to be opened in a browser
        when the first thing is asked for.
    cache, cache_bytes
        Folder in which chunks are kept, and how many bytes of them; None keeps none.
    tell
        Shows the line with the link.
    options
        How the gateway is spoken to.

    Raises
    ------
    StorageError
        If `url` is no address, or not an encrypted one of another machine; of `login`, if the gateway cannot be reached
        or has none.
    DeniedError
        If `token` is none.
    SiteError
        If the cache cannot be used.

    """
    kept = None if cache is None or cache_bytes <= 0 else ChunkCache(Path(cache).expanduser().absolute(), cache_bytes)
    file = None if token_file is None else str(Path(token_file).expanduser().absolute())
    connection = Connection(url, project, token_file=file, cache=kept, options=options)
    if token is not None:
        tokens.give(connection.url, tokens.Fixed(tokens.checked(token, "the argument token")))
    elif login:
        tokens.give(connection.url, _login(connection.url, tell, options))
    return connection


def _login(url: str, tell: Callable[[str], None], options: HttpOptions | None) -> DeviceLogin:
    """Return the login that a gateway tells to whoever asks."""
    service = HttpService(url, options=options)
    try:
        found = service.get("/health", accept=frozenset({503})).json(url)
    finally:
        service.close()
    told = found.get("login") if isinstance(found, dict) else None
    match told:
        case {"issuer": str(issuer), "client_id": str(client_id)}:
            return DeviceLogin(issuer, client_id=client_id, tell=tell, options=options)
        case _:
            msg = f"Nobody can log in at {url}."
            raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Ask the site for a token.")


def _connected(
    url: str, project: str | None, token_file: str | None, cache: ChunkCache | None, options: HttpOptions
) -> Connection:
    return Connection(url, project, token_file=token_file, cache=cache, options=options)


def _reopened(connection: Connection, slide: str, view: str) -> Slide:
    return connection._opened(slide, view)
