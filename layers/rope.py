"""Rotary position embedding:  at position t the pair (x_i, x_{i + half}) turns by the angle t base^(-i / half),  half = width / 2.

y_i = x_i cos - x_{i + half} sin,  y_{i + half} = x_{i + half} cos + x_i sin.   (Su et al., 2021, arXiv:2104.09864; the paper pairs
neighbours, the half-split form of most models reorders the width)  The tables of cos and sin are buffers, not learnt.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class RoPE(nn.Module):
    """Stock.  (..., tokens, width) -> the same, for an even width and at most `tokens` positions."""

    def __init__(self, width: int, tokens: int, base: float = 10_000.0) -> None:
        super().__init__()
        frequency = base ** (-torch.arange(0, width, 2) / width)
        angle = torch.outer(torch.arange(tokens), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)  # (tokens, half)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        low, high = x.chunk(2, -1)
        return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x turned by the angle of cos and sin, written straight into one tensor: stock makes four products and copies two sums together."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    (low, high), (y_low, y_high) = x.chunk(2, -1), y.chunk(2, -1)
    torch.mul(low, cos, out=y_low).addcmul_(high, sin, value=-1)
    torch.mul(high, cos, out=y_high).addcmul_(low, sin)
    return y


class RoPEFunction(torch.autograd.Function):
    """A rotation is orthogonal: its transpose is the rotation by the negative angle, so that  dL/dx = g turned back.

    Saves the tables alone, which the module holds anyway: x and y are not needed.  Stock saves no more, for the tables want no gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return RoPEFunction.apply(grad, cos, -sin), None, None  # through the Function, so that it can be differentiated again


class FunctionRoPE(RoPE):
    """RoPE with the hand-derived backward of RoPEFunction, for x and tables of one dtype.  Raises ValueError for two."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != self.cos.dtype:
            raise ValueError(f"FunctionRoPE: x is {x.dtype}, the tables {self.cos.dtype}; give one dtype, as by .to({x.dtype})")
        return RoPEFunction.apply(x, self.cos[: x.shape[-2]], self.sin[: x.shape[-2]])


class TritonRoPE(RoPE):
    """RoPE with the Triton kernel of kernels/rope.py."""

    def forward(self, x: Tensor) -> Tensor:
        from ..kernels.rope import rope  # here, so that this file can be read where Triton is not installed

        return rope(x, self.cos[: x.shape[-2]], self.sin[: x.shape[-2]])


rope = Layer(
    "rope",
    sweep={"batch": (1, 4, 16), "heads": (8,), "tokens": (128,), "width": (64,)},
    inputs=(randn("batch", "heads", "tokens", "width"),),
    build=lambda module, size: module(size["width"], size["tokens"]),
    variants={
        "stock": Variant(RoPE),
        "function": Variant(FunctionRoPE),
        "triton": Variant(TritonRoPE, devices=GPU),
        "compile": Variant(RoPE, compile=True),
    },
    verify_at=(
        {"batch": 2, "heads": 3, "tokens": 7, "width": 10},
        {"batch": 1, "heads": 2, "tokens": 91, "width": 70},  # several rows to a program, the last program part full
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 2, 8), "heads": (32,), "tokens": (2048,), "width": (128,)},
)
