"""RMSNorm over the last axes:  y = x / sqrt(mean(x^2) + eps) * weight.   (Zhang & Sennrich, 2019, arXiv:1910.07467)"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable


class RMSNormFunction(torch.autograd.Function):
    """With r = 1 / sqrt(mean(x^2) + eps) and x_hat = r x:  dL/dw = sum of g x_hat over the rows,
    dL/dx = r (g w - x_hat mean(g w x_hat)).

    Saves x, w and one r per row; x_hat is one multiplication away.  Half types are computed in float32, as stock does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None, eps: float | None) -> Tensor:
        ctx.width = math.prod(normalized_shape)
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows = x.reshape(-1, ctx.width)
        squares = rows.to(dtype).square()
        rstd = squares.mean(1, keepdim=True).add_(torch.finfo(dtype).eps if eps is None else eps).rsqrt_()
        ctx.save_for_backward(x, weight, rstd)
        y = torch.mul(rows, rstd, out=squares)  # their memory is free by now
        if weight is not None:
            y.mul_(weight.reshape(ctx.width))
        return y.to(x.dtype).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rstd = ctx.saved_tensors
        wants_x, _, wants_weight, _ = ctx.needs_input_grad
        x_hat = x.reshape(-1, ctx.width) * rstd
        grad_rows = grad.reshape(-1, ctx.width)
        product = x_hat * grad_rows
        grad_weight = product.sum(0).to(weight.dtype).view(weight.shape) if wants_weight else None
        if not wants_x:
            return None, None, grad_weight, None
        scale = rstd.new_ones(ctx.width) if weight is None else weight.reshape(ctx.width).to(rstd.dtype)
        mean = (product @ scale).div_(ctx.width).unsqueeze(1)
        grad_x = torch.mul(grad_rows, scale, out=product)  # its memory is free by now
        grad_x.addcmul_(x_hat, mean, value=-1).mul_(rstd)
        return grad_x.to(x.dtype).view(x.shape), None, grad_weight, None


def check_shape(norm: nn.RMSNorm, x: Tensor) -> None:
    """Raises ValueError, where stock raises an error too, unless x ends in normalized_shape."""
    shape = norm.normalized_shape
    if x.shape[-len(shape) :] != shape:
        raise ValueError(f"{type(norm).__name__}: x is {tuple(x.shape)}, normalized_shape {shape}; give x of shape (..., {str(shape)[1:]}")


class FunctionRMSNorm(nn.RMSNorm):
    """nn.RMSNorm with the hand-derived backward of RMSNormFunction."""

    def forward(self, x: Tensor) -> Tensor:
        check_shape(self, x)
        return RMSNormFunction.apply(x, self.normalized_shape, self.weight, self.eps)


class TritonRMSNorm(nn.RMSNorm):
    """nn.RMSNorm with the Triton kernels of kernels/rmsnorm.py."""

    def forward(self, x: Tensor) -> Tensor:
        from ..kernels.rmsnorm import rms_norm  # here, so that this file can be read where Triton is not installed

        return rms_norm(x, self.normalized_shape, self.weight, self.eps)


rmsnorm = Layer(
    "rmsnorm",
    sweep={"batch": (1, 8, 64), "tokens": (64,), "width": (1024,)},
    inputs=(randn("batch", "tokens", "width"),),
    build=lambda module, size: module(size["width"], eps=1e-6),
    variants={
        "stock": Variant(nn.RMSNorm),
        "function": Variant(FunctionRMSNorm),
        "triton": Variant(TritonRMSNorm, devices=GPU),
        "compile": Variant(nn.RMSNorm, compile=True),
    },
    verify_at=(
        {"batch": 3, "tokens": 23, "width": 70},  # several rows to a program, the last program part full
        {"batch": 1, "tokens": 5, "width": 5_000},  # one long row to a program
    ),
    gpu_sweep={"batch": (1, 4, 16), "tokens": (1024,), "width": (4096,)},
)
