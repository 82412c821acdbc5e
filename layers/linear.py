"""Linear:  y = x W^T + b.   (torch.nn.Linear)

At batch 1 it is bound by reading W, at large batches by arithmetic.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class LinearFunction(torch.autograd.Function):
    """y = x W^T + b, so that  dL/dx = g W,  dL/dW = g^T x  and  dL/db = sum of g over the rows.

    Saves x only if W wants a gradient, and W only if x wants one; y is not needed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])  # every leading dimension is a batch: 1-D inputs are one row
        grad_x = (rows @ weight).view(*grad.shape[:-1], weight.shape[1]) if wants_x else None
        grad_weight = rows.T @ x.reshape(-1, x.shape[-1]) if wants_weight else None
        grad_bias = rows.sum(0) if wants_bias else None
        return grad_x, grad_weight, grad_bias


class FunctionLinear(nn.Linear):
    """nn.Linear with the hand-derived backward of LinearFunction."""

    def forward(self, input: Tensor) -> Tensor:
        return LinearFunction.apply(input, self.weight, self.bias)


class TritonLinear(nn.Linear):
    """nn.Linear with the Triton kernels of kernels/matmul.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.matmul import linear  # here, so that this file can be read where Triton is not installed

        return linear(input, self.weight, self.bias)


linear = Layer(
    "linear",
    sweep={"batch": (1, 16, 256), "in_features": (512,), "out_features": (512,)},
    inputs=(randn("batch", "in_features"),),
    build=lambda module, size: module(size["in_features"], size["out_features"]),
    variants={
        "stock": Variant(nn.Linear),
        "function": Variant(FunctionLinear),
        "triton": Variant(TritonLinear, devices=GPU),
        "compile": Variant(nn.Linear, compile=True),
    },
    verify_at=(
        {"batch": 3, "in_features": 70, "out_features": 45},
        {"batch": 67, "in_features": 37, "out_features": 130},
    ),
    gpu_sweep={"batch": (1, 256, 8192), "in_features": (4096,), "out_features": (4096,)},
)
