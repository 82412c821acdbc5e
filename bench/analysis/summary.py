"""What a run says in a few sentences: the same for the terminal and for the page.  No layout and no colour here."""

import math

import pandas as pd

from ..data.record import Run
from ..declare.layer import NOISE_FLOOR
from ..stats import estimates
from ..stats.estimates import geometric_mean
from . import ranking
from .win_matrix import counted_points, intervals

PRECISION = 0.01  # half width of a ratio's interval at which measuring stops; as measure has it
FEW = 12  # fewer rounds than measure takes before its first look at the intervals


def verdict(run: Run, table: pd.DataFrame) -> str:
    """The run in a few sentences, as a terminal prints them."""
    first, rest = sentences(run, table)
    return " ".join([*first, *rest])


def sentences(run: Run, table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Who wins where, one sentence per device; then by how much, how sure that is, what compiling costs, what is missing."""
    reference = reference_word({layer.name: layer.reference for layer in run.layers if (table.layer == layer.name).any()})
    first, rest, known = [], [], ranking.points(table)
    for device in map(str, table.device.unique()):
        here = known[known.device == device]
        timed = ((table.device == device) & (table.outcome == "measured")).any()
        if len(here):
            two = ((table.device == device) & table.called.notna()).any()
            first.append(_device_sentence(here, device, reference, ", by its own seconds" if two else ""))
            rest += _mean_sentences(table, here, device, reference)
            rest += _called_sentences(table, device, reference)
        elif timed:
            first.append(f"Nothing was compared on {device}: only {reference} was timed.")
    rest += [*_noise_sentences(table), *_precision_sentences(table), *_compile_sentences(table), *_missing_sentences(table)]
    return (first if (table.outcome == "measured").any() else ["Nothing was measured."]), rest


def _noise_sentences(table: pd.DataFrame) -> list[str]:
    crowded, noisy = disturbed(table)
    points = table[table.verdict.notna()].point.nunique()
    sentences = []
    if crowded:
        sentences.append(f"Other work wanted the same cores on {len(crowded)} of {counted_points(points)}: there nothing is ranked.")
    if short := table[table.unresolved.notna()].point.nunique():
        where = f"on {short} of {counted_points(points)}"
        sentences.append(f"The device's clock cannot resolve the times {where}: larger sizes, or  --clock called,  tell more.")
    if noisy:
        where = f"above {100 * estimates.MAXIMUM_SAME:.0f} % on {len(noisy)} of {counted_points(points)}"
        sentences.append(f"The noise floor is {where}: the command `again` measures these points again, on a quieter machine.")
    return sentences


def disturbed(table: pd.DataFrame) -> tuple[set[str], set[str]]:
    """The points at which nothing can be told: other work wanted the same cores; of the rest, the noise floor is above 10 %."""
    crowded = set(table[table.contention.notna()].point)
    floors = table[~table.point.isin(crowded)].groupby("point").noise_floor.max()
    return crowded, set(floors[floors > estimates.MAXIMUM_SAME].index)


def _device_sentence(known: pd.DataFrame, device: str, reference: str, clock: str = "") -> str:
    """clock: in words, where there are two.  Four numbers that add up to the points at which something was compared, or failed."""
    faster, slower, undecided, failed = (int((known.state == state).sum()) for state in ranking.STATES)
    wins = known.winner[known.state == "faster"].value_counts()
    most = f" ({wins.index[0]} wins {wins.iloc[0]})" if faster else ""
    return (
        f"{counted_points(len(known))} on {device}{clock}: a variant is faster than {reference} on {faster}{most}, "
        f"all are slower or the same on {slower}; {undecided} undecided, {failed} failed."
    )


def _mean_sentences(table: pd.DataFrame, known: pd.DataFrame, device: str, reference: str) -> list[str]:
    """How fast the variant that wins most often is where it wins and where it does not."""
    wins = known.winner[known.state == "faster"].value_counts()
    if not len(wins):
        return []
    mine = table[table.point.isin(known.point) & (table.variant == wins.index[0]) & table.verdict.notna()]
    mine = mine[mine.contention.isna() & mine.unresolved.isna()]
    mean = geometric_mean(intervals(mine))
    return [
        f"{wins.index[0]} is {mean.ratio:.2f}x as fast as {reference} on {device} "
        f"(geometric mean over {counted_points(len(mine))}, interval {mean.low:.2f}-{mean.high:.2f})."
    ]


def _called_sentences(table: pd.DataFrame, device: str, reference: str) -> list[str]:
    """The verdicts above are by the device's own seconds; whether a caller would say the same."""
    seen = table[(table.device == device) & table.called_speedup.notna() & (table.variant != NOISE_FLOOR)]
    if not len(seen):
        return []
    faster = int((seen.groupby("point").called_low.max() > 1).sum())
    points = counted_points(seen.point.nunique())
    how = "As called in a loop, launches included,"
    return [f"{how} a variant is faster than {reference} on {faster} of {points}."]


def precision(table: pd.DataFrame) -> tuple[int, int, int]:
    """How many points were timed; of how many the time ran out before every ratio was precise; how many have few rounds."""
    timed = table[table.outcome == "measured"].groupby("point")
    stopped = timed.stopped.agg(lambda reasons: (reasons == "budget").any())
    return len(stopped), int(stopped.sum()), int((timed.samples.min() < FEW).sum())


def _precision_sentences(table: pd.DataFrame) -> list[str]:
    timed, short, few = precision(table)
    if not short:
        return []
    ended = f"The time budget ended {short} of {counted_points(timed)} before every ratio was known to {100 * PRECISION:.0f} %"
    sentence = f"{ended}: a longer --budget narrows the intervals."
    return [sentence, f"{counted_points(few)} {'has' if few == 1 else 'have'} fewer than {FEW} rounds."] if few else [sentence]


def reference_word(references: dict[str, str]) -> str:
    names = set(references.values())
    return names.pop() if len(names) == 1 else "the reference"


def _compile_sentences(table: pd.DataFrame) -> list[str]:
    compiled = table[table.cold_seconds.notna() & table.speedup.notna()]
    if not len(compiled):
        return []
    calls = [payback(row.cold_seconds, row.seconds, row.speedup, row.verdict) for row in compiled.itertuples()]
    paid = [number for number in calls if math.isfinite(number)]
    sentence = f"Compiling saves time in {len(paid)} of {len(calls)} case{'' if len(calls) == 1 else 's'}"
    if not paid:
        return [sentence + "."]
    first = _round(min(paid))
    which = "it" if len(paid) == 1 else "the best of them"
    return [f"{sentence}; {which} needs {first} call{'' if first == '1' else 's'} to make up for the compilation."]


def payback(cold_seconds: float, seconds: float, speedup: float, verdict: str) -> float:
    """Calls after which compilation has paid for itself; infinite unless the compiled variant is faster beyond the noise."""
    return cold_seconds / (seconds * (speedup - 1)) if verdict == "faster" else math.inf


def _missing_sentences(table: pd.DataFrame) -> list[str]:
    """A second copy of the reference is counted only where it failed or cannot be true: nobody asked for it by name."""
    counted = table[(table.variant != NOISE_FLOOR) | table.outcome.isin(("failed", "invalid"))]
    count = counted.outcome.value_counts()
    words = []
    for outcome, one, more in (
        ("failed", "failed and is not ranked", "failed and are not ranked"),
        ("invalid", "is invalid and is not ranked", "are invalid and are not ranked"),
        ("skipped", "was skipped", "were skipped"),
        ("checked", "was proved equivalent but not timed here", "were proved equivalent but not timed here"),
    ):
        if n := int(count.get(outcome, 0)):
            words.append(f"{n} {one if n == 1 else more}")
    return [f"Of {len(counted)} measurement{'' if len(counted) == 1 else 's'}, {', '.join(words)}."] if words else []


def _round(calls: float) -> str:
    """Two significant digits, thousands apart: 3 100.  Never below 1: there is no part of a call."""
    calls = max(1.0, calls)
    digits = max(0, math.floor(math.log10(calls)) - 1)
    return f"{round(calls, -digits):,.0f}".replace(",", " ")
