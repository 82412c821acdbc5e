"""Durations as typed, and how a total is spread: by a clock that a test moves."""

import pytest

from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.plan.budget import Budget, parse


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0  # not zero: only differences count

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("1h", 3600.0), ("0.5m", 30.0), ("1.5s", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 minutes", "soon", "-5m", "0", "nan", "inf", "1e999h", "5d"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse(text)
    assert str(caught.value) == f"--budget {text}: not a duration; write for example 90s, 5m or 1h"


@pytest.mark.parametrize("text", ["5", "12.5", "300"])
def test_a_number_without_a_unit_is_asked_for_it(text: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse(text)
    assert str(caught.value) == f"--budget {text}: seconds, minutes or hours?  Write {text}s, {text}m or {text}h"


def spend(budget: Budget, now: Clock, timed: float, beside: float) -> None:
    """The point in hand was timed for so long, and took so much beside it."""
    now.seconds += timed + beside
    budget.timed(timed)


def test_the_first_points_share_is_what_remains_after_the_guessed_overhead() -> None:
    assert Budget(120.0, Clock()).seconds(10) == 120 / 10 - 5.0
    assert Budget(120.0, Clock(), guess=8.0).seconds(10) == 120 / 10 - 8.0  # where more is done beside the timing


def test_overhead_is_what_points_took_beside_their_timing() -> None:
    now = Clock()
    budget = Budget(100.0, now)
    assert budget.seconds(10) == 5.0  # 100 / 10 - the guess of 5
    spend(budget, now, 5.0, 20.0)  # 20 beside its timing: the first point starts everything, and is left out
    assert budget.seconds(9) == pytest.approx(75 / 9 - 5, abs=1e-12)
    spend(budget, now, 75 / 9 - 5, 2.0)  # 2 beside it: with the first guess 3.5 a point on average
    assert budget.seconds(8) == pytest.approx((75 - 75 / 9 + 5 - 2) / 8 - 3.5, abs=1e-12)


def test_half_of_what_was_saved_is_the_next_ones_beyond_its_share() -> None:
    now = Clock()
    budget = Budget(100.0, now)
    assert budget.seconds(10) == 5.0
    spend(budget, now, 1.0, 5.0)  # precise after 1 of its 5: 4 are saved
    assert budget.seconds(9) == pytest.approx((94 - 45 - 4) / 9 + 2, abs=1e-12)  # its share is the 5 of before
    spend(budget, now, 7.0, 5.0)  # uncertain: it used the 2 as well
    assert budget.seconds(8) == pytest.approx(5 + 1, abs=1e-12)  # half of the 2 that are left
    spend(budget, now, 0.5, 5.0)
    assert budget.seconds(7) == pytest.approx(5 + (2 + 4.5) / 2, abs=1e-12)


def test_an_uncertain_point_gets_more_than_a_certain_one_and_all_end_in_time() -> None:
    now = Clock()
    budget = Budget(240.0, now)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for left in range(24, 0, -1):
        granted, uncertain = budget.seconds(left), left % 3 == 0
        timed = granted if uncertain else min(granted, 0.6)
        spend(budget, now, timed, 4.0)
        taken[uncertain].append(timed)
    assert sum(taken[True]) / len(taken[True]) > 9 > 5.3 > sum(taken[False]) / len(taken[False])
    assert now.seconds - 1000 <= 240


def test_a_share_is_never_below_the_shortest_nor_above_the_longest() -> None:
    now = Clock()
    assert Budget(10.0, now).seconds(1000) == 0.4
    assert Budget(3600.0, now).seconds(2) == 10.0
    late = Budget(10.0, now)
    now.seconds += 50.0  # the budget is gone, but every point is still measured
    assert late.seconds(3) == 0.4


def test_a_run_ends_in_time() -> None:
    now = Clock()
    budget = Budget(240.0, now)
    for left in range(40, 0, -1):
        spend(budget, now, budget.seconds(left), 1.5)  # each point costs 1.5 s beside its timing
    assert now.seconds - 1000 == pytest.approx(240, abs=2)
