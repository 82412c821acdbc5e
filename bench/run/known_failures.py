"""Which variants are not tried again in a run, and why, judged by the points that are finished.  Works on records alone."""

from collections.abc import Iterable, Mapping

from ..data.record import Failed, Outcome, Point, Record, Skipped
from ..machine.limits import OUT_OF_MEMORY
from ..process.handle import DIED, HUNG

MAXIMUM_DEATHS = 2  # cells of a layer at which a variant may end the worker before it is left alone


class KnownFailures:
    """Learns from the records of finished points; says of a variant at a point what is known beforehand."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._deaths: dict[tuple[str, str], dict[str, Failed]] = {}  # layer, variant -> cell -> how it ended the worker
        self._starved: dict[tuple[str, str, str, str], list[Mapping[str, int]]] = {}  # layer, variant, dtype, device -> sizes
        self.learn(records)

    def learn(self, records: Iterable[Record]) -> None:
        for record in records:
            outcome, point = record.outcome, record.point
            if not isinstance(outcome, Failed):
                continue
            if outcome.reason.startswith((DIED, HUNG)):
                self._deaths.setdefault((point.layer, record.variant), {}).setdefault(point.cell, outcome)
            if outcome.reason.startswith(OUT_OF_MEMORY):
                self._starved.setdefault((point.layer, record.variant, point.dtype, point.device), []).append(point.size)

    def known(self, point: Point, variant: str) -> Outcome | None:
        """The outcome of a variant that is not to be tried at a point; None where it is."""
        deaths = self._deaths.get((point.layer, variant), {})
        if point.cell in deaths:
            return deaths[point.cell]
        if len(deaths) >= MAXIMUM_DEATHS:
            first = next(iter(deaths.values()))
            return Skipped("make", f"it ended the worker at {len(deaths)} cells of this layer and is not tried again; {first.reason}")
        for size in self._starved.get((point.layer, variant, point.dtype, point.device), []):
            if _larger(point.size, size):
                shown = " ".join(f"{dimension}={value}" for dimension, value in size.items())
                return Skipped("make", f"{OUT_OF_MEMORY} at {shown}; larger sizes are skipped")
        return None


def _larger(size: Mapping[str, int], than: Mapping[str, int]) -> bool:
    """In no dimension smaller, and in one larger."""
    return size != than and all(size.get(dimension, 0) >= value for dimension, value in than.items())
