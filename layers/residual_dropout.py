"""Residual and dropout in one:  y = x m / (1 - p) + r, as after every sub-layer of the first transformers.   (Vaswani et al., 2017)"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ..bench.law import dropout as law_of_dropout
from ._autograd import once_differentiable
from .dropout import P, check_not_inplace, fresh_seed, mask_of


class ResidualDropout(nn.Dropout):
    """Stock.  (..., width) twice -> (..., width)."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return super().forward(x) + residual


class ResidualDropoutFunction(torch.autograd.Function):
    """y = x m / (1 - p) + r, so that  dL/dx = g m / (1 - p)  and  dL/dr = g.

    Saves one seed, and no tensor, as DropoutFunction does, and backward costs a second draw as there: on a CPU up to ten times stock's
    time.  The sum is written over the product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, p: float) -> Tensor:
        ctx.p, ctx.seed = p, fresh_seed()
        return mask_of(ctx.seed, p, x).mul_(x).add_(residual)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wants_x, wants_residual, _ = ctx.needs_input_grad
        grad_x = mask_of(ctx.seed, ctx.p, grad).mul_(grad) if wants_x else None
        return grad_x, grad if wants_residual else None, None


class FunctionResidualDropout(ResidualDropout):
    """ResidualDropout with the recomputed mask of ResidualDropoutFunction.

    For x and residual of one shape and dtype.  Raises ValueError for others.
    """

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        check_not_inplace(self)
        if (x.shape, x.dtype) != (residual.shape, residual.dtype):
            given = f"x is {tuple(x.shape)} {x.dtype}, residual {tuple(residual.shape)} {residual.dtype}"
            raise ValueError(f"FunctionResidualDropout: {given}; give both one shape and dtype")
        return ResidualDropoutFunction.apply(x, residual, self.p) if self.training else x + residual


class TritonResidualDropout(ResidualDropout):
    """ResidualDropout with the Triton kernel of kernels/dropout.py: one pass."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        from ..kernels.dropout import dropout  # here, so that this file can be read where Triton is not installed

        check_not_inplace(self)
        return dropout(x, self.p, self.training, residual)


residual_dropout = Layer(
    "residual_dropout",
    sweep={"batch": (1, 16, 256), "width": (4096,)},
    inputs=(randn("batch", "width"), randn("batch", "width")),
    build=lambda module, size: module(P),
    variants={
        "stock": Variant(ResidualDropout),
        "function": Variant(FunctionResidualDropout),
        "triton": Variant(TritonResidualDropout, devices=GPU),
        "compile": Variant(ResidualDropout, compile=True),
    },
    verify_at=({"batch": 3, "width": 70}, {"batch": 37, "width": 70}),
    law=law_of_dropout(P, residual=True),
    on_request=True,
    gpu_sweep={"batch": (16, 256, 2048, 16_384)},
)
