"""The table that compares this run with a baseline.  It takes verdicts as they come and makes none."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..data.change import Change
from . import words

QUIET = frozenset({"same", "unclear"})
QUIET_ROWS = 300  # of the rows that did not move, this many are in the page
HOW = "new against old; a ratio above 1 means that the new run is slower or larger"
METRICS = {
    "seconds": ("time", words.seconds),
    "ratio": ("speed-up over the reference", words.times),
    "peak_bytes": ("peak memory", words.count_bytes),
    "saved_bytes": ("held for backward", words.count_bytes),
    "graphs": ("compiled graphs", words.whole),
    "outcome": ("outcome", words.whole),
}


@dataclass(frozen=True)
class Row:
    point: str
    variant: str
    metric: str
    old: str
    new: str
    ratio: str
    span: str
    verdict: str
    look: str  # good | bad | quiet | plain
    arrow: str


@dataclass(frozen=True)
class Comparison:
    moved: tuple[Row, ...]
    quiet: tuple[Row, ...]
    total: int
    left_out: int  # quiet rows that are not in the page


def compare(compared: Sequence[Change]) -> Comparison:
    moved = [_row(change) for change in compared if change.verdict not in QUIET]
    quiet = [_row(change) for change in compared if change.verdict in QUIET]
    kept = tuple(quiet[:QUIET_ROWS])
    return Comparison(tuple(moved), kept, len(compared), len(quiet) - len(kept))


def _row(change: Change) -> Row:
    name, text = METRICS.get(change.metric, (change.metric, words.ratio))
    worded = change.metric == "outcome"  # its numbers stand for words, which the verdict says
    numbers = ("", "") if worded else (text(change.old), text(change.new))
    spans = (
        ("", "") if worded else (words.times(change.ratio), words.span(change.low, change.high) if change.low != change.high else "exact")
    )
    look = (
        "good"
        if change.verdict in words.GOOD
        else "bad"
        if change.verdict in words.BAD
        else "quiet"
        if change.verdict in QUIET
        else "plain"
    )
    arrow = {"slower": "▼", "faster": "▲", "larger": "▲", "smaller": "▼", "same": "=", "unclear": "?"}.get(change.verdict, "•")
    return Row(change.point.id, change.variant, name, *numbers, *spans, change.verdict, look, arrow)
