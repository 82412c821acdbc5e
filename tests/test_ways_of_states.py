"""Variants whose weights are laid out otherwise, in all ways of use: right ones pass, wrong ones fail with the way and the tensor."""

from typing import Any

import pytest
import torch
from planted import Stock, layer, limits, outcome, reason
from torch import Tensor, nn

from layerbench.bench import Layer, Variant
from layerbench.bench.data.uses import Uses


class Projections(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(width, out), nn.Linear(width, out)
        self.mean = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.mean(x)
        return self.q(x), self.k(x)


class Again(Projections):
    """The same under another name, so that it is asked all that a variant is."""


class Fused(nn.Module):
    """One transposed weight for both, and statistics of other names."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width, 2 * out)), nn.Parameter(torch.randn(2 * out))
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.product(self.norm(x), self.weight, self.bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        q, k = nn.functional.linear(x, weight.T, bias).chunk(2, -1)
        return q.clone(), k.clone()


def fuse(state: dict[str, Tensor]) -> dict[str, Tensor]:
    weight, bias = (torch.cat([state[f"{part}.{kind}"] for part in "qk"]) for kind in ("weight", "bias"))
    return {"weight": weight.T, "bias": bias} | {name.replace("mean.", "norm."): each for name, each in state.items() if "mean." in name}


class Accumulates(Fused):
    """A second backward into .grad overwrites it."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.weight.requires_grad and not hasattr(self, "hooked"):
            self.hooked = self.weight.register_hook(lambda g: None if self.weight.grad is None else g - self.weight.grad)
        return super().forward(x)


class OtherInEval(Fused):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k = super().forward(x)
        return q, k * (1.0 if self.training else 1.01)


class NoWeightGradientAlone(Fused):
    """The weight's gradient is half where the input needs none."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        whole = x.requires_grad or not self.weight.requires_grad
        return self.product(self.norm(x), self.weight if whole else (self.weight + self.weight.detach()) / 2, self.bias)


class Packed(Fused):
    """What was loaded first stays."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not hasattr(self, "packed"):
            self.packed = self.weight.detach().clone()
        return self.product(self.norm(x), self.packed + self.weight - self.weight.detach(), self.bias)


class KeepsWhatWasLoaded(Fused):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k = super().forward(x)
        self.called = True
        return q, k * getattr(self, "loaded", 1.0)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        if hasattr(self, "called"):
            self.loaded = 0.9


class StatisticsOfTheFirstBatch(Fused):
    """Running statistics that go on as if every batch were the first one."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = super().forward(x)
        if not hasattr(self, "first"):
            self.first = x.detach().mean(0)
        if self.training:
            self.norm.running_mean.data += (self.first - x.detach().mean(0)) * self.norm.momentum
        return found


class BiasGradientAlone(Fused):
    """Wrong where the weight needs no gradient and the bias does."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        alone = self.bias.requires_grad and not self.weight.requires_grad
        return self.product(self.norm(x), self.weight, (self.bias + self.bias.detach()) / 2 if alone else self.bias)


class SecondDerivativeWrong(Fused):
    def product(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        q, k = _Product.apply(x, weight, bias).chunk(2, -1)
        return q.clone(), k.clone()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight + bias

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return g @ weight.detach().T, x.T @ g, g.sum(0)


WRONG = {
    Accumulates: "gradients accumulated: q.weight grad: off by",
    OtherInEval: "in eval(): output[1]: off by",
    NoWeightGradientAlone: "no gradient for inputs: q.weight grad: off by",
    BiasGradientAlone: "each gradient alone: k.bias grad, only k.bias needing one: off by",
    Packed: "weights changed in place: output[0]: off by",
    KeepsWhatWasLoaded: "state_dict loaded late: output[1]: off by",
    StatisticsOfTheFirstBatch: "new data at every call: mean.running_mean after: off by",
    SecondDerivativeWrong: "second derivatives: ",
}


def fused(variant: type[nn.Module]) -> Layer:
    return declared(Projections, variant, fuse)


def declared(stock: type[nn.Module], variant: type[nn.Module], state: Any) -> Layer:
    given = layer(stock, variant, verify=({"batch": 5, "width": 6},))
    given.variants["wrong"] = Variant(variant, state=state)
    return given


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_wrong_variant_with_other_weights_fails_with_the_way_and_the_name_that_the_reference_has(wrong: type[nn.Module]) -> None:
    found = reason(fused(wrong))
    assert found.startswith(WRONG[wrong]), found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_variant_with_other_weights_passes_in_every_way(dtype: str) -> None:
    found, stock = outcome(fused(Fused), dtype), outcome(layer(Projections, Again, verify=({"batch": 5, "width": 6},)), dtype)
    assert isinstance(found, Uses) and isinstance(stock, Uses), found
    assert (found.tried, found.limits, found.marks) == (stock.tried, {}, {})


class Halved(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.w, self.bias = nn.Parameter(torch.randn(out, width)), nn.Parameter(torch.randn(out))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, 2 * self.w, self.bias)


class HalvedAndPacked(Halved):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "packed"):
            self.packed = self.w.detach().clone()
        return nn.functional.linear(x, 2 * (self.packed + self.w - self.w.detach()), self.bias)


def halve(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"w": state["weight"] / 2, "bias": state["bias"]}


class Squared(Halved):
    """The weight is the square of its own: its gradient goes back by the weights as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.w * self.w.abs(), self.bias)


def square_root(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"w": state["weight"].abs().sqrt() * state["weight"].sign(), "bias": state["bias"]}


@pytest.mark.parametrize(("variant", "state"), [(Halved, halve), (Squared, square_root)], ids=["halved", "squared"])
def test_where_weights_are_more_than_rearranged_what_cannot_be_told_is_said_and_all_else_is_tried(variant: Any, state: Any) -> None:
    found = limits(declared(Stock, variant, state))
    assert found == {"second derivatives": "not tried: a sum over its weights is no sum over the reference's"}


def test_where_weights_are_more_than_rearranged_a_fault_is_found() -> None:
    assert reason(declared(Stock, HalvedAndPacked, halve)).startswith("weights changed in place: output: off by")
