"""Depthwise 2-D convolution, a kernel to each channel:  y[n, c, p, q] = b[c] + sum over r, s of W[c, r, s] x[n, c, p + r - P, q + s - P]

with P zeros around x: 3 x 3 taps and P = 1 here.   (torch.nn.Conv2d with groups = channels; MobileNet: Howard et al., 2017,
arXiv:1704.04861)   Nine multiplications to each number read: bound by memory.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class DepthwiseConv2dFunction(torch.autograd.Function):
    """Each x[n, c, i, j] meets W[c, r, s] in y[n, c, i - r + P, j - s + P].  Hence

    dL/dx[n, c, i, j] = sum over r, s of W[c, r, s] g[n, c, i - r + P, j - s + P]: the transposed convolution of g with W,
    dL/dW[c, r, s] = sum over n, p, q of g[n, c, p, q] x[n, c, p + r - P, q + s - P],
    dL/db = sum of g over n, p, q.

    For one image and channel, dL/dW is itself a convolution of a plane, by a kernel as large as g.  All of them are one depthwise
    convolution of batch * channels planes; their sum over the batch follows.
    Saves x only if W wants a gradient, and W only if x wants one; y is not needed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        ctx.padding, ctx.kernel = padding, weight.shape[2:]
        return F.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = F.conv_transpose2d(grad, weight, padding=ctx.padding, groups=grad.shape[1]) if wants_x else None
        grad_weight = _correlate(x, grad, ctx.kernel, ctx.padding) if wants_weight else None
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if wants_bias else None, None


def _correlate(x: Tensor, grad: Tensor, kernel: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """dL/dW (channels, 1, *kernel)."""
    if not len(x):
        return x.new_zeros(x.shape[1], 1, *kernel)  # torch has no convolution of 0 groups
    planes, kernels = x.flatten(0, 1).unsqueeze(0), grad.flatten(0, 1).unsqueeze(1)
    taps = F.conv2d(planes, kernels, padding=padding, groups=len(kernels))
    return taps.view(*x.shape[:2], 1, *kernel).sum(0)


def _check(conv: nn.Conv2d, input: Tensor, square: bool) -> None:
    """Raises ValueError for what the variants leave out, `square` those with one padding for both axes."""
    plain = conv.stride == conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    if not plain or not depthwise or input.dim() != 4 or (square and len({*conv.padding}) > 1):
        raise ValueError(
            f"{conv} of {tuple(input.shape)}: this variant takes (batch, channels, height, width), one kernel to a channel, and no stride, "
            f"dilation, padding_mode or named padding{', one padding for both axes' if square else ''}; use nn.Conv2d for others"
        )


class FunctionDepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d, groups = channels, with the hand-derived backward of DepthwiseConv2dFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input, square=False)
        return DepthwiseConv2dFunction.apply(input, self.weight, self.bias, self.padding)


class TritonDepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d, groups = channels, with the Triton kernels of kernels/depthwise_conv2d.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.depthwise_conv2d import depthwise_conv2d  # here, so that this file can be read where Triton is not installed

        _check(self, input, square=True)
        return depthwise_conv2d(input, self.weight, self.bias, self.padding[0])


depthwise_conv2d = Layer(
    "depthwise_conv2d",
    sweep={"batch": (1, 8, 32), "channels": (64,), "height": (28,), "width": (28,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module(size["channels"], size["channels"], 3, padding=1, groups=size["channels"]),
    variants={
        "stock": Variant(nn.Conv2d),
        "function": Variant(FunctionDepthwiseConv2d),
        "triton": Variant(TritonDepthwiseConv2d, devices=GPU),
        "compile": Variant(nn.Conv2d, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 3, "height": 5, "width": 7},
        {"batch": 2, "channels": 3, "height": 33, "width": 35},  # several blocks to a plane
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 64), "channels": (256,), "height": (56,), "width": (56,)},
)
