"""The measuring loop under the fake clock: rounds, order, block sizes and the reason for stopping, to the digit."""

import gc
from collections import Counter

import numpy as np
import pytest

from layerbench.bench.stats import estimates
from layerbench.bench.timing.clock import BLOCK_SECONDS, Call, FakeClock, HostClock
from layerbench.bench.timing.measure import Limit, measure, measure_in_turn


def calls(*names: str) -> dict[str, Call]:
    return {name: Call(name, None, lambda _: None) for name in names}


COST = {"stock": 1e-3, "fast": 0.25e-3, "noise_floor": 1e-3}


def steady(variant: str, number: int) -> float:
    return COST[variant]


def test_exact_times_stop_by_precision_after_four_times_the_first_look() -> None:
    timings = measure(calls("stock", "fast", "noise_floor"), "stock", FakeClock(steady), Limit(seconds=100))
    assert {name: timing.calls_per_sample for name, timing in timings.items()} == {"stock": 2, "fast": 8, "noise_floor": 2}
    assert all(timing.stopped == "precision" and len(timing.seconds) == 48 for timing in timings.values())
    assert timings["fast"].seconds == pytest.approx([0.25e-3] * 48)
    ratio = estimates.speedup(timings["stock"].seconds, timings["fast"].seconds)
    assert (ratio.ratio, ratio.low, ratio.high) == pytest.approx((4, 4, 4))


def test_every_round_times_each_variant_once_in_an_order_that_changes() -> None:
    timings = measure(calls("stock", "fast", "noise_floor"), "stock", FakeClock(steady), Limit(seconds=100))
    places = sorted((place, name) for name, timing in timings.items() for place in timing.order)
    assert [place for place, _ in places] == list(range(144))
    rounds = [tuple(name for _, name in places[start : start + 3]) for start in range(0, 144, 3)]
    assert all(set(each) == set(timings) for each in rounds)
    assert len(Counter(rounds)) >= 4


def test_the_time_is_up_after_the_round_that_spends_it() -> None:
    # blocks: stock 2 x 1 ms, fast 8 x 0.25 ms: 4 ms a round, after 3 ms for finding the block sizes
    jitter = {"stock": 1e-3, "fast": 0.25e-3}

    def noisy(variant: str, number: int) -> float:
        return jitter[variant] * (1 + 0.5 * (number // 8 % 2))

    timings = measure(calls("stock", "fast"), "stock", FakeClock(noisy), Limit(seconds=0.2))
    assert timings["stock"].stopped == "budget"
    assert len(timings["stock"].seconds) == len(timings["fast"].seconds) < 60


def test_a_run_that_stops_by_precision_holds_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping at the first narrow interval would make it 90 %."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # 600 times over all that the other tests hold
    dice = np.random.default_rng(11)
    held = rounds = 0
    for _ in range(600):
        noise = {"stock": np.exp(dice.normal(0, 0.03, 2000)), "same": np.exp(dice.normal(0, 0.03, 2000))}
        clock = FakeClock(lambda variant, number, noise=noise: BLOCK_SECONDS * float(noise[variant][number]))
        timings = measure(calls("stock", "same"), "stock", clock, Limit(seconds=100))
        interval = estimates.speedup(timings["stock"].seconds, timings["same"].seconds)
        assert timings["stock"].stopped == "precision"
        held += interval.low <= 1 <= interval.high
        rounds += len(timings["stock"].seconds)
    assert 0.93 <= held / 600 <= 0.97
    assert 80 <= rounds / 600 <= 200


def test_a_slow_call_still_gets_the_rounds_that_an_interval_needs() -> None:
    timings = measure(calls("stock", "fast"), "stock", FakeClock(lambda variant, number: 5.0), Limit(seconds=1))
    assert timings["stock"].seconds == (5.0,) * 6
    assert (timings["stock"].calls_per_sample, timings["stock"].stopped) == (1, "budget")


def test_an_untimed_call_comes_before_every_block() -> None:
    made: list[str] = []
    watched = {name: Call(name, None, lambda _, name=name: made.append(name)) for name in ("stock", "fast")}
    timings = measure(watched, "stock", FakeClock(lambda variant, number: BLOCK_SECONDS), Limit(seconds=1e-9))
    rounds = len(timings["stock"].seconds)
    # finding the block size takes one untimed call and one timed; then each sample is one untimed and one timed
    assert Counter(made) == {"stock": 2 + 2 * rounds, "fast": 2 + 2 * rounds}


def test_the_host_clock_leaves_set_up_outside() -> None:
    now = iter(range(1000))
    ticks: list[int] = []
    clock = HostClock()
    call = Call("stock", lambda: ticks.append(next(now)), lambda _: None)
    seconds = clock.time(call, 3)
    assert len(ticks) == 3
    assert 0 <= seconds < 1


def test_in_turn_every_variant_has_its_share_of_the_time_and_its_samples_follow_one_another() -> None:
    # blocks of 2 ms after 1 ms (stock) or 1.75 ms (fast) for finding their size: the 50th begins before the 100 ms are over
    entered: list[str] = []
    timings = measure_in_turn(calls("stock", "fast"), FakeClock(steady), Limit(seconds=0.2), entered.append)
    stock, fast = timings["stock"], timings["fast"]
    assert {timing.stopped for timing in timings.values()} == {"budget"}
    assert stock.seconds == pytest.approx([1e-3] * 50) and fast.seconds == pytest.approx([0.25e-3] * 50)
    assert (stock.order, fast.order) == (tuple(range(50)), tuple(range(50, 100)))
    assert entered == ["stock"] * 51 + ["fast"] * 51
