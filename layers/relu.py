"""ReLU:  y = max(x, 0).   (torch.nn.ReLU)"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class ReLUFunction(torch.autograd.Function):
    """dL/dx = g where y > 0, else 0; at x = 0, where there is no derivative, 0 as in stock.

    Saves y alone: it tells the sign of x, and the next layer saves it as its own input.
    The selection is one fused operation of torch: a product with y > 0 takes two passes, and makes NaN of an infinite g.
    On a CPU, at some ten thousand numbers, Python's share of forward is as long as the work.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grad, y, 0)


def _check(module: nn.ReLU) -> None:
    """Raises ValueError for what the variants leave out."""
    if module.inplace:
        raise ValueError(f"{type(module).__name__}: this variant takes no inplace; use nn.ReLU for that")


class FunctionReLU(nn.ReLU):
    """nn.ReLU with the hand-derived backward of ReLUFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self)
        return ReLUFunction.apply(input)


class TritonReLU(nn.ReLU):
    """nn.ReLU with the Triton kernels of kernels/activations.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.activations import relu  # here, so that this file can be read where Triton is not installed

        _check(self)
        return relu(input)


relu = Layer(
    "relu",
    sweep={"batch": (1, 4, 16), "tokens": (64,), "width": (768,)},
    inputs=(randn("batch", "tokens", "width"),),
    build=lambda module, size: module(),
    variants={
        "stock": Variant(nn.ReLU),
        "function": Variant(FunctionReLU),
        "triton": Variant(TritonReLU, devices=GPU),
        "compile": Variant(nn.ReLU, compile=True),
    },
    verify_at=(
        {"batch": 3, "tokens": 5, "width": 7},  # one block, part full
        {"batch": 3, "tokens": 7, "width": 130},  # several blocks, the last part full
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 4, 16), "tokens": (2048,), "width": (4096,)},
)
