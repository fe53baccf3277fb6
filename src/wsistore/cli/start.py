"""Where the command begins: it says what is missing where only research's side of wsistore is installed."""

from __future__ import annotations

import sys

from wsistore.errors import SiteError
from wsistore.optional import needing


def main() -> None:
    """Run the command line."""
    try:
        with needing("The command wsistore", "site"):
            from wsistore.cli.main import main as run  # guarded: most of what it needs is in the extra
    except SiteError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    run()
