"""A gateway for a site, put together from what the site's settings say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wsistore.ops.research_access import Access, Limits
from wsistore.ops.serving import is_current, open_served
from wsistore.ops.site import Site, open_site
from wsistore.serve.access_log import AccessLog
from wsistore.serve.files import OpenFiles
from wsistore.serve.gateway import Access as AnyAccess
from wsistore.serve.gateway import Gateway
from wsistore.serve.limits import Limiter
from wsistore.serve.pool import Pool
from wsistore.serve.projects import ProjectRoutes
from wsistore.serve.recalls import RecallRoutes
from wsistore.serve.sessions import Sessions
from wsistore.serve.signed_urls import SigningRoutes, sign
from wsistore.serve.slides import Opened, SlideReader
from wsistore.serve.views import OpenViews

THREADS, WAITING = 16, 1024
"""Blocking calls of one process: at once, and waiting."""
_CALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What the processes of one gateway have in common. Pickles."""

    folder: Path
    """Of the site."""
    table: Path
    """Of limits; see `wsistore.serve.limits.new_table`."""
    key: bytes
    """Of sessions."""


def make(shared: Shared) -> Gateway:
    """Return the gateway of a process of its own; what it opens is closed when the server ends.

    Raises
    ------
    SiteError
        If the site cannot be opened.

    """
    site = open_site(shared.folder)
    try:
        return of_site(site, Access(site), shared, close_site=True)
    except BaseException:
        site.close()
        raise


def of_site(
    site: Site, access: AnyAccess, shared: Shared, *, opened: Opened | None = None, close_site: bool = False
) -> Gateway:
    """Return the gateway of an open site.

    Parameters
    ----------
    site
        Open for writing, so that slides can be recalled.
    access
        Who may see what.
    shared
        With the site's other processes.
    opened
        Slides that are open; by default those of `site`.
    close_site
        Whether the site is closed at the end.

    """
    settings, clock = site.settings.serve, site.clock
    pool = Pool(threads=THREADS, waiting=WAITING, seconds=_CALL_SECONDS)
    files = OpenFiles(clock)
    slides = opened or OpenViews(partial(open_served, site), is_current=partial(is_current, site), clock=clock)
    reader = SlideReader(slides, pool, files)
    limiter = Limiter(shared.table, clock)
    log = AccessLog(Path(settings.access_log) if settings.access_log else None, clock)

    def close() -> None:
        pool.close()
        slides.close()
        files.close()
        limiter.close()
        access.close()
        log.close()
        if close_site:
            site.close()

    return Gateway(
        access,
        ProjectRoutes(
            reader, RecallRoutes(site, pool, clock), SigningRoutes(reader, sign if settings.presign else None)
        ),
        pool=pool,
        limiter=limiter,
        own_limits=Limits(settings.requests_per_second, None, settings.concurrent, None),
        sessions=Sessions(shared.key, clock),
        access_log=log,
        files=files,
        clock=clock,
        login=settings.oidc,
        closing=close,
    )
