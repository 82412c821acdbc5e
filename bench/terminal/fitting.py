"""Whether a table fits a terminal, and a name cut to what is left.  A number or a sign is never cut."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

ENDLESS = 10_000  # columns
LEAST = 8  # characters of a name
LONGEST, SHORTEST = 60, 20  # characters of the name that a row of many columns begins with
TOTAL = "total"  # the name of the row that is the sum of the others


class Columns(NamedTuple):
    """Columns that stay together: their names, and for every row its cells."""

    names: tuple[str, ...]
    rows: Sequence[Sequence[str]]


def tables(console: Console, what: str, names: Sequence[str], ways: Sequence[Sequence[Sequence[Columns]]]) -> Iterator[Table]:
    """Rows that begin with a name, in one table or in several below one another.

    what: heads the names.  ways: how the columns may be shared out to tables; taken is the first way in which every table fits, else the
    last.  Names are cut to what is left.
    """
    fits = (way for way in ways if all(excess(console, _table(what, names, columns, SHORTEST)) <= 0 for columns in way))
    for columns in next(fits, ways[-1]):
        longest = min(LONGEST, max(map(len, names)))
        room = longest - max(0, excess(console, _table(what, names, columns, longest)))
        yield _table(what, names, columns, room)


def _table(what: str, names: Sequence[str], columns: Sequence[Columns], longest: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(what, no_wrap=True)
    for heading in (heading for each in columns for heading in each.names):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, name in enumerate(names):
        style = "bold" if name == TOTAL else ""
        cells = [cell for each in columns for cell in each.rows[place]]
        table.add_row(*(Text(cell, style=style) for cell in (shortened(name, longest), *cells)))
    return table


def excess(console: Console, table: Table) -> int:
    """Columns that it has more than the console; negative where there is room."""
    return Measurement.get(console, console.options.update(max_width=ENDLESS), table).maximum - console.width


def shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: max(1, longest - 1)]}…"


def shortest(names: Sequence[str]) -> int:
    """To how many characters they can be cut and still be told apart; not below LEAST."""
    distinct = set(names)
    longest = max(map(len, distinct), default=0)
    return next((n for n in range(LEAST, longest) if len({shortened(name, n) for name in distinct}) == len(distinct)), longest)
