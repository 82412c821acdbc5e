"""Seconds, joules and other numbers with a unit, in three significant digits; alike in the terminal and on the page.

What was not measured is None or NaN and becomes the empty string here; a zero is always a measured zero.
"""

import math
from typing import TypeGuard

Units = tuple[tuple[float, str], ...]

_TIME: Units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_ENERGY: Units = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"))


def known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def three(value: float) -> str:
    """Three significant digits without an exponent: 1.23, 12.3, 123, 1230."""
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0"
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def scaled(value: float, units: Units) -> str:
    for scale, unit in units:
        if abs(value) >= 0.9995 * scale:
            return f"{three(value / scale)} {unit}"
    scale, unit = units[-1]
    return f"{three(value / scale)} {unit}"


def seconds(value: float | None) -> str:
    return scaled(value, _TIME) if known(value) else ""


def joules(value: float | None) -> str:
    return scaled(value, _ENERGY) if known(value) else ""
