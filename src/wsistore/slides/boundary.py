"""The border to foreign libraries: whatever they raise on foreign bytes becomes an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsistore.errors import BrokenError, InputError, Kind, MissingError, UnsupportedError, WsistoreError


class NoTileGridError(UnsupportedError):
    """The tiles of a slide cannot be taken one by one; its message is the reason for `whole` mode.

    Readers catch it themselves: nobody outside `wsistore.slides` sees it.
    """


@contextmanager
def translated(path: Path, what: str = "") -> Iterator[None]:
    """Turn foreign exceptions into ours, naming the file.

    Raises
    ------
    MissingError, InputError, BrokenError
        File gone; file unreadable; anything else a parser says of its bytes.

    """
    try:
        yield
    except WsistoreError:
        raise
    except FileNotFoundError as error:
        msg = f"There is no file {path}."
        raise MissingError(msg, remedy="Check the path.") from error
    except OSError as error:
        msg = f"The file {path} cannot be read: {error.strerror or error}."
        remedy = "Check its permissions and the disk or share it lies on."
        raise InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy=remedy) from error
    except Exception as error:  # parsers of foreign bytes raise whatever they like, and it always means the same
        msg = f"The file {path} is damaged{what}: {type(error).__name__}: {str(error)[:200]}."
        raise BrokenError(msg, remedy="Get the file anew from the scanner or a copy.") from error


def truncated(path: Path, what: str) -> BrokenError:
    """Return the error for a file that ends before what it promises."""
    return BrokenError(
        f"The file {path} ends too early: {what}.",
        kind=Kind.SOURCE_TRUNCATED,
        remedy="If it is still being copied, run again when it is complete; else get it anew.",
    )


def broken(path: Path, what: str) -> BrokenError:
    """Return the error for a file that is damaged or lies about itself."""
    return BrokenError(f"The file {path} is damaged: {what}.", remedy="Get the file anew from the scanner or a copy.")


def implausible(path: Path, what: str) -> BrokenError:
    """Return the error for a file that declares more than it can hold."""
    return BrokenError(
        f"The file {path} declares what cannot be: {what}.",
        kind=Kind.SOURCE_IMPLAUSIBLE,
        remedy="Get the file anew from the scanner or a copy.",
    )
