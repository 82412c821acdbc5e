"""What the page's tables say, as plain rows of words.  No markup and no colour here: page.html and page.css own those."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..analysis import summary, weak_checks, win_matrix
from ..data.record import LayerFacts, Record, Run
from ..declare.layer import NOISE_FLOOR
from . import words
from .panels import Panel

WORDS = {
    "checked": "checked, not timed",
    "skipped": "skipped",
    "failed": "failed",
    "invalid": "invalid",
    "absent": "no variant",
}


@dataclass(frozen=True)
class MatrixCell:
    look: str  # the state, and how strong: faster2
    arrow: str
    ratio: str
    span: str  # the interval; of a mixed one, where it wins
    note: str  # the tooltip: what the number is over, or why there is none
    best: bool


@dataclass(frozen=True)
class MatrixRow:
    layer: str
    first: bool  # the layer's first row: its name is written once
    step: str
    device: str
    floor: str
    cells: tuple[MatrixCell, ...]


def matrix(rows: Sequence[win_matrix.Row]) -> list[MatrixRow]:
    result = []
    for place, row in enumerate(rows):
        cells = tuple(_cell(cell, name == row.best) for name, cell in row.cells.items())
        first = place == 0 or rows[place - 1].layer != row.layer
        result.append(MatrixRow(row.layer, first, row.step, row.device, words.percent(row.noise_floor), cells))
    return result


def _cell(cell: win_matrix.Cell, best: bool) -> MatrixCell:
    if cell.speedup is None:
        word = "1.00" + words.TIMES if cell.state == "reference" else WORDS.get(cell.state, cell.state)
        return MatrixCell(cell.state, "", word, "reference" if cell.state == "reference" else "", cell.reason, best)
    note = f"geometric mean over {words.plural(cell.points, 'point')}: {cell.faster} faster, {cell.slower} slower, beyond the noise floor"
    look = cell.state + (str(strength(cell.speedup.ratio)) if cell.state in ("faster", "slower") else "")
    span = words.interval(cell.speedup)
    full = f"{cell.state}: {note}{f', interval {span}' if cell.where else ''}" + (f". {cell.reason}" if cell.reason else "")
    return MatrixCell(look, words.ARROWS[cell.state], words.times(cell.speedup.ratio), cell.where or span, full, best)


def over(table: pd.DataFrame) -> str:
    """What a row of the matrix is taken over: sizes, dtypes, both, or nothing where every row is a single point."""
    rows = table.groupby(["layer", "step", "device"])
    counts = {"sizes": rows["size"].agg(lambda found: len({words.size(size) for size in found})), "dtypes": rows.dtype.nunique()}
    return " and ".join(name for name, count in counts.items() if (count > 1).any())


def ended(table: pd.DataFrame) -> str:
    """How the timing of points ended, in a sentence."""
    timed, short, _ = summary.precision(table)
    rule = f"Rounds go on until every ratio of the point is known to {words.PRECISION} or the point's share of the time"
    return f"{rule} budget is used up: here it was used up on {short} of {words.plural(timed, 'point')}." if timed else ""


def strength(ratio: float) -> int:
    """How dark the cell is: 1 below 1.25 times, 2 below twice, 3 above; the same for slower."""
    factor = max(ratio, 1 / ratio)
    return 1 if factor < 1.25 else 2 if factor < 2 else 3


@dataclass(frozen=True)
class MatrixNote:
    variant: str
    layers: tuple[str, ...]
    reason: str


def matrix_notes(rows: Sequence[win_matrix.Row]) -> list[MatrixNote]:
    """Every reason that must not hide in a tooltip, said once with all the layers it holds for."""
    said: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for name, cell in row.cells.items():
            if cell.state != "reference" and cell.reason:
                text = f"there is no such variant: {cell.reason}" if cell.state == "absent" else cell.reason
                said.setdefault((name, text), {})[row.layer] = None
    return [MatrixNote(name, tuple(layers), text) for (name, text), layers in said.items()]


@dataclass(frozen=True)
class Note:
    """Records of one panel that share a reason for having no number."""

    number: int
    variant: str
    outcome: str  # checked | skipped | failed | invalid
    stage: str
    reason: str
    where: str


def notes(panel: Panel) -> list[Note]:
    """Why points are missing, failures first."""
    groups: dict[tuple[str, str, str, str], list[Any]] = {}
    for row in panel.rows:
        if row.outcome != "measured":
            groups.setdefault((row.variant, row.outcome, row.stage, row.reason), []).append(row)
    order = ("failed", "invalid", "skipped", "checked")
    keys = sorted(groups, key=lambda key: order.index(key[1]))
    return [Note(i, *key, _where(panel, groups[key])) for i, key in enumerate(keys, 1)]


def _where(panel: Panel, rows: Sequence[Any]) -> str:
    steps = {row.step for row in rows}
    ticks = sorted({row.size[panel.axis] for row in rows})
    words_ = [] if steps == set(panel.steps) and len(rows) == len(steps) * len(ticks) else [", ".join(s for s in panel.steps if s in steps)]
    at = f"every {panel.axis}" if ticks == panel.ticks else f"{panel.axis} {', '.join(map(str, ticks))}"
    return ", ".join([*words_, at])


@dataclass(frozen=True)
class CompileRow:
    where: str
    variant: str
    cold: str
    graphs: str
    breaks: str
    recompiles: str
    sweep: str  # graphs of one module that meets every size of the axis
    payback: dict[str, str]  # step -> calls


def compiling(parts: Sequence[Panel]) -> list[CompileRow]:
    """One row per compiled variant and cell (a point without its step), with the pay-back of every step."""
    groups: dict[tuple[str, str], list[tuple[Panel, Any]]] = {}
    for panel in parts:
        for row in panel.rows:
            if row.cold_seconds is not None:
                groups.setdefault((_cell_words(row), row.variant), []).append((panel, row))
    result = []
    for (where, variant), members in groups.items():
        row = members[0][1]
        payback = {r.step: words.calls(summary.payback(r.cold_seconds, r.seconds, r.speedup, r.verdict)) for _, r in members if r.verdict}
        graphs, breaks, recompiles, sweep = (words.whole(n) for n in (row.graphs, row.breaks, row.recompiles, row.sweep_graphs))
        result.append(CompileRow(where, variant, words.seconds(row.cold_seconds), graphs, breaks, recompiles, sweep, payback))
    return result


def _cell_words(row: Any) -> str:
    return f"{row.device}, {row.dtype}, {words.size(row.size)}"


@dataclass(frozen=True)
class AccuracyRow:
    variant: str
    tensor: str
    error: str
    allowed: str
    share: str
    where: str
    over: bool


def accuracy(run: Run, layer: LayerFacts) -> list[AccuracyRow]:
    """Per variant and tensor the place where the error comes closest to what is allowed."""
    worst: dict[tuple[str, str], tuple[float, Any, Record]] = {}
    for record in run.records:
        ours = record.point.layer == layer.name and record.variant != NOISE_FLOOR
        if not ours or not hasattr(record.outcome, "accuracy"):
            continue
        for tensor in record.outcome.accuracy.tensors:
            share = tensor.error / tensor.allowed if tensor.allowed else 0.0
            key = (record.variant, tensor.tensor)
            if key not in worst or share > worst[key][0]:
                worst[key] = (share, tensor, record)
    return [
        AccuracyRow(variant, name, words.error(t.error), words.error(t.allowed), words.percent(share), record.point.id, share > 1)
        for (variant, name), (share, t, record) in worst.items()
    ]


def warnings(run: Run) -> list[tuple[str, str]]:
    """(what was said, where) of every warning in the records, each said once."""
    said: dict[str, list[str]] = {}
    for record in run.records:
        found = (
            *weak_checks.of_variant(record),
            *(record.outcome.accuracy.warnings if hasattr(record.outcome, "accuracy") else ()),
        )
        for text in dict.fromkeys(found):
            said.setdefault(text, []).append(record.id)
    return [(text, where[0] + (f" and {words.whole(len(where) - 1)} more" if len(where) > 1 else "")) for text, where in said.items()]
