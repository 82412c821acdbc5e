"""Roofs on invented clocks, the work of a step counted by hand, and the times that cannot be true."""

import msgspec
import pytest
import torch
from fixture_run import environment
from runs import took
from torch import nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.analysis import sanity
from layerbench.bench.data.record import Measured, Roof, Timing, Work
from layerbench.bench.equivalence import verify
from layerbench.bench.profiling import work
from layerbench.bench.subject import make
from layerbench.bench.subject.make import Subject
from layerbench.bench.timing import roofs
from layerbench.bench.timing.clock import FakeClock

ROOF = Roof("cpu", "float32", 100e9, 20e9, 50e9, 1e-6)


def subject(module: type[nn.Module], *arguments: object) -> Subject:
    layer = Layer("layer", {"batch": (4,)}, (randn("batch", 8),), lambda m, size: m(*arguments), {"stock": Variant(module)})
    truth = verify.truth(layer, {"batch": 4}, torch.float32, "cpu", 0)
    return make.subject("stock", truth.weights, truth.inputs, truth.cotangents)


def test_the_work_of_a_linear_layer() -> None:
    # x 4x8, W 16x8, b 16: forward 2*4*8*16 FLOP; backward the same for dx and again for dW
    found = work.count(subject(nn.Linear, 8, 16), differentiable=True)
    x, weights, y = 4 * 4 * 8, 4 * (16 * 8 + 16), 4 * 4 * 16
    assert found == {
        "forward": Work(1024, x + weights, y),
        "inference": Work(1024, x + weights, y),
        "backward": Work(2048, y, x + weights),
        "training": Work(3072, x + weights + y, y + x + weights),
    }


def test_an_output_that_is_a_view_of_the_input_is_not_written_and_element_wise_work_is_no_flop() -> None:
    assert work.count(subject(nn.Flatten), differentiable=True)["forward"] == Work(0, 128, 0)
    assert work.count(subject(nn.ReLU), differentiable=True)["forward"] == Work(0, 128, 128)


def test_counting_leaves_no_gradient_behind() -> None:
    made = subject(nn.Linear, 8, 16)
    work.count(made, differentiable=True)
    assert [leaf.grad for _, leaf in made.leaves()] == [None] * 3


@pytest.mark.parametrize(
    ("module", "shape", "multiplications"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 10, 10), 2 * 8 * 100 * 9),
        (nn.Conv2d(4, 6, 3), (2, 4, 10, 10), 2 * 6 * 64 * 4 * 9),
        (nn.Conv1d(6, 9, 3, groups=3), (2, 6, 12), 2 * 9 * 10 * 2 * 3),
        (nn.ConvTranspose2d(4, 6, 4, stride=2), (2, 4, 5, 5), 2 * 4 * 25 * 6 * 16),
    ],
)
def test_each_gradient_of_a_convolution_takes_what_forward_takes_with_groups_too(
    module: nn.Module, shape: tuple[int, ...], multiplications: int
) -> None:
    x = torch.randn(shape, requires_grad=True)
    found = work.count(make.subject("stock", module, (x,), (torch.ones_like(module(x)),)), differentiable=True)
    assert (found["forward"].flops, found["backward"].flops) == (2 * multiplications, 4 * multiplications)


def test_a_roof_is_the_fastest_of_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    # every call takes 0.1 s but the last of each three, which takes half: the fastest counts, and one product is long enough to stop
    clock = FakeClock(lambda variant, number: 0.05 if number % 3 == 2 else 0.1)
    monkeypatch.setattr(roofs, "COPY_BYTES", (2**24, 2**25))
    monkeypatch.setattr(roofs, "SIDES", (8, 16))
    monkeypatch.setattr(roofs, "LONG_SECONDS", 0.06)
    found = roofs.measure("cpu", "bfloat16", clock)
    assert (found.flops_per_second, found.bytes_per_second) == (pytest.approx(2 * 16**3 / 0.05), pytest.approx(2 * 2**25 / 0.05))
    assert (found.device, found.dtype, found.cached_bytes_per_second) == ("cpu", "bfloat16", found.bytes_per_second)


def measured(seconds: float, work: Work | None = None, calls: int = 10, clock: str = "host") -> Measured:
    return msgspec.structs.replace(took(1.0), timing=Timing((seconds,) * 4, calls, (0, 1, 2, 3), "precision", clock), work=work)


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (measured(1e-3), ""),
        (measured(9e-9), "a block of 90 ns is shorter than 100 ticks of the host clock"),
        (measured(0.2e-6, clock="device"), ""),  # every call is timed by itself there: see the floor
        (measured(2e-7), "200 ns per call: calling a module that does nothing takes 1e+03 ns here"),
        (measured(3e-7), ""),
        (measured(1e-3, Work(399_000_000, 0, 0)), ""),
        (
            measured(1e-3, Work(401_000_000, 0, 0)),
            "401 GFLOP/s: a large float32 matrix product reaches 100 here; the clock missed some of the work, or the work was not done",
        ),
        (measured(1e-3, Work(0, 10**12, 199_000_000)), ""),  # what is read is not judged: not all of a parameter need be
        (
            measured(1e-3, Work(0, 0, 201_000_000)),
            "201 GB/s written: the fastest copy reaches 50 here; the clock missed some of the work, or the work was not done",
        ),
    ],
)
def test_times_that_cannot_be_true(outcome: Measured, told: str) -> None:
    assert sanity.impossible(outcome, ROOF) == told


def test_without_a_roof_only_the_clock_is_judged() -> None:
    assert sanity.impossible(measured(2e-7, Work(10**15, 0, 10**15)), None) == ""
    assert sanity.impossible(measured(9e-9), None).startswith("a block of 90 ns")


@pytest.mark.parametrize(
    ("others", "threads", "clock", "told"),
    [
        (None, 2, "host", ""),
        (0.25, 2, "host", ""),
        (0.3, 2, "host", "other work kept 0.3 of 2 cores busy meanwhile, and 2 threads were timed"),
        (1.2, 1, "host", ""),  # a core was free for it
        (1.3, 1, "host", "other work kept 1.3 of 2 cores busy meanwhile, and 1 thread was timed"),
        (2.0, 2, "device", ""),  # events of a GPU do not wait for the host's cores
    ],
)
def test_other_work_that_wanted_the_same_cores(others: float | None, threads: int, clock: str, told: str) -> None:
    timing = Timing((1e-3,) * 4, 10, (0, 1, 2, 3), "precision", clock, others)
    assert sanity.contended(msgspec.structs.replace(took(1.0), timing=timing), environment(threads=threads)) == told


@pytest.mark.parametrize(("seconds", "clock", "said"), [(3.8e-6, "device", True), (4.0e-6, "device", False), (3.8e-6, "host", False)])
def test_a_device_time_under_three_floors_of_its_clock_says_nothing(seconds: float, clock: str, said: bool) -> None:
    roof = Roof("cuda", "float32", 1e15, 1e13, 1e13, 1.3e-6)
    words = sanity.below_floor(measured(seconds, clock=clock), roof)
    assert words == ("3.8 us on the device: its clock reads 1.3 us of a call that does nothing" if said else "")
