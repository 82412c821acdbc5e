"""What calls take of a GPU under load, in a terminal: a short table, and where a time under load is another than in a burst."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..analysis.energy import Metered, metered, missing
from ..data.record import Run
from ..declare.layer import NOISE_FLOOR
from ..text import units
from ..text.ratio import ratio

MOST = 24  # rows; the page has all
TITLE = "Energy of a call under load: the whole board, what it takes idle included."


def print_energy(console: Console, run: Run) -> None:
    """Nothing where it was not asked for."""
    found = [each for each in metered(run) if each.record.variant != NOISE_FLOOR]
    if found:
        console.print(_table(found[:MOST]))
    if len(found) > MOST:
        console.print(Text(f"{len(found) - MOST} more rows of energy are on the page."))
    for each in found:
        if each.burst:
            console.print(Text(f"{each.record.point.id} {each.record.variant}: {each.burst.sentence(units.seconds)}"))
    for reason, records in missing(run.records).items():
        points = len({record.point.id for record in records})
        console.print(Text(f"no energy, {points} point{'s' if points > 1 else ''}: {reason}"))


def _table(found: Sequence[Metered]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", title=TITLE, title_justify="left", title_style="")
    for name in ("layer", "step", "dtype", "at", "variant"):
        made.add_column(name, overflow="fold")
    for name in ("a call", "reference's", "power", "sustained"):
        made.add_column(name, justify="right", no_wrap=True)
    for each in found:
        point, energy = each.record.point, each.energy
        size = " ".join(f"{name}={value}" for name, value in point.size.items())
        share = f"{ratio(each.ratio)}x" if ratio(each.ratio) else ""
        numbers = (units.joules(energy.joules), share, f"{energy.watts:.0f} W", units.seconds(energy.seconds))
        made.add_row(*map(Text, (point.layer, point.step, point.dtype, size, each.record.variant, *numbers)))
    return made
