"""Two runs, or two variants of one run, side by side in a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..analysis import explain
from ..analysis.explain import Explanation, Row
from ..data.change import Change
from . import fitting
from .fitting import Columns

OPERATORS = 20  # rows of `layerbench explain`; the others are one row
OPERATORS_LEGEND = (
    "Per step. Self time, without the operators called inside: each variant's profile, scaled to its unprofiled time. Bytes are those "
    "allocated. A dash: none."
)


def print_changes(console: Console, changes: Sequence[Change], differences: Sequence[str]) -> None:
    """What moved, the rest as a count.  A change is a row where all of them fit, else two lines: what moved, and its numbers."""
    moved = [change for change in changes if change.verdict not in ("same", "unclear")]
    for difference in differences:
        console.print(Text(f"environment differs: {difference}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("point", "left"), ("variant", "left"), ("what", "left"), ("old", "right"), ("new", "right"), ("ratio", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # rich types it as a literal
    table.add_column("verdict", no_wrap=True)
    for change in moved:
        table.add_row(*map(Text, (change.point.id, change.variant, change.metric, *_moved(change), change.verdict)))
    if moved and fitting.excess(console, table) <= 0:
        console.print(table)
    elif moved:
        for change in moved:
            old, new, ratio = _moved(change)
            numbers = f": {old} before, {new} now" if old or new else ""
            console.print(Text(f"{change.verdict} {change.point.id} {change.variant}", style="bold"))
            console.print(Text(f"  {change.metric}{numbers}{f', ratio {ratio}' if ratio else ''}"))
    unclear = sum(change.verdict == "unclear" for change in changes)
    console.print(Text(f"{len(moved)} changed, {len(changes) - len(moved) - unclear} the same, {unclear} unclear."))


def _moved(change: Change) -> tuple[str, str, str]:
    """The old and the new number, and their ratio with its interval; "" for what is not known."""
    span = f" ({change.low:.3f}-{change.high:.3f})" if change.low < change.high else ""  # bytes and counts are exact
    form = ".4g" if change.metric == "speedup" else ",.0f"
    old, new = ("" if value != value else f"{value:{form}}" for value in (change.old, change.new))
    return old, new, "" if change.ratio != change.ratio else f"{change.ratio:.3f}{span}"


def print_explanation(console: Console, found: Explanation) -> None:
    """`layerbench explain`: two variants of a point, operator by operator, the largest difference first."""
    a, b = found.variants
    *operators, outside = found.rows
    shown, rest = operators[:OPERATORS], operators[OPERATORS:]
    merged = [explain.add(f"{len(rest)} more operators", rest)] if rest else []
    rows = [*shown, *merged, outside, found.total]
    if found.contradicted:
        slower = found.variants[found.unprofiled[0] < found.unprofiled[1]]
        why = f"the profiler contradicts the times: {slower} takes longer, and looks faster in its profile"
        console.print(Text(f"{why}; the times below are scaled to those without it", style="bold"))
    console.print(Text(f"{found.point.id}: {a} and {b}", style="bold"))
    called, spent = Columns((f"calls {a}", b), [*map(_calls, rows)]), Columns((f"µs {a}", b, f"{b} - {a}"), [*map(_microseconds, rows)])
    nbytes = Columns((f"bytes {a}", b), [*map(_bytes, rows)])
    ways = ([[called, spent, nbytes]], [[called, spent], [nbytes]], [[called], [spent], [nbytes]])
    for table in fitting.tables(console, "operator", [row.operator for row in rows], ways):
        console.print(table)
    console.print(Text(OPERATORS_LEGEND, style="dim"))
    for name, without, with_ in zip(found.variants, found.unprofiled, found.profiled, strict=True):
        times = f"{1e6 * without:,.2f} µs per step unprofiled, {1e6 * with_:,.2f} with the profiler on"
        console.print(Text(f"{name}: {times}: it cost {_cost(without, with_)}"))


def _calls(row: Row) -> list[str]:
    return [f"{value:.4g}" if value else "-" for value in row.calls]


def _microseconds(row: Row) -> list[str]:
    return [*(f"{1e6 * value:,.2f}" if value else "-" for value in row.seconds), f"{1e6 * row.difference:+,.2f}"]


def _bytes(row: Row) -> list[str]:
    return [f"{value:,.0f}" if value else "-" for value in row.allocated_bytes]


def _cost(without: float, with_: float) -> str:
    """What the profiler added; its pass is short, so on a busy machine it may seem to have added nothing."""
    return f"{1e6 * (with_ - without):,.2f} µs" if with_ > without else "nothing that can be seen"
