"""Causal depthwise 1-D convolution:  y[n, c, t] = b[c] + sum over j of W[c, j] x[n, c, t - (K - 1) + j],  x being 0 before its start.

K = 4, as in front of the state space of Mamba (Gu & Dao, 2023, arXiv:2312.00752), whose 768 channels the default has; the SiLU that
follows there is not part of it.   (torch.nn.Conv1d with groups = channels and padding K - 1, the last K - 1 outputs dropped)
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class CausalConv1d(nn.Conv1d):
    """Stock.  (batch, channels, tokens) -> the same."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, groups=channels, padding=kernel_size - 1)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)[..., : input.shape[-1]]


class CausalConv1dFunction(torch.autograd.Function):
    """x[n, c, t] meets W[c, j] in y[n, c, t + (K - 1) - j], unless that is past the end.  Hence

    dL/dx[n, c, t] = sum over j of W[c, j] g[n, c, t + (K - 1) - j]: the same convolution with W and time turned round,
    dL/dW[c, j] = sum over n, t of g[n, c, t] x[n, c, t - (K - 1) + j],
    dL/db = sum of g over n, t.

    For one sequence and channel, dL/dW is itself a convolution of x, by a kernel as long as g.  All of them are one depthwise
    convolution of batch * channels rows; their sum over the batch follows.
    Saves x only if W wants a gradient, and W only if x wants one; y is not needed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        ctx.before = weight.shape[2] - 1
        return F.conv1d(F.pad(x, (ctx.before, 0)), weight, bias, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad_x = F.conv1d(F.pad(grad, (0, ctx.before)), weight.flip(2), groups=grad.shape[1]) if wants_x else None
        grad_weight = _correlate(F.pad(x, (ctx.before, 0)), grad) if wants_weight else None
        return grad_x, grad_weight, grad.sum((0, 2)) if wants_bias else None


def _correlate(x: Tensor, grad: Tensor) -> Tensor:
    """dL/dW (channels, 1, K) from x with the K - 1 zeros before its start."""
    if not len(x):
        return x.new_zeros(x.shape[1], 1, x.shape[2] - grad.shape[2] + 1)  # torch has no convolution of 0 groups
    kernels = grad.flatten(0, 1).unsqueeze(1)
    taps = F.conv1d(x.flatten(0, 1).unsqueeze(0), kernels, groups=len(kernels))
    return taps.view(*x.shape[:2], 1, taps.shape[2]).sum(0)


class FunctionCausalConv1d(CausalConv1d):
    """CausalConv1d with the hand-derived backward of CausalConv1dFunction."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 3:
            raise ValueError(f"FunctionCausalConv1d: input is {tuple(input.shape)}; give (batch, channels, tokens)")
        return CausalConv1dFunction.apply(input, self.weight, self.bias)


class TritonCausalConv1d(CausalConv1d):
    """CausalConv1d with the Triton kernels of kernels/conv1d_causal.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.conv1d_causal import causal_conv1d  # here, so that this file can be read where Triton is not installed

        return causal_conv1d(input, self.weight, self.bias)


conv1d_causal = Layer(
    "conv1d_causal",
    sweep={"batch": (1, 4, 16), "channels": (768,), "tokens": (128,)},
    inputs=(randn("batch", "channels", "tokens"),),
    build=lambda module, size: module(size["channels"], 4),
    variants={
        "stock": Variant(CausalConv1d),
        "function": Variant(FunctionCausalConv1d),
        "triton": Variant(TritonCausalConv1d, devices=GPU),
        "compile": Variant(CausalConv1d, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 5, "tokens": 11},
        {"batch": 2, "channels": 3, "tokens": 2},  # shorter than the kernel
        {"batch": 2, "channels": 2, "tokens": 1_030},  # several blocks to a row
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 4, 16), "channels": (2048,), "tokens": (2048,)},
)
