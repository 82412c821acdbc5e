"""The clock of short steps in a graph, on an emulated device: what it reads, when it is taken, and when it is not."""

import pytest
from emulated import NODE, Device, step

from layerbench.bench.timing import choice
from layerbench.bench.timing.clock import Call, FakeClock, HostClock, Sample
from layerbench.bench.timing.device_clock import THROTTLED, DeviceClock
from layerbench.bench.timing.graph_clock import BELOW, CALLS, GraphClock
from layerbench.bench.timing.measure import Limit, measure


def chosen(device: Device, *calls: Call, graph: str = "auto") -> tuple[object, str]:
    return choice.finer(DeviceClock(device), {call.variant: call for call in calls}, graph, lambda _: None)


def sampled(device: Device, call: Call, graph: str = "always"):  # type: ignore[no-untyped-def]
    clock, why = chosen(device, call, graph=graph)
    assert isinstance(clock, GraphClock), why
    return clock.sample(call, clock.block(call))


@pytest.mark.parametrize("kernels", [1, 3])
def test_it_reads_the_kernels_and_the_gaps_between_the_nodes_and_no_events(kernels: int) -> None:
    device = Device()
    seen = sampled(device, step(device, "stock", 3e-6, 30e-6, kernels))
    assert seen.seconds == pytest.approx(3e-6 + kernels * NODE, rel=1e-6)
    assert not seen.discarded
    assert not seen.exposed


def test_issuing_and_as_called_are_those_of_launches_by_the_host() -> None:
    device = Device()
    seen = sampled(device, step(device, "triton", 3e-6, 200e-6))
    assert seen.issuing == pytest.approx(202e-6, rel=0.01)
    assert seen.called == pytest.approx(202e-6, rel=0.1)


def test_set_up_is_taken_off() -> None:
    device = Device()
    plain = step(device, "stock", 3e-6, 30e-6)

    def forward() -> None:
        device.kernel(50e-6, 30e-6)

    call = Call("stock", forward, plain.step)
    assert sampled(device, call).seconds == pytest.approx(3e-6 + NODE, rel=1e-6)


def test_every_call_finds_a_cold_cache() -> None:
    """Were only the first of the graph's calls cold, the others would take half as long here."""
    device = Device()
    assert sampled(device, step(device, "stock", 10e-6, 30e-6)).seconds >= 10e-6


def test_a_slow_device_is_met_by_another_block(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_until = [0.0]
    device = Device(slow=lambda now: (2.0, "power brake") if now < slow_until[0] else (1.0, ""))
    call = step(device, "stock", 3e-6, 30e-6)
    clock, _ = chosen(device, call)
    assert isinstance(clock, GraphClock)
    by_host = clock._plain.sample(call, 1)

    def then_slow(*_: object) -> Sample:
        slow_until[0] = device.time + 0.001
        return by_host

    monkeypatch.setattr(clock._plain, "sample", then_slow)
    seen = clock.sample(call, 2 * CALLS)
    assert THROTTLED in seen.discarded
    assert seen.seconds == pytest.approx(3e-6 + NODE, rel=1e-6)


def test_auto_takes_it_where_one_step_is_short_and_never_where_none_is() -> None:
    device = Device()
    short, long = step(device, "short", BELOW / 2, 30e-6), step(device, "long", 10 * BELOW, 30e-6)
    assert isinstance(chosen(device, short, long)[0], GraphClock)
    assert type(chosen(device, long)[0]) is DeviceClock
    assert isinstance(chosen(device, long, graph="always")[0], GraphClock)
    assert type(chosen(device, short, graph="never")[0]) is DeviceClock


def test_the_cpu_has_no_graphs() -> None:
    for clock in (HostClock(), FakeClock(lambda variant, number: 1e-6)):
        assert choice.finer(clock, {}, "always", lambda _: None) == (clock, "")


def test_one_that_cannot_be_captured_takes_all_to_the_other_clock_and_is_named() -> None:
    device = Device()
    good, bad = step(device, "good", 3e-6, 30e-6), step(device, "bad", 3e-6, 30e-6, waits=True)
    clock, why = chosen(device, good, bad)
    assert type(clock) is DeviceClock
    assert why == "'bad' cannot be captured in a CUDA graph: RuntimeError: operation not permitted when stream is capturing"
    timings = measure({"good": good, "bad": bad}, "good", clock, Limit(0.05))
    assert {timing.clock for timing in timings.values()} == {"device"}


def test_a_step_that_leaves_the_device_alone_has_no_time_in_a_graph() -> None:
    device = Device()
    idle = Call("idle", None, lambda _: None)
    clock, why = chosen(device, step(device, "stock", 3e-6, 30e-6), idle)
    assert type(clock) is DeviceClock
    assert why == "'idle' does nothing on the device that a CUDA graph of it would show"


def test_a_broken_device_is_not_taken_for_a_step_without_a_graph() -> None:
    device = Device()

    def breaks(_: object) -> None:
        device.kernel(3e-6, 30e-6)
        device.broken = device._kept is not None

    with pytest.raises(RuntimeError, match="illegal memory access"):
        chosen(device, Call("stock", None, breaks))


def test_gradients_of_the_capture_are_cleared_and_the_variant_in_hand_is_told() -> None:
    device, cleared, told = Device(), [], []
    plain = step(device, "stock", 3e-6, 30e-6)
    call = Call("stock", None, plain.step, lambda: cleared.append("stock"))
    choice.finer(DeviceClock(device), {"stock": call}, "always", told.append)
    assert cleared
    assert told == ["stock"]


def test_a_point_is_measured_by_it() -> None:
    device = Device()
    calls = {"stock": step(device, "stock", 1.5e-6, 30e-6), "triton": step(device, "triton", 1.0e-6, 90e-6)}
    clock, why = choice.finer(DeviceClock(device), calls, "auto", lambda _: None)
    assert not why
    timings = measure(calls, "stock", clock, Limit(0.05))
    a, b = (timings[name].seconds[0] for name in ("stock", "triton"))
    assert a / b == pytest.approx((1.5e-6 + NODE) / (1.0e-6 + NODE), rel=1e-6)
    assert timings["stock"].clock == "graph"
    assert timings["stock"].device
    assert timings["stock"].calls_per_sample % CALLS == 0
