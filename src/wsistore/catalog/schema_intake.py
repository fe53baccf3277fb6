"""The catalogue's table of what lies on the scanners' shares."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table

from wsistore.catalog.schema import Json, Plain, metadata

# One row per file that was seen on a share and not forgotten since.
intake_files = Table(
    "intake_files",
    metadata,
    Column("share", Plain(32), primary_key=True),
    # Relative to the share.
    Column("path", Plain(), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    # What it was found to be, once it had stopped changing; of DICOM its series and instance.
    Column("kind", Plain(16), nullable=False),
    Column("series", Plain(), nullable=True),
    Column("instance", Plain(), nullable=True),
    Column("state", Plain(16), nullable=False),
    Column("reason", Plain(), nullable=False),
    Column("error", Plain(32), nullable=False),
    # When it was first seen; since when it has this size and time; since when it has this state.
    Column("first_at", Plain(27), nullable=False),
    Column("since", Plain(27), nullable=False),
    Column("state_at", Plain(27), nullable=False),
    # Since when it is not on the share any more.
    Column("gone_at", Plain(27), nullable=True),
    Column("slide", Plain(64), nullable=True, index=True),
    Column("version", Integer, nullable=True),
    # How often it was tried, and when it is tried again.
    Column("tries", Integer, nullable=False),
    Column("again_at", Plain(27), nullable=True),
    # Of one that is just being released: the proof.
    Column("detail", Json, nullable=False),
)
