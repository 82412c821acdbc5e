"""Two runs of the same points -> `Change`s.  Times of two machines, or of two days, are never compared: the ratio to the reference is.

Not the regression check, which measures both sides in one process; this is for runs that were stored.
"""

import math
import operator
from collections.abc import Mapping, Sequence

import pandas as pd

from ..data.change import Change
from ..data.record import Record, Run
from ..declare.layer import NOISE_FLOOR
from ..stats.estimates import Interval
from . import exact
from .frame import tidy

COUNTS = ("saved_bytes", "peak_forward_bytes", "peak_backward_bytes", "graphs", "breaks", "recompiles")
BAD = ("failed", "invalid")
THRESHOLD = 0.05  # a change of the ratio below this is not called one
LAUNCH = 0.09  # nor below this for what is short: so far apart are the ratios of two launches of one code, in 99 of 100 cases
SHORT_SECONDS = 100e-6


def compare(old: Run, new: Run, threshold: float = THRESHOLD) -> list[Change]:
    """What changed, point by point in the order of the new run, then what is missing from it.

    speedup: the ratio new/old of the times relative to the reference of the same run; > 1 is slower now.  Its interval joins those of
    both runs.  slower or faster: all of it beyond the threshold, and beyond what two launches of one code differ by.  Bytes may differ by
    the slack of the regression check; counts are compared exactly.  missing: a point, or a metric of it, that only the old run has.
    """
    before, after = (tidy(run).set_index("id") for run in (old, new))
    after.loc[after.layer.isin(_new_references(old, new)), "speedup"] = math.nan  # ratios to another reference say nothing
    records = {record.id: record for record in new.records} | {r.id: r for r in old.records if r.id not in set(after.index)}
    changes: list[Change] = []
    for id_, record in records.items():
        if record.variant == NOISE_FLOOR:
            continue
        rows = [table.loc[id_] if id_ in table.index else None for table in (before, after)]
        changes += _changes(record, rows[0], rows[1], threshold)
    return changes


def failures(changes: Sequence[Change]) -> list[Change]:
    """The changes that make `layerbench compare` exit with 1: slower, larger, wrong or gone."""
    return [change for change in changes if change.verdict in ("slower", "larger", "failed", "missing")]


def differences(old: Run, new: Run) -> list[str]:
    """What differs between the two environments, a sentence each; empty when times could be compared too."""
    a, b = old.environment, new.environment
    pairs: Mapping[str, tuple[object, object]] = {
        "machine": (f"{a.cpu} ({a.machine})", f"{b.cpu} ({b.machine})"),
        "threads": (a.threads, b.threads),
        "python": (a.python, b.python),
        **{name: (a.versions.get(name, "none"), b.versions.get(name, "none")) for name in {**a.versions, **b.versions}},
        **{name: (a.flags.get(name, "none"), b.flags.get(name, "none")) for name in {**a.flags, **b.flags}},
        "timing in a CUDA graph": (old.graph, new.graph),
        **{f"reference of {layer}": pair for layer, pair in _new_references(old, new).items()},
    }
    return [f"{name}: {was} before, {now} now" for name, (was, now) in pairs.items() if was != now]


def _new_references(old: Run, new: Run) -> dict[str, tuple[str, str]]:
    before = {layer.name: layer.reference for layer in old.layers}
    now = {layer.name: layer.reference for layer in new.layers}
    return {name: (before[name], now[name]) for name in before if name in now and before[name] != now[name]}


def _changes(record: Record, old: pd.Series | None, new: pd.Series | None, threshold: float) -> list[Change]:
    if new is None or old is None:
        verdict = "missing" if new is None else "failed" if new.outcome in BAD else "new"
        return [_change(record, "outcome", math.nan, math.nan, verdict)]
    if new.outcome != old.outcome:
        verdict = "failed" if new.outcome in BAD else "missing" if old.outcome == "measured" else "new"
        return [_change(record, "outcome", math.nan, math.nan, verdict)]
    if new.outcome != "measured":
        return [_change(record, "outcome", math.nan, math.nan, "failed" if new.outcome in BAD else "same")]
    changes = [_exact(record, metric, old[metric], new[metric]) for metric in COUNTS if old[metric] == old[metric]]
    if old.speedup == old.speedup:
        known = new.speedup == new.speedup
        ratio = _ratio(record, old, new, threshold) if known else _change(record, "speedup", old.speedup, math.nan, "missing")
        changes.insert(0, ratio)
    return changes


def _ratio(record: Record, old: pd.Series, new: pd.Series, threshold: float) -> Change:
    middle = math.log(old.speedup / new.speedup)
    half = math.hypot(*(math.log1p(Interval(row.speedup, row.speedup_low, row.speedup_high).half_width) for row in (old, new)))
    low, high = math.exp(middle - half), math.exp(middle + half) if math.isfinite(half) else math.inf
    launch = LAUNCH if min(old.seconds, new.seconds) < SHORT_SECONDS else 0.0
    limit = 1 + max(threshold, launch, old.noise_floor, new.noise_floor)
    verdict = "slower" if low > limit else "faster" if high < 1 / limit else "same" if 1 / limit <= low and high <= limit else "unclear"
    if any(isinstance(row.contention, str) for row in (old, new)) or old.clock != new.clock:
        verdict = "unclear"
    return Change(record.point, record.variant, "speedup", float(old.speedup), float(new.speedup), math.exp(middle), low, high, verdict)


def _exact(record: Record, metric: str, old: float, new: float) -> Change:
    more = exact.more if metric.endswith("_bytes") else operator.lt  # more(a, b): b is more than a
    verdict = "missing" if new != new else "larger" if more(old, new) else "smaller" if more(new, old) else "same"
    return _change(record, metric, old, new, verdict)


def _change(record: Record, metric: str, old: float, new: float, verdict: str) -> Change:
    ratio = new / old if old else math.inf if new > 0 else 1.0
    ratio = ratio if old == old and new == new else math.nan
    return Change(record.point, record.variant, metric, float(old), float(new), ratio, ratio, ratio, verdict)
