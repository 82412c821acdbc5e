"""What a run says, in words and in one matrix: the same for the terminal and for the page.  No layout and no colour here."""

import math
from dataclasses import dataclass

import pandas as pd

from . import stats
from .declare import NOISE_FLOOR
from .record import Run
from .stats import Interval, geometric_mean


@dataclass(frozen=True)
class Cell:
    """One layer, step and device under one variant, over all sizes and dtypes."""

    state: str  # faster | slower | same | unclear | reference | checked | skipped | failed | invalid | absent
    speedup: Interval | None  # geometric mean over the points that were measured; those that other work disturbed only if all were
    points: int  # how many that mean is over
    faster: int  # of those, how many are faster beyond the noise floor
    slower: int
    reason: str  # why there is no number, or what else must be known of it


@dataclass(frozen=True)
class Row:
    layer: str
    step: str
    device: str
    noise_floor: float | None  # of the mean over its points
    cells: dict[str, Cell]  # variant -> cell, every variant of the run in order


def variants(run: Run) -> list[str]:
    """Every variant name of the run's layers, in order of first mention; declared absences included."""
    names: dict[str, None] = {}
    for layer in run.layers:
        names |= dict.fromkeys(variant.name for variant in layer.variants) | dict.fromkeys(layer.absent)
    recorded = {record.variant for record in run.records} | {name for layer in run.layers for name in layer.absent}
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
        rows.append(Row(layer, step, device, None if math.isnan(floor) else floor, cells))
    return rows


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
    return Cell(
        "unclear" if crowded == len(known) else stats.verdict(mean, floor),
        mean,
        len(measured),
        int((measured.verdict == "faster").sum()),
        int((measured.verdict == "slower").sum()),
        reason,
    )


def _calm(rows: pd.DataFrame) -> pd.DataFrame:
    """Those that other work did not disturb; all, where it disturbed all."""
    calm = rows[rows.contention.isna()]
    return calm if len(calm) else rows


def intervals(table: pd.DataFrame) -> list[Interval]:
    """The speed-ups of rows that have one."""
    return [Interval(*row) for row in table[["speedup", "speedup_low", "speedup_high"]].itertuples(index=False)]


def winners(table: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """Per point where something was compared, undisturbed by other work, the variant that won: the fastest of those faster than the
    reference beyond the noise, else the reference."""
    rows = []
    for point, group in table[table.variant != NOISE_FLOOR].groupby("point", sort=False):
        first = group.iloc[0]
        if group.verdict.isna().all() or group.contention.notna().any():
            continue
        faster = group[group.verdict == "faster"]
        winner = faster.loc[faster.speedup.idxmax()].variant if len(faster) else references[first.layer]
        rows.append({"point": point, "layer": first.layer, "device": first.device, "winner": winner})
    return pd.DataFrame(rows, columns=["point", "layer", "device", "winner"])


def verdict(run: Run, table: pd.DataFrame) -> str:
    """The run in a few sentences: who wins where and by how much, what compiling costs, what is missing."""
    references = {layer.name: layer.reference for layer in run.layers}
    won = winners(table, references)
    timed = table[table.outcome == "measured"].device.unique()
    sentences = [_device_sentence(table, device, won[won.device == device], references) for device in timed]
    return " ".join(
        [*(sentences or ["Nothing was measured."]), *_noise_sentences(table), *_compile_sentences(table), *_missing_sentences(table)]
    )


def _noise_sentences(table: pd.DataFrame) -> list[str]:
    crowded, noisy = disturbed(table)
    points = table[table.verdict.notna()].point.nunique()
    sentences = []
    if crowded:
        sentences.append(f"Other work wanted the same cores on {len(crowded)} of {_points(points)}: there nothing is ranked.")
    if noisy:
        sentences.append(f"The machine was too noisy to tell on {len(noisy)} of {_points(points)}: a noise floor above 10 %.")
    return sentences


def disturbed(table: pd.DataFrame) -> tuple[set[str], set[str]]:
    """The points at which nothing can be told: other work wanted the same cores; of the rest, the noise floor is above 10 %."""
    crowded = set(table[table.contention.notna()].point)
    floors = table[~table.point.isin(crowded)].groupby("point").noise_floor.max()
    return crowded, set(floors[floors > stats.MAXIMUM_SAME].index)


def _device_sentence(table: pd.DataFrame, device: str, won: pd.DataFrame, references: dict[str, str]) -> str:
    if not len(won) and (table[table.device == device].contention.notna()).any():
        return f"Nothing can be told on {device}."
    if not len(won):
        return f"Nothing was compared on {device}: only {reference_word(references)} was timed."
    count = won.winner[won.winner != won.layer.map(references)].value_counts()
    unbeaten = len(won) - int(count.sum())
    if unbeaten >= (count.iloc[0] if len(count) else 0):
        tail = f"; another variant is faster on {count.sum()}." if len(count) else "."
        return f"Nothing beats {reference_word(references)} on {unbeaten} of {_points(len(won))} on {device}{tail}"
    best = count.index[0]
    rows = table[(table.device == device) & table.point.isin(won.point) & (table.variant == best) & table.verdict.notna()]
    mean = geometric_mean(intervals(rows))
    return (
        f"{best} wins {count.iloc[0]} of {_points(len(won))} on {device} (geometric mean {mean.ratio:.2f}x as fast as "
        f"{reference_word(references)}, interval {mean.low:.2f}-{mean.high:.2f}, n = {len(rows)})."
    )


def reference_word(references: dict[str, str]) -> str:
    names = set(references.values())
    return names.pop() if len(names) == 1 else "the reference"


def _compile_sentences(table: pd.DataFrame) -> list[str]:
    compiled = table[table.cold_seconds.notna() & table.speedup.notna()]
    if not len(compiled):
        return []
    calls = [payback(row.cold_seconds, row.seconds, row.speedup, row.verdict) for row in compiled.itertuples()]
    never = sum(math.isinf(c) for c in calls)
    if never == len(calls):
        return ["Compiling never pays back."]
    first = _round(min(calls))
    sentence = f"Compiling pays back after {first} call{'' if first == '1' else 's'} at the earliest"
    return [sentence + (f", and never in {never} of {len(calls)} cases." if never else ".")]


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
