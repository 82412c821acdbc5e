"""How many digits a change deserves: a percentage with as many as its interval supports.  Numbers in, text out; no words about them.

What was not measured is the empty string, never 0.
"""

import math
from typing import TypeGuard

from ..data.check_record import Estimate


def percent(value: float) -> str:
    """A setting as it was given: 5 %, 0.5 %."""
    return f"{round(100 * value, 3):,.10g} %"


def known(estimate: Estimate | None) -> TypeGuard[Estimate]:
    return estimate is not None and all(map(math.isfinite, (estimate.ratio, estimate.low, estimate.high)))


def change(estimate: Estimate | None) -> str:
    """Against the base, with its interval: +7.9 % (+6.1 to +9.8 %); above 0 is slower."""
    if not known(estimate):
        return ""
    middle, low, high = _percents(estimate, "+")
    return f"{middle} % ({low} to {high} %)"


def slow_down(estimate: Estimate | None) -> tuple[str, str]:
    """The same without plus signs, and in two parts: 7.9 % and 6.1 to 9.8 %."""
    if not known(estimate):
        return "", ""
    middle, low, high = _percents(estimate, "")
    return f"{middle} %", f"{low} to {high} %"


def detectable(estimate: Estimate | None) -> str:
    """The smallest detectable slow-down, in two digits."""
    if estimate is None or not math.isfinite(estimate.detectable) or estimate.detectable <= 0:
        return ""
    value = 100 * estimate.detectable
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f} %"


def _percents(estimate: Estimate, sign: str) -> tuple[str, str, str]:
    places = _places(50 * (estimate.high - estimate.low))
    middle, low, high = (_fixed(100 * (ratio - 1), places, sign) for ratio in (estimate.ratio, estimate.low, estimate.high))
    return middle, low, high


def _places(half_width: float) -> int:
    """Decimals that the interval supports: one or two digits of its half width, by the rule of the Particle Data Group's reviews."""
    if half_width <= 0:
        return 2
    magnitude = math.floor(math.log10(half_width))
    digits = 2 if half_width / 10**magnitude < 3.55 else 1
    return min(2, max(0, digits - 1 - magnitude))


def _fixed(value: float, places: int, sign: str) -> str:
    text = f"{value:{sign}.{places}f}"
    return text if float(text) else text.lstrip("+-")
