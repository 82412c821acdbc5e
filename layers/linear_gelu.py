"""Linear and GELU:  y = z P(z)  with  z = x W^T + b  and  P(z) = (1 + erf(z / sqrt 2)) / 2.   (Hendrycks & Gimpel, 2016, arXiv:1606.08415)

The first half of a Transformer's feed-forward layer.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from .gelu import slope


class LinearGELU(nn.Linear):
    """Stock.  (..., in_features) -> (..., out_features)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(F.linear(input, self.weight, self.bias))


class LinearGELUFunction(torch.autograd.Function):
    """With the normal density p:  d = g (P(z) + z p(z)),  dL/dx = d W,  dL/dW = d^T x,  dL/db = sum of d over the rows.

    Saves z as stock does, x only if W wants a gradient, and W only if x wants one.  z cannot be told from y, for GELU falls and rises;
    computing it again would save its bytes and cost a product, a third more than the three there are.
    The slope of half types is computed in float32, as stock does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_x, wants_weight, _ = ctx.needs_input_grad
        z = F.linear(x, weight, bias)
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None, z)
        return F.gelu(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, z = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        d = slope(z.to(torch.promote_types(z.dtype, torch.float32))).mul_(grad).to(z.dtype)
        rows = d.reshape(-1, d.shape[-1])  # every leading dimension is a batch: 1-D inputs are one row
        grad_x = (rows @ weight).view(*d.shape[:-1], weight.shape[1]) if wants_x else None
        grad_weight = rows.T @ x.reshape(-1, x.shape[-1]) if wants_weight else None
        grad_bias = rows.sum(0) if wants_bias else None
        return grad_x, grad_weight, grad_bias


class FunctionLinearGELU(LinearGELU):
    """LinearGELU with the hand-derived backward of LinearGELUFunction."""

    def forward(self, input: Tensor) -> Tensor:
        return LinearGELUFunction.apply(input, self.weight, self.bias)


class TritonLinearGELU(LinearGELU):
    """LinearGELU with the Triton kernels of kernels/linear_gelu.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.linear_gelu import linear_gelu  # here, so that this file can be read where Triton is not installed

        return linear_gelu(input, self.weight, self.bias)


linear_gelu = Layer(
    "linear_gelu",
    sweep={"batch": (1, 16, 128), "in_features": (256,), "out_features": (1024,)},
    inputs=(randn("batch", "in_features"),),
    build=lambda module, size: module(size["in_features"], size["out_features"]),
    variants={
        "stock": Variant(LinearGELU),
        "function": Variant(FunctionLinearGELU),
        "triton": Variant(TritonLinearGELU, devices=GPU),
        "compile": Variant(LinearGELU, compile=True),
    },
    verify_at=(
        {"batch": 3, "in_features": 7, "out_features": 5},
        {"batch": 67, "in_features": 37, "out_features": 130},
        {"batch": 131, "in_features": 5, "out_features": 3},  # two partial sums of the bias gradient
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 256, 8192), "in_features": (2048,), "out_features": (8192,)},
)
