"""Where a variant is bound by its launches on an accelerator: the host needs longer to issue a step than the device to run it."""

from dataclasses import dataclass

import pandas as pd

from ..declare.layer import NOISE_FLOOR


@dataclass(frozen=True)
class Bound:
    """One variant over the sizes of one layer, step and dtype on a device.  Sizes are in the order of the run."""

    layer: str
    step: str
    device: str
    dtype: str
    variant: str
    bound: tuple[str, ...]  # sizes at which it is bound by launches
    free: tuple[str, ...]  # and at which it is not
    speedup: float  # on the device, where it is bound and differs most; NaN for the reference
    called_speedup: float  # the same as called
    issuing: float  # seconds there
    seconds: float  # of the device there


def bounds(table: pd.DataFrame) -> list[Bound]:
    """One per variant that is bound by launches at some size.  Empty where nothing ran on an accelerator."""
    timed = table[(table.outcome == "measured") & table.issuing.notna() & (table.variant != NOISE_FLOOR)]
    found = []
    for _, group in timed.groupby(["layer", "step", "device", "dtype", "variant"], sort=False):
        is_bound = group.issuing > group.seconds
        if not is_bound.any():
            continue
        last = group[is_bound].iloc[-1]
        sizes = [_shown(size, group) for size in group["size"]]
        bound = tuple(size for size, yes in zip(sizes, is_bound, strict=True) if yes)
        free = tuple(size for size, yes in zip(sizes, is_bound, strict=True) if not yes)
        layer, step, device, dtype, variant = (str(last[name]) for name in ("layer", "step", "device", "dtype", "variant"))
        ratios = last.speedup, last.called_speedup
        found.append(Bound(layer, step, device, dtype, variant, bound, free, *ratios, last.issuing, last.seconds))
    return found


def contradictions(table: pd.DataFrame) -> list[Bound]:
    """Who is faster on the device and slower as called, or the other way round, as nobody expects."""
    return [each for each in bounds(table) if (each.speedup - 1) * (each.called_speedup - 1) < 0]


def _shown(size: dict[str, int], group: pd.DataFrame) -> str:
    """The dimensions that differ within the group; all, where none does."""
    differ = [name for name in size if group["size"].map(lambda other, name=name: other.get(name)).nunique() > 1]
    return " ".join(f"{name}={size[name]}" for name in differ or size)
