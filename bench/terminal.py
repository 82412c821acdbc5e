"""What a run looks like in a terminal: progress while it goes on, then the verdict sentence and the win matrix.  Same words as the page."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from . import explain, summary, weak
from .explain import Explanation
from .record import Change, Failed, LayerFacts, Record, Run, Skipped
from .summary import Cell

ARROWS = {"faster": "▲", "slower": "▼", "same": "=", "unclear": "?"}
STYLES = {"faster": "bold cyan", "slower": "yellow", "same": "dim", "unclear": "dim", "failed": "bold red", "invalid": "bold red"}


OPERATORS = 20  # rows of `layerbench explain`; the others are one row
OPERATORS_LEGEND = (
    "Self time, without the operators called inside, profiler on; bytes are those allocated. A dash: none. "
    "It tells where the time goes; which variant is faster, the unprofiled times tell."
)


class Watch:
    """Progress on a terminal; nothing at all elsewhere, so that logs stay readable."""

    def __init__(self, progress: Progress | None, points: int) -> None:
        self._progress = progress
        self._task = progress.add_task("start", total=points) if progress else None
        self._point = ""

    def waiting(self, stage: str, variant: str) -> None:
        """Called a few times a second with where the worker is."""
        if self._progress and self._task is not None:
            self._progress.update(self._task, description=escape(" ".join(part for part in (self._point, stage, variant) if part)))

    def begin(self, point: str) -> None:
        self._point = point

    def done(self) -> None:
        if self._progress and self._task is not None:
            self._progress.advance(self._task)


@contextmanager
def watching(console: Console, points: int) -> Iterator[Watch]:
    if not console.is_terminal:
        yield Watch(None, points)
        return
    columns = (
        MofNCompleteColumn(),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
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
    console.print(_matrix(run, table))
    console.print(Text(_legend(table), style="dim"))
    for line in [*invalid(table), *reasons(run)]:
        console.print(Text(line))
    print_weak(console, run.records)


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
        if isinstance(outcome, Failed | Skipped):
            word = "FAILED" if isinstance(outcome, Failed) else "skipped"
            key = (word, f"{record.point.layer} {record.variant}", outcome.stage, outcome.reason)
            grouped[key] = grouped.get(key, 0) + 1
    lines = sorted(grouped.items(), key=lambda item: item[0][0] != "FAILED")
    return [f"{word} {name}, {count} point{'s' if count > 1 else ''}, at {stage}: {why}" for (word, name, stage, why), count in lines]


def print_changes(console: Console, changes: Sequence[Change], differences: Sequence[str]) -> None:
    """What moved, the rest as a count."""
    moved = [change for change in changes if change.verdict not in ("same", "unclear")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("point", "left"), ("variant", "left"), ("what", "left"), ("old", "right"), ("new", "right"), ("ratio", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich types it as a literal
    table.add_column("verdict")
    for change in moved:
        span = f" ({change.low:.3f}-{change.high:.3f})" if change.low < change.high else ""  # bytes and counts are exact
        shown = "" if change.ratio != change.ratio else f"{change.ratio:.3f}{span}"
        form = ".4g" if change.metric == "speedup" else ".0f"
        numbers = ["" if value != value else f"{value:{form}}" for value in (change.old, change.new)]
        table.add_row(*map(Text, (change.point.id, change.variant, change.metric, *numbers, shown, change.verdict)))
    for difference in differences:
        console.print(Text(f"environment differs: {difference}"))
    if moved:
        console.print(table)
    unclear = sum(change.verdict == "unclear" for change in changes)
    console.print(Text(f"{len(moved)} changed, {len(changes) - len(moved) - unclear} the same, {unclear} unclear."))


def print_weak(console: Console, records: Iterable[Record]) -> None:
    """What ratios of these records do not rest on."""
    for line in weak.lines(records):
        console.print(Text(line))


def print_explanation(console: Console, found: Explanation) -> None:
    """`layerbench explain`: two variants of a point, operator by operator, the largest difference first."""
    a, b = found.variants
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("operator, per step", overflow="ellipsis", no_wrap=True, max_width=60)
    for name in (f"calls {a}", b, f"µs {a}", b, f"{b} - {a}", f"bytes {a}", b):
        table.add_column(name, justify="right", no_wrap=True)
    *operators, outside = found.rows
    shown, rest = operators[:OPERATORS], operators[OPERATORS:]
    merged = [explain.add(f"{len(rest)} more operators", rest)] if rest else []
    for row in [*shown, *merged, outside, found.total]:
        calls = [f"{value:.4g}" if value else "-" for value in row.calls]
        spent = [f"{1e6 * value:,.2f}" if value else "-" for value in row.seconds]
        nbytes = [f"{value:,.0f}" if value else "-" for value in row.allocated_bytes]
        style = "bold" if row.operator == "total" else ""
        table.add_row(*(Text(cell, style=style) for cell in (row.operator, *calls, *spent, f"{1e6 * row.difference:+,.2f}", *nbytes)))
    console.print(Text(f"{found.point.id}: {a} and {b}", style="bold"))
    console.print(table)
    console.print(Text(OPERATORS_LEGEND, style="dim"))
    for name, without, with_ in zip(found.variants, found.unprofiled, found.profiled, strict=True):
        times = f"{1e6 * without:,.2f} µs per step unprofiled, {1e6 * with_:,.2f} with the profiler on"
        console.print(Text(f"{name}: {times}: it cost {_cost(without, with_)}"))


def _cost(without: float, with_: float) -> str:
    """What the profiler added; its pass is short, so on a busy machine it may seem to have added nothing."""
    return f"{1e6 * (with_ - without):,.2f} µs" if with_ > without else "nothing that can be seen"


def print_layers(console: Console, layers: Sequence[LayerFacts]) -> None:
    """`layerbench list`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "variants", "sweep", "file"):
        table.add_column(name, overflow="fold")
    for layer in layers:
        sweep = " ".join(f"{dimension}={','.join(map(str, values))}" for dimension, values in layer.sweep.items())
        names = [variant.name for variant in layer.variants]
        marked = layer.name + " *" * layer.on_request
        table.add_row(*map(Text, (marked, ", ".join(names), sweep, f"{layer.file}:{layer.line}")))
    console.print(table)
    if any(layer.on_request for layer in layers):
        console.print("* on request: measured by  layerbench run --all,  or by -k with its name")


def _matrix(run: Run, table: pd.DataFrame) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "step", "device"):
        shown.add_column(name, no_wrap=True)
    names = summary.variants(run)
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("noise floor", justify="right")
    for row in summary.matrix(run, table):
        floor = "" if row.noise_floor is None else f"{row.noise_floor:.1%}"
        shown.add_row(Text(row.layer), Text(row.step), Text(row.device), *(_cell(row.cells[name]) for name in names), Text(floor))
    return shown


def _cell(cell: Cell) -> Text:
    text = cell.state
    if cell.speedup is not None:
        ratio, low, high = (_ratio(number) for number in cell.speedup)
        text = f"{ratio}x ({low}-{high}) {ARROWS[cell.state]}"
    return Text(text, style=STYLES.get(cell.state, ""))


def _ratio(value: float) -> str:
    """Two decimals, or two digits where that would be nothing."""
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def _legend(table: pd.DataFrame) -> str:
    words = "Times faster than the reference, geometric mean over the sizes, 95 % interval: ▲ faster, ▼ slower, = same, ? unclear."
    if (table.outcome == "checked").any():
        words += " checked: values proved without a GPU, so no time."
    return words
