"""Whether a benchmark got slower, decided unit by unit with the suite's error under control.  Pure functions on plain numbers.

The sample is the unit: a fresh pair of instances, and now and then a fresh process.  Rounds inside a unit share its luck of memory
placement, so they are no sample of what a user would see.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import polygamma, psi, stdtrit

LOOKS = (4, 6, 8, 12, 16, 24, 32)  # numbers of units at which a benchmark may be decided
ALARMS = 0.05  # false flags of a suite, over all its benchmarks and looks, before they are confirmed
MISSES = 0.01  # slow-downs of just the threshold that are cleared by chance, over all looks
UNRELIABLE = 0.001  # machines that are called unreliable by chance, over both directions of all controls and all looks
CONTROLS = 2  # at most
CONFIRMATIONS = (4, 8, 16)  # numbers of fresh units at which a flag may be confirmed
REMEMBERED = 4.0  # degrees of freedom that the search's spread is worth in the confirmation: the machine may be another by then
CONFIRMED = 0.01  # level of the confirmation, over its looks
LEAST_SPREAD = 0.001  # a unit's difference is never taken to be more exact than this


@dataclass(frozen=True)
class Rule:
    """Slow-downs as ratios less 1: up to `tolerance` is nobody's business, `threshold` must not be missed; for so many benchmarks."""

    threshold: float
    tolerance: float
    benchmarks: int


class Spread(NamedTuple):
    """What is known of a unit's standard deviation before its own benchmark is looked at: as many degrees of freedom as that is worth."""

    deviation: float
    freedom: float


class Mean(NamedTuple):
    """The mean of a benchmark's differences, its standard error, and that error's degrees of freedom."""

    value: float
    error: float
    freedom: float


def pooled(samples: Sequence[Sequence[float]]) -> Spread:
    """The spread that the benchmarks of a suite have in common, and how far each may be expected to be from it.

    Empirical Bayes on the log variances (Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004): their scatter beyond
    what sampling explains says how different benchmarks are.  Unequal numbers of units enter by their own digamma terms.
    """
    varied = [(float(np.var(sample, ddof=1)), len(sample) - 1) for sample in samples if len(sample) > 1]
    if len(varied) < 2:
        return Spread(LEAST_SPREAD, 0.0)
    halves = np.array([freedom / 2 for _, freedom in varied])
    logs = np.log(np.maximum([variance for variance, _ in varied], LEAST_SPREAD**2)) - psi(halves) + np.log(halves)
    excess = float(np.var(logs, ddof=1) - np.mean(polygamma(1, halves)))
    middle = float(np.mean(logs))
    known = float(2 * halves.sum())  # it is no more certain than what it was taken from
    if excess <= 0:
        return Spread(math.exp(middle / 2), known)
    half = _trigamma_inverse(excess)
    return Spread(math.exp((middle + float(psi(half)) - math.log(half)) / 2), min(known, 2 * half))


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value, by Newton's iteration on its reciprocal (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x


def mean(differences: Sequence[float], spread: Spread) -> Mean:
    """Mean of a benchmark's units; its variance moderated: its own and the suite's, weighted by their degrees of freedom."""
    n = len(differences)
    own, freedom = (float(np.var(differences, ddof=1)), n - 1) if n > 1 else (0.0, 0)
    total = freedom + spread.freedom
    if total == 0:
        return Mean(float(np.mean(differences)), math.inf, 1)
    variance = (freedom * own + spread.freedom * spread.deviation**2) / total
    return Mean(float(np.mean(differences)), max(LEAST_SPREAD, math.sqrt(variance)) / math.sqrt(n), total)


def decide(found: Mean, rule: Rule) -> str:
    """At one look: slower (to be confirmed) | faster | clear | undecided."""
    level = ALARMS / (rule.benchmarks * len(LOOKS))
    if found.value - _t(1 - level, found) * found.error > math.log1p(rule.tolerance):
        return "slower"
    if found.value + _t(1 - level, found) * found.error < -math.log1p(rule.tolerance):
        return "faster"
    if found.value + _t(1 - MISSES / len(LOOKS), found) * found.error < math.log1p(rule.threshold):
        return "clear"
    return "undecided"


def confirmed(found: Mean, rule: Rule) -> bool:
    """Whether fresh units, judged on their own, say again that it is slower."""
    return found.value - _t(1 - CONFIRMED / len(CONFIRMATIONS), found) * found.error > math.log1p(rule.tolerance)


def afterwards(spread: Spread) -> Spread:
    """What the search's spread says of the confirmation's units."""
    return Spread(spread.deviation, min(spread.freedom, REMEMBERED))


def alarm(found: Mean, rule: Rule) -> bool:
    """Whether the base differs from itself, in either direction, by more than the tolerance: then the machine is not to be believed."""
    level = UNRELIABLE / (2 * CONTROLS * len(LOOKS))
    return abs(found.value) - _t(1 - level, found) * found.error > math.log1p(rule.tolerance)


def interval(found: Mean, level: float = 0.95) -> tuple[float, float, float]:
    """Ratio of head's time to base's, with its two-sided interval."""
    half = _t(0.5 + level / 2, found) * found.error
    return math.exp(found.value), math.exp(found.value - half), math.exp(found.value + half) if half < 700 else math.inf


def detectable(found: Mean, rule: Rule, power: float = 0.95) -> float:
    """The smallest slow-down, as a ratio less 1, that so many units of that spread flag with this probability."""
    level = ALARMS / (rule.benchmarks * len(LOOKS))
    return math.expm1(math.log1p(rule.tolerance) + (_t(1 - level, found) + _t(power, found)) * found.error)


def _t(quantile: float, found: Mean) -> float:
    return float(stdtrit(min(found.freedom, 1e6), quantile))
