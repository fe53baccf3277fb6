"""What a benchmark prints: tables for people, and one JSON object as the last line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDTH = 118
"""Columns where no terminal tells its own number."""


def stdout() -> Console:
    """Return a console for tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def stderr() -> Console:
    """Return a console for what is going on."""
    return Console(stderr=True, highlight=False)


def show(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; columns whose name starts with ``>`` are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", vertical="middle")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()


@dataclass(slots=True)
class Report:
    """The figures of one benchmark: ratios, bigger is better."""

    name: str
    floors: Mapping[str, float]
    """The least that is expected, by figure. A floor without its figure was not measured."""
    figures: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Why a figure is missing."""

    def add(self, key: str, value: float) -> None:
        """Keep a figure."""
        self.figures[key] = value

    def skip(self, key: str, reason: str) -> None:
        """Keep why there is no figure."""
        self.absent[key] = reason

    def missed(self) -> list[str]:
        """Return the figures that are below their floors."""
        return [key for key, value in self.figures.items() if value < self.floors.get(key, 0.0)]

    def line(self) -> str:
        """Return the one JSON object."""
        figures = {key: float(f"{value:.6g}") for key, value in self.figures.items()}
        return json.dumps({"bench": self.name, "figures": figures, "floors": dict(self.floors)})

    def close(self, console: Console) -> None:
        """Print the figures beside their floors, and the JSON object as the last line."""
        missed = set(self.missed())
        show(console, "Figures (bigger is better)", ["figure", ">measured", ">at least", ""], (
            (key, f"{value:.3g}", f"{self.floors[key]:g}" if key in self.floors else "",
             "[bold red]MISSED[/]" if key in missed else "[green]met[/]" if key in self.floors else "for information")
            for key, value in self.figures.items()
        ))  # fmt: skip
        for key, reason in self.absent.items():
            console.print(f"[yellow]Not measured[/]: {key}: {escape(reason)}")
        console.file.flush()
        print(self.line(), flush=True)
