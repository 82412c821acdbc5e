"""Scaled dot-product attention, head by head:  y = softmax(q k^T / sqrt(width)) v.   (Vaswani et al., 2017, arXiv:1706.03762)

q is (batch, heads, tokens, width), k and v (batch, kv_heads, tokens, width); each k/v head serves heads / kv_heads neighbouring query heads
(grouped heads: Ainslie et al., 2023, arXiv:2305.13245).  Causal: token i sees the tokens up to i.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable

KEYS = 128  # keys to a block


class Attention(nn.Module):
    """Stock.  No parameters: the projections before and after it are linear layers of their own."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=q.shape[1] != k.shape[1])


class AttentionFunction(torch.autograd.Function):
    """With s = q k^T / sqrt(width), one l = log sum exp s per query and p = exp(s - l):  y = p v.  Backward, for g = dL/dy:

    dL/dv = p^T g,  dL/dp = g v^T,  dL/ds = p (dL/dp - delta)  with  delta = sum(p dL/dp) over the keys = sum(g y) over the width,
    dL/dq = dL/ds k / sqrt(width),  dL/dk = dL/ds^T q / sqrt(width).

    Both ways go over blocks of KEYS keys, so that no matrix of tokens x tokens exists.  Forward keeps per query the maximum so far and
    the sum of exponentials relative to it, and shrinks both and y when the maximum rises ("online softmax": Milakov & Gimelshein, 2018,
    arXiv:1805.02867; as attention: Dao et al., 2022, arXiv:2205.14135).  Backward makes p again from l (Dao, 2023, arXiv:2307.08691).
    Causal blocks leave out the queries before their first key: half the work.

    Saves q, k, v, y and l, as torch's flash kernels do; softmax written out would save p, which is tokens x tokens a head.
    Half types are computed in float32.  On a CPU a block of scores goes through memory once per operation, where stock's kernel keeps it
    in the cache, so forward takes one and a half to two and a half times as long (docs/layers.md).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        ctx.causal, groups = causal, q.shape[1] // k.shape[1]
        queries, keys, values = _rows(q, groups).mul(1 / math.sqrt(q.shape[-1])), _rows(k), _rows(v)
        highest = queries.new_full((*queries.shape[:2], 1), -math.inf)
        total, y = torch.zeros_like(highest), torch.zeros_like(queries)
        for block, seeing in _blocks(keys.shape[1], groups, causal):
            score = _score(queries[:, seeing], keys[:, block], groups, causal)
            higher = torch.maximum(highest[:, seeing], score.amax(2, keepdim=True))
            power = score.sub_(higher).exp_()
            shrink = (highest[:, seeing] - higher).exp_()
            total[:, seeing].mul_(shrink).add_(power.sum(2, keepdim=True))
            y[:, seeing].mul_(shrink).baddbmm_(power, values[:, block])
            highest[:, seeing] = higher
        y = _heads(y.div_(total) if keys.shape[1] else y, q, groups)  # 0 where there are no keys, as in stock
        ctx.save_for_backward(q, k, v, y, highest.add_(total.log_()))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, log_total = ctx.saved_tensors
        wants_q, wants_k, wants_v, _ = ctx.needs_input_grad
        groups, scale = q.shape[1] // k.shape[1], 1 / math.sqrt(q.shape[-1])
        queries, keys, values, grad_y = _rows(q, groups).mul(scale), _rows(k), _rows(v), _rows(grad, groups)
        delta = (grad_y * _rows(y, groups)).sum(2, keepdim=True)
        grad_q, grad_k, grad_v = torch.zeros_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
        for block, seeing in _blocks(keys.shape[1], groups, ctx.causal):
            power = _score(queries[:, seeing], keys[:, block], groups, ctx.causal).sub_(log_total[:, seeing]).exp_()
            if wants_v:
                torch.bmm(power.mT, grad_y[:, seeing], out=grad_v[:, block])
            if wants_q or wants_k:
                grad_score = (grad_y[:, seeing] @ values[:, block].mT).sub_(delta[:, seeing]).mul_(power)
            if wants_q:
                grad_q[:, seeing].baddbmm_(grad_score, keys[:, block])
            if wants_k:
                torch.bmm(grad_score.mT, queries[:, seeing], out=grad_k[:, block])
        return (
            _heads(grad_q.mul_(scale), q, groups) if wants_q else None,
            _heads(grad_k, k) if wants_k else None,
            _heads(grad_v, v) if wants_v else None,
            None,
        )


def _rows(x: Tensor, groups: int = 1) -> Tensor:
    """(batch, heads, tokens, width) -> (batch * kv_heads, tokens * groups, width) in the type computed in.

    The queries that share a k/v head stand in one matrix, token by token, so that k and v are never repeated.
    """
    batch, heads, tokens, width = x.shape
    grouped = x.reshape(batch, heads // groups, groups, tokens, width).transpose(2, 3)
    return grouped.reshape(batch * heads // groups, tokens * groups, width).to(torch.promote_types(x.dtype, torch.float32))


def _heads(rows: Tensor, like: Tensor, groups: int = 1) -> Tensor:
    """The way back from _rows, in the shape and dtype of `like`."""
    batch, heads, tokens, width = like.shape
    return rows.view(batch, heads // groups, tokens, groups, width).transpose(2, 3).reshape(like.shape).to(like.dtype)


def _blocks(keys: int, groups: int, causal: bool) -> Iterator[tuple[slice, slice]]:
    """Each block of keys, and the rows of queries that see any of it."""
    for first in range(0, keys, KEYS):
        yield slice(first, first + KEYS), slice(first * groups if causal else 0, None)


def _score(queries: Tensor, keys: Tensor, groups: int, causal: bool) -> Tensor:
    """Scores of a block, -inf where a key comes after its query.  Causal: the first of these queries stands at the first of these keys."""
    score = queries @ keys.mT
    if causal:
        edge = score[:, : keys.shape[1] * groups]  # the queries after these see the whole block
        token = torch.arange(edge.shape[1], device=edge.device) // groups
        edge.masked_fill_(token[:, None] < torch.arange(edge.shape[2], device=edge.device), -math.inf)
    return score


class FunctionAttention(Attention):
    """Attention with the hand-derived backward of AttentionFunction.  Raises ValueError for shapes that do not fit."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        fit = q.dim() == 4 and k.shape == v.shape == (len(q), *k.shape[1:3], q.shape[3])
        if not fit or not k.shape[1] or q.shape[1] % k.shape[1]:
            raise ValueError(
                f"FunctionAttention: q is {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}; give q (batch, heads, tokens, width), "
                f"k and v (batch, kv_heads, tokens, width), and kv_heads that divide heads"
            )
        return AttentionFunction.apply(q, k, v, self.causal)


class TritonAttention(Attention):
    """Attention with the Triton kernels of kernels/attention.py."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        from ..kernels.attention import scaled_dot_product_attention  # here, so that this file can be read where Triton is not installed

        return scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=q.shape[1] != k.shape[1])


def _layer(name: str, causal: bool) -> Layer:
    return Layer(
        name,
        sweep={"batch": (1, 2, 4), "heads": (4,), "kv_heads": (4,), "tokens": (256,), "width": (64,)},
        inputs=(
            randn("batch", "heads", "tokens", "width"),
            randn("batch", "kv_heads", "tokens", "width"),
            randn("batch", "kv_heads", "tokens", "width"),
        ),
        build=lambda module, size: module(causal=causal),
        variants={
            "stock": Variant(Attention),
            "function": Variant(FunctionAttention),
            "triton": Variant(TritonAttention, devices=GPU),
            "compile": Variant(Attention, compile=True),
        },
        verify_at=(
            {"batch": 2, "heads": 2, "kv_heads": 2, "tokens": 7, "width": 5},
            {"batch": 1, "heads": 4, "kv_heads": 2, "tokens": 133, "width": 20},  # grouped heads; several blocks of queries and of keys
        ),
        on_request=causal,
        gpu_sweep={"batch": (1, 2, 4), "heads": (16,), "kv_heads": (16,), "tokens": (2048,)},
    )


attention = _layer("attention", causal=False)
attention_causal = _layer("attention_causal", causal=True)
