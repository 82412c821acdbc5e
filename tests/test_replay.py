"""What is timed is computed at every call: variants that hand out what they have, and those that only look like it."""

import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.cell.cell import Cell
from layerbench.bench.data.record import Failed, Measured, Point
from layerbench.bench.equivalence.prove import prove
from layerbench.bench.equivalence.replay import STALE
from layerbench.bench.timing.clock import FakeClock
from layerbench.bench.timing.measure import Limit

SIZE = {"batch": 4, "width": 5}


class Replays(nn.Linear):
    """The output again while input and weights have the address and the version that they had."""

    def forward(self, x: Tensor) -> Tensor:
        key = tuple((t.data_ptr(), t._version) for t in (x, self.weight, self.bias))
        if getattr(self, "key", None) != key:
            self.key, self.kept = key, super().forward(x)
            return self.kept
        return self.kept.detach().requires_grad_()


class ReplaysByInput(nn.Linear):
    """The same, and weights are not looked at."""

    def forward(self, x: Tensor) -> Tensor:
        key = (x.data_ptr(), x._version, x.shape)
        if getattr(self, "key", None) != key:
            self.key, self.kept = key, super().forward(x).detach()
        y = super().forward(x)
        return self.kept + (y - y.detach())  # the gradient is as it should be


class ReplaysGradients(nn.Linear):
    """The gradient of the weight as it was at the first call with this input."""

    kept: dict[tuple[int, int], Tensor] = {}  # noqa: RUF012

    def forward(self, x: Tensor) -> Tensor:
        return _Kept.apply(x, self.weight, self.bias)


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        key = (x.data_ptr(), x._version)
        made = ReplaysGradients.kept.setdefault(key, g.T @ x)
        return g @ weight, made.clone(), g.sum(0)


class Drifts(nn.Linear):
    """Off by more with every call: that is no replay, and is said as what it is."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * (1 + 1e-4 * max(0, self.calls - 8))


class Lazy(Tensor):
    """A tensor that would compute when somebody looks."""


class ReturnsLazy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).as_subclass(Lazy)


class PacksWeights(nn.Linear):
    """Right: what depends on the weights alone is kept until they change."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(x)
        if getattr(self, "version", None) != self.weight._version:
            self.version, self.packed = self.weight._version, self.weight.detach().T.contiguous()
        return x @ self.packed + self.bias


class Plain(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


def layer(*variants: type[nn.Module]) -> Layer:
    named = {"stock": Variant(nn.Linear)} | {each.__name__.lower(): Variant(each) for each in variants}
    return Layer("linear", {"batch": (4,), "width": (5,)}, (randn("batch", "width"),), lambda module, size: module(size["width"], 7), named)


def outcomes(made: Layer, step: str = "forward") -> dict[str, object]:
    ReplaysGradients.kept.clear()
    point = Point(made.name, SIZE, "float32", "cpu", step)
    cell = Cell(made, point, tuple(made.variants), {}, lambda stage, variant: None)
    return cell.measure(step, FakeClock(lambda variant, number: 1e-3), Limit(0.05), None)


@pytest.mark.parametrize("wrong", [Replays, ReplaysByInput])
def test_an_output_that_was_computed_before_fails_at_the_check_after_timing(wrong: type[nn.Module]) -> None:
    assert outcomes(layer(wrong))[wrong.__name__.lower()] == Failed("recheck", STALE.format(name="output"))


def test_a_gradient_that_was_computed_before_fails_too() -> None:
    found = outcomes(layer(ReplaysGradients), "backward")["replaysgradients"]
    assert isinstance(found, Failed)
    assert "weight grad" in found.reason


def test_it_fails_in_a_check_that_weighs_only() -> None:
    made = layer(Replays)
    cell = Cell(made, Point("linear", SIZE, "float32", "cpu", "forward"), tuple(made.variants), {}, lambda stage, variant: None)
    assert cell.facts(leaks=False)["replays"] == Failed("verify", STALE.format(name="output"))


def test_one_that_drifts_is_told_as_off() -> None:
    found = outcomes(layer(Drifts))["drifts"]
    assert isinstance(found, Failed)
    assert found.reason.startswith("output: off by")


def test_a_subclass_that_the_reference_does_not_return_fails_by_name() -> None:
    found = prove(layer(ReturnsLazy), ("stock", "returnslazy"), "float32", "cpu", lambda stage, variant: None)["returnslazy"]
    assert isinstance(found, Failed)
    assert found.reason.startswith("output: it is a Lazy, the reference returns a Tensor; return that")


@pytest.mark.parametrize("step", ["forward", "backward", "training"])
def test_what_is_right_passes_and_its_numbers_are_as_they_were(step: str) -> None:
    made = layer(Plain, PacksWeights)
    assert {type(found) for found in outcomes(made, step).values()} == {Measured}


def test_layers_with_running_statistics_and_with_whole_numbers_pass() -> None:
    norm = Layer("norm", {"batch": (4,)}, (randn("batch", 3),), lambda module, size: module(3), {"stock": Variant(nn.BatchNorm1d)})
    point = Point("norm", {"batch": 4}, "float32", "cpu", "training")
    cell = Cell(norm, point, ("stock",), {}, lambda stage, variant: None)
    found = cell.measure("training", FakeClock(lambda variant, number: 1e-3), Limit(0.05), None)
    assert isinstance(found["stock"], Measured)
