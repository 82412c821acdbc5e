"""2-D max pooling over windows side by side:  y = max over the k x k window of x.   (torch.nn.MaxPool2d)

Rows and columns that fill no window are left out.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class MaxPool2dFunction(torch.autograd.Function):
    """y = x at the winner of its window, so that  dL/dx = g at the winners and 0 elsewhere.  Windows share no position: nothing adds up.

    Saves each winner's place in its plane in 16 bits where it fits, a quarter of the indices that stock keeps; stock keeps x too.
    Numbers are only moved, so that every type is exact.
    On a CPU backward first widens the winners to 64 bits for the scatter, a pass that stock's indices do not need.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: int) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return F.max_pool2d(x, window)
        y, winners = F.max_pool2d(x, window, return_indices=True)
        ctx.plane = x.shape[2:]
        ctx.save_for_backward(winners.to(torch.int16 if ctx.plane.numel() <= 2**15 else torch.int32))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (winners,) = ctx.saved_tensors
        grad_x = grad.new_zeros(*grad.shape[:2], ctx.plane.numel())
        return grad_x.scatter_(2, winners.flatten(2).long(), grad.flatten(2)).unflatten(2, ctx.plane), None


def _check(pool: nn.MaxPool2d, input: Tensor) -> None:
    """Raises ValueError for what the variants leave out."""
    given = pool.stride, pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices
    if not isinstance(pool.kernel_size, int) or given != (pool.kernel_size, 0, 1, False, False) or input.dim() != 4:
        raise ValueError(
            f"{pool} of {tuple(input.shape)}: this variant takes (batch, channels, height, width), a window of one int, stride = window, "
            f"and no padding, dilation, ceil_mode or return_indices; use nn.MaxPool2d for others"
        )


class FunctionMaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d, stride = window, with the hand-derived backward of MaxPool2dFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input)
        return MaxPool2dFunction.apply(input, self.kernel_size)


class TritonMaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d, stride = window, with the Triton kernels of kernels/maxpool2d.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.maxpool2d import max_pool2d  # here, so that this file can be read where Triton is not installed

        _check(self, input)
        return max_pool2d(input, self.kernel_size)


maxpool2d = Layer(
    "maxpool2d",
    sweep={"batch": (1, 4, 16), "channels": (64,), "height": (32,), "width": (32,), "window": (2,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module(size["window"]),
    variants={
        "stock": Variant(nn.MaxPool2d),
        "function": Variant(FunctionMaxPool2d),
        "triton": Variant(TritonMaxPool2d, devices=GPU),
        "compile": Variant(nn.MaxPool2d, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 3, "height": 7, "width": 9, "window": 2},
        {"batch": 1, "channels": 2, "height": 69, "width": 71, "window": 2},  # several blocks to a plane
        {"batch": 2, "channels": 1, "height": 10, "width": 11, "window": 3},
        {"batch": 1, "channels": 1, "height": 183, "width": 181, "window": 2},  # places in a plane beyond 16 bits
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 64), "height": (112,), "width": (112,)},
)
