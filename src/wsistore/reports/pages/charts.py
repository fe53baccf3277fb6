"""Charts as inline SVG: in one style, readable by screen readers, in print and without colour.

Each chart is one ``<svg>`` that needs no style sheet, font or script. It has a title and a description in words (what
a screen reader says), and every mark has its own title with name and figure. Figures are formatted by the caller, so
that a chart speaks the language of its page. The table that belongs to a chart is the page's: no figure is in a chart
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f", "#b8a800")
"""Told apart by people who are blind to some colours, too (after Okabe and Ito). More series than these repeat them."""
INK, FAINT, LINE = "#1f2933", "#52606d", "#d5dbe1"
LESS, MORE = "#009e73", "#d55e00"
WIDTH = 720.0
"""Of every chart, in its own units; a page scales it."""
_FONT = 13.0
_LETTER = 0.56 * _FONT
"""Width of a letter, on average: SVG knows no text that flows."""
_SYSTEM = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
_LEAST = 1e-9
"""Less is nothing."""
_HATCHED_FROM = 4
"""From this series on bars are hatched: neighbours differ in grey print, too."""

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One name with a figure per label; `low` and `high` are the ends of bands, if it has any."""

    name: str
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure with its band; `is_sum` marks what others add up to."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    is_sum: bool = False


# --- charts -----------------------------------------------------------------------------------------------------------


def stacked_bars(
    key: str,
    title: str,
    description: str,
    labels: Sequence[str],
    series: Sequence[Series],
    fmt: Format,
    *,
    bands: Sequence[tuple[float, float] | None] = (),
    marked: int | None = None,
) -> str:
    """Return columns, one per label, each stacked of series; figures must not be negative.

    Parameters
    ----------
    key
        Begin of the ids in this chart; unique on the page.
    title, description
        What a screen reader says.
    labels
        Under the columns.
    series
        From below; with one value per label.
    fmt
        Writes a figure.
    bands
        Low and high of each column's sum, if known.
    marked
        The label that the page is about: written bold.

    """
    sums = [sum(max(one.values[place], 0.0) for one in series) for place in range(len(labels))]
    tops = [band[1] for band in bands if band is not None]
    ticks = nice_ticks(0.0, max([*sums, *tops, 0.0]))
    legend = _legend([one.name for one in series], 8.0)
    frame = _Frame(ticks, fmt, top=legend.height + 14, height=230)
    parts = [legend.svg, frame.grid()]
    step = frame.inner / max(len(labels), 1)
    wide = min(step * 0.62, 64.0)
    every_nth = _thinned(labels, step)
    for place, label in enumerate(labels):
        middle = frame.left + step * (place + 0.5)
        base = 0.0
        for number, one in enumerate(series):
            value = max(one.values[place], 0.0)
            if value:
                y, bottom = frame.y(base + value), frame.y(base)
                told = f"{label}: {one.name} {fmt(value)}"
                parts.append(_rect(middle - wide / 2, y, wide, bottom - y, number, told))
                base += value
        band = bands[place] if place < len(bands) else None
        if band is not None:
            parts.append(_upright(middle, frame.y(band[0]), frame.y(band[1]), f"{fmt(band[0])} – {fmt(band[1])}"))
        if (len(labels) - 1 - place) % every_nth == 0:
            parts.append(_under(middle, frame.bottom, label, step * every_nth, bold=place == marked))
    return _svg(key, title, description, frame.bottom + 34, parts)


def lines(key: str, title: str, description: str, labels: Sequence[str], series: Sequence[Series], fmt: Format) -> str:
    """Return lines over labels, each with its band as an area behind it, and its name at its end.

    Parameters are those of `stacked_bars`; figures may be negative.
    """
    every = [value for one in series for value in (*one.values, *one.low, *one.high)]
    ticks = nice_ticks(min([0.0, *every]), max([0.0, *every]))
    legend = _legend([one.name for one in series], 8.0)
    frame = _Frame(ticks, fmt, top=legend.height + 14, height=260)
    margin = max(len(labels[0]), len(labels[-1])) * _LETTER / 2 if labels else 0.0
    step = (frame.inner - 2 * margin) / max(len(labels) - 1, 1)
    xs = [frame.left + margin + step * place for place in range(len(labels))]
    parts = [legend.svg, frame.grid()]
    for number, one in enumerate(series):
        if one.low and one.high:
            there = [f"{x:.1f},{frame.y(value):.1f}" for x, value in zip(xs, one.high, strict=True)]
            back = [f"{x:.1f},{frame.y(value):.1f}" for x, value in zip(xs, one.low, strict=True)]
            points = " ".join([*there, *reversed(back)])
            parts.append(f'<polygon points="{points}" fill="{_colour(number)}" fill-opacity="0.14"/>')
    for number, one in enumerate(series):
        points = " ".join(f"{x:.1f},{frame.y(value):.1f}" for x, value in zip(xs, one.values, strict=True))
        dash = ("", "7 4", "2 3", "9 3 2 3")[number % 4]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_colour(number)}" stroke-width="2.4" '
            f'stroke-dasharray="{dash}" stroke-linejoin="round"/>'
        )
        for x, label, value in zip(xs, labels, one.values, strict=True):
            parts.append(_dot(x, frame.y(value), number, f"{label}: {one.name} {fmt(value)}"))
    every_nth = _thinned(labels, step)
    parts += [
        _under(x, frame.bottom, label, step * every_nth, bold=False)
        for place, (x, label) in enumerate(zip(xs, labels, strict=True))
        if place % every_nth == 0
    ]
    return _svg(key, title, description, frame.bottom + 34, parts)


def bars_across(
    key: str, title: str, description: str, bars: Sequence[Bar], fmt: Format, *, signed: bool = False
) -> str:
    """Return one bar per name, to the right or, where a figure is negative, to the left; each with its figure.

    Parameters
    ----------
    key, title, description
        As of `stacked_bars`.
    bars
        From above.
    fmt
        Writes a figure.
    signed
        Whether the sign decides on the colour: what costs more is orange, what costs less green.

    """
    height, names = 30.0, min(max([len(bar.name) for bar in bars], default=0) * _LETTER + 14, WIDTH * 0.34)
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
    least, most = min([0.0, *ends]), max([0.0, *ends])
    words = max([len(fmt(bar.value)) for bar in bars], default=0) * _LETTER + 16
    room = WIDTH - names - words * (2 if least < 0 else 1)
    scale = _scale(room, most - least)
    zero = names + (words if least < 0 else 0.0) - least * scale
    parts = []
    for place, bar in enumerate(bars):
        y = 8 + place * height
        colour = 0 if not signed else (MORE if bar.value > 0 else LESS)
        x, wide = min(zero, zero + bar.value * scale), abs(bar.value) * scale
        parts.append(_text(names - 10, y + 19, _short(bar.name, names - 10), end=True, title=bar.name))
        parts.append(_rect(x, y + 4, max(wide, 0.6), height - 10, colour, f"{bar.name}: {fmt(bar.value)}"))
        edge = [zero, zero + bar.value * scale]
        if bar.low is not None and bar.high is not None:
            left, right = zero + bar.low * scale, zero + bar.high * scale
            parts.append(_across(left, right, y + height / 2 - 1, f"{fmt(bar.low)} – {fmt(bar.high)}"))
            edge += [left, right]
        is_left = bar.value < 0
        at = min(edge) - 8 if is_left else max(edge) + 8
        parts.append(_text(at, y + 19, fmt(bar.value), end=is_left))
    bottom = 8 + len(bars) * height
    parts.append(f'<path d="M{zero:.1f} 4V{bottom:.1f}" stroke="{FAINT}"/>')
    return _svg(key, title, description, bottom + 8, parts)


def waterfall(key: str, title: str, description: str, steps: Sequence[Bar], fmt: Format) -> str:
    """Return how one sum becomes another: sums from zero (`Bar.is_sum`), between them steps where the last one ended.

    Parameters are those of `bars_across`.
    """
    spans, at = [], 0.0
    for step in steps:
        begin = 0.0 if step.is_sum else at
        at = step.value if step.is_sum else at + step.value
        spans.append((begin, at))
    every = [end for span in spans for end in span]
    least, most = min([0.0, *every]), max([0.0, *every])
    height, names = 32.0, min(max([len(step.name) for step in steps], default=0) * _LETTER + 14, WIDTH * 0.42)
    words = max([len(fmt(step.value)) for step in steps], default=0) * _LETTER + 18
    scale = _scale(WIDTH - names - words, most - least)
    zero = names - least * scale
    parts = []
    for place, (step, (begin, end)) in enumerate(zip(steps, spans, strict=True)):
        y = 8 + place * height
        x, wide = zero + min(begin, end) * scale, abs(end - begin) * scale
        colour = 0 if step.is_sum else (MORE if step.value > 0 else LESS)
        parts.append(
            _text(names - 10, y + 20, _short(step.name, names - 10), end=True, bold=step.is_sum, title=step.name)
        )
        parts.append(_rect(x, y + 4, max(wide, 0.6), height - 10, colour, f"{step.name}: {fmt(step.value)}"))
        parts.append(_text(x + wide + 8, y + 20, fmt(step.value), bold=step.is_sum))
        if place + 1 < len(steps):
            parts.append(f'<path d="M{zero + end * scale:.1f} {y + height - 6:.1f}v10" stroke="{FAINT}"/>')
    bottom = 8 + len(steps) * height
    parts.append(f'<path d="M{zero:.1f} 4V{bottom:.1f}" stroke="{FAINT}"/>')
    return _svg(key, title, description, bottom + 8, parts)


def nice_ticks(least: float, most: float, count: int = 5) -> list[float]:
    """Return round figures, rising, that enclose `least` and `most`; three at least."""
    span = max(most - least, 1e-6 * max(abs(least), abs(most)), _LEAST)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return [step * place for place in range(first, max(last, first + 2) + 1)]


# --- parts ------------------------------------------------------------------------------------------------------------


class _Frame:
    """The axes of a chart with figures upwards."""

    def __init__(self, ticks: Sequence[float], fmt: Format, *, top: float, height: float) -> None:
        self.ticks, self.fmt = ticks, fmt
        self.left = max(len(fmt(tick)) for tick in ticks) * _LETTER + 14
        self.top, self.bottom, self.inner = top, top + height, WIDTH - self.left - 12

    def y(self, value: float) -> float:
        """Return where a figure lies."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def grid(self) -> str:
        """Return lines and figures of the axis."""
        parts = []
        for tick in self.ticks:
            y = self.y(tick)
            colour = FAINT if tick == 0 else LINE
            parts.append(f'<path d="M{self.left:.1f} {y:.1f}H{self.left + self.inner:.1f}" stroke="{colour}"/>')
            parts.append(_text(self.left - 8, y + 4.5, self.fmt(tick), end=True, faint=True))
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Legend:
    svg: str
    height: float


def _legend(names: Sequence[str], top: float) -> _Legend:
    """Return names with their colours, in as many lines as they take."""
    parts, x, y = [], 4.0, top
    for number, name in enumerate(names):
        shown = _short(name, WIDTH / 2)
        wide = len(shown) * _LETTER + 40
        if x > 4.0 and x + wide > WIDTH:
            x, y = 4.0, y + 22
        parts.append(_rect(x, y, 14, 14, number, name))
        parts.append(_text(x + 20, y + 12, shown, title=name))
        x += wide
    return _Legend("".join(parts), y - top + 30 if names else 0.0)


def _svg(key: str, title: str, description: str, height: float, parts: Sequence[str]) -> str:
    safe = escape(key)
    body = "".join(parts).replace("{hatch}", f"{safe}-hatch")
    return (
        f'<svg role="img" aria-labelledby="{safe}-t {safe}-d" viewBox="0 0 {WIDTH:.0f} {height:.0f}" '
        f'width="100%" xmlns="http://www.w3.org/2000/svg" font-family="{escape(_SYSTEM)}" font-size="{_FONT:.0f}" '
        f'fill="none" style="print-color-adjust:exact;-webkit-print-color-adjust:exact">'
        f'<title id="{safe}-t">{escape(title)}</title><desc id="{safe}-d">{escape(description)}</desc>'
        f'<defs><pattern id="{safe}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><path d="M0 0V6" stroke="#fff" stroke-width="2.4"/></pattern></defs>'
        f"{body}</svg>"
    )


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _rect(x: float, y: float, wide: float, high: float, colour: int | str, told: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0):.1f}" height="{max(high, 0):.1f}"'
    fill = colour if isinstance(colour, str) else _colour(colour)
    hatch = ""
    if isinstance(colour, int) and colour >= _HATCHED_FROM:
        hatch = f'<rect {place} fill="url(#{{hatch}})" fill-opacity="0.55"/>'
    return f'<g><title>{escape(told)}</title><rect {place} fill="{fill}" stroke="#fff" stroke-width="0.8"/>{hatch}</g>'


def _dot(x: float, y: float, number: int, told: str) -> str:
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{_colour(number)}"/>'
    return f"<g><title>{escape(told)}</title>{circle}</g>"


def _upright(x: float, low: float, high: float, told: str) -> str:
    path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 5:.1f} {low:.1f}h10M{x - 5:.1f} {high:.1f}h10"
    return f'<g><title>{escape(told)}</title><path d="{path}" stroke="{INK}" stroke-width="1.3"/></g>'


def _across(left: float, right: float, y: float, told: str) -> str:
    path = f"M{left:.1f} {y:.1f}H{right:.1f}M{left:.1f} {y - 5:.1f}v10M{right:.1f} {y - 5:.1f}v10"
    return f'<g><title>{escape(told)}</title><path d="{path}" stroke="{INK}" stroke-width="1.3"/></g>'


def _text(
    x: float, y: float, text: str, *, end: bool = False, bold: bool = False, faint: bool = False, title: str = ""
) -> str:
    anchor = ' text-anchor="end"' if end else ""
    weight = ' font-weight="700"' if bold else ""
    whole = f"<title>{escape(title)}</title>" if title and title != text else ""
    colour = FAINT if faint else INK
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{anchor}{weight}>{whole}{escape(text)}</text>'


def _thinned(labels: Sequence[str], step: float) -> int:
    """Return which nth label is written, so that neighbours do not touch."""
    longest = min(max([len(label) for label in labels], default=0), 12) * _LETTER
    return max(1, math.ceil(longest / (step + 4)))


def _under(x: float, bottom: float, label: str, step: float, *, bold: bool) -> str:
    weight = ' font-weight="700"' if bold else ""
    shown = _short(label, max(step + 4, 3 * _LETTER))
    return f'<text x="{x:.1f}" y="{bottom + 20:.1f}" fill="{INK}" text-anchor="middle"{weight}>{escape(shown)}</text>'


def _scale(room: float, span: float) -> float:
    return max(room, 0.0) / span if span > _LEAST else 0.0


def _short(text: str, room: float) -> str:
    """Return as much of a text as fits into some units."""
    most = max(int(room / _LETTER), 2)
    return text if len(text) <= most else f"{text[: most - 1]}…"
