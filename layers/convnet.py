"""The small convolutional network of the MNIST examples, from a (batch, 1, 28, 28) image to 10 scores:

Conv2d(1, 10, 5)  ReLU  MaxPool2d(2)  Conv2d(10, 20, 5)  ReLU  MaxPool2d(2)  flatten  Linear(320, 50)  ReLU  Linear(50, 10).
(after LeNet-5: LeCun et al., "Gradient-based learning applied to document recognition", 1998)

The hand-written variants take the maximum before the ReLU: they commute, and the ReLU then sees a quarter of the numbers.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from .conv2d import correlate


class ConvNet(nn.Module):
    """Stock.  (batch, 1, 28, 28) -> (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.hidden = nn.Linear(320, 50)
        self.scores = nn.Linear(50, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(image)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.scores(F.relu(self.hidden(x.flatten(1))))


class ConvPoolReLUFunction(torch.autograd.Function):
    """y = relu(max over 2x2 of (x * W + b)), * a convolution of stride 1 without padding.

    ReLU lets the gradient pass where y > 0 and the maximum hands it to the position that won; call the result d.  Then
    dL/dx = the transposed convolution of d with W,  dL/db = the sum of what passed, since the losers are zero, and
    dL/dW[o, c, r, s] = sum over n, p, q of d[n, o, p, q] x[n, c, p + r, q + s]: see correlate in conv2d.py.

    Saves x only if W wants a gradient, and W only if x wants one; y, and the winners in 16 bits where they fit.  y costs nothing, for the
    next layer saves it as its x; the convolution's output, four times as large, is not kept.
    On a CPU at batch 1, two convolutions where stock makes one call, and Python's share, make backward up to half as long again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        planes = F.conv2d(x, weight, bias)
        y, winners = F.max_pool2d(planes, 2, return_indices=True)
        y.relu_()
        ctx.plane, ctx.kernel = planes.shape[2:], weight.shape[2:]
        wants_x, wants_weight, _ = ctx.needs_input_grad
        saved = x if wants_weight else None, weight if wants_x else None
        ctx.save_for_backward(*saved, y, winners.to(torch.int16 if ctx.plane.numel() <= 2**15 else torch.int64))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y, winners = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        passed = grad.masked_fill(y <= 0, 0)
        d = grad.new_zeros(*y.shape[:2], ctx.plane.numel())
        d = d.scatter_(2, winners.flatten(2).long(), passed.flatten(2)).unflatten(2, ctx.plane)
        grad_x = F.conv_transpose2d(d, weight) if wants_x else None
        grad_weight = correlate(x, d, ctx.kernel, (1, 1), (0, 0)) if wants_weight else None
        return grad_x, grad_weight, passed.sum((2, 3)).sum(0) if wants_bias else None


class LinearReLULinearFunction(torch.autograd.Function):
    """y = h W2^T + b2 with h = relu(x W1^T + b1).

    With d = (g W2 where h > 0):  dL/dW2 = g^T h,  dL/db2 = sum of g,  dL/dx = d W1,  dL/dW1 = d^T x,  dL/db1 = sum of d.
    Saves h; x only if W1 wants a gradient, W1 only if x wants one, and W2 only if anything before it does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        h = F.linear(x, weight1, bias1).relu_()
        wants_x, wants_weight1, wants_bias1, *_ = ctx.needs_input_grad
        needed = wants_weight1, True, wants_x, wants_x or wants_weight1 or wants_bias1
        ctx.save_for_backward(*(each if need else None for each, need in zip((x, h, weight1, weight2), needed, strict=True)))
        return F.linear(h, weight2, bias2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, h, weight1, weight2 = ctx.saved_tensors
        wants_x, wants_weight1, wants_bias1, wants_weight2, wants_bias2 = ctx.needs_input_grad
        d = None if weight2 is None else (grad @ weight2).masked_fill_(h <= 0, 0)
        return (
            d @ weight1 if wants_x else None,
            d.T @ x if wants_weight1 else None,
            d.sum(0) if wants_bias1 else None,
            grad.T @ h if wants_weight2 else None,
            grad.sum(0) if wants_bias2 else None,
        )


class FunctionConvNet(ConvNet):
    """ConvNet with a hand-derived backward from end to end."""

    def forward(self, image: Tensor) -> Tensor:
        x = ConvPoolReLUFunction.apply(image, self.conv1.weight, self.conv1.bias)
        x = ConvPoolReLUFunction.apply(x, self.conv2.weight, self.conv2.bias)
        hidden, scores = self.hidden, self.scores
        return LinearReLULinearFunction.apply(x.flatten(1), hidden.weight, hidden.bias, scores.weight, scores.bias)


class TritonConvNet(ConvNet):
    """ConvNet with the Triton kernels of kernels/conv2d.py, maxpool2d.py and matmul.py; the ReLU of the 50 hidden numbers is torch's."""

    def forward(self, image: Tensor) -> Tensor:
        from ..kernels.conv2d import conv2d  # here, so that this file can be read where Triton is not installed
        from ..kernels.matmul import linear
        from ..kernels.maxpool2d import max_pool2d

        x = max_pool2d(conv2d(image, self.conv1.weight, self.conv1.bias), 2, relu=True)
        x = max_pool2d(conv2d(x, self.conv2.weight, self.conv2.bias), 2, relu=True)
        x = F.relu(linear(x.flatten(1), self.hidden.weight, self.hidden.bias))
        return linear(x, self.scores.weight, self.scores.bias)


convnet = Layer(
    "convnet",
    sweep={"batch": (1, 16, 128)},
    inputs=(randn("batch", 1, 28, 28),),
    build=lambda module, size: module(),
    variants={
        "stock": Variant(ConvNet),
        "function": Variant(FunctionConvNet),
        "triton": Variant(TritonConvNet, devices=GPU),
        "compile": Variant(ConvNet, compile=True),
    },
    verify_at=({"batch": 3},),
    gpu_sweep={"batch": (16, 128, 1024, 4096)},
)
