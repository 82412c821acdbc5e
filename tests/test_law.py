"""Random layers are judged by their law: what keeps it passes at every seed, and what breaks any part of it is named."""

import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, law, randn
from layerbench.bench.equivalence import verify, weakness
from layerbench.bench.equivalence.verify import Mismatch
from layerbench.bench.subject import make

P = 0.25


class Masked(nn.Dropout):
    """A dropout that draws its mask, and its backward's, as a test says."""

    def mask(self, x: Tensor) -> Tensor:
        return (torch.rand_like(x) >= self.p) / (1 - self.p)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask(x)


class Unscaled(Masked):
    def mask(self, x: Tensor) -> Tensor:
        return (torch.rand_like(x) >= self.p).to(x.dtype)


class Rate(Masked):
    def mask(self, x: Tensor) -> Tensor:
        return (torch.rand_like(x) >= self.p + 0.05) / (1 - self.p)


class SameEveryCall(Masked):
    def mask(self, x: Tensor) -> Tensor:
        return (torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) >= self.p) / (1 - self.p)


class Rows(Masked):
    def mask(self, x: Tensor) -> Tensor:
        return (torch.rand(x.shape[0], 1) >= self.p).expand_as(x) / (1 - self.p)


class ALittleOff(Masked):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 1e-5)


class Nothing(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


def judged(module: type[nn.Module], seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    variants = {"stock": Variant(nn.Dropout), "mine": Variant(module)}
    layer = Layer("d", {"batch": (40,)}, (randn("batch", 100),), lambda built, size: built(P), variants, law=law.dropout(P))
    truth = verify.truth(layer, {"batch": 40}, dtype, "cpu", seed)
    assert weakness.weaknesses(truth) == []
    subject = make.subject("mine", make.variant_module(layer, "mine", {"batch": 40}, truth.weights), truth.inputs, truth.cotangents)
    return {each.tensor: each.error for each in verify.judge(subject, truth)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_whatever_keeps_the_law_passes_at_every_seed(dtype: torch.dtype) -> None:
    for seed in range(20):
        assert set(judged(nn.Dropout, seed, dtype)) == {"values", "keep rate", "neighbours", "calls", "input 0 grad"}
        judged(Masked, seed, dtype)


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (Nothing, "values"),
        (Unscaled, "values"),
        (ALittleOff, "values"),
        (Rate, "keep rate"),
        (Rows, "neighbours"),
        (SameEveryCall, "calls"),
    ],
)
def test_whatever_breaks_it_is_named(module: type[nn.Module], what: str) -> None:
    with pytest.raises(Mismatch, match=f"^{what}: off by"):
        judged(module)


class BackwardDrawsAgain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) >= P) / (1 - P)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad * (torch.rand_like(grad) >= P) / (1 - P)


class Forgetful(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return BackwardDrawsAgain.apply(x)


def test_a_backward_with_another_mask_is_named() -> None:
    with pytest.raises(Mismatch, match=r"^input 0 grad: off by"):
        judged(Forgetful)
