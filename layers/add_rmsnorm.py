"""Residual addition and RMSNorm in one, as between the parts of a decoder block:  h = x + residual,  y = rmsnorm(h);  returns y and h.

(RMSNorm: Zhang & Sennrich, 2019, arXiv:1910.07467)
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from .rmsnorm import check_shape


class AddRMSNorm(nn.RMSNorm):
    """Stock.  x and residual of one shape -> the normalised sum y and the sum h, which is the next residual."""

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        h = x + residual
        return super().forward(h), h


class AddRMSNormFunction(torch.autograd.Function):
    """With r = 1 / sqrt(mean(h^2) + eps), h_hat = r h, and g and e the gradients of y and h:  dL/dw = sum of g h_hat over the rows,
    dL/dx = dL/dresidual = e + r (g w - h_hat mean(g w h_hat)).   Either of g and e may be missing.

    Saves h, which the caller gets anyway, w and one r per row.  Half types are computed in float32, from h as it was rounded.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None, eps: float | None
    ) -> tuple[Tensor, Tensor]:
        ctx.width = math.prod(normalized_shape)
        ctx.set_materialize_grads(False)
        h = x + residual
        dtype = torch.promote_types(h.dtype, torch.float32)
        rows = h.reshape(-1, ctx.width)
        squares = rows.to(dtype).square()
        rstd = squares.mean(1, keepdim=True).add_(torch.finfo(dtype).eps if eps is None else eps).rsqrt_()
        ctx.save_for_backward(h, weight, rstd)
        y = torch.mul(rows, rstd, out=squares)  # their memory is free by now
        if weight is not None:
            y.mul_(weight.reshape(ctx.width))
        return y.to(h.dtype).view(h.shape), h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_h: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return grad_h, grad_h, None, None, None
        h, weight, rstd = ctx.saved_tensors
        wants_x, wants_residual, _, wants_weight, _ = ctx.needs_input_grad
        h_hat = h.reshape(-1, ctx.width) * rstd
        grad_rows = grad.reshape(-1, ctx.width)
        product = h_hat * grad_rows
        grad_weight = product.sum(0).to(weight.dtype).view(weight.shape) if wants_weight else None
        if not wants_x and not wants_residual:
            return None, None, None, grad_weight, None
        scale = rstd.new_ones(ctx.width) if weight is None else weight.reshape(ctx.width).to(rstd.dtype)
        mean = (product @ scale).div_(ctx.width).unsqueeze(1)
        total = torch.mul(grad_rows, scale, out=product)  # its memory is free by now
        total.addcmul_(h_hat, mean, value=-1).mul_(rstd)
        if grad_h is not None:
            total += grad_h.reshape(total.shape)
        total = total.to(h.dtype).view(h.shape)
        return total, total, None, grad_weight, None


class FunctionAddRMSNorm(AddRMSNorm):
    """AddRMSNorm with the hand-derived backward of AddRMSNormFunction, for x and residual of one shape.  Raises ValueError for others."""

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape != residual.shape:
            raise ValueError(f"FunctionAddRMSNorm: x is {tuple(x.shape)}, residual {tuple(residual.shape)}; give both one shape")
        check_shape(self, x)
        return AddRMSNormFunction.apply(x, residual, self.normalized_shape, self.weight, self.eps)


class TritonAddRMSNorm(AddRMSNorm):
    """AddRMSNorm with the Triton kernels of kernels/rmsnorm.py."""

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        from ..kernels.rmsnorm import add_rms_norm  # here, so that this file can be read where Triton is not installed

        return add_rms_norm(x, residual, self.normalized_shape, self.weight, self.eps)


add_rmsnorm = Layer(
    "add_rmsnorm",
    sweep={"batch": (1, 8, 32), "tokens": (64,), "width": (1024,)},
    inputs=(randn("batch", "tokens", "width"), randn("batch", "tokens", "width")),
    build=lambda module, size: module(size["width"], eps=1e-6),
    variants={
        "stock": Variant(AddRMSNorm),
        "function": Variant(FunctionAddRMSNorm),
        "triton": Variant(TritonAddRMSNorm, devices=GPU),
        "compile": Variant(AddRMSNorm, compile=True),
    },
    verify_at=(
        {"batch": 2, "tokens": 3, "width": 13},
        {"batch": 3, "tokens": 23, "width": 70},  # several rows to a program, the last program part full
        {"batch": 1, "tokens": 3, "width": 5_000},  # one long row to a program
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 4, 16), "tokens": (1024,), "width": (4096,)},
)
