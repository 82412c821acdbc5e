"""Rules that decide whether the head is slower: those of other tools, from what they document and do.  Plain functions, no study.

Samples are seconds per call of one side, in their order in time.  Each rule says "slower" or not; what a tool does with it is its matter.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu, ttest_ind

Samples = Sequence[float]


class Side(NamedTuple):
    """What a tool that measures one side after the other has of a side: of every block of calls the mean, the median and the least."""

    mean: Samples
    median: Samples
    min: Samples


STATISTICS: Mapping[str, Callable[[Side], float]] = {
    "mean": lambda side: statistics.fmean(side.mean),
    "median": lambda side: statistics.median(side.median),
    "min": lambda side: min(side.min),
}


def compare_fail(name: str, percent: float) -> Callable[[Side, Side], bool]:
    """pytest-benchmark --benchmark-compare-fail=NAME:PERCENT%: the statistic rose by more than that."""
    return lambda base, head: 100 * (STATISTICS[name](head) / STATISTICS[name](base) - 1) > percent


def asv_continuous(base: Samples, head: Samples, factor: float = 1.1) -> bool:
    """asv continuous: the median is `factor` times as high, and a Mann-Whitney U test of the samples has p < 0.002."""
    higher = statistics.median(head) > factor * statistics.median(base)
    return higher and float(mannwhitneyu(base, head, alternative="two-sided").pvalue) < 0.002


def criterion_like(base: Samples, head: Samples, noise: float = 0.01, resamples: int = 2000) -> bool:
    """As criterion.rs judges 100 samples a side: a t test has p < 0.05, and the bootstrapped 95 % interval of the change of the mean lies
    above its noise threshold of 1 %."""
    if float(ttest_ind(base, head, equal_var=False).pvalue) >= 0.05:
        return False
    dice = np.random.default_rng(0)
    means = [np.asarray(side)[dice.integers(len(side), size=(resamples, len(side)))].mean(axis=1) for side in (base, head)]
    return float(np.quantile(means[1] / means[0], 0.025)) > 1 + noise


def u_test(base: Samples, head: Samples) -> bool:
    """Mann-Whitney U at p < 0.05, and the higher median."""
    higher = statistics.median(head) > statistics.median(base)
    return higher and float(mannwhitneyu(base, head, alternative="two-sided").pvalue) < 0.05


def condensed(samples: Samples, number: int) -> list[float]:
    """So many means of neighbouring samples, for a tool whose samples are longer."""
    return [float(part.mean()) for part in np.array_split(np.asarray(samples), number)]
