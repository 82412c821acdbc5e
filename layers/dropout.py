"""Dropout:  y = x m / (1 - p), m = 0 with probability p, else 1.   (Srivastava et al., JMLR 15, 2014; torch.nn.Dropout)

Two variants draw two masks, so values are not compared: each must keep the law of the layer, as bench/law.py has it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ..bench.law import dropout as law_of_dropout
from ._autograd import once_differentiable

P = 0.1


def mask_of(seed: int, p: float, like: Tensor) -> Tensor:
    """m / (1 - p), the same for a seed and a shape; at p = 1 all zeros, as in stock."""
    generator = torch.Generator(like.device).manual_seed(seed)
    mask = torch.empty_like(like, memory_format=torch.contiguous_format).bernoulli_(1 - p, generator=generator)
    return mask.div_(1 - p) if p < 1 else mask


def fresh_seed() -> int:
    """From torch's default generator, so that torch.manual_seed repeats the mask."""
    return int(torch.randint(2**62, ()))


class DropoutFunction(torch.autograd.Function):
    """y = x m / (1 - p), so that  dL/dx = g m / (1 - p).

    Saves one seed, and no tensor: backward draws m again, which costs a second pass of the generator; stock keeps m, as
    large as x on a CPU.  Drawing is the larger part of dropout on a CPU, so forward and backward together take about twice stock's
    time, and backward alone, where stock multiplies by what it kept, up to ten times.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.p, ctx.seed = p, fresh_seed()
        return mask_of(ctx.seed, p, x).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return mask_of(ctx.seed, ctx.p, grad).mul_(grad), None


def check_not_inplace(module: nn.Dropout) -> None:
    """Raises ValueError for what the variants leave out."""
    if module.inplace:
        raise ValueError(f"{type(module).__name__}: this variant takes no inplace; use nn.Dropout for that")


class FunctionDropout(nn.Dropout):
    """nn.Dropout with the recomputed mask of DropoutFunction."""

    def forward(self, input: Tensor) -> Tensor:
        check_not_inplace(self)
        return DropoutFunction.apply(input, self.p) if self.training else input


class TritonDropout(nn.Dropout):
    """nn.Dropout with the Triton kernel of kernels/dropout.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.dropout import dropout  # here, so that this file can be read where Triton is not installed

        check_not_inplace(self)
        return dropout(input, self.p, self.training)


dropout = Layer(
    "dropout",
    sweep={"batch": (1, 16, 256), "width": (4096,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(P),
    variants={
        "stock": Variant(nn.Dropout),
        "function": Variant(FunctionDropout),
        "triton": Variant(TritonDropout, devices=GPU),
        "compile": Variant(nn.Dropout, compile=True),
    },
    verify_at=({"batch": 3, "width": 70}, {"batch": 37, "width": 70}),
    law=law_of_dropout(P),
    on_request=True,
    gpu_sweep={"batch": (16, 256, 2048, 16_384)},
)
