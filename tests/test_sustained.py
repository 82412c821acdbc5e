"""Energy and seconds under sustained load, on an emulated device whose watts and ticks are known."""

import emulated
import pytest
from emulated import BUSY_WATTS, IDLE_WATTS, POWER_LIMIT, Device, step

from layerbench.bench.data.record import Energy
from layerbench.bench.timing import sustained
from layerbench.bench.timing.clock import Call
from layerbench.bench.timing.device_clock import DeviceClock


def energy(device: Device, call: Call) -> Energy:
    found = sustained.sustained(call, device)
    assert isinstance(found, Energy)
    return found


@pytest.mark.parametrize("seconds", [30e-6, 1e-3, 30e-3, 300e-3])
def test_the_joules_of_a_call_are_those_of_the_device_at_work(seconds: float) -> None:
    """Whatever a call takes: a look at the counter takes as long as a hundred of them, or a tick has only a third of one."""
    device = Device()
    found = energy(device, step(device, "large", seconds / emulated.WARM_CACHE, 5e-6))
    assert found.watts == pytest.approx(BUSY_WATTS, rel=0.01)
    assert found.seconds == pytest.approx(seconds, rel=0.01)
    assert found.joules == pytest.approx(BUSY_WATTS * seconds, rel=0.01)
    assert found.calls * seconds >= 0.6 * sustained.SECONDS


def test_what_waits_for_its_launches_takes_what_the_idle_device_takes_too() -> None:
    device = Device()
    found = energy(device, step(device, "triton", 20e-6 / emulated.WARM_CACHE, 200e-6))
    assert found.seconds == pytest.approx(202e-6, rel=0.01)
    assert found.watts == pytest.approx(IDLE_WATTS + (BUSY_WATTS - IDLE_WATTS) * 20 / 202, rel=0.03)
    assert found.joules == pytest.approx(found.watts * found.seconds)


@pytest.mark.parametrize("begun", [0.0, 0.013, 0.05, 0.099])
def test_both_ends_of_the_interval_are_ticks(begun: float) -> None:
    """Where in a tick the loop begins moves nothing: from the middle of one, up to a tenth of the joules would be other work's."""
    device = Device(time=begun)
    device.tick = 0.4  # a slow counter shows it better
    assert energy(device, step(device, "large", 2e-3, 5e-6)).watts == pytest.approx(BUSY_WATTS, rel=0.01)


def test_a_device_under_its_power_limit_is_timed_in_that_state_and_not_in_the_burst_before() -> None:
    """It keeps 1980 MHz for the first 0.2 s of work without a pause, and 1320 from there."""
    device = Device()
    limited = device.time + 0.2
    device.slow = lambda now: (1.5, POWER_LIMIT) if now > limited else (1.0, "")
    found = energy(device, step(device, "large", 2e-3, 5e-6))
    assert found.seconds == pytest.approx(1.5e-3, rel=0.01)
    assert (found.mhz, found.power_limited) == (1320, True)
    cool = Device()
    assert not energy(cool, step(cool, "large", 2e-3, 5e-6)).power_limited


def test_gradients_are_cleared_before_every_call_as_in_training() -> None:
    device = Device()
    made = {"cleared": 0, "called": 0}

    def clear() -> None:
        made["cleared"] += 1

    def train(_: object) -> None:
        made["called"] += 1
        assert made["called"] == made["cleared"]
        device.kernel(2e-3, 5e-6)

    energy(device, Call("stock", clear, train, clear))
    assert made["called"] > 900


def test_a_backward_has_no_joules_of_its_own() -> None:
    device = Device()
    call = Call("stock", lambda: device.kernel(1e-3, 5e-6), lambda _: device.kernel(1e-3, 5e-6), lambda: None)
    assert sustained.sustained(call, device) == sustained.WITH_FORWARD
    assert device.time == 0  # and costs nothing


def test_without_a_counter_there_is_a_sentence_and_nothing_is_run() -> None:
    device = Device()
    device.joules = lambda: "not known: install nvidia-ml-py"  # type: ignore[method-assign]
    assert sustained.sustained(step(device, "stock", 1e-3, 5e-6), device) == "not known: install nvidia-ml-py"
    assert device.time == 0


@pytest.mark.parametrize("moves", [0, 1])
def test_a_counter_that_stands_still_gives_no_number(moves: int) -> None:
    """From the beginning, or after its first tick."""
    device = Device()
    real = device.joules
    device.joules = lambda: min(real(), 100.0 * moves)  # type: ignore[method-assign, type-var]
    assert sustained.sustained(step(device, "stock", 2e-3, 5e-6), device) == sustained.STILL


def test_a_clock_s_samples_and_the_loop_are_told_apart_on_one_device() -> None:
    """The clock's device seconds are of short bursts; the loop's are what the same step takes when it goes on."""
    device = Device()
    call = step(device, "large", 2e-3, 5e-6)
    clock = DeviceClock(device)
    clock.warm([call])
    burst = clock.sample(call, 4)
    begun = device.time
    device.slow = lambda now: (1.4, POWER_LIMIT) if now > begun + 0.2 else (1.0, "")
    found = energy(device, call)
    assert burst.seconds == pytest.approx(2e-3, rel=0.01)
    assert found.seconds == pytest.approx(1.4 * emulated.WARM_CACHE * 2e-3, rel=0.01)
