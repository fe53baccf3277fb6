"""The command that chooses how slides are encoded in a tier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, options, reported
from wsistore.cli.output import print_json, print_table, say, warn
from wsistore.cli.progress import Bar
from wsistore.errors import Kind, SiteError
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops import Site, Tuned, TuneOptions

_COLUMNS = (
    "", "candidate", "stored", "±", "saved", "encode", "recall", "tile", "storage", "requests", "CPU+reads", "cost",
    "from", "to", "kWh", "kgCO2e",
)  # fmt: skip
_WIDTH, _HEIGHT = 64, 14
"""Characters of the plot in the terminal."""
_MANY = 1000
"""Slides that the table's money, energy and carbon are for."""


def tune(
    context: typer.Context,
    slides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLIDE...", help="Files, or slides of the site by key or name; all alike."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="SCANNER/STAIN", help="Instead of naming slides: several of the site's, drawn by the seed."
        ),
    ] = None,
    tier: Annotated[str | None, typer.Option(help="For which tier; by default the site's first.")] = None,
    prices: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="What the tier costs; by default as its settings say.")
    ] = None,
    recalls: Annotated[
        float | None, typer.Option(min=0, help="Whole-slide reads per year; by default assumed by the tier's name.")
    ] = None,
    ranges: Annotated[
        float | None, typer.Option(min=0, help="Single-tile reads per year; by default assumed likewise.")
    ] = None,
    horizon_years: Annotated[float, typer.Option(min=0.01, max=1000, help="How long the slides stay there.")] = 10.0,
    decline: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="Part by which storage gets cheaper each year.")
    ] = None,
    stain: Annotated[str | None, typer.Option(help="Of slides whose stain the catalogue does not know.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which tiles are measured.")] = 0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the table, too.", **ANY_PATH)] = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Whether the site keeps the choice for slides like these.")
    ] = True,
    again: Annotated[bool, typer.Option("--again", help="Measure even what was measured before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose how slides are encoded in a tier: measure every candidate on a sample, take what costs least.

    \b
      wsistore tune 4szq --tier warm
      wsistore tune --profile leica-aperio/ihc --tier cold --plot cold.png
      wsistore tune scan.svs --tier warm --recalls 2 --ranges 5000 --no-keep

    The choice is kept, and 'wsistore reencode' uses it for slides of the same scanner, stain and codec.
    """  # noqa: D301
    if bool(slides) == (profile is not None):
        msg = "Name slides, or give --profile, not both."
        raise typer.BadParameter(msg)
    with reported(as_json=as_json):
        given = ops.TuneOptions(
            tier=tier,
            prices=prices,
            recalls=recalls,
            ranges=ranges,
            horizon_years=horizon_years,
            decline=decline,
            stain=stain,
            seed=seed,
            keep=keep,
            again=again,
        )
        tuned = _tuned(context, slides or [], profile, given, shown=not as_json)
        if plot is not None:
            ops.draw_tuned(tuned, plot)
        if as_json:
            _print_json(tuned)
        else:
            _print_tuned(tuned, plot)


def _tuned(context: typer.Context, slides: list[str], profile: str | None, given: TuneOptions, *, shown: bool) -> Tuned:
    with _site(context, needed=profile is not None, keep=given.keep) as site, Bar("tune", shown=shown) as bar:

        def progress(done: int, total: int, name: str) -> None:
            bar.move(done, of=name, total_bytes=total)

        if profile is None or site is None:
            return ops.tune(site, slides, given, progress=progress)
        return ops.tune_profile(site, profile, given, progress=progress)


@contextmanager
def _site(context: typer.Context, *, needed: bool, keep: bool) -> Iterator[Site | None]:
    """Yield the site; None where there is none and none was named: files can be tuned without."""
    try:
        with opened(context, writing=keep) as site:
            yield site
    except SiteError as error:
        if needed or error.kind is not Kind.SITE_MISSING or options(context).folder is not None:
            raise
        yield None


def _print_json(tuned: Tuned) -> None:
    document = tuned.to_json()
    for candidate in document.pop("candidates"):
        print_json({"kind": "candidate", "chosen": candidate["candidate"] == document["chosen"], **candidate})
    print_json({"kind": "choice", **document, "path": None if tuned.path is None else str(tuned.path)})


def _print_tuned(tuned: Tuned, plot: Path | None) -> None:
    terms, smallest = tuned.terms, tuned.rows[0].measurement.bytes_stored
    print_table(
        _COLUMNS,
        (_cells(row, row is tuned.chosen, smallest) for row in tuned.rows),
        right=_COLUMNS[2:],
    )
    say("")
    _print_plot(tuned)
    say("")
    access = f"{terms.access.recalls:g} recalls and {terms.access.ranges:g} reads of single tiles of each a year"
    prices = f"{terms.prices.name} ({terms.prices.title})"
    say(f"For {_MANY} slides like these over {terms.horizon_years:g} years in {terms.tier}, with {access}.")
    say(f"Money in EUR, at the prices {prices}. One slide: encode, recall in CPU seconds, tile in CPU milliseconds.")
    sampled = sum(slide.sample_bytes for slide in tuned.slides)
    origin = " (kept table)" if all(slide.from_kept_table for slide in tuned.slides) else ""
    say(f"Measured on {format_bytes(sampled)} of tiles of {len(tuned.slides)} slide(s), seed {tuned.seed}{origin}.")
    other = [f"{name} if {what}" for what, name in tuned.sensitivity if name != tuned.chosen.candidate.name]
    same = [what for what, name in tuned.sensitivity if name == tuned.chosen.candidate.name]
    if same:
        say(f"The same if {'; if '.join(same)}.")
    if other:
        say(f"It would be {'; '.join(other)}.")
    if not tuned.chosen.cost.total.eur.central:
        warn("These prices cost nothing: every candidate is as cheap.")
    say("")
    say(tuned.sentence)
    if tuned.path is not None:
        say(f"Kept in {tuned.path}.")
    if plot is not None:
        say(f"Drawn in {plot}.")


def _cells(row: Any, is_chosen: bool, keep_bytes: float) -> tuple[str, ...]:
    one, cost = row.measurement, row.cost
    total, parts = cost.total, (cost.encoding, cost.recalls, cost.ranges)
    work = sum(part.eur.central for part in parts)
    return (
        "→" if is_chosen else "",
        f"{row.candidate.name}{', packed' if row.packed else ''}",
        format_bytes(one.bytes_stored),
        format_bytes(one.bytes_error) if one.bytes_error else "",
        f"{1 - one.bytes_stored / keep_bytes:.1%}".replace("%", " %"),
        f"{one.encode_seconds:.1f}",
        f"{one.decode_seconds:.1f}",
        f"{one.range_seconds * 1000:.1f}",
        *(_figure(_MANY * euro) for euro in (cost.storage.eur.central, cost.requests.eur.central, work)),
        *(_figure(_MANY * euro) for euro in (total.eur.central, total.eur.low, total.eur.high)),
        _figure(_MANY * total.kwh.central),
        _figure(_MANY * total.gco2e.central / 1000),
    )


def _figure(number: float) -> str:
    """Return a number with three digits that say something, and never as a power of ten."""
    return f"{number:,.0f}" if abs(number) >= 99.95 else f"{number:.3g}"


def _print_plot(tuned: Tuned) -> None:
    """Draw stored bytes against the time of reading one tile."""
    points = [(row.measurement.range_seconds * 1000, row.measurement.bytes_stored) for row in tuned.rows]
    right, top, bottom = max(x for x, _ in points) or 1.0, max(y for _, y in points), min(y for _, y in points)
    lines = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for row, (x, y) in sorted(zip(tuned.rows, points, strict=True), key=lambda pair: pair[0] is tuned.chosen):
        line = round((top - y) / ((top - bottom) or 1.0) * (_HEIGHT - 1))
        label = f"{'*' if row is tuned.chosen else 'o'} {row.candidate.name}"
        column = min(round(x / right * (_WIDTH - 1)), _WIDTH - len(label))
        if all(letter == " " for letter in lines[line][column : column + len(label)]):
            lines[line][column : column + len(label)] = label
        else:
            lines[line][column] = label[0]
    names = [format_bytes(top), *[""] * (_HEIGHT - 2), format_bytes(bottom)]
    for name, letters in zip(names, lines, strict=True):
        say(f"{name:>9} │{''.join(letters).rstrip()}")
    say(f"{'':>9} └{'─' * _WIDTH}")
    say(f"{'':>10} 0{f'{right:.1f} ms CPU to read one tile':>{_WIDTH - 1}}")
