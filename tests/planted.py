"""What tests of ways of use are made with: a linear layer whose variants are declared in a line, and what became of one in its proof."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from layerbench.bench import Draw, Layer, Variant, randn
from layerbench.bench.data.record import Failed
from layerbench.bench.data.uses import Uses
from layerbench.bench.equivalence.prove import prove

Module = Callable[..., nn.Module]


class Stock(nn.Linear):
    """y = x W^T + b."""


class Product(torch.autograd.Function):
    """The same, by hand, and right: what a wrong one overrides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return g @ weight, g.flatten(0, -2).T @ x.flatten(0, -2), g.flatten(0, -2).sum(0)


def linear(function: type[torch.autograd.Function]) -> type[Stock]:
    """A layer of an autograd function."""

    class ByFunction(Stock):
        def forward(self, x: Tensor) -> Tensor:
            return function.apply(x, self.weight, self.bias)

    return ByFunction


def flat(tensor: Tensor) -> Tensor:
    """Its memory read as if it were contiguous, as a kernel does that takes a pointer and a size."""
    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape).stride(), tensor.storage_offset())


def layer(
    stock: Module, wrong: Module, *inputs: Draw, verify: tuple[dict[str, int], ...] = ({"batch": 3, "width": 6},), **more: Any
) -> Layer:
    variants = {"stock": Variant(stock), "wrong": Variant(wrong)}
    build = more.pop("build", lambda module, size: module(size["width"], 4))
    sweep = more.pop("sweep", {"batch": (4,), "width": (8,)})
    return Layer("planted", sweep, inputs or (randn("batch", "width"),), build, variants, verify_at=verify, **more)


def outcome(declared: Layer, dtype: str = "float32") -> Uses | Failed:
    """What becomes of the second variant, the first being right."""
    found = prove(declared, ("stock", "wrong"), dtype, "cpu", lambda *_: None)
    assert not isinstance(found["stock"], Failed), found["stock"]
    uses = found["wrong"] if isinstance(found["wrong"], Failed) else found["wrong"].uses
    assert uses
    return uses


def reason(declared: Layer, dtype: str = "float32") -> str:
    """Why it failed."""
    found = outcome(declared, dtype)
    assert isinstance(found, Failed), found
    assert found.stage == "verify"
    return found.reason


def limits(declared: Layer, dtype: str = "float32") -> dict[str, str]:
    found = outcome(declared, dtype)
    assert isinstance(found, Uses), found
    return found.limits


def marks(declared: Layer, dtype: str = "float32") -> dict[str, str]:
    found = outcome(declared, dtype)
    assert isinstance(found, Uses), found
    return found.marks
