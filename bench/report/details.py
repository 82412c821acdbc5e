"""What a row opens: samples in time order, operators, accuracy per tensor, compile breaks, the command.  Packed data, no layout.

The page carries a share of samples and operators that keeps it small; the page says which share, and the run file has all.
"""

import base64
import gzip
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..analysis.frame import by_point
from ..data.profiled import Operator
from ..data.record import Accuracy, Measured, Record, Run
from ..declare.layer import NOISE_FLOOR
from . import words

SAMPLE_BUDGET = 150_000  # samples in one page
OPERATOR_BUDGET = 40_000  # operator rows in one page


@dataclass(frozen=True)
class Caps:
    samples: int  # per variant and point
    operators: int


def caps(run: Run) -> Caps:
    measured = max(1, sum(isinstance(record.outcome, Measured) for record in run.records))
    return Caps(min(400, max(8, SAMPLE_BUDGET // measured)), min(30, max(3, OPERATOR_BUDGET // measured)))


def left_out(run: Run) -> str:
    """What of the run is not in the page, in a sentence; "" where all of it is."""
    limits, found = caps(run), [record.outcome for record in run.records if isinstance(record.outcome, Measured)]
    parts = []
    if any(len(outcome.timing.seconds) > limits.samples for outcome in found):
        parts.append(f"at most {words.whole(limits.samples)} samples, evenly spread over time,")
    if any(len(outcome.profile.operators) > limits.operators for outcome in found):
        parts.append(f"the {limits.operators} largest operators")
    return f"Of each variant {' and '.join(parts)} are in the page." if parts else ""


def pack(value: Any) -> str:
    """JSON, gzipped, in base64: letters, digits, +, / and = only, so nothing in it can end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def unpack(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def details(run: Run) -> dict[str, Any]:
    """{"words": every repeated string, "points": one object per point}.  Times are in nanoseconds, strings are places in `words`."""
    limits = caps(run)
    table: dict[str, int] = {}
    points = []
    for records in by_point(run.records):
        point = records[0].point
        points.append(
            {
                "id": point.id,
                "command": words.command(run, point),
                "ended": words.ended(records),
                "variants": [_variant(record, limits, table) for record in _last(records)],
            }
        )
    return {"words": list(table), "points": points}


def _last(records: Sequence[Record]) -> list[Record]:
    """The records with the second copy of the reference at the end."""
    return sorted(records, key=lambda record: record.variant == NOISE_FLOOR)


def places(run: Run) -> dict[str, int]:
    """Point id -> its place in `details(run)["points"]`."""
    return {records[0].point.id: place for place, records in enumerate(by_point(run.records))}


def _place(table: dict[str, int], text: str) -> int:
    return table.setdefault(text, len(table))


def _variant(record: Record, limits: Caps, table: dict[str, int]) -> dict[str, Any]:
    outcome = record.outcome
    kind = type(outcome).__name__.lower()
    row: dict[str, Any] = {"variant": _place(table, record.variant), "outcome": _place(table, kind)}
    if not isinstance(outcome, Measured):
        row["reason"] = _place(table, outcome.reason)
        if isinstance(outcome_accuracy := getattr(outcome, "accuracy", None), Accuracy):
            row["accuracy"] = _accuracy(outcome_accuracy, table)
        return row
    timing, profile = outcome.timing, outcome.profile
    kept = spread(len(timing.seconds), limits.samples)
    row |= {
        "ns": [_short(timing.seconds[i] * 1e9) for i in kept],
        "order": [timing.order[i] for i in kept],
        "samples": len(timing.seconds),
        "how": _place(table, words.sampling(timing)),
    }
    if record.variant == NOISE_FLOOR:
        return row
    if timing.device and (kernels := words.kernels(profile.kernels, statistics.median(timing.seconds))):
        row["kernels"] = kernels
    if clock := words.clock(timing.device):
        row["clock"] = clock
    if rates := words.rates(outcome.work, statistics.median(timing.seconds)):
        row["rates"] = rates
    row |= {
        "accuracy": _accuracy(outcome.accuracy, table),
        "profile": [profile.calls, words.seconds(profile.wall_seconds / max(1, profile.calls)), len(profile.operators)],
        "operators": [_operator(operator, profile.calls, table) for operator in profile.operators[: limits.operators]],
    }
    if profile.trace:
        row["trace"] = profile.trace
    if outcome.compiled and outcome.compiled.breaks:
        row["breaks"] = [_place(table, reason) for reason in outcome.compiled.breaks]
    if warnings := (*outcome.warnings, *outcome.accuracy.warnings):
        row["warnings"] = [_place(table, warning) for warning in warnings]
    return row


def _accuracy(accuracy: Accuracy, table: dict[str, int]) -> list[list[Any]]:
    """[tensor, error, allowed, share] each."""
    return [
        [_place(table, t.tensor), words.error(t.error), words.error(t.allowed), words.percent(t.error / t.allowed) if t.allowed else ""]
        for t in accuracy.tensors
    ]


def _operator(operator: Operator, calls: int, table: dict[str, int]) -> list[Any]:
    """[name, calls, self CPU ns, self device ns, bytes], all per profiled step."""
    steps = max(1, calls)
    return [
        _place(table, operator.name),
        _short(operator.calls / steps),
        _short(operator.cpu_seconds / steps * 1e9, 3),
        _short(operator.device_seconds / steps * 1e9, 3),
        _short(operator.allocated_bytes / steps),
    ]


def spread(total: int, most: int) -> Sequence[int]:
    """At most `most` places of `total`, evenly spread, the first and last among them."""
    if total <= most:
        return range(total)
    return [round(i * (total - 1) / (most - 1)) for i in range(most)]


def _short(value: float, digits: int = 4) -> float | int:
    number = float(f"{value:.{digits}g}")
    return int(number) if number.is_integer() else number
