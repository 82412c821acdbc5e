"""The win matrix of a run: a row per layer, step and device, a cell per variant.  No layout and no colour here."""

import math
from dataclasses import dataclass

import pandas as pd

from ..data.record import Run
from ..declare.layer import NOISE_FLOOR
from ..stats import estimates
from ..stats.estimates import Interval, geometric_mean
from . import ranking


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
        others = {n: ranking.Standing(c.state, c.speedup.ratio if c.speedup else None) for n, c in cells.items() if n != reference}
        rows.append(Row(layer, step, device, None if math.isnan(floor) else floor, ranking.best(others, reference), cells))
    return rows


UNTOLD = {"contention": "other work wanted the same cores", "unresolved": "the device's clock cannot resolve times so short"}


def mixed(run: Run, table: pd.DataFrame) -> list[str]:
    """A line per cell of the matrix whose mean hides that the variant wins at some points and loses at others."""
    return [
        f"mixed {row.layer} {row.step} {row.device} {name}: {cell.where}; "
        f"of {counted_points(cell.points)} {cell.faster} faster, {cell.slower} slower"
        for row in matrix(run, table)
        for name, cell in row.cells.items()
        if cell.where
    ]


def _floor(group: pd.DataFrame) -> float:
    """What noise alone does to the mean of these points: the second copy of the reference, averaged as every other variant is."""
    again = _calm(group[(group.variant == NOISE_FLOOR) & group.speedup.notna()])
    least = estimates.smallest_floor(str(group.device.iloc[0]))
    return estimates.noise_floor(geometric_mean(intervals(again)), least) if len(again) else math.nan


def _cell(records: pd.DataFrame, floor: float) -> Cell:
    known = records[records.verdict.notna()]
    measured = _calm(known)
    others = records[records.outcome != "measured"]
    reasons = [f"{row.outcome} at {row.stage}: {row.reason}" for row in others.itertuples()]
    untold = known.contention.notna() | known.unresolved.notna()
    for column, why in UNTOLD.items():
        if count := int(known[column].notna().sum()):
            which = f"{count} of {counted_points(len(known))} left out" if count < len(known) else "no verdict is possible"
            reasons.append(f"{which}: {why}")
    reason = "; ".join(dict.fromkeys(reasons))
    failed = others[others.outcome == "failed"]
    if len(failed):
        return Cell("failed", None, len(measured), 0, 0, reason)
    if not len(measured):
        states = list(others.outcome) or ["skipped"]
        return Cell(states[0], None, 0, 0, 0, reason or "the reference was not measured, so there is no ratio")
    mean = geometric_mean(intervals(measured))
    state = "unclear" if untold.all() else estimates.verdict(mean, floor)
    faster, slower = (int((measured.verdict == word).sum()) for word in ("faster", "slower"))
    if ranking.mixed(state, faster, slower):
        return Cell("mixed", mean, len(measured), faster, slower, reason, ranking.where(measured))
    return Cell(state, mean, len(measured), faster, slower, reason)


def _calm(rows: pd.DataFrame) -> pd.DataFrame:
    """Those at which something can be told; all, where nothing can at any."""
    calm = rows[rows.contention.isna() & rows.unresolved.isna()]
    return calm if len(calm) else rows


def intervals(table: pd.DataFrame) -> list[Interval]:
    """The speed-ups of rows that have one."""
    return [Interval(*row) for row in table[["speedup", "speedup_low", "speedup_high"]].itertuples(index=False)]


def counted_points(n: int) -> str:
    return f"{n} point{'' if n == 1 else 's'}"
