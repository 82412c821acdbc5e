"""What a run says, in words and in one matrix: the same for the terminal and for the page.  No layout and no colour here."""

import math
from dataclasses import dataclass

import pandas as pd

from . import standing, stats
from .declare import NOISE_FLOOR
from .record import Run
from .stats import Interval, geometric_mean

PRECISION = 0.01  # half width of a ratio's interval at which measuring stops; as measure has it
FEW = 12  # fewer rounds than measure takes before its first look at the intervals


@dataclass(frozen=True)
class Cell:
    """One layer, step and device under one variant, over all sizes and dtypes."""

    state: str  # faster | slower | mixed | same | unclear | reference | checked | skipped | failed | invalid | absent
    speedup: Interval | None  # geometric mean over the points that were measured; those that other work disturbed only if all were
    points: int  # how many that mean is over
    faster: int  # of those, how many are faster beyond the noise floor
    slower: int
    reason: str  # why there is no number, or what else must be known of it
    where: str = ""  # of a mixed one: at which sizes it wins


@dataclass(frozen=True)
class Row:
    layer: str
    step: str
    device: str
    noise_floor: float | None  # of the mean over its points
    best: str  # the variant that won, the reference where none is better; "": undecided
    cells: dict[str, Cell]  # variant -> cell, every variant of the run in order


def variants(run: Run) -> list[str]:
    """Every variant that some layer of the run has a record of, in the order in which the layers mention them."""
    names: dict[str, None] = {}
    for layer in run.layers:
        names |= dict.fromkeys(variant.name for variant in layer.variants) | dict.fromkeys(layer.absent)
    recorded = {record.variant for record in run.records}
    return [name for name in names if name in recorded]


def matrix(run: Run, table: pd.DataFrame) -> list[Row]:
    """The win matrix: a row per layer, step and device; a cell per variant, never empty."""
    facts = {layer.name: layer for layer in run.layers}
    rows = []
    for (layer, step, device), group in table.groupby(["layer", "step", "device"], sort=False):
        cells, floor = {}, _floor(group)
        for variant in variants(run):
            records = group[group.variant == variant]
            if variant == facts[layer].reference and (records.outcome == "measured").all() and len(records):
                cells[variant] = Cell("reference", None, len(records), 0, 0, "every ratio is taken against this one")
            elif len(records):
                cells[variant] = _cell(records, floor)
            else:
                cells[variant] = Cell("absent", None, 0, 0, 0, facts[layer].absent.get(variant, "not in this run"))
        reference = facts[layer].reference
        others = {n: standing.Standing(c.state, c.speedup.ratio if c.speedup else None) for n, c in cells.items() if n != reference}
        rows.append(Row(layer, step, device, None if math.isnan(floor) else floor, standing.best(others, reference), cells))
    return rows


def mixed(run: Run, table: pd.DataFrame) -> list[str]:
    """A line per cell of the matrix whose mean hides that the variant wins at some points and loses at others."""
    return [
        f"mixed {row.layer} {row.step} {row.device} {name}: {cell.where}; "
        f"of {_points(cell.points)} {cell.faster} faster, {cell.slower} slower"
        for row in matrix(run, table)
        for name, cell in row.cells.items()
        if cell.where
    ]


def _floor(group: pd.DataFrame) -> float:
    """What noise alone does to the mean of these points: the second copy of the reference, averaged as every other variant is."""
    again = _calm(group[(group.variant == NOISE_FLOOR) & group.speedup.notna()])
    return stats.noise_floor(geometric_mean(intervals(again))) if len(again) else math.nan


def _cell(records: pd.DataFrame, floor: float) -> Cell:
    known = records[records.verdict.notna()]
    measured = _calm(known)
    others = records[records.outcome != "measured"]
    reasons = [f"{row.outcome} at {row.stage}: {row.reason}" for row in others.itertuples()]
    crowded = int(known.contention.notna().sum())
    if crowded:
        which = f"{crowded} of {_points(len(known))} left out" if crowded < len(known) else "nothing can be told"
        reasons.append(f"{which}: other work wanted the same cores")
    reason = "; ".join(dict.fromkeys(reasons))
    failed = others[others.outcome == "failed"]
    if len(failed):
        return Cell("failed", None, len(measured), 0, 0, reason)
    if not len(measured):
        states = list(others.outcome) or ["skipped"]
        return Cell(states[0], None, 0, 0, 0, reason or "the reference was not measured, so there is no ratio")
    mean = geometric_mean(intervals(measured))
    state = "unclear" if crowded == len(known) else stats.verdict(mean, floor)
    faster, slower = (int((measured.verdict == word).sum()) for word in ("faster", "slower"))
    if standing.mixed(state, faster, slower):
        return Cell("mixed", mean, len(measured), faster, slower, reason, standing.where(measured))
    return Cell(state, mean, len(measured), faster, slower, reason)


def _calm(rows: pd.DataFrame) -> pd.DataFrame:
    """Those that other work did not disturb; all, where it disturbed all."""
    calm = rows[rows.contention.isna()]
    return calm if len(calm) else rows


def intervals(table: pd.DataFrame) -> list[Interval]:
    """The speed-ups of rows that have one."""
    return [Interval(*row) for row in table[["speedup", "speedup_low", "speedup_high"]].itertuples(index=False)]


def verdict(run: Run, table: pd.DataFrame) -> str:
    """The run in a few sentences, as a terminal prints them."""
    first, rest = sentences(run, table)
    return " ".join([*first, *rest])


def sentences(run: Run, table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Who wins where, one sentence per device; then by how much, how sure that is, what compiling costs, what is missing."""
    reference = reference_word({layer.name: layer.reference for layer in run.layers if (table.layer == layer.name).any()})
    first, rest, known = [], [], standing.points(table)
    for device in map(str, table.device.unique()):
        here = known[known.device == device]
        timed = ((table.device == device) & (table.outcome == "measured")).any()
        if len(here):
            first.append(_device_sentence(here, device, reference))
            rest += _mean_sentences(table, here, device, reference)
        elif timed:
            first.append(f"Nothing was compared on {device}: only {reference} was timed.")
    rest += [*_noise_sentences(table), *_precision_sentences(table), *_compile_sentences(table), *_missing_sentences(table)]
    return (first if (table.outcome == "measured").any() else ["Nothing was measured."]), rest


def _noise_sentences(table: pd.DataFrame) -> list[str]:
    crowded, noisy = disturbed(table)
    points = table[table.verdict.notna()].point.nunique()
    sentences = []
    if crowded:
        sentences.append(f"Other work wanted the same cores on {len(crowded)} of {_points(points)}: there nothing is ranked.")
    if noisy:
        where = f"above {100 * stats.MAXIMUM_SAME:.0f} % on {len(noisy)} of {_points(points)}"
        sentences.append(f"The noise floor is {where}: the command `again` measures there anew, on a quieter machine.")
    return sentences


def disturbed(table: pd.DataFrame) -> tuple[set[str], set[str]]:
    """The points at which nothing can be told: other work wanted the same cores; of the rest, the noise floor is above 10 %."""
    crowded = set(table[table.contention.notna()].point)
    floors = table[~table.point.isin(crowded)].groupby("point").noise_floor.max()
    return crowded, set(floors[floors > stats.MAXIMUM_SAME].index)


def _device_sentence(known: pd.DataFrame, device: str, reference: str) -> str:
    """Four numbers that add up to the points at which something was compared, or failed."""
    faster, slower, undecided, failed = (int((known.state == state).sum()) for state in standing.STATES)
    wins = known.winner[known.state == "faster"].value_counts()
    most = f" ({wins.index[0]} wins {wins.iloc[0]})" if faster else ""
    return (
        f"{_points(len(known))} on {device}: a variant is faster than {reference} on {faster}{most}, "
        f"all are slower or the same on {slower}; {undecided} undecided, {failed} failed."
    )


def _mean_sentences(table: pd.DataFrame, known: pd.DataFrame, device: str, reference: str) -> list[str]:
    """How fast the variant that wins most often is where it wins and where it does not."""
    wins = known.winner[known.state == "faster"].value_counts()
    if not len(wins):
        return []
    mine = table[table.point.isin(known.point) & (table.variant == wins.index[0]) & table.verdict.notna() & table.contention.isna()]
    mean = geometric_mean(intervals(mine))
    return [
        f"{wins.index[0]} is {mean.ratio:.2f}x as fast as {reference} on {device} "
        f"(geometric mean over {_points(len(mine))}, interval {mean.low:.2f}-{mean.high:.2f})."
    ]


def precision(table: pd.DataFrame) -> tuple[int, int, int]:
    """How many points were timed; of how many the time ran out before every ratio was precise; how many have few rounds."""
    timed = table[table.outcome == "measured"].groupby("point")
    stopped = timed.stopped.agg(lambda reasons: (reasons == "budget").any())
    return len(stopped), int(stopped.sum()), int((timed.samples.min() < FEW).sum())


def _precision_sentences(table: pd.DataFrame) -> list[str]:
    timed, short, few = precision(table)
    if not short:
        return []
    ended = f"The time budget ended {short} of {_points(timed)} before every ratio was known to {100 * PRECISION:.0f} %"
    sentence = f"{ended}: a longer --budget narrows the intervals."
    return [sentence, f"{_points(few)} {'has' if few == 1 else 'have'} fewer than {FEW} rounds."] if few else [sentence]


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


def _points(n: int) -> str:
    return f"{n} point{'' if n == 1 else 's'}"


def _round(calls: float) -> str:
    """Two significant digits, thousands apart: 3 100.  Never below 1: there is no part of a call."""
    calls = max(1.0, calls)
    digits = max(0, math.floor(math.log10(calls)) - 1)
    return f"{round(calls, -digits):,.0f}".replace(",", " ")
