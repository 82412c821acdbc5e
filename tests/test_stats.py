"""Intervals worked out by hand, and the share of simulated runs whose interval holds the truth."""

import math

import numpy as np
import pytest

from layerbench.bench.stats.estimates import Interval, geometric_mean, noise_floor, speedup, unpaired_speedup, verdict

T1, T2 = 12.706204736, 4.302652730  # Student's t at 97.5 % with 1 and 2 degrees of freedom, from a table


def test_identical_samples_give_a_ratio_without_width() -> None:
    assert speedup([3.0] * 6, [2.0] * 6) == pytest.approx((1.5, 1.5, 1.5), rel=1e-12)


def test_two_rounds_give_students_interval_with_one_degree_of_freedom() -> None:
    # logs 0 and 2: mean 1, standard deviation sqrt(2), error sqrt(2) / sqrt(2) = 1
    assert speedup([1.0, math.e**2], [1.0, 1.0]) == pytest.approx((math.e, math.exp(1 - T1), math.exp(1 + T1)), rel=1e-6)


def test_four_rounds_are_projected_on_two_cosines() -> None:
    # logs 1 -1 -1 1: nothing of the first cosine, 4 sqrt(1/2) of the second; mean square 4, long-run variance 2/4 * 4 = 2,
    # error sqrt(2 * (4 - 1) / (4 * (4 - 1))) = sqrt(1/2)
    half = T2 * math.sqrt(0.5)
    assert speedup([math.e, 1 / math.e, 1 / math.e, math.e], [1.0] * 4) == pytest.approx((1, math.exp(-half), math.exp(half)), rel=1e-6)


def test_drift_from_one_end_to_the_other_widens_the_interval_although_the_spread_is_the_same() -> None:
    shuffled = speedup(np.exp([0.1, -0.1] * 6), [1.0] * 12)
    drifting = speedup(np.exp([0.1] * 6 + [-0.1] * 6), [1.0] * 12)
    assert shuffled.ratio == drifting.ratio == 1.0
    assert drifting.half_width > 5 * shuffled.half_width


def test_the_highest_and_lowest_15_percent_of_the_rounds_stay_out_of_the_mean() -> None:
    calm = [math.exp(0.01 * i) for i in range(20)]
    bursts = [*calm[:17], 90.0, 700.0, 5000.0]  # the highest three of twenty
    assert speedup(bursts, [1.0] * 20) == pytest.approx(speedup(calm, [1.0] * 20), rel=1e-12)
    assert speedup(calm, [1.0] * 20).ratio == pytest.approx(math.exp(0.095), rel=1e-12)  # the mean of 0.03 .. 0.16
    assert speedup([*bursts[:16], 40.0, *bursts[17:]], [1.0] * 20).ratio > math.exp(0.095)  # a fourth is one too many


def test_exchanging_reference_and_variant_inverts_the_interval() -> None:
    dice = np.random.default_rng(3)
    a, b = np.exp(dice.normal(0, 0.1, 30)), np.exp(dice.normal(0.3, 0.1, 30))
    forth, back = speedup(a, b), speedup(b, a)
    assert (1 / back.ratio, 1 / back.high, 1 / back.low) == pytest.approx(forth, rel=1e-12)


def test_one_round_has_a_ratio_but_no_end_to_its_interval() -> None:
    one = speedup([3.0], [2.0])
    assert (one.ratio, one.low, one.high) == (pytest.approx(1.5), 0.0, math.inf)
    assert one.half_width == math.inf
    assert verdict(one, 0.01) == "unclear"


def test_half_width_is_that_of_the_logarithms() -> None:
    assert Interval(1.0, 0.8, 1.25).half_width == pytest.approx(0.25)


def logs(dice: np.random.Generator, rounds: int, rho: float, heavy: bool) -> np.ndarray:
    """2000 runs of `rounds` log ratios whose neighbours correlate by rho; a tenth of the shocks six times as large where heavy."""
    shocks = dice.normal(0, 0.02, (2000, rounds + 20))
    if heavy:
        shocks *= np.where(dice.random(shocks.shape) < 0.1, 6, 1)
    series = [shocks[:, 0]]
    for shock in shocks.T[1:]:
        series.append(rho * series[-1] + shock)
    return np.array(series[20:]).T


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("rounds", [12, 24, 60, 200])
@pytest.mark.parametrize("heavy", [False, True])
def test_about_95_percent_of_the_intervals_hold_the_truth(heavy: bool, rounds: int, rho: float) -> None:
    same = np.ones(rounds)
    runs = np.exp(logs(np.random.default_rng([rounds, round(10 * rho)]), rounds, rho, heavy))
    held = sum(low <= 1 <= high for _, low, high in (speedup(run, same) for run in runs)) / len(runs)
    few = rounds < 60 and rho == 0.6  # a dozen rounds cannot tell how alike neighbours are
    assert (0.91 if few else 0.93) <= held <= 0.97


def test_the_noise_floor_is_how_far_the_second_copy_reaches_from_1() -> None:
    assert noise_floor(Interval(1.0, 0.98, 1.03)) == pytest.approx(0.03)
    assert noise_floor(Interval(1.0, 0.8, 1.03)) == pytest.approx(0.25)
    assert noise_floor(Interval(1.0, 0.999, 1.001)) == 0.01  # two instances differ by that much
    assert noise_floor(Interval(1.05, 1.04, 1.06)) == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("low", "high", "floor", "word"),
    [
        (1.03, 1.10, 0.02, "faster"),
        (1.02, 1.10, 0.02, "unclear"),  # touches the floor
        (0.90, 0.97, 0.02, "slower"),
        (0.90, 0.99, 0.02, "unclear"),
        (0.99, 1.02, 0.02, "same"),
        (0.99, 1.021, 0.02, "unclear"),
        (0.98, 1.00, 0.02, "unclear"),  # 1 / 1.02 is 0.9804
        (0.99, 1.01, 0.10, "same"),
        (0.99, 1.01, 0.11, "unclear"),  # too noisy to call anything the same
        (1.20, 1.30, 0.11, "faster"),
    ],
)
def test_verdicts(low: float, high: float, floor: float, word: str) -> None:
    assert verdict(Interval(math.sqrt(low * high), low, high), floor) == word


def test_the_geometric_mean_adds_errors_as_independent() -> None:
    assert geometric_mean([Interval(1.5, 1.2, 1.875)]) == pytest.approx((1.5, 1.2, 1.875))
    # logs 0 and ln 4, half widths 3 h and 4 h: mean ln 2, half width 5 h / 2
    h = 0.1
    two = [Interval(1.0, math.exp(-3 * h), math.exp(3 * h)), Interval(4.0, 4 * math.exp(-4 * h), 4 * math.exp(4 * h))]
    assert geometric_mean(two) == pytest.approx((2.0, 2 * math.exp(-0.25), 2 * math.exp(0.25)))


def test_the_geometric_mean_with_an_interval_without_end_has_none() -> None:
    mean = geometric_mean([Interval(2.0, 1.9, 2.1), Interval(8.0, 0.0, math.inf)])
    assert (mean.ratio, mean.low, mean.high) == (pytest.approx(4.0), 0.0, math.inf)


def test_the_geometric_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="the geometric mean of no ratio is undefined"):
        geometric_mean([])


def test_unpaired_means_add_their_variances() -> None:
    # either side: the error of four rounds above, sqrt(1/2) of the wobble 0.1, two degrees of freedom each; Welch: four
    up_down = [math.exp(0.1 * sign) for sign in (1, -1, -1, 1)]
    half = 2.776445105 * 0.1
    expected = (2, 2 * math.exp(-half), 2 * math.exp(half))
    assert unpaired_speedup([2 * each for each in up_down], up_down) == pytest.approx(expected, rel=1e-6)
    assert speedup([2 * each for each in up_down], up_down) == pytest.approx((2, 2, 2))


def test_unpaired_samples_may_differ_in_number() -> None:
    assert unpaired_speedup([3.0] * 6, [2.0] * 9) == pytest.approx((1.5, 1.5, 1.5), rel=1e-12)
    one = unpaired_speedup([3.0], [2.0] * 9)
    assert (one.ratio, one.low, one.high) == (pytest.approx(1.5), 0.0, math.inf)
