"""Log-softmax along one dimension:  y_i = x_i - max x - log sum_j exp(x_j - max x).   (torch.nn.LogSoftmax)"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable


class LogSoftmaxFunction(torch.autograd.Function):
    """dy_i/dx_j = 1[i = j] - exp(y_j), so that  dL/dx = g - exp(y) sum(g).

    Saves y alone.  Half types are computed in float32, as stock does, which costs a float32 copy of y in backward.
    On a CPU, backward is a few passes over memory where stock makes one; at a few thousand numbers Python's share shows as well.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        y = torch.log_softmax(x, dim)
        ctx.save_for_backward(y)
        ctx.dim = dim
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        dtype = torch.promote_types(y.dtype, torch.float32)
        total = grad.sum(ctx.dim, keepdim=True, dtype=dtype)
        power = y.to(dtype).mul(1 / math.log(2)).exp2_()  # exp(y); on a CPU exp2 is the faster of the two
        return power.mul_(total.neg_()).add_(grad).to(grad.dtype), None


def _check(module: nn.LogSoftmax) -> None:
    """Raises ValueError where stock would choose the dimension itself, with a warning."""
    if module.dim is None:
        raise ValueError(f"{type(module).__name__}: dim is None; give dim")


class FunctionLogSoftmax(nn.LogSoftmax):
    """nn.LogSoftmax with the hand-derived backward of LogSoftmaxFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self)
        return LogSoftmaxFunction.apply(input, self.dim)


class TritonLogSoftmax(nn.LogSoftmax):
    """nn.LogSoftmax with the Triton kernels of kernels/softmax.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.softmax import log_softmax  # here, so that this file can be read where Triton is not installed

        _check(self)
        return log_softmax(input, self.dim)


logsoftmax = Layer(
    "logsoftmax",
    sweep={"batch": (1, 16, 256), "width": (4096,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(dim=-1),
    variants={
        "stock": Variant(nn.LogSoftmax),
        "function": Variant(FunctionLogSoftmax),
        "triton": Variant(TritonLogSoftmax, devices=GPU),
        "compile": Variant(nn.LogSoftmax, compile=True),
    },
    verify_at=(
        {"batch": 5, "width": 13},  # all rows to one program, part full
        {"batch": 37, "width": 70},  # several rows to a program, the last program part full
        {"batch": 1, "width": 16_500},  # a row longer than one block
    ),
    on_request=True,
    gpu_sweep={"batch": (16, 256, 2048, 16_384)},
)
