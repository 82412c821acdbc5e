"""The sequential test by hand, and simulated: how often it cries wolf, and how often it misses."""

import math

import numpy as np
import pytest

from layerbench.bench.stats import sequential
from layerbench.bench.stats.sequential import CONFIRMATIONS, LOOKS, Mean, Rule, Spread

RULE = Rule(threshold=0.05, tolerance=0.005, benchmarks=12)


def test_the_mean_of_units_has_a_variance_between_its_own_and_the_suites() -> None:
    # own variance 2e-4 with one degree of freedom, the suite's 4e-4 with three: (2e-4 + 3 x 4e-4) / 4 = 3.5e-4, of two units
    assert sequential.mean([0.01, 0.03], Spread(0.02, 3)) == pytest.approx((0.02, math.sqrt(3.5e-4 / 2), 4))


def test_units_that_agree_by_chance_are_not_taken_to_be_exact() -> None:
    assert sequential.mean([0.01] * 4, Spread(0.02, 0.0)) == pytest.approx((0.01, 0.001 / 2, 3))


def test_where_all_benchmarks_spread_alike_the_suites_spread_is_worth_all_that_it_was_taken_from() -> None:
    same = [[0.01, -0.01, 0.01, -0.01]] * 5
    deviation, freedom = sequential.pooled(same)
    # the logarithm of a sample variance is low on average: by psi(3/2) - ln(3/2) at three degrees of freedom
    assert deviation == pytest.approx(math.sqrt(4e-4 / 3) * math.exp(-(0.0364899740 - math.log(1.5)) / 2), rel=1e-6)
    assert freedom == 15
    mean = sequential.mean(same[0], Spread(deviation, freedom))
    variance = (3 * 4e-4 / 3 + 15 * deviation**2) / 18
    assert (mean.error, mean.freedom) == pytest.approx((math.sqrt(variance) / 2, 18))


def test_one_benchmark_alone_has_nothing_to_lean_on() -> None:
    assert sequential.pooled([[0.01, 0.02, 0.03, 0.04]]).freedom == 0
    assert sequential.pooled([]).freedom == 0


def test_the_suites_spread_is_recovered_from_benchmarks_that_differ() -> None:
    dice = np.random.default_rng(5)
    deviations = 0.01 * np.sqrt(8 / dice.chisquare(8, 2000))  # eight degrees of freedom are what the suite is worth
    deviation, freedom = sequential.pooled([list(dice.normal(0, each, 6)) for each in deviations])
    assert deviation == pytest.approx(0.01, rel=0.03)
    assert freedom == pytest.approx(8, rel=0.25)


@pytest.mark.parametrize(
    ("value", "error", "word"),
    [
        (0.050, 0.005, "slower"),
        (0.022, 0.005, "slower"),  # 0.022 - 3.24 x 0.005 = 0.0058 is above log 1.005; 3.24: normal quantile at 1 - 0.05 / 84
        (0.020, 0.005, "clear"),  # 0.0038 is not, and 0.020 + 2.98 x 0.005 = 0.0349 is below log 1.05; 2.98: at 1 - 0.01 / 7
        (-0.05, 0.005, "faster"),
        (0.000, 0.005, "clear"),
        (0.000, 0.018, "undecided"),
        (0.040, 0.012, "undecided"),
    ],
)
def test_decisions_of_one_look(value: float, error: float, word: str) -> None:
    assert sequential.decide(Mean(value, error, math.inf), RULE) == word


def test_an_alarm_of_the_control_goes_either_way() -> None:
    assert sequential.alarm(Mean(0.05, 0.005, math.inf), RULE)
    assert sequential.alarm(Mean(-0.05, 0.005, math.inf), RULE)
    assert not sequential.alarm(Mean(0.024, 0.005, math.inf), RULE)  # 4.0 errors beyond are needed: normal quantile at 1 - 0.001 / 28
    assert sequential.alarm(Mean(0.026, 0.005, math.inf), RULE)


def test_the_interval_is_students() -> None:
    ratio, low, high = sequential.interval(Mean(math.log(1.02), 0.01, 4))
    half = 2.776445105 * 0.01
    assert (ratio, low, high) == pytest.approx((1.02, 1.02 * math.exp(-half), 1.02 * math.exp(half)))


def test_the_smallest_detectable_slow_down_is_flagged_95_times_in_100() -> None:
    dice = np.random.default_rng(3)
    effect = sequential.detectable(Mean(0.0, 0.005, math.inf), RULE)
    means = dice.normal(math.log1p(effect), 0.005, 4000)
    flagged = sum(sequential.decide(Mean(float(mean), 0.005, math.inf), RULE) == "slower" for mean in means)
    assert flagged / 4000 == pytest.approx(0.95, abs=0.01)


def suite(dice: np.random.Generator, effect: float, benchmarks: int = 12) -> list[str]:
    """What a suite comes to whose units spread by 0.4 to 3 %, with two controls; flags are confirmed with new units."""
    rule = Rule(0.05, 0.005, benchmarks)
    deviations = np.exp(dice.uniform(math.log(0.004), math.log(0.03), benchmarks + 2))
    units = dice.normal(0, deviations[:, None], (benchmarks + 2, LOOKS[-1]))
    units[:benchmarks] += math.log1p(effect)
    verdicts = ["undecided"] * benchmarks
    taken = [0] * benchmarks
    for look in LOOKS:
        if "undecided" not in verdicts:
            break
        taken = [look if verdict == "undecided" else n for verdict, n in zip(verdicts, taken, strict=True)]
        spread = sequential.pooled([list(row[:n]) for row, n in zip(units, (*taken, look, look), strict=True)])
        for place, row in enumerate(units[:benchmarks]):
            if verdicts[place] == "undecided":
                verdicts[place] = sequential.decide(sequential.mean(list(row[:look]), spread), rule)
    for place in [place for place, verdict in enumerate(verdicts) if verdict == "slower"]:
        new = list(dice.normal(math.log1p(effect), deviations[place], CONFIRMATIONS[-1]))
        sure = any(sequential.confirmed(sequential.mean(new[:look], sequential.afterwards(spread)), rule) for look in CONFIRMATIONS)
        verdicts[place] = "slower" if sure else "unconfirmed"
    return verdicts


def test_without_a_change_no_suite_of_400_fails_and_few_are_even_flagged() -> None:
    dice = np.random.default_rng(1)
    suites = [suite(dice, 0.0) for _ in range(400)]
    assert sum("slower" in verdicts for verdicts in suites) == 0
    assert sum("unconfirmed" in verdicts for verdicts in suites) <= 0.05 * 400
    assert sum(verdict in ("clear", "faster") for verdicts in suites for verdict in verdicts) >= 0.99 * 4800


def test_a_slow_down_of_the_threshold_is_found_99_times_in_100_and_of_twice_that_always() -> None:
    dice = np.random.default_rng(2)
    found = [verdict for _ in range(100) for verdict in suite(dice, 0.05)]
    assert found.count("slower") >= 0.99 * len(found)
    found = [verdict for _ in range(50) for verdict in suite(dice, 0.10)]
    assert set(found) == {"slower"}


def test_a_suite_of_one_benchmark_with_two_controls_is_wrong_no_more_often() -> None:
    dice = np.random.default_rng(4)
    assert sum("slower" in suite(dice, 0.0, 1) for _ in range(2000)) == 0
    found = [verdict for _ in range(2000) for verdict in suite(dice, 0.05, 1)]
    assert found.count("clear") + found.count("faster") <= 0.01 * len(found)
    assert found.count("slower") >= 0.96 * len(found)
