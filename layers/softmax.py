"""Softmax along one dimension:  y_i = exp(x_i - max x) / sum_j exp(x_j - max x).   (torch.nn.Softmax)"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class SoftmaxFunction(torch.autograd.Function):
    """dy_i/dx_j = y_i (1[i = j] - y_j), so that  dL/dx = y g - y sum(y g).

    Saves y alone.  Half types are computed in float32, as stock does, which costs a float32 copy of y in backward.
    On a CPU, backward is several passes over memory where stock makes one; at a few thousand numbers Python's share shows as well.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        y = torch.softmax(x, dim)
        ctx.save_for_backward(y)
        ctx.dim = dim
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        y = y.to(torch.promote_types(y.dtype, torch.float32))
        product = y * grad
        return product.addcmul_(y, product.sum(ctx.dim, keepdim=True), value=-1).to(grad.dtype), None


def _check(module: nn.Softmax) -> None:
    """Raises ValueError where stock would choose the dimension itself, with a warning."""
    if module.dim is None:
        raise ValueError(f"{type(module).__name__}: dim is None; give dim")


class FunctionSoftmax(nn.Softmax):
    """nn.Softmax with the hand-derived backward of SoftmaxFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self)
        return SoftmaxFunction.apply(input, self.dim)


class TritonSoftmax(nn.Softmax):
    """nn.Softmax with the Triton kernels of kernels/softmax.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.softmax import softmax  # here, so that this file can be read where Triton is not installed

        _check(self)
        return softmax(input, self.dim)


softmax = Layer(
    "softmax",
    sweep={"batch": (1, 16, 256), "width": (4096,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(dim=-1),
    variants={
        "stock": Variant(nn.Softmax),
        "function": Variant(FunctionSoftmax),
        "triton": Variant(TritonSoftmax, devices=GPU),
        "compile": Variant(nn.Softmax, compile=True),
    },
    verify_at=(
        {"batch": 37, "width": 70},  # several rows to a program, the last program part full
        {"batch": 2, "width": 16_500},  # rows longer than one block
    ),
    gpu_sweep={"batch": (16, 256, 2048, 16_384)},
)
