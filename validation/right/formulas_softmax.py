"""Softmax, its logarithm and logsumexp, in other orders of summation and by hand-written backwards, against torch's own."""

import math
from functools import partial

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from layerbench.bench import Layer, Variant, randn

BLOCK = 64
rows = {"sweep": {"batch": (8, 64), "width": (256,)}, "inputs": (randn("batch", "width"),)}


def plain(x):
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def online(x):
    """Maximum and sum in one pass over blocks, as in Milakov and Gimelshein, 2018, arXiv:1805.02867."""
    largest, total = running(x)
    return (x - largest).exp() / total


def running(x):
    largest = torch.full_like(x[..., :1], -math.inf)
    total = torch.zeros_like(largest)
    for block in x.split(BLOCK, -1):
        new = torch.maximum(largest, block.amax(-1, keepdim=True))
        total = total * (largest - new).exp() + (block - new).exp().sum(-1, keepdim=True)
        largest = new
    return largest.detach(), total * (largest - largest.detach()).exp()


def powers_of_two(x):
    x = x / math.log(2)
    e = (x - x.amax(-1, keepdim=True)).exp2()
    return e / e.sum(-1, keepdim=True)


def by_logarithm(x):
    return (x - x.logsumexp(-1, keepdim=True)).exp()


def by_reciprocal(x):
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e * e.sum(-1, keepdim=True).reciprocal()


def in_float32(x):
    return plain(x.float() if x.dtype != torch.float64 else x).to(x.dtype)


class ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = plain(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * g - y * (y * g).sum(-1, keepdim=True)


class Factored(ByHand):
    """The same backward with y in front."""

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - torch.linalg.vecdot(y, g).unsqueeze(-1))


right_softmax = Layer(
    "right_softmax",
    **rows,
    variants={
        "torch": Variant(partial(nn.Softmax, -1)),
        "plain": Variant(plain),
        "online": Variant(online),
        "powers_of_two": Variant(powers_of_two),
        "by_logarithm": Variant(by_logarithm),
        "by_reciprocal": Variant(by_reciprocal),
        "in_float32": Variant(in_float32),
        "by_hand": Variant(ByHand.apply),
        "factored": Variant(Factored.apply),
    },
    build=lambda module, size: module() if isinstance(module, partial) else module,
)


def in_blocks(x):
    """Each block by itself, then the logsumexp of those."""
    return torch.stack([block.logsumexp(-1) for block in x.split(BLOCK, -1)], -1).logsumexp(-1)


def pairwise(x):
    """logaddexp of two halves, and of their halves."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = torch.cat([torch.logaddexp(x[..., :half], x[..., half : 2 * half]), x[..., 2 * half :]], -1)
    return x.squeeze(-1)


def by_running(x):
    largest, total = running(x)
    return (largest + total.log()).squeeze(-1)


class LogSumExpByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        largest = x.amax(-1, keepdim=True)
        y = largest + (x - largest).exp().sum(-1, keepdim=True).log()
        ctx.save_for_backward(x, y)
        return y.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g.unsqueeze(-1) * (x - y).exp()


right_logsumexp = Layer(
    "right_logsumexp",
    **rows,
    variants={
        "torch": Variant(lambda x: x.logsumexp(-1)),
        "in_blocks": Variant(in_blocks),
        "pairwise": Variant(pairwise),
        "online": Variant(by_running),
        "by_hand": Variant(LogSumExpByHand.apply),
    },
)


def log_of_plain(x):
    x = x - x.amax(-1, keepdim=True)
    return x - x.exp().sum(-1, keepdim=True).log()


class LogSoftmaxByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x - in_blocks(x).unsqueeze(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g - y.exp() * g.sum(-1, keepdim=True)


right_log_softmax = Layer(
    "right_log_softmax",
    **rows,
    build=lambda module, size: module() if isinstance(module, partial) else module,
    variants={
        "torch": Variant(partial(nn.LogSoftmax, -1)),
        "plain": Variant(log_of_plain),
        "in_blocks": Variant(lambda x: x - in_blocks(x).unsqueeze(-1)),
        "by_hand": Variant(LogSoftmaxByHand.apply),
    },
)
