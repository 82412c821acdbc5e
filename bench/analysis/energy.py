"""What a call takes of a device under load, against the reference, and where a time under load is another than in a burst.

No verdict: one figure per variant has no interval.  The second copy of the reference shows how far two equal ones differ.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..data.record import Energy, Measured, Record, Run
from .frame import by_point

SLOWER = 0.05  # under load, than in a burst on the device and as called: from here on it is said
FELL = 0.02  # of the clock, in the same way: less is its own wobble


@dataclass(frozen=True)
class Burst:
    """A step that takes longer under load than in the short bursts that were timed, since the device's clock fell."""

    seconds: float  # of the device, in a burst
    sustained: float  # seconds per call of the loop under load
    mhz: int  # in the bursts
    held: int  # MHz under load
    power_limited: bool

    def sentence(self, times: Callable[[float], str]) -> str:
        """times: how seconds are written."""
        by = " by the power limit" if self.power_limited else ""
        return f"{times(self.seconds)} in a burst, {times(self.sustained)} sustained: held at {self.held} of {self.mhz} MHz{by}"


@dataclass(frozen=True)
class Metered:
    """One record whose energy was measured.  ratio: to the reference's joules, below 1 is less; NaN for the reference itself."""

    record: Record
    energy: Energy
    ratio: float
    burst: Burst | None


def metered(run: Run) -> list[Metered]:
    """In the order of the run; empty where nobody asked for it, or nothing could tell."""
    references = {layer.name: layer.reference for layer in run.layers}
    found = []
    for records in by_point(run.records):
        reference = references[records[0].point.layer]
        energies = {record.variant: _energy(record) for record in records}
        stock = energies.get(reference)
        for record in records:
            if energy := energies[record.variant]:
                ratio = energy.joules / stock.joules if stock and record.variant != reference else math.nan
                assert isinstance(record.outcome, Measured)
                found.append(Metered(record, energy, ratio, burst(record.outcome)))
    return found


def missing(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Why there is no energy though it was asked for -> the records."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if isinstance(record.outcome, Measured) and isinstance(record.outcome.energy, str):
            found.setdefault(record.outcome.energy, []).append(record)
    return found


def burst(measured: Measured) -> Burst | None:
    """None where the two times are alike, where the clock did not fall, or where it is not known."""
    energy, device = measured.energy, measured.timing.device
    clocks = [mhz for mhz in device.mhz if mhz] if device else []
    if not isinstance(energy, Energy) or not device or not clocks or not energy.mhz:
        return None
    seconds, mhz = statistics.median(measured.timing.seconds), round(statistics.median(clocks))
    slow = energy.seconds > (1 + SLOWER) * max(seconds, statistics.median(device.called))  # what is bound by launches is slow as called
    fell = energy.mhz < (1 - FELL) * mhz
    return Burst(seconds, energy.seconds, mhz, energy.mhz, energy.power_limited) if slow and fell else None


def _energy(record: Record) -> Energy | None:
    energy = record.outcome.energy if isinstance(record.outcome, Measured) else None
    return energy if isinstance(energy, Energy) else None
