"""Commands that take slides in and give them back: ingest, verify, restore, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, SlideArgument, exit_code, opened, reported
from wsistore.cli.output import print_json, print_table, short, warn
from wsistore.cli.progress import Bar
from wsistore.errors import InputError, Kind
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops import Exported, IngestResult, VerifyResult


class Codec(StrEnum):
    """Codecs that `export` offers; `wsistore.ops.ExportCodec` says what they are."""

    AS_STORED = "as-stored"
    JPEG = "jpeg"
    ZSTD = "zstd"


def ingest(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Slide files, folders of them, folders of DICOM instances.", **ANY_PATH),
    ],
    tier: Annotated[str | None, typer.Option(help="Tier to put them in; by default the site's first.")] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(help="CSV table: column 'file' and what you know of each (case_id, stain, …).", **ANY_PATH),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders too.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Slides at a time; by default one per processor.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take slides in: write, read back, compare with the source byte for byte, and only then commit.

    A slide that is there already is reported as 'exists', also under another name; running the same command again
    therefore finishes what was interrupted. Slides that fail are named and do not keep the others out.

    \b
      wsistore ingest scans/                 all slides of a folder
      wsistore ingest a.svs series7/         a file and a DICOM folder
      wsistore ingest scans/ -r --metadata slides.csv --json
    """  # noqa: D301 - \b keeps typer from joining the lines
    rows: list[IngestResult] = []
    with reported(as_json=as_json):
        with opened(context, writing=True) as site, Bar("ingest", shown=not as_json) as bar:
            table = None if metadata is None else ops.read_metadata(metadata)
            results = ops.ingest(
                site,
                paths,
                tier=tier,
                recursive=recursive,
                jobs=jobs,
                metadata=table,
                found=lambda count: bar.expect(slides=count),
                progress=lambda _phase, done, size, name: bar.move(done, of=name, total_bytes=2 * size),
            )
            for result in results:
                bar.slide_done()
                rows.append(result)
                if as_json:
                    print_json(result.to_json())
        if not as_json:
            _print_ingested(rows)
        if table is not None and table.unused:
            warn(f"{metadata} speaks of files that were not met: {', '.join(table.unused[:10])}")
        if not rows:
            msg = f"There is no slide in {', '.join(map(str, paths))}."
            raise InputError(msg, kind=Kind.NOT_A_SLIDE, remedy="Name slides, or use --recursive for subfolders.")
        raise typer.Exit(exit_code({row.error.exit_code for row in rows if row.error is not None}))


def _print_ingested(rows: list[IngestResult]) -> None:
    good = [row for row in rows if row.error is None]
    if good:
        print_table(
            ("slide", "source", "status", "mode", "source size", "stored", "ratio", "verified", "seconds"),
            (
                (
                    row.slide or "",
                    Path(row.source).name,
                    str(row.status),
                    str(row.mode),
                    format_bytes(row.bytes_source or 0),
                    format_bytes(row.bytes_stored or 0),
                    f"{(row.bytes_stored or 0) / row.bytes_source:.3f}" if row.bytes_source else "",
                    short(row.verified_at),
                    f"{row.seconds:.2f}",
                )
                for row in good
            ),
            right=("source size", "stored", "ratio", "seconds"),
        )
    _warn_of(good)
    failed = [row for row in rows if row.error is not None]
    for row in failed:
        warn(f"failed ({row.error.kind if row.error else ''}): {row.error.message if row.error else ''}")
    if failed:
        warn(f"{len(failed)} of {len(rows)} slides failed; nothing of them was kept.")


def _warn_of(rows: list[IngestResult]) -> None:
    """Print warnings: what is said of several slides, once."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for text in row.warnings:
            said.setdefault(text, []).append(Path(row.source).name)
    for text, names in said.items():
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        warn(f"{names[0]}{others}: {text}")


def verify(
    context: typer.Context,
    slides: Annotated[
        list[str] | None, typer.Argument(metavar="SLIDE...", help="Keys, their beginnings, names.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every slide of the site.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Prove copies good: read every object from where it lies, rebuild the source, compare every SHA-256.

    \b
      wsistore verify --all
      wsistore verify 4szq CMU-1-Small-Region.svs
    """  # noqa: D301
    if bool(slides) == every:
        msg = "Name the slides to verify, or give --all, not both."
        raise typer.BadParameter(msg)
    rows: list[VerifyResult] = []
    with reported(as_json=as_json):
        with opened(context, writing=True) as site, Bar("verify", shown=not as_json) as bar:
            chosen = list(ops.list_slides(site)) if every else [ops.show(site, slide) for slide in slides or []]
            bar.expect(len(chosen), sum(row["bytes_source"] for row in chosen))
            for result in ops.verify_many(site, [row["slide"] for row in chosen], progress=bar.move):
                bar.slide_done()
                rows.append(result)
                if as_json:
                    print_json(result.to_json())
        if not as_json:
            _print_verified(rows)
        raise typer.Exit(exit_code({row.error.exit_code for row in rows if row.error is not None}))


def _print_verified(rows: list[VerifyResult]) -> None:
    print_table(
        ("slide", "name", "tier", "result", "objects", "read", "seconds"),
        (
            (
                row.slide,
                row.name,
                row.tier,
                "good" if row.ok else "BAD",
                str(row.objects) if row.ok else "",
                format_bytes(row.bytes_read) if row.ok else "",
                f"{row.seconds:.2f}",
            )
            for row in rows
        ),
        right=("objects", "read", "seconds"),
    )
    for row in rows:
        if row.error is not None:
            warn(f"{row.name} ({row.slide}) in {row.tier}: {row.error.message}")


def restore(
    context: typer.Context,
    slide: SlideArgument,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder for the files; made if it is not there.", **ANY_PATH)
    ],
    as_json: JsonOption = False,
) -> None:
    """Give the vendor's file or files back: same names, same bytes.

    \b
      wsistore restore CMU-1-Small-Region.svs --to /tmp/back
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site, Bar("restore", shown=not as_json) as bar:
            bar.expect(1, ops.show(site, slide)["bytes_source"])
            done = ops.restore(site, slide, to, progress=bar.move)
        if not as_json:
            print_table(("restored",), ((name,) for name in done.files))
            return
        print_json(
            {
                "slide": done.slide,
                "tier": done.tier,
                "files": list(done.files),
                "bytes_written": done.bytes_written,
                "seconds": round(done.seconds, 3),
            }
        )


def export(
    context: typer.Context,
    slide: SlideArgument,
    to: Annotated[
        Path, typer.Option("--to", metavar="X.ome.zarr|X.ozx", help="A new folder, or a new zip file.", **ANY_PATH)
    ],
    codec: Annotated[
        Codec, typer.Option(help="as-stored: the scanner's tiles; jpeg: the same as single JPEGs; zstd: pixels.")
    ] = Codec.AS_STORED,
    with_private: Annotated[
        bool, typer.Option("--with-private", help="Also label, macro and metadata, which identify: into X.private.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a slide as OME-Zarr 0.5, without anything that identifies the patient.

    \b
      wsistore export 4szq --to hpylori.ome.zarr
      wsistore export 4szq --to hpylori.ozx --codec zstd      for readers without JPEG: 5 to 7 times the size
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site, Bar("export", shown=not as_json) as bar:
            chosen = ops.ExportCodec(str(codec))
            done = ops.export(site, slide, to, codec=chosen, with_private=with_private, progress=bar.move)
        if not as_json:
            _print_exported(done)
            return
        print_json(
            {
                "slide": done.slide,
                "target": done.target,
                "codec": str(done.codec),
                "bytes_written": done.bytes_written,
                "private": done.private,
                "seconds": round(done.seconds, 3),
            }
        )


def _print_exported(done: Exported) -> None:
    rows = [(done.target, format_bytes(done.bytes_written), str(done.codec))]
    print_table(("exported", "size", "codec"), rows, right=("size",))
    if done.private is not None:
        warn(f"{done.private} identifies the patient: do not hand it on with the slide.")
