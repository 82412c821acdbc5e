"""One run as one self-contained HTML file: `write` and `render`.

Nothing is measured here, nothing is loaded from the network, and torch is not imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from ..analysis import devices, energy, frame, launches, sanity, summary, win_matrix
from ..data.change import Change
from ..data.record import Run
from ..stats import estimates
from ..storage import output
from . import changes as changed
from . import consumption, details, figures, html, looks, numbers, panels, same, tables, validity, words, works

BUNDLE = "plotly-basic.min.js"
KINDS = {"speedup": "Speed-up", "time": "Time", "memory": "Memory", "split": "Forward / backward"}

__all__ = ["render", "write"]


def write(run: Run, path: Path, changes: Sequence[Change] = ()) -> Path:
    """Writes the page to `path` in one step, making its folders; returns `path`."""
    output.replace(render(run, changes), path)
    return path


def render(run: Run, changes: Sequence[Change] = ()) -> str:
    """The page as text.  `changes`: this run against a baseline, as `compare` made them."""
    table = frame.tidy(run)
    names = panels.names(run)
    scripts = {"plotly": html.read(BUNDLE), "tables": html.read("tables.js"), "page": html.read("page.js"), "sort": html.read("sort.js")}
    sections, charts = _sections(run, table, names)
    values = {
        "run": run,
        "names": names,
        "styles": {name: looks.style(place) for place, name in enumerate(names)},
        "kinds": {kind: title for kind, title in KINDS.items() if any(kind == k for k, _ in charts)},
        "sections": sections,
        "figures": details.pack({"templates": looks.templates(names), "charts": [figure for _, figure in charts]}),
        "details": details.pack(details.details(run)),
        "left_out_of_page": details.left_out(run),
        "trim": words.percent(estimates.TRIM),
        "minimum": words.percent(estimates.MINIMUM_FLOOR),
        "device_minimum": words.percent(estimates.DEVICE_FLOOR),
        "two_times": bool(table.called.notna().any()),
        "margin": f"{sanity.MARGIN:g}",
        "rates": words.roof,
        "stages": words.stages(run),
        "maximum": words.percent(estimates.MAXIMUM_SAME),
        "comparison": changed.compare(changes) if changes else None,
        "css": html.read("page.css"),
        "scripts": scripts,
        "policy": html.policy(scripts.values()),
        **_first_screen(run, table, changes),
    }
    return html.environment().get_template("page.html").render(values)


def _first_screen(run: Run, table: pd.DataFrame, changes: Sequence[Change]) -> dict[str, Any]:
    rows = win_matrix.matrix(run, table)
    first, rest = summary.sentences(run, table)
    return {
        "headline": [words.sentence(text) for text in first],
        "rest": words.sentence(" ".join(rest)),
        "over": tables.over(table),
        "states": {cell.state for row in rows for cell in row.cells.values()},
        "outcomes": set(table.outcome),
        "arrows": words.ARROWS,
        "undecided": sum(not row.best and any(cell.speedup for cell in row.cells.values()) for row in rows),
        "budget_ended": tables.ended(table),
        "strip": validity.strip(run, table, changes),
        "matrix_names": win_matrix.variants(run),
        "matrix": tables.matrix(rows),
        "matrix_notes": tables.matrix_notes(rows),
        "same": same.rows(run, table, win_matrix.variants(run)),
        "works": works.rows(run),
        "works_facts": works.facts(run),
        "works_refused": works.refused(run),
        "warnings": tables.warnings(run),
        "environment": msgspec.json.format(msgspec.json.encode(run.environment), indent=2).decode(),
    }


def _sections(run: Run, table: pd.DataFrame, names: Sequence[str]) -> tuple[list[dict[str, Any]], list[tuple[str, Any]]]:
    """Per layer what page.html shows, and every chart's (kind, figure) in the order of its number."""
    places = details.places(run)
    charts: list[tuple[str, Any]] = []
    crossings = devices.crossings(table)
    sections, bounds, metered, unmetered = [], launches.bounds(table), energy.metered(run), energy.missing(run.records)
    for layer, parts in panels.by_layer(run, panels.panels(run, table)):
        shown = []
        for panel in parts:
            missing = tables.notes(panel)
            drawn = []
            for chart in figures.charts(panel, names):
                drawn.append((chart, len(charts)))
                charts.append((chart.kind, chart.figure))  # None where all is zero: page.html says so
            rows = {"titles": numbers.titles(panel), "lines": numbers.lines(panel, missing, places)}
            shown.append({"panel": panel, "charts": drawn, "notes": missing, **rows})
        beaten = [each.sentence(words.times) for each in crossings if each.layer == layer.name]
        section = {"layer": layer, "panels": shown, "sizes": panels.sizes(parts), "devices": beaten}
        section["launches"] = [each for each in bounds if each.layer == layer.name]
        section |= {"energy": consumption.rows(metered, layer), "no_energy": consumption.why_none(unmetered, layer)}
        sections.append(section | {"compiled": tables.compiling(parts), "accuracy": tables.accuracy(run, layer)})
    return sections, charts
