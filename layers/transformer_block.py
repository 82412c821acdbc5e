"""A decoder block of a language model, normalised before each part:  x += attention(RMSNorm(x)),  x += SwiGLU(RMSNorm(x)).

Causal attention with rotary positions between two projections; SwiGLU(x) = W_out (silu(a) b) with (a, b) = W_in x.  No biases.
(Vaswani et al., 2017, arXiv:1706.03762; norms before: Xiong et al., 2020, arXiv:2002.04745; SwiGLU: Shazeer, 2020, arXiv:2002.05202; all
together: Touvron et al., 2023, arXiv:2302.13971)

The block is written once, over five kinds of part; a variant is a choice of parts.  All keep the names and shapes of stock's parameters.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from .attention import Attention, FunctionAttention, TritonAttention
from .linear import FunctionLinear, TritonLinear
from .rmsnorm import FunctionRMSNorm, TritonRMSNorm
from .rope import FunctionRoPE, RoPE, TritonRoPE


class SiLUGate(nn.Module):
    """(..., 2 hidden) = (a, b) -> silu(a) b, (..., hidden)."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return F.silu(a) * b


class SiLUGateFunction(torch.autograd.Function):
    """With s = sigmoid(a):  y = a s b,  dL/db = g a s,  dL/da = g b s (1 + a (1 - s)).

    Saves x alone, where stock saves silu(a) as well; half types are computed in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        a, b = x.chunk(2, -1)
        return F.silu(a).mul_(b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        a, b = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, -1)
        s = a.sigmoid()
        silu = a * s
        grad_a = torch.addcmul(s, silu, 1 - s).mul_(b).mul_(grad)
        return torch.cat((grad_a, silu.mul_(grad)), -1).to(x.dtype)


class FunctionSiLUGate(SiLUGate):
    """SiLUGate with the hand-derived backward of SiLUGateFunction."""

    def forward(self, x: Tensor) -> Tensor:
        return SiLUGateFunction.apply(x)


class DecoderBlock(nn.Module):
    """Stock.  (batch, tokens, width) -> the same."""

    Norm, Linear, Rope, Attention, Gate = nn.RMSNorm, nn.Linear, RoPE, Attention, SiLUGate

    def __init__(self, width: int, heads: int, hidden: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = self.Norm(width, eps=1e-6)
        self.query_key_value = self.Linear(width, 3 * width, bias=False)
        self.rope = self.Rope(width // heads, tokens)
        self.attention = self.Attention(causal=True)
        self.attention_out = self.Linear(width, width, bias=False)
        self.norm_mlp = self.Norm(width, eps=1e-6)
        self.mlp_in = self.Linear(width, 2 * hidden, bias=False)
        self.gate = self.Gate()
        self.mlp_out = self.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention_out(self._attend(self.query_key_value(self.norm_attention(x))))
        return x + self.mlp_out(self.gate(self.mlp_in(self.norm_mlp(x))))

    def _attend(self, projected: Tensor) -> Tensor:
        """(batch, tokens, 3 width) -> (batch, tokens, width), the heads side by side."""
        q, k, v = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.attention(self.rope(q), self.rope(k), v).transpose(1, 2).flatten(2)


class FunctionDecoderBlock(DecoderBlock):
    """DecoderBlock with the hand-derived backwards of its parts."""

    Norm, Linear, Rope, Attention, Gate = FunctionRMSNorm, FunctionLinear, FunctionRoPE, FunctionAttention, FunctionSiLUGate


class TritonDecoderBlock(DecoderBlock):
    """DecoderBlock with the Triton kernels of its parts; the gate and the two sums are torch's."""

    Norm, Linear, Rope, Attention = TritonRMSNorm, TritonLinear, TritonRoPE, TritonAttention


transformer_block = Layer(
    "transformer_block",
    sweep={"batch": (1, 4), "tokens": (64,), "width": (128,), "heads": (4,), "hidden": (344,)},
    inputs=(randn("batch", "tokens", "width"),),
    build=lambda module, size: module(size["width"], size["heads"], size["hidden"], size["tokens"]),
    variants={
        "stock": Variant(DecoderBlock),
        "function": Variant(FunctionDecoderBlock),
        "triton": Variant(TritonDecoderBlock, devices=GPU),
        "compile": Variant(DecoderBlock, compile=True),
    },
    verify_at=(
        {"batch": 2, "tokens": 5, "width": 12, "heads": 2, "hidden": 11},
        {"batch": 1, "tokens": 35, "width": 20, "heads": 2, "hidden": 37},  # several blocks of queries and of keys
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 2, 8), "tokens": (1024,), "width": (1024,), "heads": (16,), "hidden": (2752,)},
)
