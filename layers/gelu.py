"""GELU:  y = x P(x), with P the normal distribution function, or its tanh approximation.   (Hendrycks & Gimpel, 2016, arXiv:1606.08415)

Exact:   P(x) = (1 + erf(x / sqrt 2)) / 2.
Approximate:  P(x) = (1 + tanh(w / 2)) / 2 = 1 / (1 + exp(-w))  with  w = sqrt(8 / pi) (x + 0.044715 x^3);  so y = x sigmoid(w).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable

LINEAR = math.sqrt(8 / math.pi)  # w = LINEAR x + CUBIC x^3
CUBIC = 0.044715 * LINEAR


class GELUFunction(torch.autograd.Function):
    """Exact:  dL/dx = g (P + x p)  with the normal density  p = exp(-x^2 / 2) / sqrt(2 pi).

    With s = sigmoid(w) and  x w' = LINEAR x + 3 CUBIC x^3 = 3 w - 2 LINEAR x,  the approximation has  dL/dx = g (s + (s - s^2) x w').
    Saves x alone; y does not tell x, for GELU falls and rises.  Half types are computed in float32, as stock does.
    On a CPU the exact backward takes more than twice stock's time: torch.erf alone takes as long as the whole of stock's fused loop.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, approximate: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = {"none": slope, "tanh": _slope_of_tanh}[approximate]
        return F.gelu(x, approximate=approximate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return ctx.slope(wide).mul_(grad).to(x.dtype), None


def slope(x: Tensor) -> Tensor:
    """dy/dx of the exact GELU."""
    power = x.square().mul_(-0.5 / math.log(2)).exp2_()  # exp(-x^2 / 2); on a CPU exp2 is the faster of the two
    twice = x.mul(math.sqrt(0.5)).erf_().addcmul_(x, power, value=math.sqrt(2 / math.pi))
    return twice.add_(1).mul_(0.5)


def _slope_of_tanh(x: Tensor) -> Tensor:
    """dy/dx of the tanh approximation."""
    w = x.square().mul_(CUBIC).add_(LINEAR).mul_(x)
    sigmoid = w.sigmoid()
    xdw = w.mul_(3).sub_(x, alpha=2 * LINEAR)
    return torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1).mul_(xdw).add_(sigmoid)


class FunctionGELU(nn.GELU):
    """nn.GELU with the hand-derived backward of GELUFunction."""

    def forward(self, input: Tensor) -> Tensor:
        return GELUFunction.apply(input, self.approximate)


class TritonGELU(nn.GELU):
    """nn.GELU with the Triton kernels of kernels/activations.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.activations import gelu  # here, so that this file can be read where Triton is not installed

        return gelu(input, approximate=self.approximate)


def _layer(name: str, approximate: str) -> Layer:
    return Layer(
        name,
        sweep={"batch": (1, 4, 16), "tokens": (64,), "width": (768,)},
        inputs=(randn("batch", "tokens", "width"),),
        build=lambda module, size: module(approximate=approximate),
        variants={
            "stock": Variant(nn.GELU),
            "function": Variant(FunctionGELU),
            "triton": Variant(TritonGELU, devices=GPU),
            "compile": Variant(nn.GELU, compile=True),
        },
        verify_at=(
            {"batch": 3, "tokens": 5, "width": 7},  # one block, part full
            {"batch": 3, "tokens": 7, "width": 130},  # several blocks, the last part full
        ),
        on_request=True,
        gpu_sweep={"batch": (1, 4, 16), "tokens": (2048,), "width": (4096,)},
    )


gelu = _layer("gelu", "none")
gelu_tanh = _layer("gelu_tanh", "tanh")
