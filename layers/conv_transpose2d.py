"""Transposed 2-D convolution:  y[n, o, i, j] = b[o] + sum of W[c, o, r, s] x[n, c, p, q]

over all c, p, q, r, s with  S p + r - P = i  and  S q + s - P = j,  of stride S and padding P.   (torch.nn.ConvTranspose2d; without groups,
dilation and output padding)

4 x 4 taps, S = 2 and P = 1 double height and width, as in the generator of DCGAN (Radford et al., 2015, arXiv:1511.06434); the default has
the channels of its next to last layer, for 32 x 32 images.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from .conv2d import correlate


class ConvTranspose2dFunction(torch.autograd.Function):
    """Each x[n, c, p, q] meets W[c, o, r, s] in y[n, o, S p + r - P, S q + s - P], where that is inside.  Hence

    dL/dx[n, c, p, q] = sum over o, r, s of W[c, o, r, s] g[n, o, S p + r - P, S q + s - P]: the convolution of g with W,
    dL/dW[c, o, r, s] = sum over n, p, q of x[n, c, p, q] g[n, o, S p + r - P, S q + s - P]: see correlate in conv2d.py,
    dL/db = sum of g over n, i, j.

    Saves x only if W wants a gradient, and W only if x wants one; y is not needed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        ctx.stride, ctx.padding, ctx.kernel = stride, padding, weight.shape[2:]
        return F.conv_transpose2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        grad_x = F.conv2d(grad, weight, None, ctx.stride, ctx.padding) if wants_x else None
        grad_weight = correlate(grad, x, ctx.kernel, ctx.stride, ctx.padding) if wants_weight else None
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if wants_bias else None, None, None


def _check(conv: nn.ConvTranspose2d, input: Tensor, output_size: list[int] | None, square: bool) -> None:
    """Raises ValueError for what the variants leave out, `square` those with one stride and one padding for both axes."""
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.output_padding == (0, 0) and output_size is None
    if not plain or input.dim() != 4 or (square and (len({*conv.stride}) > 1 or len({*conv.padding}) > 1)):
        raise ValueError(
            f"{conv} of {tuple(input.shape)}: this variant takes (batch, channels, height, width) and no groups, dilation, output_padding "
            f"or output_size{', and one stride and one padding for both axes' if square else ''}; use nn.ConvTranspose2d for others"
        )


class FunctionConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d with the hand-derived backward of ConvTranspose2dFunction."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        _check(self, input, output_size, square=False)
        return ConvTranspose2dFunction.apply(input, self.weight, self.bias, self.stride, self.padding)


class TritonConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d with the Triton kernels of kernels/conv2d.py."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        from ..kernels.conv2d import conv_transpose2d  # here, so that this file can be read where Triton is not installed

        _check(self, input, output_size, square=True)
        return conv_transpose2d(input, self.weight, self.bias, self.stride[0], self.padding[0])


conv_transpose2d = Layer(
    "conv_transpose2d",
    sweep={"batch": (1, 4, 16), "channels": (64,), "out": (32,), "height": (8,), "width": (8,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module(size["channels"], size["out"], 4, stride=2, padding=1),
    variants={
        "stock": Variant(nn.ConvTranspose2d),
        "function": Variant(FunctionConvTranspose2d),
        "triton": Variant(TritonConvTranspose2d, devices=GPU),
        "compile": Variant(nn.ConvTranspose2d, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 2, "out": 3, "height": 3, "width": 4},
        {"batch": 3, "channels": 3, "out": 18, "height": 19, "width": 21},  # two shares of the positions, several blocks of everything
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 32), "channels": (128,), "out": (64,), "height": (56,), "width": (56,)},
)
