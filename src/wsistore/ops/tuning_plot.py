"""The tuner's table as a picture: bytes against decoding time, the chosen candidate marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsistore.errors import InputError, Kind
from wsistore.ops.tuning_results import Row, Tuned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = (10.0, 4.2)
_DOTS_PER_INCH = 144
_CHOSEN, _OTHERS = "#c0392b", "#2c6fa6"


def draw_tuned(tuned: Tuned, path: Path) -> None:
    """Write the picture as PNG.

    Two panels share the stored bytes upwards: the CPU time of reading one tile, and that of getting the whole slide
    back. Bars are two standard errors of the bytes.

    Raises
    ------
    InputError
        If `path` does not end in ``.png``, or cannot be written.

    """
    if path.suffix.lower() != ".png":
        msg = f"{path}: the plot is a PNG."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give a name that ends in .png.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second that only this needs
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, tuned, lambda row: row.measurement.range_seconds * 1000, "reading one tile: CPU milliseconds")
    _panel(right, tuned, lambda row: row.measurement.decode_seconds, "whole slide back: CPU seconds")
    left.set_ylabel("stored bytes, MB")
    profile = tuned.profile
    figure.suptitle(f"{profile.name} ({profile.codec}) in {profile.tier}: {tuned.chosen.candidate.name}", fontsize=11)
    try:
        figure.savefig(path, format="png", metadata={"Software": "wsistore"})
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error})."
        raise InputError(msg, kind=Kind.PATH_MISSING, remedy="Choose a place that can be written.") from error


def _panel(axes: Axes, tuned: Tuned, time: Callable[[Row], float], label: str) -> None:
    rows: Sequence[Row] = tuned.rows
    for number, row in enumerate(rows):
        style: dict[str, Any] = {"color": _CHOSEN if row is tuned.chosen else _OTHERS, "capsize": 2}
        style["marker"], style["markersize"] = ("*", 15) if row is tuned.chosen else ("o", 6)
        size, error = row.measurement.bytes_stored / 1e6, 2 * row.measurement.bytes_error / 1e6
        axes.errorbar(time(row), size, yerr=error, linestyle="", **style)
        # names of neighbours go to opposite sides: tall folds lie close to each other
        place: dict[str, Any] = {"xytext": (-8, -11), "ha": "right"} if number % 2 else {"xytext": (8, 6)}
        axes.annotate(row.candidate.name, (time(row), size), textcoords="offset points", fontsize=8, **place)
    axes.set_xlabel(label)
    longest = max(1e-9, *(time(row) for row in rows))
    axes.set_xlim(-0.16 * longest, 1.2 * longest)
    axes.margins(y=0.14)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
