"""What a layer's calls take of a GPU under load, as rows of words for the page; only where it was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..analysis.energy import Metered
from ..data.record import LayerFacts, Record
from ..declare.layer import NOISE_FLOOR
from . import words


@dataclass(frozen=True)
class EnergyRow:
    step: str
    dtype: str
    at: str
    variant: str
    joules: str
    ratio: str  # to the reference's
    watts: str
    seconds: str  # sustained
    mhz: str
    burst: str  # how the time in a burst differs, and why; "" where it does not


def rows(found: Sequence[Metered], layer: LayerFacts) -> list[EnergyRow]:
    return [_row(each, layer.reference) for each in found if each.record.point.layer == layer.name]


def why_none(unmetered: Mapping[str, Sequence[Record]], layer: LayerFacts) -> list[str]:
    """Why records of a layer have no energy though it was asked for, a sentence each.  unmetered: as `missing` has them."""
    counts = {reason: sum(record.point.layer == layer.name for record in records) for reason, records in unmetered.items()}
    return [f"No energy of {words.plural(count, 'record')}: {reason}" for reason, count in counts.items() if count]


def _row(each: Metered, reference: str) -> EnergyRow:
    record, energy = each.record, each.energy
    point = record.point
    return EnergyRow(
        step=point.step,
        dtype=point.dtype,
        at=words.size(point.size),
        variant="second copy of the reference" if record.variant == NOISE_FLOOR else record.variant,
        joules=words.joules(energy.joules),
        ratio="reference" if record.variant == reference else words.times(each.ratio),
        watts=f"{energy.watts:.0f} W",
        seconds=words.seconds(energy.seconds),
        mhz=(f"{energy.mhz} MHz" if energy.mhz else "not known") + ", power limit" * energy.power_limited,
        burst=each.burst.sentence(words.seconds) if each.burst else "",
    )
