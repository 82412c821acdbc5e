"""2-D convolution:  y[n, o, p, q] = b[o] + sum over c, r, s of W[o, c, r, s] x[n, c, S p + r - P, S q + s - P]

with stride S and P zeros around x.   (torch.nn.Conv2d; without groups and dilation)

conv2d_k5 is the second convolution of LeNet-5 (LeCun et al., 1998), conv2d_k3 and conv2d_k3_stride2 are those of the small residual
networks for CIFAR (He et al., 2016, arXiv:1512.03385), between whose stages the stride halves the image and the channels double.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class Conv2dFunction(torch.autograd.Function):
    """Each x[n, c, i, j] meets W[o, c, r, s] in the one output where S p + r - P = i and S q + s - P = j, if there is one.  Hence

    dL/dx[n, c, i, j] = sum over these of g[n, o, p, q] W[o, c, r, s]: the transposed convolution of g with W,
    dL/dW[o, c, r, s] = sum over n, p, q of g[n, o, p, q] x[n, c, S p + r - P, S q + s - P]: see correlate,
    dL/db = sum of g over n, p, q.

    Saves x only if W wants a gradient, and W only if x wants one; y is not needed.
    On a CPU at batch 1, its two convolutions in backward take up to twice as long as stock's single call.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        ctx.stride, ctx.padding, ctx.kernel = stride, padding, weight.shape[2:]
        # the last rows and columns of x that a stride steps over: in no window, they get a gradient of 0
        ctx.beyond = tuple((n + 2 * p - k) % s for n, p, k, s in zip(x.shape[2:], padding, ctx.kernel, stride, strict=True))
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        grad_x = F.conv_transpose2d(grad, weight, None, ctx.stride, ctx.padding, ctx.beyond) if wants_x else None
        grad_weight = correlate(x, grad, ctx.kernel, ctx.stride, ctx.padding) if wants_weight else None
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if wants_bias else None, None, None


def correlate(fine: Tensor, coarse: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """result[o, c, r, s] = sum over n, p, q of coarse[n, o, p, q] fine[n, c, S p + r - P, S q + s - P], (r, s) within kernel.

    With batch and channels exchanged this is itself a convolution: of fine, by a kernel coarse whose taps lie S apart.
    """
    if not len(coarse):  # a convolution over no channels, of which torch gets the shape wrong
        return coarse.new_zeros(coarse.shape[1], fine.shape[1], *kernel)
    ends = (s * (m - 1) + k - n - p for m, n, k, s, p in zip(coarse.shape[2:], fine.shape[2:], kernel, stride, padding, strict=True))
    below, right = ends  # of fine's last row and column: zeros to add, or, if negative, rows and columns that no window reaches
    if (below, right) != padding:  # else the convolution adds the zeros itself
        fine, padding = F.pad(fine, (padding[1], right, padding[0], below)), (0, 0)
    return F.conv2d(fine.transpose(0, 1), coarse.transpose(0, 1), padding=padding, dilation=stride).transpose(0, 1)


def _check(conv: nn.Conv2d, input: Tensor, square: bool) -> None:
    """Raises ValueError for what the variants leave out, `square` those with one stride and one padding for both axes."""
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    if not plain or input.dim() != 4 or (square and (len({*conv.stride}) > 1 or len({*conv.padding}) > 1)):
        raise ValueError(
            f"{conv} of {tuple(input.shape)}: this variant takes (batch, channels, height, width) and no groups, dilation, padding_mode or "
            f"padding by name{', and one stride and one padding for both axes' if square else ''}; use nn.Conv2d for others"
        )


class FunctionConv2d(nn.Conv2d):
    """nn.Conv2d with the hand-derived backward of Conv2dFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self, input, square=False)
        return Conv2dFunction.apply(input, self.weight, self.bias, self.stride, self.padding)


class TritonConv2d(nn.Conv2d):
    """nn.Conv2d with the Triton kernels of kernels/conv2d.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.conv2d import conv2d  # here, so that this file can be read where Triton is not installed

        _check(self, input, square=True)
        return conv2d(input, self.weight, self.bias, self.stride[0], self.padding[0])


conv2d_k5 = Layer(
    "conv2d_k5",
    sweep={"batch": (1, 16, 128), "channels": (6,), "out": (16,), "height": (14,), "width": (14,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module(size["channels"], size["out"], 5),
    variants={
        "stock": Variant(nn.Conv2d),
        "function": Variant(FunctionConv2d),
        "triton": Variant(TritonConv2d, devices=GPU),
        "compile": Variant(nn.Conv2d, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 2, "out": 3, "height": 7, "width": 6},
        {"batch": 3, "channels": 3, "out": 18, "height": 23, "width": 25},  # two shares of the positions, several blocks of everything
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 16, 128), "channels": (32,), "out": (64,), "height": (56,), "width": (56,)},
)

conv2d_k3 = Layer(
    "conv2d_k3",
    sweep={"batch": (1, 8, 32), "channels": (32,), "out": (32,), "height": (16,), "width": (16,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module(size["channels"], size["out"], 3, padding=1, bias=False),
    variants=conv2d_k5.variants,
    verify_at=(
        {"batch": 2, "channels": 2, "out": 3, "height": 5, "width": 6},
        {"batch": 3, "channels": 5, "out": 18, "height": 19, "width": 21},
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 64), "channels": (128,), "out": (128,), "height": (56,), "width": (56,)},
)

conv2d_k3_stride2 = Layer(
    "conv2d_k3_stride2",
    sweep={"batch": (1, 8, 32), "channels": (32,), "out": (64,), "height": (16,), "width": (16,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module(size["channels"], size["out"], 3, stride=2, padding=1, bias=False),
    variants=conv2d_k5.variants,
    verify_at=(
        {"batch": 2, "channels": 2, "out": 3, "height": 5, "width": 6},
        {"batch": 3, "channels": 5, "out": 18, "height": 39, "width": 42},
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 64), "channels": (128,), "out": (256,), "height": (56,), "width": (56,)},
)
