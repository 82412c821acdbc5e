"""What a run looks like in a terminal: progress while it goes on, then the verdict sentence and the win matrix.  Same words as the page."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from ..analysis import devices, in_use, launches, summary, weak_checks, win_matrix
from ..analysis.launches import Bound
from ..analysis.win_matrix import Cell, Row
from ..data.record import Failed, LayerFacts, Record, Run, Skipped
from ..declare.layer import NOISE_FLOOR
from ..text import invocation
from ..text.ratio import ratio
from . import energy, fitting

ARROWS = {"faster": "▲", "slower": "▼", "mixed": "↕", "same": "=", "unclear": "?"}
LAUNCHES = "Bound by launches: the device and a caller tell opposite things here (--clock called ranks by the caller)."
STYLES = {"faster": "bold cyan", "slower": "yellow", "same": "dim", "unclear": "dim", "failed": "bold red", "invalid": "bold red"}


class Watch:
    """Progress on a terminal; elsewhere a line per finished point, so that a log shows life."""

    def __init__(self, progress: Progress | None, points: int, say: Callable[[str], None] = lambda line: None) -> None:
        self._progress, self._say = progress, say
        self._points, self._done, self._began = points, 0, time.monotonic()
        self._task = progress.add_task("start", total=points) if progress else None
        self._point = ""

    def waiting(self, stage: str, variant: str) -> None:
        """Called a few times a second with where the worker is."""
        if self._progress and self._task is not None:
            self._progress.update(self._task, description=escape(" ".join(part for part in (self._point, stage, variant) if part)))

    def begin(self, point: str) -> None:
        self._point = point

    def done(self) -> None:
        self._done += 1
        self._say(f"{self._done}/{self._points} {self._point}, {time.monotonic() - self._began:.0f} s")
        if self._progress and self._task is not None:
            self._progress.advance(self._task)


@contextmanager
def watching(console: Console, points: int, quiet: bool = False) -> Iterator[Watch]:
    """quiet: say nothing where there is no terminal."""
    if not console.is_terminal:
        yield Watch(None, points) if quiet else Watch(None, points, lambda line: print(line, file=sys.stderr, flush=True))
        return
    whole = Column(no_wrap=True)
    columns = (
        MofNCompleteColumn(table_column=whole),
        BarColumn(20, table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TextColumn("left", table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),  # gets what the others leave
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        yield Watch(progress, points)


@contextmanager
def telling(console: Console) -> Iterator[Callable[[str], None]]:
    """What is being done now, on one line of a terminal; nothing at all elsewhere."""
    if not console.is_terminal:
        yield lambda words: None
        return
    with console.status("") as status:
        yield lambda words: status.update(escape(words))


def print_run(console: Console, run: Run, table: pd.DataFrame) -> None:
    """Verdict sentence, what failed, the win matrix, and how to read it."""
    console.print(Text(summary.verdict(run, table), style="bold"))
    for note in run.notes:
        console.print(Text(f"note: {note}"))
    for block in _matrix(console, run, table):
        console.print(block)
    mixed = win_matrix.mixed(run, table)
    console.print(Text(_legend(table, bool(mixed)), style="dim"))
    beaten = [f"{each.layer} {each.sentence(lambda gain: f'{ratio(gain)}x')}" for each in devices.crossings(table)]
    if contradicting := launches.contradictions(table):
        console.print(_launches(contradicting))
    energy.print_energy(console, run)
    for line in [*mixed, *beaten, *invalid(table), *reasons(run), *in_use.lines(run.records)]:
        console.print(Text(line))
    print_weak(console, run.records)


def _launches(found: Sequence[Bound]) -> Table:
    """Variants of which the device and a caller tell opposite things."""
    made = Table(box=None, pad_edge=False, header_style="bold", title=LAUNCHES, title_justify="left", title_style="")
    for name in ("layer", "step", "variant", "at"):
        made.add_column(name, overflow="fold")
    for name in ("device", "as called", "to issue", "to run"):
        made.add_column(name, justify="right", no_wrap=True)
    for each in found:
        times = (f"{seconds * 1e6:.0f} us" for seconds in (each.issuing, each.seconds))
        words = (each.layer, each.step, each.variant, each.bound[-1], f"{ratio(each.speedup)}x", f"{ratio(each.called_speedup)}x", *times)
        made.add_row(*map(Text, words))
    return made


def invalid(table: pd.DataFrame) -> list[str]:
    """One line per variant whose time cannot be true, with the first of the reasons."""
    rows = table[table.outcome == "invalid"]
    return [
        f"INVALID {layer} {variant}, {len(group)} point{'s' if len(group) > 1 else ''}: {group.iloc[0].reason} ({group.iloc[0].point})"
        for (layer, variant), group in rows.groupby(["layer", "variant"], sort=False)
    ]


def reasons(run: Run) -> list[str]:
    """One line per distinct reason why something has no number, failures first."""
    grouped: dict[tuple[str, str, str, str], int] = {}
    for record in run.records:
        outcome = record.outcome
        unasked = record.variant == NOISE_FLOOR and isinstance(outcome, Skipped)
        if isinstance(outcome, Failed | Skipped) and not unasked:
            word = "FAILED" if isinstance(outcome, Failed) else "skipped"
            key = (word, f"{record.point.layer} {record.variant}", outcome.stage, outcome.reason)
            grouped[key] = grouped.get(key, 0) + 1
    lines = sorted(grouped.items(), key=lambda item: item[0][0] != "FAILED")
    return [f"{word} {name}, {count} point{'s' if count > 1 else ''}, at {stage}: {why}" for (word, name, stage, why), count in lines]


def print_weak(console: Console, records: Iterable[Record]) -> None:
    """What ratios of these records do not rest on."""
    for line in weak_checks.lines(records):
        console.print(Text(line))


def print_layers(console: Console, layers: Sequence[LayerFacts]) -> None:
    """`layerbench list`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "variants", "sweep", "file"):
        table.add_column(name, overflow="fold")
    for layer in layers:
        sweep = _sizes(layer.sweep) + (f"\nGPU: {_sizes(layer.gpu_sweep)}" if layer.gpu_sweep else "")
        names = [variant.name for variant in layer.variants]
        marked = layer.name + " *" * layer.on_request
        table.add_row(*map(Text, (marked, ", ".join(names), sweep, f"{layer.file}:{layer.line}")))
    console.print(table)
    if any(layer.on_request for layer in layers):
        console.print(f"* on request: measured by  {invocation.command()} run --all,  or by -k with its name")


def _sizes(sweep: Mapping[str, Sequence[int]]) -> str:
    return " ".join(f"{dimension}={','.join(map(str, values))}" for dimension, values in sweep.items())


def _matrix(console: Console, run: Run, table: pd.DataFrame) -> list[Table]:
    """The win matrix, in as many tables as it takes: layers with other variants stand apart, and no number is cut, but the layer's name."""
    rows, names = win_matrix.matrix(run, table), win_matrix.variants(run)
    return [block for each, known in _alike(rows, names) for block in _blocks(console, each, known)]


def _alike(rows: Sequence[Row], names: Sequence[str]) -> list[tuple[list[Row], list[str]]]:
    """Rows that have a table together, with its columns: those of layers whose variants are among those of one of them."""
    had: dict[str, set[str]] = {}
    for row in rows:
        had.setdefault(row.layer, set()).update(name for name in names if row.cells[name].state != "absent")
    widest = [kinds for kinds in dict.fromkeys(map(frozenset, had.values())) if not any(kinds < other for other in had.values())]
    home = {layer: next(kinds for kinds in widest if own <= kinds) for layer, own in had.items()}
    used = list(dict.fromkeys(home[row.layer] for row in rows))
    return [([row for row in rows if home[row.layer] == kinds], [name for name in names if name in kinds]) for kinds in used]


def _blocks(console: Console, rows: Sequence[Row], names: Sequence[str]) -> list[Table]:
    blocks: list[Table] = []
    shortest = fitting.shortest([row.layer for row in rows])
    while names:
        count = next((n for n in range(len(names), 1, -1) if fitting.excess(console, _block(rows, names[:n], shortest)) <= 0), 1)
        shown = [row for row in rows if not blocks or any(row.cells[name].state != "absent" for name in names[:count])]
        longest = max(len(row.layer) for row in shown)
        blocks.append(_block(shown, names[:count], longest - max(0, fitting.excess(console, _block(shown, names[:count])))))
        names = names[count:]
    return blocks


def _block(rows: Sequence[Row], names: Sequence[str], longest: int = 1000) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "step", "device"):
        shown.add_column(name, no_wrap=True)
    for name in ("noise", *names):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        floor = "" if row.noise_floor is None else f"{row.noise_floor:.1%}"
        ids = (fitting.shortened(row.layer, longest), row.step, row.device, floor)
        shown.add_row(*map(Text, ids), *(_cell(row.cells[name]) for name in names))
    return shown


def _cell(cell: Cell) -> Text:
    text = cell.state
    if cell.speedup is not None:
        middle, low, high = cell.speedup
        span = f"{ratio(low)}-{ratio(high)}" if low > 0 and math.isfinite(high) else "unknown"  # one round gives none
        text = f"{ratio(middle)}x ({span}) {ARROWS[cell.state]}"
    return Text(text, style=STYLES.get(cell.state, ""))


def _legend(table: pd.DataFrame, mixed: bool) -> str:
    over = "sizes and dtypes" if table.groupby("device").dtype.nunique().max() > 1 else "sizes"
    words = f"Times faster than the reference, geometric mean over the {over}, 95 % interval: ▲ faster, ▼ slower, = same, ? unclear."
    if mixed:
        words += " ↕ mixed: faster at some sizes and slower at others, listed below."
    if (table.outcome == "checked").any():
        words += " checked: values proved without a GPU, so no time."
    return words
