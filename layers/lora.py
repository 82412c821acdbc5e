"""Linear with a low-rank adapter:  y = x W^T + b + scale (x A^T) B^T,  scale = alpha / rank.   (Hu et al., 2021, arXiv:2106.09685)

W and b are frozen: only A, B and x get a gradient.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class LoRALinear(nn.Linear):
    """Stock.  (..., in_features) -> (..., out_features).  A (rank, in) starts normal and B (out, rank) at zero, as in the paper."""

    def __init__(self, in_features: int, out_features: int, rank: int, alpha: float = 16.0) -> None:
        super().__init__(in_features, out_features)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, in_features) / in_features**0.5)
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))
        self.scale = alpha / rank

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias) + self.scale * F.linear(F.linear(input, self.lora_a), self.lora_b)


class LoRALinearFunction(torch.autograd.Function):
    """With  u = x A^T  and  v = g B:  dL/dx = g W + scale v A,  dL/dA = scale v^T x,  dL/dB = scale g^T u.

    Saves x if A or B want a gradient, W if x wants one, and of A and B what the products wanted need.  u, which stock saves, is computed
    again: it costs rank / out_features of a product with W.  Sums are accumulated inside the products (addmm); stock makes a tensor per
    term.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        wants_x, wants_weight, _, wants_a, wants_b, _ = ctx.needs_input_grad
        needed = wants_weight or wants_a or wants_b, wants_x, wants_x or wants_b, wants_x or wants_a
        ctx.save_for_backward(*(each if need else None for each, need in zip((x, weight, a, b), needed, strict=True)))
        ctx.scale = scale
        rows = x.reshape(-1, x.shape[-1])  # every leading dimension is a batch: 1-D inputs are one row
        y = F.linear(rows, weight, bias).addmm_(rows @ a.T, b.T, alpha=scale)
        return y.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, wants_a, wants_b, _ = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        x_rows = None if x is None else x.reshape(-1, x.shape[-1])
        v = rows @ b if wants_x or wants_a else None
        grad_x = (rows @ weight).addmm_(v, a, alpha=ctx.scale).view(*grad.shape[:-1], weight.shape[1]) if wants_x else None
        return (
            grad_x,
            rows.T @ x_rows if wants_weight else None,  # frozen as a rule; who asks gets it
            rows.sum(0) if wants_bias else None,
            (v.T @ x_rows).mul_(ctx.scale) if wants_a else None,
            (rows.T @ (x_rows @ a.T)).mul_(ctx.scale) if wants_b else None,
            None,
        )


class FunctionLoRALinear(LoRALinear):
    """LoRALinear with the hand-derived backward of LoRALinearFunction."""

    def forward(self, input: Tensor) -> Tensor:
        return LoRALinearFunction.apply(input, self.weight, self.bias, self.lora_a, self.lora_b, self.scale)


class TritonLoRALinear(LoRALinear):
    """LoRALinear with the Triton kernel of kernels/lora.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.lora import lora_linear  # here, so that this file can be read where Triton is not installed

        return lora_linear(input, self.weight, self.bias, self.lora_a, self.lora_b, self.scale)


lora = Layer(
    "lora",
    sweep={"batch": (1, 16, 256), "in_features": (512,), "out_features": (512,), "rank": (8,)},
    inputs=(randn("batch", "in_features"),),
    build=lambda module, size: module(size["in_features"], size["out_features"], size["rank"]),
    variants={
        "stock": Variant(LoRALinear),
        "function": Variant(FunctionLoRALinear),
        "triton": Variant(TritonLoRALinear, devices=GPU),
        "compile": Variant(LoRALinear, compile=True),
    },
    verify_at=(
        {"batch": 3, "in_features": 11, "out_features": 7, "rank": 2},
        {"batch": 67, "in_features": 37, "out_features": 130, "rank": 5},
        {"batch": 5, "in_features": 33, "out_features": 20, "rank": 70},  # a rank of several blocks
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 256, 8192), "in_features": (4096,), "out_features": (4096,), "rank": (16,)},
)
