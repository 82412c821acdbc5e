"""How charts look: one Plotly template per kind and theme, and the colour, dash and marker of every variant.  No data here."""

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from . import words

Json = dict[str, Any]

# Okabe-Ito; the reference is grey.  All but the last two reach 3:1 on both backgrounds; dash and marker differ too.
COLOURS = ("#7a828c", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "pentagon", "star")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
TOOLBAR = 30  # pixels above the data, so that plotly's buttons cover none of it
NOISE = "rgba(128,136,146,0.20)"
THEMES = {
    "light": {"text": "#3d4652", "strong": "#11161c", "grid": "#e4e8ec", "paper": "#ffffff"},
    "dark": {"text": "#aab4c0", "strong": "#f1f4f7", "grid": "#2a313a", "paper": "#171c22"},
}


def style(index: int) -> dict[str, str]:
    """Colour, dash and marker of the variant at that place."""
    return {"colour": COLOURS[index % len(COLOURS)], "dash": DASHES[index % len(DASHES)], "marker": MARKERS[index % len(MARKERS)]}


def templates(names: Sequence[str]) -> Json:
    """{"traces": {kind: [slot, ...]}, "layouts": {theme: {kind: layout}}}: everything that figures do not repeat."""
    lines = [_line(index, name) for index, name in enumerate(names)]
    bands = [_band(_faded(style(index)["colour"])) for index in range(len(names))]
    points = [
        dict(line, mode="markers", hovertemplate="%{y:.3s}s, %{x}<extra>" + html.escape(name) + "</extra>")
        for line, name in _both(lines, names)
    ]
    floor = {"type": "scatter", "mode": "markers", "marker": {"color": COLOURS[0], "symbol": "x-thin-open", "size": 6}, "hoverinfo": "skip"}
    traces = {
        "speedup": [_band(NOISE), *(trace for pair in _both(bands, lines) for trace in pair)],
        **dict.fromkeys(("time", "memory", "split"), lines),
        "samples": [*points, floor],
    }
    suffix = {"speedup": words.TIMES, "time": "s", "memory": "B", "split": words.TIMES, "samples": "s"}
    layouts = {theme: {kind: _layout(kind, colours, suffix[kind]) for kind in traces} for theme, colours in THEMES.items()}
    return {"traces": traces, "layouts": layouts}


def _both(first: Sequence[Any], second: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(first, second, strict=True))


def _line(index: int, name: str) -> Json:
    """Later variants are drawn over earlier ones and thinner, so that lines that coincide are all seen."""
    look = style(index)
    return go.Scatter(
        mode="lines+markers",
        line={"color": look["colour"], "dash": look["dash"], "width": max(2, 3.5 - index / 2)},
        marker={"color": look["colour"], "symbol": look["marker"], "size": max(8, 11 - index)},
        hovertemplate="%{text}<extra>" + html.escape(name) + "</extra>",
    ).to_plotly_json()


def _band(colour: str) -> Json:
    return go.Scatter(mode="lines", line={"width": 0}, fill="toself", fillcolor=colour, hoverinfo="skip").to_plotly_json()


def _faded(colour: str) -> str:
    return "rgba({},{},{},0.22)".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


def _layout(kind: str, colours: dict[str, str], suffix: str) -> Json:
    axis = {"gridcolor": colours["grid"], "zeroline": False, "automargin": True, "title": {"standoff": 8}}
    x = axis | {"showgrid": False, "ticks": "outside", "tickcolor": colours["grid"], "linecolor": colours["grid"], "showline": True}
    form = ".3~g" if suffix == words.TIMES else ".3~s"
    return go.Layout(
        font={"family": FONT, "size": 12, "color": colours["text"]},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 10, "t": TOOLBAR, "b": 8},
        showlegend=False,
        hovermode="closest" if kind == "samples" else "x unified",
        hoverlabel={"bgcolor": colours["paper"], "bordercolor": colours["grid"], "font": {"color": colours["strong"]}},
        xaxis=x if kind == "samples" else x | {"type": "log", "tickmode": "array", "minor": {"ticks": ""}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": colours["grid"], "activecolor": colours["text"]},
        yaxis=axis
        | {"ticksuffix": suffix, "tickformat": form, "nticks": 6, "rangemode": "normal" if kind in ("speedup", "samples") else "tozero"},
    ).to_plotly_json()
