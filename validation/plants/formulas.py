"""Layers of another formula that is close to the right one: another epsilon, another denominator, another convention."""

import math

import torch
import torch.nn.functional as F

from layerbench.bench import Layer, Variant, probabilities, randn

PLANTS = {
    "gelu tanh": ("another formula", "the approximation with tanh"),
    "gelu sigmoid": ("another formula", "x sigmoid(1.702 x)"),
    "gelu constant": ("another formula", "0.797 for sqrt(2 / pi), against the tanh formula"),
    "rmsnorm eps_outside": ("another formula", "eps is added to the root, not under it"),
    "rmsnorm eps_other": ("another formula", "eps 1e-5 for 1e-6"),
    "rmsnorm one_plus_weight": ("another formula", "scales by 1 + weight, as Gemma does"),
    "rmsnorm weight_squared_eps": ("another formula", "eps is multiplied by the weight, too"),
    "layernorm unbiased": ("another formula", "divides by n - 1"),
    "layernorm std_plus_eps": ("another formula", "divides by std + eps"),
    "rotary interleaved": ("another convention", "pairs neighbours, not halves"),
    "rotary sign": ("another convention", "turns the other way"),
    "rotary base": ("another formula", "base 10007 for 10000"),
    "rotary from_one": ("another convention", "positions begin at 1"),
    "attention scale": ("another formula", "divides by sqrt(d + 1)"),
    "attention scaled_after": ("another formula", "scales the probabilities, and makes them sum to 1 again"),
    "upsample corners": ("another convention", "align_corners=True"),
    "upsample nearest": ("another convention", "the nearest pixel where the right one takes the two beside it"),
    "avgpool border": ("another convention", "the border is averaged over what is inside"),
    "groupnorm interleaved": ("another convention", "a group takes every fourth channel"),
    "conv flipped": ("another convention", "turns the kernel, as a convolution in mathematics"),
    "conv off_by_a_thousandth": ("another formula", "a thousandth too large"),
    "kl mean": ("another denominator", "the mean over all numbers, not over the batch"),
    "kl reversed": ("another formula", "the divergence of the other direction"),
    "mish softplus_threshold": ("another formula", "softplus is x from 4 on"),
}


def of(name, inputs, stock, right, wrong, sweep=None, **more):
    variants = {"stock": Variant(stock)} | {each: Variant(made) for each, made in (right | wrong).items()}
    return Layer(name, sweep or {"batch": (16,), "width": (32,)}, inputs, variants=variants, **more)


def tanh_gelu(factor):
    return lambda x: x / 2 * (1 + torch.tanh(factor * (x + 0.044715 * x**3)))


row = (randn("batch", "width"),)
gelu = of(
    "gelu",
    row,
    F.gelu,
    {"erf": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2},
    {"tanh": tanh_gelu(math.sqrt(2 / math.pi)), "sigmoid": lambda x: x * torch.sigmoid(1.702 * x), "constant": tanh_gelu(0.797)},
)


def rms(scale):
    return lambda x, weight: x * scale(x.square().mean(-1, keepdim=True), weight)


rmsnorm = of(
    "rmsnorm",
    row,
    lambda x, weight: F.rms_norm(x, weight.shape, weight, 1e-6),
    {"by_hand": rms(lambda square, weight: (square + 1e-6).rsqrt() * weight)},
    {
        "eps_outside": rms(lambda square, weight: weight / (square.sqrt() + 1e-6)),
        "eps_other": rms(lambda square, weight: (square + 1e-5).rsqrt() * weight),
        "one_plus_weight": rms(lambda square, weight: (square + 1e-6).rsqrt() * (1 + weight)),
        "weight_squared_eps": rms(lambda square, weight: (square + 1e-6 * weight.square()).rsqrt() * weight),
    },
    parameters={"weight": randn("width")},
)


def centred(divide):
    return lambda x: (x - x.mean(-1, keepdim=True)) / divide(x)


layernorm = of(
    "layernorm",
    row,
    lambda x: F.layer_norm(x, x.shape[-1:]),
    {"by_hand": centred(lambda x: (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt())},
    {
        "unbiased": centred(lambda x: (x.var(-1, keepdim=True) + 1e-5).sqrt()),
        "std_plus_eps": centred(lambda x: (x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True).add(1e-12).sqrt() + 1e-5),
    },
)


def angles(x, base=10_000.0, first=0):
    steps = torch.arange(first, first + x.shape[-2], device=x.device, dtype=x.dtype)
    half = x.shape[-1] // 2
    turned = steps[:, None] * base ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    return turned.cos(), turned.sin()


def rotary(x, sign=1, **how):
    (cos, sin), (a, b) = angles(x, **how), x.chunk(2, -1)
    return torch.cat([a * cos - sign * b * sin, b * cos + sign * a * sin], -1)


def as_complex(x):
    (cos, sin), (a, b) = angles(x), x.chunk(2, -1)
    turned = torch.complex(a, b) * torch.complex(cos, sin)
    return torch.cat([turned.real, turned.imag], -1)


def interleaved(x):
    (cos, sin), a, b = angles(x), x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


rope = of(
    "rotary",
    (randn("batch", 2, "tokens", 16),),
    rotary,
    {"as_complex": as_complex},
    {
        "interleaved": interleaved,
        "sign": lambda x: rotary(x, sign=-1),
        "base": lambda x: rotary(x, base=10_007.0),
        "from_one": lambda x: rotary(x, first=1),
    },
    {"batch": (2,), "tokens": (32,)},
)


def attend(score, again=lambda p: p):
    return lambda q, k, v: again((q @ k.mT * score(q)).softmax(-1)) @ v


attention = of(
    "attention",
    tuple(randn("batch", 2, "tokens", 16) for _ in range(3)),
    F.scaled_dot_product_attention,
    {"by_hand": attend(lambda q: q.shape[-1] ** -0.5)},
    {
        "scale": attend(lambda q: (q.shape[-1] + 1) ** -0.5),
        "scaled_after": attend(lambda q: 1.0, lambda p: p ** (1 / 4.02) / (p ** (1 / 4.02)).sum(-1, keepdim=True)),
    },
    {"batch": (2,), "tokens": (32,)},
)
image = (randn("batch", 4, "side", "side"),)
small = {"batch": (2,), "side": (8,)}


def twice(x):
    """Bilinear, by hand: three quarters of the nearest pixel and a quarter of the next, along each side."""
    for dim in (2, 3):
        last = x.shape[dim] - 1
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, last)], dim)
        behind = torch.cat([x.narrow(dim, 1, last), x.narrow(dim, last, 1)], dim)
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * behind], dim + 1).flatten(dim, dim + 1)
    return x


upsample = of(
    "upsample",
    image,
    lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    {"by_hand": twice},
    {
        "corners": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        "nearest": lambda x: F.interpolate(x, scale_factor=2),
    },
    small,
)
avgpool = of(
    "avgpool",
    image,
    lambda x: F.avg_pool2d(x, 3, 1, 1),
    {"padded": lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)},
    {"border": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)},
    small,
)


def shuffled(x):
    return x.unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2)


groupnorm = of(
    "groupnorm",
    (randn("batch", 16, "side", "side"),),
    lambda x: F.group_norm(x, 4),
    {"as_layer_norm": lambda x: F.layer_norm(x.unflatten(1, (4, -1)).flatten(2), (4 * x[0, 0].numel(),)).view_as(x)},
    {"interleaved": lambda x: shuffled(F.group_norm(shuffled(x), 4))},
    small,
)
conv = of(
    "conv",
    (randn("batch", 3, "side", "side"),),
    lambda x, weight: F.conv2d(x, weight, padding=1),
    {"unfolded": lambda x, weight: (weight.flatten(1) @ F.unfold(x, 3, padding=1)).unflatten(-1, x.shape[2:])},
    {
        "flipped": lambda x, weight: F.conv2d(x, weight.flip(2, 3), padding=1),
        "off_by_a_thousandth": lambda x, weight: F.conv2d(x, weight * 1.001, padding=1),
    },
    small,
    parameters={"weight": randn(5, 3, 3, 3)},
)
kl = of(
    "kl",
    (randn("batch", "width"), probabilities("batch", "width", requires_grad=False)),
    lambda x, p: F.kl_div(x.log_softmax(-1), p, reduction="batchmean"),
    {"by_hand": lambda x, p: (torch.special.xlogy(p, p) - p * x.log_softmax(-1)).sum() / len(x)},
    {
        "mean": lambda x, p: (torch.special.xlogy(p, p) - p * x.log_softmax(-1)).mean(),
        "reversed": lambda x, p: (x.softmax(-1) * (x.log_softmax(-1) - p.log())).sum() / len(x),
    },
)
mish = of(
    "mish",
    row,
    F.mish,
    {"by_hand": lambda x: x * F.softplus(x).tanh()},
    {"softplus_threshold": lambda x: x * F.softplus(x, threshold=4).tanh()},
)
