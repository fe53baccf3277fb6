"""A plan as a picture: what lies in each tier now and afterwards, its cost, and what is done to how many slides."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsistore.errors import InputError, Kind
from wsistore.tiers.plans.header import Header
from wsistore.tiers.plans.plan_file import Plan
from wsistore.tiers.plans.totals import Total
from wsistore.tiers.rules.decisions import Action
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = (11.0, 7.0)
_DOTS_PER_INCH = 144
_NOW, _AFTER, _WAITS = "#9aa7b2", "#2c6fa6", "#d9a441"
_GRAVE = "#c0392b"
_BAR = 0.38
_LEAST_BARS = 3
_ENDINGS = (".png", ".svg", ".html")
_FIXED: dict[Any, Any] = {"svg.hashsalt": "wsistore", "svg.fonttype": "none"}
"""The same plan is the same picture."""


def draw_plan(plan: Plan, path: Path) -> None:
    """Write a picture of a plan: PNG, SVG, or an HTML page that needs nothing else.

    Raises
    ------
    InputError
        If the name does not say which of these, or the file cannot be written.

    """
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        msg = f"{path}: a chart is PNG, SVG or HTML."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give a name that ends in .png, .svg or .html.")
    body = _page(plan) if ending == ".html" else _picture(plan, ending[1:])
    try:
        path.write_bytes(body)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error})."
        raise InputError(msg, kind=Kind.PATH_MISSING, remedy="Choose a place that can be written.") from error


def _picture(plan: Plan, kind: str) -> bytes:
    import matplotlib as mpl  # half a second that only this needs

    with mpl.rc_context(_FIXED):
        figure, sink = _figure(plan.header), io.BytesIO()
        about = {"Software": "wsistore"} if kind == "png" else {"Date": None, "Creator": "wsistore"}
        figure.savefig(sink, format=kind, metadata=about)
    return sink.getvalue()


def _figure(header: Header) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    (stored, money), (carbon, actions) = figure.subplots(2, 2)
    tiers = {name: one for name, one in header.totals.by_tier.items() if one.bytes_now or one.bytes_after}
    for axes, title, unit, name in (
        (stored, "Stored", _unit(max([0.0, *(max(t.bytes_now, t.bytes_after) for t in tiers.values())])), "bytes"),
        (money, "Keeping it, a year", ("EUR", 1.0), "eur_year"),
        (carbon, "Carbon, a year", ("kgCO2e", 1e3), "gco2e_year"),
    ):
        pairs = {t: (getattr(one, f"{name}_now"), getattr(one, f"{name}_after")) for t, one in tiers.items()}
        _before_and_after(axes, f"{title}, {unit[0]}", pairs, unit[1])
    _actions(actions, header.totals.by_action)
    stored.legend(loc="lower right", fontsize=8, frameon=False)
    # A dollar sign would begin a formula.
    figure.suptitle(_title(header).replace("$", r"\$"), fontsize=11, color=_GRAVE if header.over_limit else "black")
    return figure


def _title(header: Header) -> str:
    total = header.totals.all
    first = f"{header.site}: {_count(total.slides)} slides, plan for {header.at:%Y-%m-%d %H:%M} UTC"
    spent, saved = total.eur_spent, total.eur_saved_per_year
    change = f"{_money(abs(saved))} EUR a year {'saved' if saved >= 0 else 'more'}"
    second = f"{_money(spent)} EUR once, {change}"
    over = " OVER ITS LIMITS: cannot be approved." if header.over_limit else ""
    return f"{first}\n{second}.{over}"


def _before_and_after(axes: Axes, title: str, pairs: Mapping[str, tuple[float, float]], unit: float) -> None:
    places = range(len(pairs))
    for shift, color, label, n in ((-_BAR / 2, _NOW, "now", 0), (_BAR / 2, _AFTER, "afterwards", 1)):
        values = [pair[n] / unit for pair in pairs.values()]
        bars = axes.barh([place + shift for place in places], values, _BAR, color=color, label=label)
        axes.bar_label(bars, [_money(value) for value in values], padding=3, fontsize=8)
    _finish(axes, title, list(pairs))


def _actions(axes: Axes, totals: Mapping[str, Total]) -> None:
    names = [str(one) for one in Action if one is not Action.NONE and str(one) in totals]
    doing = [totals[name].slides - totals[name].waiting for name in names]
    late = [totals[name].waiting for name in names]
    colors = [_GRAVE if name in (Action.DELETE, Action.DETACH_IDENTITY) else _AFTER for name in names]
    axes.barh(names, doing, 2 * _BAR, color=colors)
    bars = axes.barh(names, late, 2 * _BAR, left=doing, color=_WAITS)
    words = [f"{_count(d)}{f' + {_count(w)} waiting' if w else ''}" for d, w in zip(doing, late, strict=True)]
    axes.bar_label(bars, words, padding=3, fontsize=8)
    rest = totals["none"].slides if "none" in totals else 0
    _finish(axes, f"Slides by what is done ({_count(rest)} stay as they are)", names)


def _finish(axes: Axes, title: str, names: Sequence[str]) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_yticks(range(len(names)), names)
    axes.use_sticky_edges = False
    axes.margins(x=0.28)
    axes.set_xlim(left=0)
    axes.set_ylim(max(len(names), _LEAST_BARS) - 0.5, -0.5)  # one bar alone is no wall
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if not names:
        axes.text(0.5, 0.5, "nothing", ha="center", va="center", transform=axes.transAxes, color=_NOW)


def _unit(largest: float) -> tuple[str, float]:
    for name, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if largest >= size:
            return name, size
    return "kB", 1e3


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


def _money(value: float) -> str:
    if abs(value) >= 99.95:
        return _count(value)
    return f"{value:.3g}" if abs(value) >= 0.001 or not value else "< 0.001"


# --- a page -----------------------------------------------------------------------------------------------------------

_STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}.over{color:#c0392b;font-weight:600}"""
_TABLES = (("What is done", "by_action"), ("Rules", "by_rule"), ("Departments", "by_department"))
_HEADS = (
    "",
    "slides",
    "waiting",
    "now",
    "afterwards",
    "EUR a year now",
    "afterwards",
    "EUR once",
    "kgCO2e a year saved",
)


def _page(plan: Plan) -> bytes:
    header = plan.header
    svg = _picture(plan, "svg").decode("utf-8")
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(header.site)}: plan</title>",
        f"<style>{_STYLE}</style><h1>Plan of {escape(header.site)}</h1>",
        f"<p>Made {header.made_at:%Y-%m-%d %H:%M} UTC by {escape(header.author)}.</p>",
        f"<p>Valid until {header.expires_at:%Y-%m-%d %H:%M} UTC. SHA-256 {plan.digest}.</p>",
        *(f"<p class='over'>{escape(str(one))}</p>" for one in header.over_limit),
        svg[svg.index("<svg") :],
        *(f"<h2>{title}</h2>{_table(getattr(header.totals, name))}" for title, name in _TABLES),
        _not_done(header),
        "</html>\n",
    ]
    return "\n".join(parts).encode("utf-8")


def _table(totals: Mapping[str, Total]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in _cells(n, t))}</tr>" for n, t in totals.items())
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cells(name: str, total: Total) -> tuple[str, ...]:
    sums = total.sums
    return (
        name or "(none)",
        str(total.slides),
        str(total.waiting),
        format_bytes(sums["bytes_now"]),
        format_bytes(sums["bytes_after"]),
        _money(sums["eur_year_now"]),
        _money(sums["eur_year_after"]),
        _money(total.eur_spent),
        _money((sums["gco2e_year_now"] - sums["gco2e_year_after"]) / 1e3),
    )


def _not_done(header: Header) -> str:
    totals = header.totals
    lines = [f"{word}: {count} slides" for word, count in totals.blocked.items()]
    lines += [f"waits for {word}: {one.slides} slides" for word, one in totals.postponed.items()]
    return f"<h2>What is not done</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines) or '<li>–</li>'}</ul>"
