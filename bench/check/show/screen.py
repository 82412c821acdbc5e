"""A check in a terminal: the sentence, then what moved or stayed open; the rest as a count.  Same words as the other faces."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...data.check_record import FAILURES, Check, Row
from ...text.digits import change, detectable, percent
from . import verdict, words

WIDE = 160  # columns from which a row of a table holds a benchmark, as a log does; below, each is a few lines
STYLES = dict.fromkeys(FAILURES, "bold red") | {"inconclusive": "yellow", "faster": "bold cyan", "no verdict": "dim"}
LABEL = 12  # columns of the longest verdict
COLUMNS = ("change", "detectable", "units")


def print_check(console: Console, check: Check) -> None:
    """Verdict sentence, notes, control, the rows that matter, how many others, and every reason once."""
    console.print(Text(verdict.sentence(check), style="bold"))
    for note in check.notes:
        console.print(Text(f"note: {words.plain(note)}"))
    if check.isolated:
        console.print(Text(words.plain(f"each side in processes of its own: {check.isolated}")))
    if control := words.control(check):
        console.print(Text(f"control: base against itself {control}"))
    elif words.without_control(check):
        console.print(Text(f"no control: {words.UNNOTICED}"))
    rows = words.ordered(check.rows)
    shown = [row for row in rows if _matters(row)]
    if shown:
        console.print(_table(check, shown) if console.width >= WIDE else _list(check, shown))
        console.print(Text(_legend(check), style="dim"))
    if others := [row for row in rows if not _matters(row)]:
        what = words.counts(words.label(check, row) for row in others)
        console.print(Text(f"{'the other' if shown else 'all'} {words.plural(len(others), 'benchmark')}: {what}"))
    for line in _reasons(check, rows):
        console.print(Text(line))
    if check.stages:
        console.print(Text(words.duration(check)))


def _matters(row: Row) -> bool:
    return words.moved(row) or row.verdict == "inconclusive"


def _table(check: Check, rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verdict", no_wrap=True, max_width=LABEL)
    table.add_column("benchmark", overflow="fold")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    with_numbers = any(words.numbers(row) for row in rows)
    if with_numbers:
        table.add_column("exact numbers")
    for row in rows:
        cells = (words.plain(row.id), *_numbers(row), *([words.numbers(row)] if with_numbers else []))
        table.add_row(_verdict(check, row), *map(Text, cells))
    return table


def _list(check: Check, rows: Sequence[Row]) -> Table:
    """Verdict and benchmark on a line, its numbers below it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, max_width=LABEL)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(_verdict(check, row), Text(words.plain(row.id)))
        said = (text if name == "change" else f"{name} {text}" for name, text in zip(COLUMNS, _numbers(row), strict=True) if text)
        for line in filter(None, (", ".join(said), words.numbers(row))):
            table.add_row("", Text(line))
    return table


def _numbers(row: Row) -> tuple[str, str, str]:
    return change(row.estimate), detectable(row.estimate), words.units(row)


def _verdict(check: Check, row: Row) -> Text:
    label = words.label(check, row)
    return Text(label, style=STYLES.get(label, ""))


def _legend(check: Check) -> str:
    return (
        "Change: time of the head against the base, above 0 is slower, with its 95 % interval. Detectable: the smallest slow-down that so "
        "many units find 95 times in 100. Units: fresh pairs of instances, + those that confirmed. "
        f"Threshold: {percent(check.threshold)}."
    )


def _reasons(check: Check, rows: Sequence[Row]) -> list[str]:
    """One line per distinct verdict and reason, in the order of the rows; `unchanged` says it by its name."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if words.reason(row) and row.verdict != "unchanged":
            grouped.setdefault((words.label(check, row), words.reason(row)), []).append(row)
    lines = []
    for (label, reason), group in grouped.items():
        many = f" and {len(group) - 1:,} more" if len(group) > 1 else ""
        lines.append(f"{label} {words.plain(group[0].id)}{many}: {reason}")
    return lines
