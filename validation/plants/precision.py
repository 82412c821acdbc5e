"""Layers that compute in fewer digits than their inputs have, or by an approximation that is good to some digits."""

import torch
import torch.nn.functional as F

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "linear bfloat16": ("reduced precision", "the product in bfloat16"),
    "linear float16": ("reduced precision", "the product in float16"),
    "linear tf32": ("reduced precision", "ten bits of mantissa, as TF32"),
    "linear weight_gradient_bfloat16": ("reduced precision", "only the weight's gradient in bfloat16"),
    "linear input_gradient_tf32": ("reduced precision", "only the input's gradient in ten bits"),
    "linear saved_bfloat16": ("reduced precision", "saves its input for backward in bfloat16"),
    "linear eight_bits": ("reduced precision", "the weight in 8 bits, a scale for each row"),
    "linear three_products": ("reduced precision", "two halves in bfloat16 each, without the product of the small ones: 16 bits"),
    "linear float16_sums": ("reduced precision", "partial sums over 32 columns, kept in float16; pytorch 104435"),
    "softmax polynomial": ("approximations", "e^x by a polynomial of degree 3"),
    "softmax float16_sum": ("reduced precision", "the sum of a row in float16"),
    "rmsnorm quick_root": ("approximations", "1 / sqrt by the bits and one step of Newton's"),
    "rmsnorm quick_root_twice": ("approximations", "1 / sqrt by the bits and two steps of Newton's"),
    "gelu table": ("approximations", "from a table of 4096 values, the nearest one"),
    "gelu table_interpolated": ("approximations", "from a table of 256 values, on the straight line between two"),
    "mean one_by_one": ("reduced precision", "adds one number after the other in bfloat16"),
    "attention probabilities_bfloat16": ("reduced precision", "probabilities are rounded to bfloat16; pytorch 31498"),
    "attention small_dropped": ("approximations", "drops probabilities below 1e-4"),
}


def half(dtype):
    return lambda tensor: tensor.to(dtype).to(tensor.dtype)


def ten_bits(tensor):
    bits = (tensor.detach().float().contiguous().view(torch.int32) + 0x1000) & ~0x1FFF
    return tensor + (bits.view(torch.float32).to(tensor.dtype) - tensor).detach()


def whole(tensor):
    return tensor


def linear(forward=whole, weight_gradient=whole, input_gradient=whole, saved=whole):
    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(saved(x), weight)
            return forward(x) @ forward(weight).T

        @staticmethod
        def backward(ctx, g):
            x, weight = ctx.saved_tensors
            return input_gradient(g) @ input_gradient(weight), weight_gradient(g).T @ weight_gradient(x)

    return Linear.apply


def eight_bits(x, weight):
    scale = weight.detach().abs().amax(1, keepdim=True) / 127
    rounded = (weight / scale).detach().round() * scale
    return x @ (weight + (rounded - weight).detach()).T


def three_products(x, weight):
    coarse = half(torch.bfloat16)
    (a, b), (c, d) = ((coarse(each), coarse(each - coarse(each))) for each in (x, weight))
    return a @ c.T + (a @ d.T + b @ c.T)


def float16_sums(x, weight):
    total = 0
    for left, right in zip(x.split(32, 1), weight.split(32, 1), strict=True):
        total = half(torch.float16)(total + left @ right.T)
    return total


def of(name, stock, right, wrong, inputs=None, **more):
    variants = {"stock": Variant(stock)} | {each: Variant(made) for each, made in (right | wrong).items()}
    return Layer(name, {"batch": (16,), "width": (64,)}, inputs or (randn("batch", "width"),), variants=variants, **more)


product = of(
    "linear",
    F.linear,
    {"own": linear(), "in_parts": lambda x, w: sum(a @ b.T for a, b in zip(x.split(32, 1), w.split(32, 1), strict=True))},
    {
        "bfloat16": linear(half(torch.bfloat16), half(torch.bfloat16), half(torch.bfloat16)),
        "float16": linear(half(torch.float16)),
        "tf32": linear(ten_bits, ten_bits, ten_bits),
        "weight_gradient_bfloat16": linear(weight_gradient=half(torch.bfloat16)),
        "input_gradient_tf32": linear(input_gradient=ten_bits),
        "saved_bfloat16": linear(saved=half(torch.bfloat16)),
        "eight_bits": eight_bits,
        "three_products": three_products,
        "float16_sums": float16_sums,
    },
    parameters={"weight": randn(32, "width")},
)


def soft(power=torch.exp, total=lambda e: e.sum(-1, keepdim=True)):
    def softmax(x):
        e = power(x - x.amax(-1, keepdim=True).detach())
        return e / total(e)

    return softmax


def cubic(x):
    """2^n times a polynomial of what is left, which lies between 0 and 1."""
    scaled = x * 1.4426950408889634
    n = scaled.detach().floor()
    t = scaled - n
    return (1 + t * (0.6951786 + t * (0.2276896 + t * 0.0771318))) * torch.exp2(n)


softmax = of(
    "softmax",
    lambda x: x.softmax(-1),
    {"shifted": soft()},
    {"polynomial": soft(cubic), "float16_sum": soft(total=lambda e: half(torch.float16)(e.sum(-1, keepdim=True)))},
)


def quick_root(steps):
    def root(square):
        start = (0x5F3759DF - (square.detach().float().contiguous().view(torch.int32) >> 1)).view(torch.float32).to(square.dtype)
        for _ in range(steps):
            start = start * (1.5 - 0.5 * square * start * start)
        return start

    return lambda x: x * root(x.square().mean(-1, keepdim=True) + 1e-6)


rmsnorm = of(
    "rmsnorm",
    lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-6),
    {"by_hand": lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()},
    {"quick_root": quick_root(1), "quick_root_twice": quick_root(2)},
)


def by_table(size, line):
    table = F.gelu(torch.linspace(-8, 8, size + 1, dtype=torch.float64))

    class Table(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            place = ((x.clamp(-8, 8) + 8) * size / 16).nan_to_num()
            low = (place.floor() if line else place.round()).clamp(max=size - 1).long()
            values = table.to(x)
            found = values[low] + (place - low) * (values[low + 1] - values[low]) * line
            return torch.where(x.abs() < 8, found, F.gelu(x))

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * ((1 + torch.erf(x / 2**0.5)) / 2 + x * (-x * x / 2).exp() / (2 * torch.pi) ** 0.5)

    return Table.apply


gelu = of(
    "gelu",
    F.gelu,
    {"erf": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2},
    {"table": by_table(4096, False), "table_interpolated": by_table(256, True)},
)


def one_by_one(x):
    total = x[:, 0]
    for column in range(1, x.shape[1]):
        total = half(torch.bfloat16)(total + x[:, column])
    return total / x.shape[1]


mean = of("mean", lambda x: x.mean(1), {"product": lambda x: x @ torch.full_like(x[0], 1 / x.shape[1])}, {"one_by_one": one_by_one})


def attend(round_to=whole):
    return lambda q, k, v: round_to((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)) @ v


attention = of(
    "attention",
    F.scaled_dot_product_attention,
    {"by_hand": attend()},
    {
        "probabilities_bfloat16": attend(half(torch.bfloat16)),
        "small_dropped": attend(lambda p: torch.where(p < 1e-4, 0 * p, p)),
    },
    tuple(randn("batch", "width", 16) for _ in range(3)),
)
