"""The clock of an accelerator on an emulated one: each test shows a mistake that would be seen, and the figure that is right."""

import math

import emulated
import pytest
from emulated import COMMAND, EVENT, Device, step

from layerbench.bench.timing import device_clock
from layerbench.bench.timing.clock import Call, Sample
from layerbench.bench.timing.device_clock import HOST_LATE, THROTTLED, WAITS, DeviceClock
from layerbench.bench.timing.measure import Limit, measure


def sampled(device: Device, call: Call, calls: int = 4):  # type: ignore[no-untyped-def]
    clock = DeviceClock(device)
    clock.warm([call])
    return clock.sample(call, calls)


def about(seconds: float) -> object:
    return pytest.approx(seconds, rel=0.02, abs=2 * EVENT)


def test_launches_are_not_counted_as_the_devices_time() -> None:
    """Five microseconds of work behind 200 of launches: the device needs five."""
    device = Device()
    seen = sampled(device, step(device, "triton", 5e-6, 200e-6, kernels=4))
    assert seen.seconds == about(5e-6)
    assert seen.issuing == about(200e-6 + 4 * COMMAND)
    assert seen.called == pytest.approx(208e-6, rel=0.1)
    assert not seen.exposed


def test_what_is_bound_by_the_device_is_as_called_what_the_device_needs_with_a_warm_cache() -> None:
    device = Device()
    seen = sampled(device, step(device, "large", 4e-3, 50e-6))
    assert seen.seconds == about(4e-3)
    assert seen.called == pytest.approx(emulated.WARM_CACHE * 4e-3, rel=0.02)


def test_the_flush_is_before_the_sample_and_its_cache_is_cold() -> None:
    """Neither its 80 us are in the sample, nor does the step find its inputs in the cache."""
    device = Device()
    assert sampled(device, step(device, "stock", 20e-6, 10e-6)).seconds == about(20e-6)


def test_a_spin_that_is_too_short_is_noticed_and_made_longer() -> None:
    """The host needs ten times as long from the moment on that the clock has looked."""
    device = Device()
    late = {"factor": 1.0}

    def run(_: object) -> None:
        device.kernel(5e-6, 40e-6 * late["factor"])
        device.cold = True
        device.kernel(5e-6, 40e-6 * late["factor"])

    call = Call("stock", None, run)
    clock = DeviceClock(device)
    clock.warm([call])
    late["factor"] = 10.0
    seen = clock.sample(call, 4)
    assert seen.seconds == about(10e-6)
    assert seen.discarded == (HOST_LATE,)
    assert clock.sample(call, 4).discarded == ()


def test_a_step_that_waits_for_the_device_is_said_to_be_exposed() -> None:
    device = Device()
    call = step(device, "stock", 5e-6, 40e-6, waits=True)
    seen = sampled(device, call)
    assert seen.exposed == WAITS
    before = device.time
    DeviceClock(device)
    assert device.time - before < device_clock.LONGEST_SPIN


def test_a_step_that_fills_the_queue_is_said_to_be_exposed() -> None:
    device = Device(queue=100)
    assert sampled(device, step(device, "function", 1e-3, 2e-3, kernels=400)).exposed == WAITS


def test_a_sample_of_a_device_that_was_slowed_down_is_taken_again() -> None:
    """It is too hot for a while, and twice as slow."""
    device = Device()
    call = step(device, "stock", 500e-6, 20e-6)
    clock = DeviceClock(device)
    clock.warm([call])
    hot = device.time + 1e-3
    device.slow = lambda now: (2.0, "too hot (hardware)") if now < hot else (1.0, "")
    seen = clock.sample(call, 4)
    assert seen.seconds == about(500e-6)
    assert set(seen.discarded) == {THROTTLED}
    assert seen.mhz == 1980


def test_a_device_that_stays_slow_is_measured_all_the_same_and_counted() -> None:
    device = Device(slow=lambda now: (2.0, "power brake"))
    seen = sampled(device, step(device, "stock", 500e-6, 20e-6))
    assert seen.seconds == about(1e-3)
    assert seen.discarded == (THROTTLED,) * (device_clock.TRIES - 1)
    assert seen.mhz == 990


def test_it_is_warmed_up_by_time_and_until_its_speed_is_steady() -> None:
    """A device that raises its clock for 300 ms."""
    device = Device(slow=lambda now: (1 + max(0.0, 0.3 - now) * 5, ""))
    call = step(device, "stock", 500e-6, 20e-6)
    clock = DeviceClock(device)
    clock.warm([call])
    assert device.time >= device_clock.WARM_SECONDS
    assert clock.sample(call, 4).seconds == pytest.approx(500e-6, rel=0.25)


@pytest.mark.parametrize(("pause", "again"), [(0.01, False), (0.5, True)])
def test_it_is_warmed_up_by_time_again_where_it_was_idle(pause: float, again: bool) -> None:
    device = Device()
    call, clock = step(device, "stock", 500e-6, 20e-6), DeviceClock(device)
    clock.warm([call])
    device.time = began = device.time + pause
    clock.warm([call])
    assert (device.time - began >= device_clock.WARM_SECONDS) == again


def test_a_broken_device_raises_and_gives_no_number() -> None:
    device = Device()

    def run(_: object) -> None:
        device.kernel(5e-6, 10e-6)
        device.broken = True

    with pytest.raises(emulated.Broken, match="illegal memory access"):
        sampled(device, Call("stock", None, run))


def test_backward_as_called_sets_up_ahead_and_no_more_than_memory_has_room_for() -> None:
    """A graph for every call of the loop, made before it: its cost is not in the figure, its memory is kept in bounds."""
    device = Device(bytes_free=2**20)
    alive = []

    def setup() -> object:
        device.kernel(300e-6, 300e-6)
        device.bytes += 2**16
        alive.append(device.bytes)
        return "graph"

    def backward(graph: object) -> None:
        assert graph == "graph"
        device.kernel(20e-6, 30e-6)
        device.bytes -= 2**16

    cleared: list[float] = []
    call = Call("stock", setup, backward, lambda: cleared.append(device.time))
    seen = sampled(device, call)
    assert seen.called == pytest.approx(30e-6 + COMMAND, rel=0.3)
    assert max(alive) == 4 * 2**16  # a quarter of what is free
    assert len(cleared) == 4


def test_a_compilation_inside_a_sample_does_not_reach_the_figure() -> None:
    """A step that compiles once, for half a second, while its block is taken: the spin was too short, so the block does not count."""
    device = Device()
    todo = [0.0]

    def run(_: object) -> None:
        device.kernel(5e-6, 10e-6 + (todo.pop() if todo else 0.0))

    call = Call("compile", None, run)
    clock = DeviceClock(device)
    clock.warm([call])
    todo.append(0.5)
    seen = clock.sample(call, 4)
    assert seen.seconds == about(5e-6)
    assert seen.discarded == (HOST_LATE,)


def test_a_measured_point_has_both_times_and_ranks_by_the_devices() -> None:
    device = Device()
    calls = {"stock": step(device, "stock", 20e-6, 30e-6), "triton": step(device, "triton", 10e-6, 200e-6, kernels=2)}
    found = measure(calls, "stock", DeviceClock(device), Limit(2.0))
    stock, triton = found["stock"], found["triton"]
    assert (stock.clock, stock.stopped) == ("device", "precision")
    assert triton.device and stock.device
    assert triton.seconds[0] < stock.seconds[0]
    assert triton.device.called[0] > stock.device.called[0]
    assert len(triton.device.issuing) == len(triton.device.called) == len(triton.seconds) == len(triton.device.mhz)
    assert all(map(math.isfinite, triton.device.called))


class Limited:
    """A device's clock that finds the power limit after every third sample."""

    name = "device"

    def __init__(self) -> None:
        self.samples = 0.0

    def now(self) -> float:
        return self.samples

    def held(self) -> float:
        return self.now()

    def warm(self, calls: object) -> None:
        """It is."""

    def block(self, call: Call) -> int:
        return 1

    def time(self, call: Call, calls: int) -> float:
        return 1e-3

    def sample(self, call: Call, calls: int) -> Sample:
        self.samples += 1
        return Sample(1e-3, 1e-5, 1e-3, mhz=1470, power_limited=self.samples % 3 == 0)


def test_samples_under_the_power_limit_are_counted_and_stay() -> None:
    device = Device()
    timing = measure({"stock": step(device, "stock", 1e-3, 1e-5)}, "stock", Limited(), Limit(30.0))["stock"]
    assert timing.device
    assert (len(timing.seconds), timing.device.power_limited, timing.device.discarded) == (30, 10, {})


def test_a_sample_under_the_power_limit_is_marked_and_stays() -> None:
    device = Device(slow=lambda now: (1.5, emulated.POWER_LIMIT))
    seen = sampled(device, step(device, "large", 1e-3, 20e-6))
    assert (seen.power_limited, seen.mhz, seen.discarded) == (True, 1320, ())
    assert seen.seconds == about(1.5e-3)
    cool = Device()
    assert not sampled(cool, step(cool, "large", 1e-3, 20e-6)).power_limited
