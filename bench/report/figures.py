"""Figures of a panel as Plotly JSON: data and ticks only.  Looks live in one template per kind of chart, sent once; nothing is drawn here.

The traces of a figure stand in fixed slots (see `looks.templates`), so that the template's trace list gives every variant the same colour,
dash and marker in every chart.  Figures are plain dicts: plotly.py takes 1.3 ms to build one trace, and a large run has thousands.
A test hands all kinds to plotly.graph_objects to be validated.
"""

import html
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import words
from .looks import Json
from .panels import Panel

ALWAYS: dict[str, tuple[float, ...]] = {"speedup": (0.9, 1.1), "split": (1, 3)}  # on the axis, so that noise does not fill the chart
TICKS = {"speedup": words.times, "time": words.seconds, "memory": words.count_bytes, "split": words.times}
HIDDEN: Json = {"visible": False}


class Chart(NamedTuple):
    kind: str
    title: str
    figure: Json | None  # None: nothing but zeros, which the note says
    note: str  # what the chart cannot show


def charts(panel: Panel, names: Sequence[str]) -> list[Chart]:
    """Every chart of a panel; one without a single measured value is left out."""
    drawn = [("speedup", step, _speedup(panel, names, step)) for step in panel.steps]
    drawn += [("time", step, _lines(panel, names, "time", [step], lambda row: row.seconds, "time per call")) for step in panel.steps]
    drawn += _memory(panel, names)
    if {"forward", "backward"} <= set(panel.steps):
        drawn.append(("split", "backward ÷ forward", _split(panel, names)))
    return [_chart(panel, names, kind, title, figure) for kind, title, figure in drawn if figure]


def _chart(panel: Panel, names: Sequence[str], kind: str, title: str, figure: Json) -> Chart:
    values = [value for trace in figure["data"] for value in trace.get("y", ()) if value is not None]
    if not any(values):
        return Chart(kind, title, None, f"is 0 for every variant at every {panel.axis}")
    layout = _frame(panel, kind, figure["titles"], figure["data"])
    return Chart(kind, title, {"data": figure["data"], "layout": layout}, zeros(figure, names))


def zeros(figure: Json, names: Sequence[str]) -> str:
    """A measured 0 has no place on a logarithmic axis: the variants that have one, in words."""
    found = []
    for name, trace in zip(names, figure["data"], strict=False):
        ticks = [tick for tick, value in zip(trace.get("x", ()), trace.get("y", ()), strict=True) if value == 0]
        if ticks:
            found.append(name if len(ticks) == len(trace["x"]) else f"{name} at {', '.join(map(str, ticks))}")
    return f"0, which a log axis cannot show: {'; '.join(found)}" if found else ""


def _memory(panel: Panel, names: Sequence[str]) -> list[tuple[str, str, Json | None]]:
    """Memory belongs to the whole forward and backward, not to the step: any step that was measured has it."""
    quantities = (
        ("held for backward", lambda row: row.saved_bytes),
        ("peak in forward", lambda row: row.peak_forward_bytes),
        ("peak in backward", lambda row: row.peak_backward_bytes),
    )
    return [("memory", title, _lines(panel, names, "memory", panel.steps, value, "tensor bytes")) for title, value in quantities]


def _frame(panel: Panel, kind: str, titles: Sequence[str], traces: Sequence[Json]) -> Json:
    text = TICKS[kind]
    ticks = panel.ticks
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])
    pad = max(0.15, 0.06 * (high - low))
    xaxis = {"title": {"text": html.escape(panel.axis)}, "tickvals": ticks, "range": [round(low - pad, 3), round(high + pad, 3)]}
    above = [value for trace in traces for value in trace.get("y", ()) if value]  # a measured 0 has no place on a log axis
    shown = [*ALWAYS.get(kind, ()), *above]
    least, most = math.log10(min(shown)), math.log10(max(shown))
    room = max(0.06 * (most - least), 0.01 if kind in ALWAYS else 0.1)
    title = "<br>".join(html.escape(title) for title in titles)
    yaxis: Json = {"title": {"text": title}, "range": [round(least - room, 3), round(most + room, 3)]}
    places = log_ticks(10 ** (least - room), 10 ** (most + room))
    return {"xaxis": xaxis, "yaxis": yaxis | {"tickvals": places, "ticktext": [words.whole_tick(text(place)) for place in places]}}


def log_ticks(low: float, high: float) -> list[float]:
    """At most seven round places between two positive numbers: by decades where the range is wide, in equal steps where it is narrow."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        places = [float(f"{digit}e{decade}") for decade in decades for digit in digits if low <= float(f"{digit}e{decade}") <= high]
        if len(places) <= 7:
            break
    if len(places) >= 3:
        return places
    unit = 10.0 ** math.floor(math.log10(high - low))
    step = next(s for s in (0.1 * unit, 0.2 * unit, 0.5 * unit, unit, 2 * unit) if (high - low) / s <= 6)
    return [float(f"{step * place:.6g}") for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _lines(panel: Panel, names: Sequence[str], kind: str, steps: Sequence[str], value: Callable[[Any], float], title: str) -> Json | None:
    text = TICKS[kind]
    traces = []
    for name in names:
        curve = {tick: row for step in steps for tick, row in panel.curve(step, name).items()}
        values = [value(curve[tick]) if tick in curve else None for tick in panel.ticks]
        traces.append({"x": panel.ticks, "y": [_short(v) for v in values], "text": [text(v) for v in values]} if curve else HIDDEN)
    return _data(traces, title)


def _split(panel: Panel, names: Sequence[str]) -> Json | None:
    traces = []
    for name in names:
        forward, backward = panel.curve("forward", name), panel.curve("backward", name)
        both = {tick: backward[tick].seconds / forward[tick].seconds for tick in forward if tick in backward}
        values = [both.get(tick) for tick in panel.ticks]
        traces.append({"x": panel.ticks, "y": [_short(v) for v in values], "text": [words.times(v) for v in values]} if both else HIDDEN)
    return _data(traces, "backward time ÷ forward time")


def _speedup(panel: Panel, names: Sequence[str], step: str) -> Json | None:
    stock = panel.layer.reference
    floors: dict[int, float] = {}
    traces: list[Json] = []
    for name in names:
        curve = {tick: row for tick, row in panel.curve(step, name).items() if row.verdict}
        floors |= {tick: row.noise_floor or 0.0 for tick, row in curve.items()}  # no second copy measured: no shade
        traces += _banded(panel.ticks, curve) if curve else [HIDDEN, HIDDEN]
    if not floors:
        return None
    ends = sorted(floors)
    by_definition = [f"1{words.TIMES} by definition"] * 2
    traces[2 * list(names).index(stock) + 1] = {"x": [ends[0], ends[-1]], "y": [1, 1], "text": by_definition, "mode": "lines"}
    noise = _polygon(ends, [1 / (1 + floors[tick]) for tick in ends], [1 + floors[tick] for tick in ends])
    return _data([noise, *traces], f"times faster than {stock}", "ratio > 1 is faster")


def _banded(ticks: Sequence[int], curve: dict[int, Any]) -> list[Json]:
    """The interval as a band, broken where nothing was measured, and the line over it."""
    runs: list[list[int]] = [[]]
    for tick in ticks:
        known = tick in curve and curve[tick].speedup_low > 0 and math.isfinite(curve[tick].speedup_high)
        runs[-1].append(tick) if known else runs.append([])
    band: Json = {"x": [], "y": []}
    for run in filter(None, runs):
        part = _polygon(run, [curve[tick].speedup_low for tick in run], [curve[tick].speedup_high for tick in run])
        band = {axis: [*band[axis], *([None] if band[axis] else []), *part[axis]] for axis in band}
    line = {
        "x": list(ticks),
        "y": [_short(curve[tick].speedup) if tick in curve else None for tick in ticks],
        "text": [_hover(curve[tick]) if tick in curve else "" for tick in ticks],
    }
    return [band, line]


def _hover(row: Any) -> str:
    return f"{words.times(row.speedup)} ({words.span(row.speedup_low, row.speedup_high)}) {row.verdict}"


def _polygon(ticks: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Json:
    """A single place is widened a little, so that its band can be seen."""
    if len(ticks) == 1:
        ticks, low, high = [ticks[0] * 0.94, ticks[0] * 1.06], [*low, *low], [*high, *high]
    return {"x": [*ticks, *reversed(ticks)], "y": [_short(v) for v in (*low, *reversed(high))]}


def _data(traces: list[Json], *titles: str) -> Json | None:
    """The traces in their slots and the lines of the vertical axis' title; None when no slot has any."""
    if all(trace is HIDDEN for trace in traces):
        return None
    while traces[-1] is HIDDEN:
        traces.pop()
    return {"data": traces, "titles": titles}


def _short(value: float | None) -> float | None:
    """Four significant digits: more than any measurement here has."""
    return None if value is None else float(f"{value:.4g}")
