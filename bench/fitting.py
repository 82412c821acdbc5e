"""Whether a table fits a terminal, and a name cut to what is left.  A number or a sign is never cut."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

ENDLESS = 10_000  # columns


def excess(console: Console, table: Table) -> int:
    """Columns that it has more than the console; negative where there is room."""
    return Measurement.get(console, console.options.update(max_width=ENDLESS), table).maximum - console.width


def shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: max(1, longest - 1)]}…"
