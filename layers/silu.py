"""SiLU, or swish:  y = x s(x)  with  s(x) = 1 / (1 + exp(-x)).   (Hendrycks & Gimpel, 2016, arXiv:1606.08415)"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable


class SiLUFunction(torch.autograd.Function):
    """With s' = s (1 - s):  dL/dx = g (s + x s') = g s (1 + x - x s).

    Saves x alone; y does not tell x, for SiLU falls and rises.  Half types are computed in float32, as stock does.
    On a CPU, four passes over memory where stock makes one; the larger the tensor, the more it shows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        sigmoid = wide.sigmoid()
        slope = torch.addcmul(wide, wide, sigmoid, value=-1)  # x - x s
        slope = sigmoid.addcmul_(sigmoid, slope)
        return slope.mul_(grad).to(x.dtype)


def _check(module: nn.SiLU) -> None:
    """Raises ValueError for what the variants leave out."""
    if module.inplace:
        raise ValueError(f"{type(module).__name__}: this variant takes no inplace; use nn.SiLU for that")


class FunctionSiLU(nn.SiLU):
    """nn.SiLU with the hand-derived backward of SiLUFunction."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self)
        return SiLUFunction.apply(input)


class TritonSiLU(nn.SiLU):
    """nn.SiLU with the Triton kernels of kernels/activations.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.activations import silu  # here, so that this file can be read where Triton is not installed

        _check(self)
        return silu(input)


silu = Layer(
    "silu",
    sweep={"batch": (1, 4, 16), "tokens": (64,), "width": (768,)},
    inputs=(randn("batch", "tokens", "width"),),
    build=lambda module, size: module(),
    variants={
        "stock": Variant(nn.SiLU),
        "function": Variant(FunctionSiLU),
        "triton": Variant(TritonSiLU, devices=GPU),
        "compile": Variant(nn.SiLU, compile=True),
    },
    verify_at=(
        {"batch": 3, "tokens": 5, "width": 7},  # one block, part full
        {"batch": 3, "tokens": 7, "width": 130},  # several blocks, the last part full
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 4, 16), "tokens": (2048,), "width": (4096,)},
)
