"""Gated feed-forward:  y = (f(x W_gate^T) * (x W_up^T)) W_down^T.   (Shazeer, 2020, arXiv:2002.05202)

swiglu has f(a) = a sigmoid(a), as LLaMA does (Touvron et al., 2023, arXiv:2302.13971);  geglu has f(a) = a P(a), the exact GELU with
P(a) = (1 + erf(a / sqrt 2)) / 2.  No biases.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from .mlp import gelu_and_slope


class GatedFeedForward(nn.Module):
    """Stock.  (..., width) -> (..., width) through `hidden` numbers; activation is "silu" or "gelu"."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        f = {"silu": F.silu, "gelu": F.gelu}[self.activation]
        return self.down(f(self.gate(x)) * self.up(x))


class GatedFeedForwardFunction(torch.autograd.Function):
    """With  a = x W_gate^T,  b = x W_up^T,  h = f(a) b  and  d = g W_down:

    dL/dW_down = g^T h,  da = d b f'(a),  db = d f(a),  dL/dW_gate = da^T x,  dL/dW_up = db^T x,  dL/dx = da W_gate + db W_up.
    SiLU, s = sigmoid(a):  f' = s + f (1 - s).  GELU, with the normal density p:  f' = P(a) + a p(a).
    Saves a and b; x only if W_gate or W_up want a gradient, those two only if x wants one, and W_down only if any of the three does.  f(a)
    and h, which stock saves too, are computed again without a product: two hidden tensors instead of four.  Computing a and b again as well
    would be two more products beside the nine.
    Backward's peak is above stock's all the same: stock frees its tensors one by one as it walks back, a Function all at its end.
    Half types: f and f' in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, up: Tensor, down: Tensor, activation: str) -> Tensor:
        a, b = F.linear(x, gate), F.linear(x, up)
        wants_x, wants_gate, wants_up, *_ = ctx.needs_input_grad
        gate_up = (gate, up) if wants_x else (None, None)
        x_needed, down_needed = wants_gate or wants_up, wants_x or wants_gate or wants_up
        ctx.save_for_backward(x if x_needed else None, *gate_up, down if down_needed else None, a, b)
        ctx.value_and_slope = {"silu": _silu, "gelu": gelu_and_slope}[activation]
        h = {"silu": F.silu, "gelu": F.gelu}[activation](a).mul_(b)
        return F.linear(h, down)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gate, up, down, a, b = ctx.saved_tensors
        wants_x, wants_gate, wants_up, wants_down, _ = ctx.needs_input_grad
        rows, a, b = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (grad, a, b))  # every leading dimension is a batch
        value, slope = ctx.value_and_slope(a.to(torch.promote_types(a.dtype, torch.float32)))
        grad_down = rows.T @ (value * b).to(b.dtype) if wants_down else None
        if not (wants_x or wants_gate or wants_up):
            return None, None, None, grad_down, None
        d = rows @ down
        grad_a = slope.mul_(b).mul_(d).to(d.dtype)
        grad_b = d.mul_(value)
        del value, slope  # before the products, which need memory for their results
        x = None if x is None else x.reshape(-1, x.shape[-1])
        return (
            (grad_a @ gate).addmm_(grad_b, up).view(grad.shape) if wants_x else None,
            grad_a.T @ x if wants_gate else None,
            grad_b.T @ x if wants_up else None,
            grad_down,
            None,
        )


def _silu(a: Tensor) -> tuple[Tensor, Tensor]:
    """f(a) and f'(a)."""
    sigmoid = a.sigmoid()
    value = a * sigmoid
    return value, torch.addcmul(value, value, sigmoid, value=-1).add_(sigmoid)


class FunctionGatedFeedForward(GatedFeedForward):
    """GatedFeedForward with the hand-derived backward of GatedFeedForwardFunction."""

    def forward(self, x: Tensor) -> Tensor:
        return GatedFeedForwardFunction.apply(x, self.gate.weight, self.up.weight, self.down.weight, self.activation)


class TritonGatedFeedForward(GatedFeedForward):
    """GatedFeedForward with the Triton kernels of kernels/matmul.py, and f(a) b in one of kernels/activations.py.

    Saves a, b and h: the product keeps its own operand.
    """

    def forward(self, x: Tensor) -> Tensor:
        from ..kernels.activations import gated  # here, so that this file can be read where Triton is not installed
        from ..kernels.matmul import linear

        return linear(gated(linear(x, self.gate.weight), linear(x, self.up.weight), self.activation), self.down.weight)


def _layer(name: str, activation: str) -> Layer:
    return Layer(
        name,
        sweep={"batch": (1, 16, 128), "width": (288,), "hidden": (768,)},
        inputs=(randn("batch", "width"),),
        build=lambda module, size: module(size["width"], size["hidden"], activation),
        variants={
            "stock": Variant(GatedFeedForward),
            "function": Variant(FunctionGatedFeedForward),
            "triton": Variant(TritonGatedFeedForward, devices=GPU),
            "compile": Variant(GatedFeedForward, compile=True),
        },
        verify_at=(
            {"batch": 3, "width": 7, "hidden": 11},
            {"batch": 37, "width": 45, "hidden": 70},
        ),
        on_request=True,
        gpu_sweep={"batch": (1, 256, 8192), "width": (2048,), "hidden": (5632,)},
    )


swiglu = _layer("swiglu", "silu")
geglu = _layer("geglu", "gelu")
