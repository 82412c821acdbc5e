"""Statistics of samples: pure functions on plain numbers.  Nothing here knows a layer, a clock or a file."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

MINIMUM_FLOOR = 0.01  # two instances of one module in one process differ by about this much
DEVICE_FLOOR = 0.02  # and on a GPU by up to 1.6 %, seen at 8 points of four layers: docs/gpu.md
MAXIMUM_SAME = 0.10  # inside a wider noise floor, nothing is called the same
TRIM = 0.15  # of the rounds on each side stay out of the mean: bursts of other work on the machine
LEVEL = 0.95


class Interval(NamedTuple):
    """A ratio and its confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Relative half width, from the logarithms."""
        return math.sqrt(self.high / self.low) - 1 if self.low > 0 else math.inf


def speedup(reference: Sequence[float], variant: Sequence[float]) -> Interval:
    """How many times faster `variant` is than `reference`: > 1 is faster.

    Sample i of both must come from one round, so that slow drift of the machine cancels.  The estimate is the mean of
    log(reference[i] / variant[i]) without the highest and the lowest 15 %.  Its variance is that of the winsorised logs
    (Yuen, Biometrika 61, 1974), taken at frequency zero, since neighbouring rounds are not independent: the mean square of
    their projections on the first B = 0.3 n^(2/3) cosines, which gives Student's t with B degrees of freedom (Lazarus, Lewis,
    Stock & Watson, J. Business & Economic Statistics 36, 2018).  Fewer than two rounds give an interval without end.
    """
    return _interval(*_mean(np.log(np.asarray(reference, float)) - np.log(np.asarray(variant, float))))


def unpaired_speedup(reference: Sequence[float], variant: Sequence[float]) -> Interval:
    """The same for samples that share no rounds, as when variants were timed one after the other: drift does not cancel, nor is it seen.

    Each side's mean of logs has its own variance; they add up, with the degrees of freedom of Welch (Biometrika 34, 1947).
    """
    (a, error_a, terms_a), (b, error_b, terms_b) = (_mean(np.log(np.asarray(side, float))) for side in (reference, variant))
    error = math.hypot(error_a, error_b)
    known = error > 0 and math.isfinite(error)
    terms = error**4 / (error_a**4 / terms_a + error_b**4 / terms_b) if known else min(terms_a, terms_b)
    return _interval(a - b, error, terms)


def _interval(middle: float, error: float, terms: float) -> Interval:
    """Student's interval of a mean of logs, as a ratio."""
    if math.isinf(error):
        return Interval(math.exp(middle), 0.0, math.inf)
    half = float(stdtrit(terms, 0.5 + LEVEL / 2)) * error
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _mean(logs: "np.ndarray[Any, Any]") -> tuple[float, float, int]:
    """The trimmed mean of a series, its standard error and that error's degrees of freedom; an infinite error for a single number."""
    n = logs.size
    if n < 2:
        return float(logs.mean()), math.inf, 1
    cut = int(TRIM * n)
    kept = np.sort(logs)[cut : n - cut]
    terms = min(n - 1, max(2, round(0.3 * n ** (2 / 3))))
    cosines = np.cos(np.pi * np.outer(np.arange(1, terms + 1), (np.arange(n) + 0.5) / n))
    variance = 2 / n * np.mean((cosines @ np.clip(logs, kept[0], kept[-1])) ** 2)
    error = math.sqrt(variance * (n - 1) / (kept.size * (kept.size - 1)))
    return float(kept.mean()), error, terms


def noise_floor(again: Interval, least: float = MINIMUM_FLOOR) -> float:
    """The relative difference that a second copy of the reference shows at most, never below `least`."""
    return max(least, again.high - 1, 1 / again.low - 1)


def smallest_floor(device: str) -> float:
    return MINIMUM_FLOOR if device == "cpu" else DEVICE_FLOOR


def verdict(interval: Interval, floor: float) -> str:
    """faster | slower: the whole interval lies beyond the noise floor.  same: all of it inside.  unclear: otherwise.

    A floor above 10 % says that the machine was too noisy to call anything the same: inside it is unclear too.
    """
    if interval.low > 1 + floor:
        return "faster"
    if interval.high < 1 / (1 + floor):
        return "slower"
    if floor <= MAXIMUM_SAME and interval.low >= 1 / (1 + floor) and interval.high <= 1 + floor:
        return "same"
    return "unclear"


def geometric_mean(intervals: Sequence[Interval]) -> Interval:
    """Geometric mean of ratios with its interval, taking the errors of the ratios as independent."""
    if not intervals:
        raise ValueError("the geometric mean of no ratio is undefined")
    logs = [math.log(i.ratio) for i in intervals]
    halves = [(math.log(i.high) - math.log(i.low)) / 2 if i.low > 0 and math.isfinite(i.high) else math.inf for i in intervals]
    middle = sum(logs) / len(logs)
    half = math.sqrt(sum(h * h for h in halves)) / len(logs)
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half) if math.isfinite(half) else math.inf)
