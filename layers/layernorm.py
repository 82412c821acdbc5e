"""LayerNorm over the last axes:  y = (x - mean x) / sqrt(var x + eps) * weight + bias.   (Ba, Kiros & Hinton, 2016, arXiv:1607.06450)"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from ._blocks import blocks


class LayerNormFunction(torch.autograd.Function):
    """With m = mean x, r = 1 / sqrt(var x + eps) and x_hat = r (x - m):  dL/dw = sum of g x_hat and dL/db = sum of g over the rows.

    m depends on x, which takes the mean off the gradient; r does too, which takes off the part along x_hat:
    dL/dx = r (g w - mean(g w) - x_hat mean(g w x_hat)).

    Saves x, w, and m and r of each row; x_hat is two operations away.  Forward is torch's own kernel, which returns m and r.
    Half types are computed in float32; only m and r are kept in the half type on a CPU, as stock keeps them.
    On a CPU, backward goes by blocks of rows, whose temporaries stay in the caches; even so backward takes three to five times
    as long as stock's (docs/layers.md), for it passes over each block a dozen times where stock's fused kernels do twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        y, mean, rstd = torch.native_layer_norm(x, normalized_shape, weight, bias, eps)
        ctx.shape = normalized_shape
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        wants_x, _, wants_weight, wants_bias, _ = ctx.needs_input_grad
        width = math.prod(ctx.shape)
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows, grad_rows = x.reshape(-1, width), grad.reshape(-1, width)
        mean, rstd = mean.view(-1, 1).to(dtype), rstd.view(-1, 1).to(dtype)
        scale = rstd.new_ones(width) if weight is None else weight.reshape(width).to(dtype)
        grad_x = torch.empty_like(rows) if wants_x else None
        grad_weight, grad_bias = rstd.new_zeros(2, width)
        for part in blocks(rows):
            g = grad_rows[part].to(dtype)
            x_hat = (rows[part] - mean[part]).mul_(rstd[part])
            product = x_hat * g
            if wants_weight:
                grad_weight += product.sum(0)
            if wants_bias:
                grad_bias += g.sum(0)
            if wants_x:
                level, along = ((each @ scale).div_(width).unsqueeze(1) for each in (g, product))
                d = torch.mul(g, scale, out=product)  # its memory is free by now
                torch.mul(d.sub_(level).addcmul_(x_hat, along, value=-1), rstd[part], out=grad_x[part])
        return (
            grad_x.view(x.shape) if wants_x else None,
            None,
            grad_weight.view(ctx.shape) if wants_weight else None,  # autograd rounds both to the parameters' own type
            grad_bias.view(ctx.shape) if wants_bias else None,
            None,
        )


class FunctionLayerNorm(nn.LayerNorm):
    """nn.LayerNorm with the hand-derived backward of LayerNormFunction."""

    def forward(self, input: Tensor) -> Tensor:
        return LayerNormFunction.apply(input, self.normalized_shape, self.weight, self.bias, self.eps)


class TritonLayerNorm(nn.LayerNorm):
    """nn.LayerNorm with the Triton kernels of kernels/layernorm.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.layernorm import layer_norm  # here, so that this file can be read where Triton is not installed

        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


layernorm = Layer(
    "layernorm",
    sweep={"batch": (1, 8, 32), "tokens": (64,), "width": (768,)},
    inputs=(randn("batch", "tokens", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={
        "stock": Variant(nn.LayerNorm),
        "function": Variant(FunctionLayerNorm),
        "triton": Variant(TritonLayerNorm, devices=GPU),
        "compile": Variant(nn.LayerNorm, compile=True),
    },
    verify_at=(
        {"batch": 2, "tokens": 3, "width": 13},
        {"batch": 3, "tokens": 23, "width": 70},  # several rows to a program, the last program part full
        {"batch": 1, "tokens": 3, "width": 4_500},  # one long row to a program
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 4, 16), "tokens": (1024,), "width": (4096,)},
)
