"""Records as one tidy DataFrame, a row each, with the ratio to the reference and its verdict.  Not a format: nothing is rounded here."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from msgspec import structs

from ..data.record import Checked, Environment, Measured, Record, Roof, Run
from ..declare.layer import NOISE_FLOOR
from ..stats import estimates
from . import sanity


def tidy(run: Run) -> pd.DataFrame:
    """One row per record, in the order of the run.

    id, point, layer, variant, step, device, dtype, size (a dict), outcome (measured | checked | skipped | failed | invalid: its time
    cannot be true), stage, reason;
    seconds: median time per call; speedup, speedup_low, speedup_high: times faster than the reference, same round against
    same round; noise_floor: relative, of the point; verdict: faster | slower | same | unclear; contention: why it is unclear
    whatever the ratio, since other work wanted the same cores; unresolved: the same, since the device's clock cannot resolve
    the time; issuing, called: seconds per call that the host needs to issue a step on an accelerator, and that a caller sees;
    called_speedup, called_low, called_high: the same ratio of what a caller sees; live_bytes, saved_bytes, peak_forward_bytes,
    peak_backward_bytes; slack: error as a share of what is allowed; cold_seconds, graphs, breaks, recompiles of
    torch.compile; sweep_graphs: graphs where one module meets every size of the sweep's first dimension.
    What was not measured is missing (NaN or None), never 0.
    """
    reference = {layer.name: layer.reference for layer in run.layers}
    roofs = {(roof.device, roof.dtype): roof for roof in run.roofs}
    rows = []
    for records in by_point(run.records):
        point = records[0].point
        timed = {record.variant: record.outcome for record in records if isinstance(record.outcome, Measured)}
        doubts = {variant: sanity.impossible(outcome, roofs.get((point.device, point.dtype))) for variant, outcome in timed.items()}
        measured = {variant: outcome for variant, outcome in timed.items() if not doubts[variant]}
        stock = measured.get(reference[point.layer])
        again = measured.get(NOISE_FLOOR)
        speedup = _paired if run.interleaved else _unpaired
        floor = estimates.noise_floor(speedup(stock, again), estimates.smallest_floor(point.device)) if stock and again else math.nan
        for record in records:
            doubt = doubts.get(record.variant)
            outcome = (
                {"outcome": "invalid", "stage": "time", "reason": doubt}
                if doubt
                else _outcome(record, stock, floor, speedup, run.environment, roofs.get((point.device, point.dtype)))
            )
            rows.append(_identity(record) | outcome)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def by_point(records: Sequence[Record]) -> list[list[Record]]:
    """Records grouped by point, in the order in which points first appear."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.point.id, []).append(record)
    return list(groups.values())


_TEXT = (
    "id",
    "point",
    "layer",
    "variant",
    "step",
    "device",
    "dtype",
    "size",
    "outcome",
    "stage",
    "reason",
    "verdict",
    "contention",
    "unresolved",
    "stopped",
    "clock",
)
_NUMBERS = (
    *("seconds", "samples", "speedup", "speedup_low", "speedup_high", "noise_floor", "slack"),
    *("live_bytes", "saved_bytes", "peak_forward_bytes", "peak_backward_bytes"),
    *("issuing", "called", "called_speedup", "called_low", "called_high"),
    *("cold_seconds", "graphs", "breaks", "recompiles", "sweep_graphs"),
)
COLUMNS: dict[str, Any] = dict.fromkeys(_TEXT, object) | dict.fromkeys(_NUMBERS, float)


Speedup = Callable[[Measured, Measured], estimates.Interval]


def _identity(record: Record) -> dict[str, object]:
    point = record.point
    return {
        "id": record.id,
        "point": point.id,
        "layer": point.layer,
        "variant": record.variant,
        "step": point.step,
        "device": point.device,
        "dtype": point.dtype,
        "size": point.size,
    }


def _outcome(
    record: Record, stock: Measured | None, floor: float, speedup: Speedup, machine: Environment, roof: Roof | None
) -> dict[str, object]:
    outcome = record.outcome
    row: dict[str, object]
    if not isinstance(outcome, Measured):
        stage = outcome.stage if hasattr(outcome, "stage") else "verify"
        row = {"outcome": type(outcome).__name__.lower(), "stage": stage, "reason": outcome.reason}
        return row | {"slack": outcome.accuracy.slack} if isinstance(outcome, Checked) else row
    row = {
        "outcome": "measured",
        "seconds": statistics.median(outcome.timing.seconds),
        "samples": len(outcome.timing.seconds),
        "stopped": outcome.timing.stopped,
        "clock": outcome.timing.clock,
        "slack": outcome.accuracy.slack,
        "live_bytes": outcome.memory.live_bytes,
        "saved_bytes": outcome.memory.saved_bytes,
        "peak_forward_bytes": outcome.memory.peak_forward_bytes,
        "peak_backward_bytes": outcome.memory.peak_backward_bytes,
    }
    if outcome.timing.device:
        row |= {
            "issuing": statistics.median(outcome.timing.device.issuing),
            "called": statistics.median(outcome.timing.device.called),
        }
    if outcome.compiled:
        row |= {
            "cold_seconds": outcome.compiled.cold_seconds if outcome.compiled.cold else math.nan,
            "graphs": outcome.compiled.graphs,
            "breaks": len(outcome.compiled.breaks),
            "recompiles": outcome.compiled.recompiles,
            "sweep_graphs": outcome.compiled.sweep.graphs if outcome.compiled.sweep else math.nan,
        }
    if stock and outcome is not stock:
        interval = speedup(stock, outcome)
        contention = sanity.contended(outcome, machine)
        unresolved = sanity.below_floor(outcome, roof) or sanity.below_floor(stock, roof)
        row |= {
            "speedup": interval.ratio,
            "speedup_low": interval.low,
            "speedup_high": interval.high,
            "noise_floor": floor,
            "unresolved": unresolved or None,
            "verdict": "unclear" if contention or unresolved else estimates.verdict(interval, floor),
            "contention": contention or None,
        }
        if outcome.timing.device and stock.timing.device:
            called = speedup(_as_called(stock), _as_called(outcome))
            row |= {"called_speedup": called.ratio, "called_low": called.low, "called_high": called.high}
    return row


def _as_called(measured: Measured) -> Measured:
    """With the seconds that a caller sees in place of the device's own."""
    assert measured.timing.device
    return structs.replace(measured, timing=structs.replace(measured.timing, seconds=measured.timing.device.called))


def by_clock(run: Run, clock: str) -> Run:
    """The run as seen by a clock: device, as it was measured; called, with the seconds that a caller sees, where there are any."""
    if clock == "device":
        return run
    records = []
    for record in run.records:
        if isinstance(record.outcome, Measured) and record.outcome.timing.device:
            seen = _as_called(record.outcome)
            record = structs.replace(
                record, outcome=structs.replace(seen, timing=structs.replace(seen.timing, clock="called", device=None))
            )
        records.append(record)
    return structs.replace(run, records=tuple(records))


def _paired(stock: Measured, variant: Measured) -> estimates.Interval:
    return estimates.speedup(stock.timing.seconds, variant.timing.seconds)


def _unpaired(stock: Measured, variant: Measured) -> estimates.Interval:
    return estimates.unpaired_speedup(stock.timing.seconds, variant.timing.seconds)


def measured(run: Run) -> list[Record]:
    """The records that have numbers."""
    return [record for record in run.records if isinstance(record.outcome, Measured)]
