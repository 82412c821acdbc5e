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

    state: str  # faster | slower | same | unclear | reference | checked | skipped | failed | absent
    speedup: Interval | None  # geometric mean over the points that were measured
    points: int  # how many that mean is over
    faster: int  # of those, how many are faster beyond the noise floor
    slower: int
    reason: str  # why there is no number, or what else must be known of it


@dataclass(frozen=True)
class Row:
    layer: str
    step: str
    device: str
    noise_floor: float | None  # the largest of its points
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
        cells = {}
        for variant in variants(run):
            records = group[group.variant == variant]
            if variant == facts[layer].reference and (records.outcome == "measured").all() and len(records):
                cells[variant] = Cell("reference", None, len(records), 0, 0, "every ratio is taken against this one")
            elif len(records):
                cells[variant] = _cell(records)
            else:
                cells[variant] = Cell("absent", None, 0, 0, 0, facts[layer].absent.get(variant, "not in this run"))
        floors = group.noise_floor.dropna()
        rows.append(Row(layer, step, device, float(floors.max()) if len(floors) else None, cells))
    return rows


def _cell(records: pd.DataFrame) -> Cell:
    measured = records[records.verdict.notna()]
    others = records[records.outcome != "measured"]
    reason = "; ".join(dict.fromkeys(f"{row.outcome} at {row.stage}: {row.reason}" for row in others.itertuples()))
    failed = others[others.outcome == "failed"]
    if len(failed):
        return Cell("failed", None, len(measured), 0, 0, reason)
    if not len(measured):
        states = list(others.outcome) or ["skipped"]
        return Cell(states[0], None, 0, 0, 0, reason or "the reference was not measured, so there is no ratio")
    mean = geometric_mean(intervals(measured))
    floor = float(measured.noise_floor.max())
    return Cell(
        stats.verdict(mean, floor),
        mean,
        len(measured),
        int((measured.verdict == "faster").sum()),
        int((measured.verdict == "slower").sum()),
        reason,
    )


def intervals(table: pd.DataFrame) -> list[Interval]:
    """The speed-ups of rows that have one."""
    return [Interval(*row) for row in table[["speedup", "speedup_low", "speedup_high"]].itertuples(index=False)]


def winners(table: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """Per measured point the variant that won: the fastest of those faster than the reference beyond the noise, else the reference."""
    rows = []
    for point, group in table[table.variant != NOISE_FLOOR].groupby("point", sort=False):
        first = group.iloc[0]
        if not ((group.variant == references[first.layer]) & (group.outcome == "measured")).any():
            continue
        faster = group[group.verdict == "faster"]
        winner = faster.loc[faster.speedup.idxmax()].variant if len(faster) else references[first.layer]
        rows.append({"point": point, "layer": first.layer, "device": first.device, "winner": winner})
    return pd.DataFrame(rows, columns=["point", "layer", "device", "winner"])


def verdict(run: Run, table: pd.DataFrame) -> str:
    """The run in a few sentences: who wins where and by how much, what compiling costs, what is missing."""
    references = {layer.name: layer.reference for layer in run.layers}
    won = winners(table, references)
    sentences = [_device_sentence(table, device, group, references) for device, group in won.groupby("device", sort=False)]
    if not sentences:
        sentences = ["Nothing was measured."]
    return " ".join([*sentences, *_compile_sentences(table), *_missing_sentences(table)])


def _device_sentence(table: pd.DataFrame, device: str, won: pd.DataFrame, references: dict[str, str]) -> str:
    count = won.winner.value_counts()
    best = count.index[0]
    here = table[(table.device == device) & table.point.isin(won.point)]
    if best in references.values():
        rest = len(won) - int(count.iloc[0])
        tail = f"; another variant is faster on {rest}." if rest else "."
        return f"Nothing beats {best} on {count.iloc[0]} of {_points(len(won))} on {device}{tail}"
    rows = here[(here.variant == best) & here.verdict.notna()]
    mean = geometric_mean(intervals(rows))
    return (
        f"{best} wins {count.iloc[0]} of {_points(len(won))} on {device} "
        f"(geometric mean {mean.ratio:.2f}x {reference_word(references)}, interval {mean.low:.2f}-{mean.high:.2f}, n = {len(rows)})."
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
    sentence = f"Compiling pays back after {_round(min(calls))} calls at the earliest"
    return [sentence + (f", and never on {never} of {_points(len(calls))}." if never else ".")]


def payback(cold_seconds: float, seconds: float, speedup: float, verdict: str) -> float:
    """Calls after which compilation has paid for itself; infinite unless the compiled variant is faster beyond the noise."""
    return cold_seconds / (seconds * (speedup - 1)) if verdict == "faster" else math.inf


def _missing_sentences(table: pd.DataFrame) -> list[str]:
    count = table.outcome.value_counts()
    words = []
    for outcome, text in (
        ("failed", "{n} failed and {is_are} not ranked"),
        ("skipped", "{n} {is_are} skipped"),
        ("checked", "{n} {is_are} proved equivalent but not timed here"),
    ):
        if n := int(count.get(outcome, 0)):
            words.append(text.format(n=f"{n} measurement{'s' if n > 1 else ''}", is_are="are" if n > 1 else "is"))
    return ["; ".join(words).capitalize() + "."] if words else []


def _points(n: int) -> str:
    return f"{n} point{'' if n == 1 else 's'}"


def _round(calls: float) -> str:
    """Two significant digits with thin grouping: 3 100."""
    digits = max(0, math.floor(math.log10(calls)) - 1) if calls >= 1 else 0
    return f"{round(calls, -digits):,.0f}".replace(",", " ")
