"""Attention in tiles, online and by hand-written backwards, against torch's own and against the plain formula."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from layerbench.bench import Layer, Variant, additive_mask, randn

TILE = 16
WIDTH = 32
SCALE = WIDTH**-0.5
given = {"sweep": {"batch": (2, 4), "tokens": (64,)}, "inputs": tuple(randn("batch", 2, "tokens", WIDTH) for _ in range(3))}


def plain(q, k, v):
    return (q @ k.mT * SCALE).softmax(-1) @ v


def scaled_first(q, k, v):
    return ((q * SCALE) @ k.mT).softmax(-1) @ v


def summed(q, k, v):
    chances = torch.einsum("bhqd,bhkd->bhqk", q, k).mul(SCALE).softmax(-1)
    return torch.einsum("bhqk,bhkd->bhqd", chances, v)


def divided_last(q, k, v):
    """The sum of the exponentials is divided by at the end, in float32 at least."""
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * SCALE
    e = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    return (e @ v.to(e.dtype) / e.sum(-1, keepdim=True)).to(q.dtype)


def by_rows(q, k, v):
    """One tile of queries after the other, and what lies between recomputed in backward."""
    return torch.cat([checkpoint(plain, rows, k, v, use_reentrant=False) for rows in q.split(TILE, -2)], -2)


def online(q, k, v):
    """One tile of keys after the other: Rabe and Staats, 2021, arXiv:2112.05682."""
    wide = torch.promote_types(q.dtype, torch.float32)
    largest = torch.full_like(q[..., :1], -math.inf, dtype=wide)
    total, found = torch.zeros_like(largest), torch.zeros_like(q, dtype=wide)
    for keys, values in zip(k.split(TILE, -2), v.split(TILE, -2), strict=True):
        scores = (q @ keys.mT).to(wide) * SCALE
        new = torch.maximum(largest, scores.amax(-1, keepdim=True)).detach()
        shrunk, e = (largest - new).exp(), (scores - new).exp()
        total, found = total * shrunk + e.sum(-1, keepdim=True), found * shrunk + e @ values.to(wide)
        largest = new
    return (found / total).to(q.dtype)


class Flash(torch.autograd.Function):
    """Tiles forward and backward, of which only the logarithm of the sums is kept: Dao and others, 2022, arXiv:2205.14135."""

    @staticmethod
    def forward(ctx, q, k, v):
        wide = torch.promote_types(q.dtype, torch.float32)
        q, k, v, dtype = q.to(wide), k.to(wide), v.to(wide), q.dtype
        parts = [(q @ keys.mT * SCALE).logsumexp(-1, keepdim=True) for keys in k.split(TILE, -2)]
        total = torch.cat(parts, -1).logsumexp(-1, keepdim=True)
        pairs = zip(k.split(TILE, -2), v.split(TILE, -2), strict=True)
        found = sum((q @ keys.mT * SCALE - total).exp() @ values for keys, values in pairs)
        ctx.save_for_backward(q, k, v, found, total)
        ctx.dtype = dtype
        return found.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        q, k, v, found, total = ctx.saved_tensors
        g = g.to(q.dtype)
        along = (g * found).sum(-1, keepdim=True)
        q_grad, k_grads, v_grads = torch.zeros_like(q), [], []
        for keys, values in zip(k.split(TILE, -2), v.split(TILE, -2), strict=True):
            chances = (q @ keys.mT * SCALE - total).exp()
            scores = chances * (g @ values.mT - along) * SCALE
            q_grad += scores @ keys
            k_grads.append(scores.mT @ q)
            v_grads.append(chances.mT @ g)
        return q_grad.to(ctx.dtype), torch.cat(k_grads, -2).to(ctx.dtype), torch.cat(v_grads, -2).to(ctx.dtype)


class ByHand(torch.autograd.Function):
    """The probabilities are kept in the dtype of the inputs."""

    @staticmethod
    def forward(ctx, q, k, v):
        chances = (q @ k.mT * SCALE).softmax(-1)
        ctx.save_for_backward(q, k, v, chances)
        return chances @ v

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        q, k, v, chances = ctx.saved_tensors
        inner = g @ v.mT
        scores = chances * (inner - (inner * chances).sum(-1, keepdim=True)) * SCALE
        return scores @ k, scores.mT @ q, chances.mT @ g


right_attention_forms = Layer(
    "right_attention_forms",
    **given,
    variants={
        "torch": Variant(lambda q, k, v: F.scaled_dot_product_attention(q, k, v)),
        "plain": Variant(plain),
        "scaled_first": Variant(scaled_first),
        "einsum": Variant(summed),
        "divided_last": Variant(divided_last),
        "by_rows": Variant(by_rows),
        "online": Variant(online),
        "flash": Variant(Flash.apply),
        "by_hand": Variant(ByHand.apply),
    },
)

right_attention_of_plain = Layer(
    "right_attention_of_plain",
    **given,
    variants={
        "plain": Variant(plain),
        "torch": Variant(lambda q, k, v: F.scaled_dot_product_attention(q, k, v)),
        "online": Variant(online),
        "flash": Variant(Flash.apply),
    },
)


def causal(q, k, v):
    scores = q @ k.mT * SCALE
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf).softmax(-1) @ v


def causal_by_rows(q, k, v):
    """Each tile of queries with the keys that it may see."""
    found = []
    for start in range(0, q.shape[-2], TILE):
        rows = q[..., start : start + TILE, :]
        stop = start + rows.shape[-2]
        unseen = torch.arange(stop) > torch.arange(start, stop)[:, None]
        scores = (rows @ k[..., :stop, :].mT * SCALE).masked_fill(unseen, torch.finfo(q.dtype).min)
        found.append(scores.softmax(-1) @ v[..., :stop, :])
    return torch.cat(found, -2)


right_causal_attention = Layer(
    "right_causal_attention",
    **given,
    variants={
        "torch": Variant(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        "plain": Variant(causal),
        "by_rows": Variant(causal_by_rows),
    },
)


def masked(q, k, v, mask):
    return (q @ k.mT * SCALE + mask).softmax(-1) @ v


def exponents_masked(q, k, v, mask):
    scores = q @ k.mT * SCALE
    e = (scores - scores.amax(-1, keepdim=True)).exp() * mask.exp()
    return e / e.sum(-1, keepdim=True) @ v


right_masked_attention = Layer(
    "right_masked_attention",
    sweep=given["sweep"],
    inputs=(*given["inputs"], additive_mask("tokens", "tokens")),
    variants={
        "torch": Variant(lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)),
        "plain": Variant(masked),
        "exponents_masked": Variant(exponents_masked),
    },
)
