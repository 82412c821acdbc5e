"""Where a device begins to beat the CPU, when a run has both at the same sizes.  From medians of the fastest; no interval is claimed."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from ..declare.layer import NOISE_FLOOR

Key = tuple[str, str, str, tuple[tuple[str, int], ...]]  # layer, step, dtype, the dimensions beside the axis


@dataclass(frozen=True)
class Crossing:
    """One layer, step, dtype and choice of the dimensions beside the axis, on the CPU and on another device."""

    layer: str
    where: str  # the dtype, those dimensions and the step, in words
    device: str
    axis: str  # the sweep's first dimension
    gains: dict[int, float]  # size along the axis, ascending -> time on the CPU by time on the device, both of the fastest variant there

    def sentence(self, times: Callable[[float], str]) -> str:
        """times: how a gain is written."""
        pair, places = f"the fastest variant on {self.device} against the fastest on cpu", list(self.gains)
        ahead, last = [place for place, gain in self.gains.items() if gain > 1], places[-1]
        if not ahead:
            return f"{self.where}: {pair} is slower at every {self.axis} that both have."
        if ahead == places:
            return f"{self.where}: {pair} is faster at every {self.axis} that both have; {times(self.gains[last])} at {last}."
        if ahead == places[-len(ahead) :]:
            return f"{self.where}: {pair} is faster from {self.axis} {ahead[0]} up; {times(self.gains[last])} at {last}."
        return f"{self.where}: {pair} is faster at {self.axis} {', '.join(map(str, ahead))} only."


def crossings(table: pd.DataFrame) -> list[Crossing]:
    """One for each layer, dtype, choice of other dimensions and step at which the CPU and another device share a size.  table: frame's."""
    best: dict[Key, dict[str, dict[int, float]]] = {}
    axes: dict[str, str] = {}
    for row in table[(table.outcome == "measured") & (table.variant != NOISE_FLOOR)].itertuples():
        (axis, place), *rest = row.size.items()
        axes[row.layer] = axis
        known = best.setdefault((row.layer, row.step, row.dtype, tuple(rest)), {}).setdefault(row.device, {})
        known[place] = min(row.seconds, known.get(place, row.seconds))
    found = []
    for (layer, step, dtype, rest), devices in best.items():
        host = devices.get("cpu", {})
        where = ", ".join([dtype, *(f"{name} {value}" for name, value in rest), step])
        for device, seconds in devices.items():
            gains = {place: host[place] / seconds[place] for place in sorted(host.keys() & seconds.keys())}
            if device != "cpu" and gains:
                found.append(Crossing(layer, where, device, axes[layer], gains))
    return found
