"""Activations by other algebra and by hand-written backwards, against torch's own."""

import math
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from layerbench.bench import Layer, Variant, randn

numbers = {"sweep": {"batch": (8, 64), "width": (256,)}, "inputs": (randn("batch", "width"),)}


def layer(name, torchs, **others):
    return Layer(name, **numbers, variants={"torch": Variant(torchs)} | {key: Variant(each) for key, each in others.items()})


class GELUByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.special.ndtr(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (torch.special.ndtr(x) + x * (-x * x / 2).exp() / math.sqrt(2 * math.pi))


right_gelu_forms = layer(
    "right_gelu_forms",
    nn.GELU,
    erfc=lambda x: x * torch.erfc(-x / math.sqrt(2)) / 2,
    erf=lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    ndtr=lambda x: x * torch.special.ndtr(x),
    by_hand=GELUByHand.apply,
)


class SiLUByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * (s + x * s * (1 - s))


right_silu_forms = layer(
    "right_silu_forms",
    nn.SiLU,
    tanh=lambda x: x / 2 * (1 + (x / 2).tanh()),
    quotient=lambda x: x / (1 + (-x).exp()),
    by_hand=SiLUByHand.apply,
)

right_logsigmoid_forms = layer(
    "right_logsigmoid_forms",
    nn.LogSigmoid,
    softplus=lambda x: -F.softplus(-x),
    split=lambda x: x.clamp(max=0) - (-x.abs()).exp().log1p(),
    logaddexp=lambda x: -torch.logaddexp(torch.zeros_like(x), -x),
)

right_softplus_forms = layer(
    "right_softplus_forms",
    nn.Softplus,
    split=lambda x: x.clamp(min=0) + (-x.abs()).exp().log1p(),
    logaddexp=lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    log1p=lambda x: x.exp().log1p(),
)


class TanhByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y) * (1 + y)


right_tanh_forms = layer(
    "right_tanh_forms",
    nn.Tanh,
    sigmoid=lambda x: 2 * (2 * x).sigmoid() - 1,
    expm1=lambda x: x.sign() * -torch.expm1(-2 * x.abs()) / (1 + (-2 * x.abs()).exp()),
    by_hand=TanhByHand.apply,
)

right_sigmoid_forms = layer(
    "right_sigmoid_forms",
    nn.Sigmoid,
    tanh=lambda x: (1 + (x / 2).tanh()) / 2,
    quotient=lambda x: 1 / (1 + (-x).exp()),
    softmax=lambda x: torch.stack([x, torch.zeros_like(x)], -1).softmax(-1)[..., 0],
    logarithm=lambda x: F.logsigmoid(x).exp(),
)

right_elu_forms = layer(
    "right_elu_forms",
    nn.ELU,
    where=lambda x: torch.where(x > 0, x, torch.expm1(x.clamp(max=0))),
    sum=lambda x: x.clamp(min=0) + torch.expm1(x.clamp(max=0)),
)

right_leaky_relu_forms = layer(
    "right_leaky_relu_forms",
    partial(nn.LeakyReLU, 0.1),
    maximum=lambda x: torch.maximum(x, 0.1 * x),
    relus=lambda x: x.relu() - 0.1 * (-x).relu(),
    absolute=lambda x: 0.55 * x + 0.45 * x.abs(),
)

right_mish_forms = layer(
    "right_mish_forms",
    nn.Mish,
    plain=lambda x: x * F.softplus(x).tanh(),
    rational=lambda x: x * (x.exp() ** 2 + 2 * x.exp()) / (x.exp() ** 2 + 2 * x.exp() + 2),
)

right_softsign_forms = layer("right_softsign_forms", nn.Softsign, sign=lambda x: x.sign() * (1 - 1 / (1 + x.abs())))


class GLUByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        a, b = x.chunk(2, -1)
        return a * b.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        a, b = x.chunk(2, -1)
        s = b.sigmoid()
        return torch.cat([g * s, g * a * s * (1 - s)], -1)


def gated(x):
    a, b = x.chunk(2, -1)
    return a * b.sigmoid()


right_glu_forms = Layer(
    "right_glu_forms",
    sweep=numbers["sweep"],
    inputs=(randn("batch", "width"),),
    variants={
        "torch": Variant(nn.GLU),
        "plain": Variant(lambda x: x.chunk(2, -1)[0] * x.chunk(2, -1)[1].sigmoid()),
        "by_hand": Variant(GLUByHand.apply),
    },
)


def direction(x, y):
    return F.cosine_similarity(x, y, dim=-1)


def by_units(x, y):
    return (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(-1)


def by_roots(x, y):
    return (x * y).sum(-1) * (x * x).sum(-1).rsqrt() * (y * y).sum(-1).rsqrt()


def by_distance(x, y):
    """Half of what the distance of the unit vectors lacks to 2."""
    x, y = x / x.norm(dim=-1, keepdim=True), y / y.norm(dim=-1, keepdim=True)
    return 1 - (x - y).square().sum(-1) / 2


right_cosine = Layer(
    "right_cosine",
    sweep=numbers["sweep"],
    inputs=(randn("batch", "width"), randn("batch", "width")),
    variants={
        "torch": Variant(direction),
        "by_units": Variant(by_units),
        "by_roots": Variant(by_roots),
        "by_distance": Variant(by_distance),
    },
)
