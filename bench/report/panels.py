"""The run cut into panels: one per layer, device, dtype and combination of the sweep's other dimensions.  No text, no figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..data.record import LayerFacts, Run
from ..declare.layer import NOISE_FLOOR
from ..plan import steps


@dataclass(frozen=True)
class Panel:
    """What shares one set of charts: rows of `frame.tidy` (named tuples, None where missing) without the noise floor's own."""

    layer: LayerFacts
    axis: str  # the sweep's first dimension
    device: str
    dtype: str
    rest: tuple[tuple[str, int], ...]  # the other dimensions, fixed here
    rows: tuple[Any, ...]

    @property
    def steps(self) -> list[str]:
        return sorted({row.step for row in self.rows}, key=steps.place)

    @property
    def ticks(self) -> list[int]:
        return sorted({row.size[self.axis] for row in self.rows})

    @property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(row.variant for row in self.rows))

    def curve(self, step: str, variant: str) -> dict[int, Any]:
        """Measured rows by their place on the axis."""
        rows = (row for row in self.rows if row.step == step and row.variant == variant and row.outcome == "measured")
        return {row.size[self.axis]: row for row in rows}


def rows(table: pd.DataFrame) -> list[Any]:
    """The rows of a tidy table as named tuples, None for what is missing, the noise floor's own rows left out."""
    shown = table[table.variant != NOISE_FLOOR]
    return list(shown.astype(object).where(shown.notna(), None).itertuples(index=False, name="Row"))


def panels(run: Run, table: pd.DataFrame) -> list[Panel]:
    """Panels in the order of the run's layers, then of first mention."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows(table):
        axis = next(iter(row.size))
        rest = tuple((name, value) for name, value in row.size.items() if name != axis)
        groups.setdefault((row.layer, axis, row.device, row.dtype, rest), []).append(row)
    facts = {layer.name: layer for layer in run.layers}
    return [
        Panel(facts[layer], axis, device, dtype, rest, tuple(members)) for (layer, axis, device, dtype, rest), members in groups.items()
    ]


def by_layer(run: Run, parts: Sequence[Panel]) -> Iterator[tuple[LayerFacts, list[Panel]]]:
    """The layers that have a point in the run, each with its panels."""
    for layer in run.layers:
        if mine := [panel for panel in parts if panel.layer.name == layer.name]:
            yield layer, mine


def sizes(parts: Sequence[Panel]) -> dict[str, dict[str, list[int]]]:
    """Device -> dimension -> the values that were visited there, which the command line may have chosen in place of the declared ones.

    The device is "" where all visited the same.
    """
    seen: dict[str, dict[str, set[int]]] = {}
    for panel in parts:
        for row in panel.rows:
            for dimension, value in row.size.items():
                seen.setdefault(panel.device, {}).setdefault(dimension, set()).add(value)
    first, *others = seen.values()
    shown = seen if any(other != first for other in others) else {"": first}
    return {device: {dimension: sorted(values) for dimension, values in found.items()} for device, found in shown.items()}


def names(run: Run) -> list[str]:
    """Every variant that the run's layers declare, measured or not: a variant's place here fixes its colour."""
    declared: dict[str, None] = {}
    for layer in run.layers:
        declared |= dict.fromkeys(variant.name for variant in layer.variants) | dict.fromkeys(layer.absent)
    return list(declared)
