"""Layers that are right for standard normal numbers: overflow, cancellation, -inf, NaN, zeros, ties."""

import math

import torch
import torch.nn.functional as F

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "softmax no_maximum": ("large values", "exp without the maximum taken off; infinite from 89 on"),
    "softmax log_of_softmax": ("large values", "log(softmax): -inf where the probability rounds to 0"),
    "softmax clamped": ("large values", "clamps its input to [-30, 30] against overflow"),
    "softmax nan_swallowed": ("NaN and infinities", "nan_to_num on the input"),
    "logsumexp no_maximum": ("large values", "exp without the maximum taken off"),
    "logsumexp minus_infinity": ("NaN and infinities", "-inf in a row gives NaN: 0 times infinity"),
    "silu by_exp": ("large values", "x e^x / (1 + e^x): infinity over infinity from 89 on"),
    "silu gradient_by_exp": ("large values", "only the backward overflows"),
    "softplus plain": ("large values", "log(1 + e^x) without the linear part"),
    "softplus coarse_below": ("small values", "0 below -15, where e^x is left"),
    "bce logs": ("large values", "log(sigmoid(x)) and log(1 - sigmoid(x)): -inf, and its gradient NaN"),
    "layernorm squares": ("large values", "variance as E[x^2] - E[x]^2: cancels where the mean is large"),
    "normalize no_floor": ("zeros and ties", "x / |x|: NaN for a row of zeros"),
    "normalize eps_added": ("small values", "x / (|x| + 1e-6): wrong for short rows only"),
    "relu at_zero": ("zeros and ties", "the gradient at 0 is 1, not 0"),
    "relu nan_dropped": ("NaN and infinities", "where(x > 0, x, 0): NaN becomes 0"),
    "amax first_of_ties": ("zeros and ties", "the gradient goes to the first of equal maxima, not to all of them in equal parts"),
    "amax all_of_ties": ("zeros and ties", "the gradient goes to every one of equal maxima whole"),
    "elu cancels": ("small values", "e^x - 1 in place of expm1"),
    "masked big_negative": ("large values", "adds -1e4 in place of -inf to what is masked"),
    "clip gradient_clipped": ("large gradients", "backward clips the incoming gradient to [-10, 10]"),
    "clip gradient_flushed": ("small gradients", "backward drops incoming gradients below 1e-4"),
    "norm gradient_at_zero": ("zeros and ties", "sqrt of a sum of squares: the gradient at a zero vector is NaN, not 0"),
}


def wide(name, stock, right, wrong, inputs=None, **more):
    variants = {"stock": Variant(stock)} | {each: Variant(function) for each, function in (right | wrong).items()}
    return Layer(name, {"batch": (8,), "width": (48,)}, inputs or (randn("batch", "width"),), variants=variants, **more)


def log_softmax(x):
    shifted = x - x.amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


softmax = wide(
    "softmax",
    lambda x: x.log_softmax(-1),
    {"shifted": log_softmax},
    {
        "no_maximum": lambda x: x - x.exp().sum(-1, keepdim=True).log(),
        "log_of_softmax": lambda x: x.softmax(-1).log(),
        "clamped": lambda x: log_softmax(x.clamp(-30, 30)),
        "nan_swallowed": lambda x: log_softmax(x.nan_to_num()),
    },
)


def log_sum_exp(x):
    top = x.amax(-1, keepdim=True).detach()
    top = torch.where(top.isfinite(), top, torch.zeros_like(top))
    return (x - top).exp().sum(-1).log() + top.squeeze(-1)


def weighted(x):
    """The maximum plus the entropy of what is below it: 0 times infinity where a number is -inf."""
    p = x.softmax(-1)
    return (p * x).sum(-1) - (p * p.clamp(min=1e-38).log()).sum(-1)


logsumexp = wide(
    "logsumexp",
    lambda x: x.logsumexp(-1),
    {"shifted": log_sum_exp},
    {"no_maximum": lambda x: x.exp().sum(-1).log(), "minus_infinity": weighted},
)


def silu_by(slope):
    class Silu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x.sigmoid()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            s = slope(x)
            return g * s * (1 + x * (1 - s))

    return Silu.apply


def by_exp(x):
    return x.exp() / (1 + x.exp())


silu = wide(
    "silu",
    F.silu,
    {"own": silu_by(torch.sigmoid)},
    {"by_exp": lambda x: x * by_exp(x), "gradient_by_exp": silu_by(by_exp)},
)
softplus = wide(
    "softplus",
    lambda x: F.softplus(x, threshold=30),
    {"logaddexp": lambda x: torch.logaddexp(x, x.new_zeros(()))},
    {
        "plain": lambda x: (1 + x.exp()).log(),
        "coarse_below": lambda x: torch.where(x < -15, x.new_zeros(()), torch.logaddexp(x, x.new_zeros(()))),
    },
)
bce = wide(
    "bce",
    lambda x, y: F.binary_cross_entropy_with_logits(x, y.sigmoid()),
    {"softplus": lambda x, y: (F.softplus(x, threshold=60) - x * y.sigmoid()).mean()},
    {"logs": lambda x, y: -(x.sigmoid().log() * y.sigmoid() + (1 - x.sigmoid()).log() * (1 - y.sigmoid())).mean()},
    (randn("batch", "width"), randn("batch", "width", requires_grad=False)),
)


def layer_norm(variance):
    def norm(x):
        return (x - x.mean(-1, keepdim=True)) * (variance(x) + 1e-5).rsqrt()

    return norm


layernorm = wide(
    "layernorm",
    lambda x: F.layer_norm(x, x.shape[-1:]),
    {"two_passes": layer_norm(lambda x: (x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True))},
    {"squares": layer_norm(lambda x: x.square().mean(-1, keepdim=True) - x.mean(-1, keepdim=True).square())},
)
normalize = wide(
    "normalize",
    lambda x: F.normalize(x, dim=-1),
    {"by_hand": lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-12)},
    {
        "no_floor": lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True),
        "eps_added": lambda x: x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6),
    },
)


def relu_by(kept):
    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, g):
            return g * kept(*ctx.saved_tensors)

    return Relu.apply


relu = wide(
    "relu",
    torch.relu,
    {"own": relu_by(lambda x: x > 0)},
    {"at_zero": relu_by(lambda x: x >= 0), "nan_dropped": lambda x: torch.where(x > 0, x, x.new_zeros(()))},
)


def amax_by(share):
    class Amax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.amax(-1)
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g[..., None] * share((x == y[..., None]).to(g.dtype))

    return Amax.apply


amax = wide(
    "amax",
    lambda x: x.amax(-1),
    {"own": amax_by(lambda hit: hit / hit.sum(-1, keepdim=True))},
    {"first_of_ties": lambda x: x.max(-1).values, "all_of_ties": amax_by(lambda hit: hit)},
)
elu = wide(
    "elu",
    F.elu,
    {"by_hand": lambda x: torch.where(x > 0, x, x.clamp(max=0).expm1())},
    {"cancels": lambda x: torch.where(x > 0, x, x.clamp(max=0).exp() - 1)},
)


def masked_by(fill):
    def masked(scores):
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        return fill(scores, future).softmax(-1)

    return masked


masked = wide(
    "masked",
    masked_by(lambda scores, future: scores.masked_fill(future, -math.inf)),
    {"added": masked_by(lambda scores, future: scores + torch.zeros_like(scores).masked_fill(future, -math.inf))},
    {"big_negative": masked_by(lambda scores, future: scores + future * -1e4)},
)


def tanh_by(read):
    class Tanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.tanh()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return read(g) * (1 - y * y)

    return Tanh.apply


clip = wide(
    "clip",
    torch.tanh,
    {"own": tanh_by(lambda g: g)},
    {
        "gradient_clipped": tanh_by(lambda g: g.clamp(-10, 10)),
        "gradient_flushed": tanh_by(lambda g: torch.where(g.abs() < 1e-4, 0 * g, g)),
    },
)
norm = wide(
    "norm",
    lambda x: torch.linalg.vector_norm(x, dim=-1),
    {"renamed": lambda x: x.norm(dim=-1)},
    {"gradient_at_zero": lambda x: x.square().sum(-1).sqrt()},
)
