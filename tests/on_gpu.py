"""What only a GPU can show.  Runs by itself where there is one; elsewhere it says why it does not."""

import statistics

import pytest
import torch
from torch import nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.profiling import memory, profile
from layerbench.bench.subject import make
from layerbench.bench.subject.make import Subject
from layerbench.bench.timing.choice import clock_for, finer
from layerbench.bench.timing.clock import Call
from layerbench.bench.timing.device_clock import WAITS
from layerbench.bench.timing.graph_clock import GraphClock
from layerbench.bench.timing.measure import Limit, measure

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU on this machine: clock, graphs and memory are not tried on one"
)
MIB = 2**20


def subject(module: nn.Module, *shape: int) -> Subject:
    x = torch.randn(shape, device="cuda", requires_grad=True)
    return make.subject("stock", module.cuda(), (x,), (torch.ones_like(module.cuda()(x)),))


def test_memory_of_a_linear_layer_is_what_it_is_by_hand() -> None:
    # float32: x 4 MiB, W 4 MiB, y 4 MiB; forward keeps x and W, which are alive anyway; backward makes dx and dW, 4 MiB each
    made = subject(nn.Linear(1024, 1024, bias=False), 1024, 1024)
    make.call(made, "training").once()
    found = memory.weigh(made, "cuda")
    assert (found.live_bytes, found.saved_bytes) == (8 * MIB, 0)
    assert (found.peak_forward_bytes, found.peak_backward_bytes) == (4 * MIB, 12 * MIB)
    assert found.reserved_bytes is not None and found.reserved_bytes >= 20 * MIB


def test_memory_of_a_layer_that_saves_its_output() -> None:
    # exp: y 4 MiB is both output and saved; backward makes dx
    found = memory.weigh(subject(Exp(), 1024, 1024), "cuda")
    assert (found.saved_bytes, found.peak_forward_bytes, found.peak_backward_bytes) == (0, 4 * MIB, 8 * MIB)


class Exp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp()


def test_the_devices_seconds_are_those_of_the_kernels() -> None:
    """Of a copy that takes some hundred microseconds: the profiler's sum of kernels is within 5 %, the host's time far from it."""
    x = torch.randn(64 * MIB, device="cuda")
    call = Call("stock", None, lambda _: x.clone())
    call.once()
    clock = clock_for("cuda")
    clock.warm([call])
    seconds = statistics.median(clock.sample(call, 4).seconds for _ in range(10))
    made = profile.profile(call, "cuda", None)
    kernels = sum(row.device_seconds for row in made.operators) / made.calls
    assert seconds == pytest.approx(kernels, rel=0.05)


def test_launches_are_hidden_and_a_step_that_waits_is_said_to() -> None:
    x = torch.randn(1024, device="cuda")

    def many(_: object) -> object:
        y = x
        for _ in range(50):
            y = y + 1
        return y

    clock = clock_for("cuda")
    hidden, waits = Call("many", None, many), Call("waits", None, lambda _: many(None).sum().item())  # type: ignore[attr-defined]
    for call in (hidden, waits):
        call.once()
    sample = clock.sample(hidden, 4)
    assert sample.seconds < sample.issuing and not sample.exposed
    assert clock.sample(waits, 4).exposed == WAITS


def test_two_copies_are_the_same_within_the_floor_of_a_gpu() -> None:
    layer = Layer("relu", {"batch": (4096,)}, (randn("batch", 4096),), lambda module, size: module(), {"stock": Variant(nn.ReLU)})
    weights = make.reference(layer, {"batch": 4096}, torch.float32, "cuda", 0)
    inputs = make.draw(layer.draws, {"batch": 4096}, torch.float32, "cuda", 0)
    calls = {name: make.call(make.subject(name, weights, inputs, (None,)), "forward") for name in "ab"}
    timings = measure(calls, "a", clock_for("cuda"), Limit(1.0))
    a, b = (statistics.median(timings[name].seconds) for name in "ab")
    assert a == pytest.approx(b, rel=0.02)


def test_a_short_step_is_timed_in_a_graph_near_the_sum_of_its_kernels() -> None:
    """An H200 read 1.7 us so, 3.6 us with events around it, and the kernel takes 0.9 us."""
    x = torch.randn(1024, device="cuda")
    call = Call("stock", None, lambda _: x * 2)
    call.once()
    plain = clock_for("cuda")
    clock, why = finer(plain, {"stock": call}, "auto", lambda _: None)
    assert isinstance(clock, GraphClock), why
    calls = clock.block(call)
    graph, events = (statistics.median(each.sample(call, calls).seconds for _ in range(20)) for each in (clock, plain))
    assert 0.5e-6 < graph < 0.7 * events


def test_training_is_captured_and_its_gradients_are_those_of_a_normal_call_afterwards() -> None:
    made = subject(nn.RMSNorm(256), 64, 256)
    call = make.call(made, "training")
    call.once()
    first = [leaf.grad.clone() for _, leaf in made.leaves() if leaf.grad is not None]
    clock, why = finer(clock_for("cuda"), {"stock": call}, "always", lambda _: None)
    assert isinstance(clock, GraphClock), why
    assert clock.sample(call, clock.block(call)).seconds > 0
    call.once()
    again = [leaf.grad for _, leaf in made.leaves() if leaf.grad is not None]
    assert len(first) == len(again) == 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_step_that_cannot_be_captured_leaves_nothing_behind() -> None:
    """The allocator would keep memory for a capture that was never ended, and fail when it is asked for more."""
    x = torch.randn(1024, device="cuda")
    call = Call("waits", None, lambda _: (x * 2).sum().item())  # type: ignore[attr-defined]
    call.once()
    plain = clock_for("cuda")
    clock, why = finer(plain, {"waits": call}, "always", lambda _: None)
    assert clock is plain
    assert why.startswith("'waits' cannot be captured in a CUDA graph: ")
    torch.cuda.empty_cache()
    assert torch.equal(x.clone(), x)
    good = Call("good", None, lambda _: x * 2)
    assert isinstance(finer(plain, {"good": good}, "always", lambda _: None)[0], GraphClock)
