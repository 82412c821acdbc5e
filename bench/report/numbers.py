"""The table of numbers under a panel's charts: a line per record, with a second time where an accelerator was timed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..analysis import summary
from . import words
from .panels import Panel
from .tables import WORDS, Note


@dataclass(frozen=True)
class Line:
    """One record of a panel's table of numbers."""

    point: int  # place in details
    step: str
    tick: int
    variant: str
    look: str  # the verdict, "reference", or the outcome of what was not measured
    note: int  # 0: measured
    word: str
    numbers: tuple[str, ...]  # as `titles` names them


TITLES = (
    *("time per call", "times faster", "95 % interval", "noise floor", "samples"),
    *("held for backward", "peak forward", "peak backward", "error, % of allowed"),
)
AS_CALLED = ("time to issue", "time as called", "times faster as called")


def titles(panel: Panel) -> tuple[str, ...]:
    """Of the numbers in a panel's lines."""
    return TITLES + AS_CALLED * any(row.called is not None for row in panel.rows)


def lines(panel: Panel, missing: Sequence[Note], places: dict[str, int]) -> list[Line]:
    numbers = {(n.variant, n.outcome, n.stage, n.reason): n.number for n in missing}
    order = {step: place for place, step in enumerate(panel.steps)}
    rows = sorted(panel.rows, key=lambda row: (order[row.step], row.size[panel.axis]))
    return [_line(panel, row, numbers, places[row.point]) for row in rows]


def _line(panel: Panel, row: Any, numbers: dict[tuple[str, str, str, str], int], place: int) -> Line:
    tick = row.size[panel.axis]
    if row.outcome != "measured":
        note = numbers[row.variant, row.outcome, row.stage, row.reason]
        return Line(place, row.step, tick, row.variant, row.outcome, note, WORDS[row.outcome], ())
    is_reference = row.variant == panel.layer.reference
    word = row.verdict or ("reference" if is_reference else "no ratio: reference not measured")
    shown: tuple[str, ...] = (
        words.seconds(row.seconds),
        words.times(row.speedup),
        words.span(row.speedup_low, row.speedup_high),
        words.percent(row.noise_floor),
        words.whole(row.samples),
        words.count_bytes(row.saved_bytes),
        words.count_bytes(row.peak_forward_bytes),
        words.count_bytes(row.peak_backward_bytes),
        words.percent(row.slack),
    )
    if row.called is not None:
        shown += (words.seconds(row.issuing), words.seconds(row.called), words.times(row.called_speedup))
    few = f", {words.plural(int(row.samples), 'sample')} only" if row.samples < summary.FEW else ""
    told = (
        f"{words.ARROWS.get(word, '')} {word}{', other work' if row.contention else ', too short' if row.unresolved else ''}{few}".strip()
    )
    return Line(place, row.step, tick, row.variant, row.verdict or "reference", 0, told, shown)
