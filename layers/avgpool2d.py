"""2-D average pooling over windows side by side:  y = mean over the k x k window of x.   (torch.nn.AvgPool2d)

Rows and columns that fill no window are left out.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class AvgPool2dFunction(torch.autograd.Function):
    """dL/dx = g / k^2 at every position of a window, 0 at those in none.

    Saves the height and width of x; stock keeps x.  g is divided before it is spread, in its own type: one rounding, as in stock.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: int) -> Tensor:
        ctx.plane, ctx.window = x.shape[2:], window
        return F.avg_pool2d(x, window)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        share = grad / ctx.window**2
        spread = share.repeat_interleave(ctx.window, 3).repeat_interleave(ctx.window, 2)
        rows, columns = (size % ctx.window for size in ctx.plane)
        return F.pad(spread, (0, columns, 0, rows)) if rows or columns else spread, None


def _check(pool: nn.AvgPool2d, input: Tensor) -> None:
    """Raises ValueError for what the variants leave out."""
    given = pool.stride, pool.padding, pool.ceil_mode, pool.divisor_override
    if not isinstance(pool.kernel_size, int) or given != (pool.kernel_size, 0, False, None) or input.dim() != 4:
        raise ValueError(
            f"{pool} of {tuple(input.shape)}: this variant takes (batch, channels, height, width), a window of one int, stride = window, "
            f"and no padding, ceil_mode or divisor_override; use nn.AvgPool2d for others"
        )


class FunctionAvgPool2d(nn.AvgPool2d):
    """nn.AvgPool2d, stride = window, with the hand-derived backward of AvgPool2dFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input)
        return AvgPool2dFunction.apply(input, self.kernel_size)


class TritonAvgPool2d(nn.AvgPool2d):
    """nn.AvgPool2d, stride = window, with the Triton kernels of kernels/avgpool2d.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.avgpool2d import avg_pool2d  # here, so that this file can be read where Triton is not installed

        _check(self, input)
        return avg_pool2d(input, self.kernel_size)


avgpool2d = Layer(
    "avgpool2d",
    sweep={"batch": (1, 4, 16), "channels": (64,), "height": (32,), "width": (32,), "window": (2,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module(size["window"]),
    variants={
        "stock": Variant(nn.AvgPool2d),
        "function": Variant(FunctionAvgPool2d),
        "triton": Variant(TritonAvgPool2d, devices=GPU),
        "compile": Variant(nn.AvgPool2d, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 3, "height": 7, "width": 9, "window": 2},
        {"batch": 1, "channels": 2, "height": 45, "width": 71, "window": 2},  # several blocks to a plane
        {"batch": 2, "channels": 1, "height": 10, "width": 11, "window": 3},
        {"batch": 1, "channels": 1, "height": 39, "width": 40, "window": 37},  # windows of more than one block
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 64), "height": (112,), "width": (112,)},
)
