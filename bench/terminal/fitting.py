"""Whether a table fits a terminal, and a name cut to what is left.  A number or a sign is never cut."""

from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

ENDLESS = 10_000  # columns
LEAST = 8  # characters of a name


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
