"""Layers of which forward is right and backward is not: a term that is missing, a second derivative, memory that is written to."""

import torch
import torch.nn.functional as F

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "layernorm no_mean_term": ("a term of backward", "the gradient lacks the mean over the row"),
    "layernorm no_variance_term": ("a term of backward", "the gradient lacks what flows through the variance"),
    "layernorm bias_last_rows": ("a term of backward", "the bias's gradient is the sum over tokens of the last sequence alone"),
    "attention unscaled_keys": ("a term of backward", "the keys' gradient lacks the scale"),
    "attention no_row_sum": ("a term of backward", "the softmax's gradient lacks the sum over the row"),
    "attention value_detached": ("a term of backward", "the scores' gradient is that of equal values"),
    "conv tap_missing": ("a term of backward", "the weight's gradient lacks a corner of the kernel"),
    "conv border_missing": ("a term of backward", "the input's gradient is 0 in the last column"),
    "gelu no_density": ("a term of backward", "the derivative lacks x times the density"),
    "gelu of_tanh": ("a term of backward", "the derivative is that of the formula with tanh"),
    "swiglu halves": ("a term of backward", "the gradients of the two halves change places"),
    "sigmoid twice_wrong": ("second derivatives", "backward is computed outside the graph; the second derivative is 0"),
    "sigmoid saved_detached": ("second derivatives", "backward takes its output as a constant; the second derivative lacks a term"),
    "sigmoid twice_wrong_for_gradient": (
        "second derivatives",
        "backward has a derivative of its own, which forgets the incoming gradient",
    ),
    "sigmoid writes_gradient": ("in-place writes", "backward writes into the incoming gradient"),
    "sigmoid writes_input": ("in-place writes", "forward writes into its input and puts back what it can"),
    "sigmoid writes_saved": ("in-place writes", "backward writes into the output it saved"),
    "sigmoid returns_gradient": ("in-place writes", "backward scales the incoming gradient in place where it is contiguous and large"),
    "residual adds_in_place": ("in-place writes", "x += f(x) on the caller's tensor"),
}


def function(forward, backward):
    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            y = forward(*tensors)
            ctx.save_for_backward(*tensors, y)
            return y

        @staticmethod
        def backward(ctx, g):
            return backward(g, *ctx.saved_tensors)

    return Made.apply


def norm_backward(mean=True, variance=True, bias=lambda g: g.flatten(0, -2).sum(0)):
    def backward(g, x, weight, _bias, _y):
        centred = x - x.mean(-1, keepdim=True)
        r = (centred.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        hat, gw = centred * r, g * weight
        gx = gw - mean * gw.mean(-1, keepdim=True) - variance * hat * (gw * hat).mean(-1, keepdim=True)
        return r * gx, (g * hat).flatten(0, -2).sum(0), bias(g)

    return function(norm, backward)


def norm(x, weight, bias):
    return F.layer_norm(x, weight.shape, weight, bias)


layernorm = Layer(
    "layernorm",
    sweep={"batch": (4,), "tokens": (16,), "width": (32,)},
    inputs=(randn("batch", "tokens", "width"),),
    parameters={"weight": randn("width"), "bias": randn("width")},
    variants={
        "stock": Variant(norm),
        "own": Variant(norm_backward()),
        "no_mean_term": Variant(norm_backward(mean=False)),
        "no_variance_term": Variant(norm_backward(variance=False)),
        "bias_last_rows": Variant(norm_backward(bias=lambda g: g[-1].sum(0))),
    },
)


def attend(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def attend_backward(keys=1.0, row=True, value=lambda v: v):
    def backward(g, q, k, v, _):
        scale = q.shape[-1] ** -0.5
        p = (q @ k.mT * scale).softmax(-1)
        gp = g @ value(v).mT
        gs = p * (gp - row * (gp * p).sum(-1, keepdim=True)) * scale
        return gs @ k, gs.mT @ q * (scale ** (keys - 1)), p.mT @ g

    return function(attend, backward)


attention = Layer(
    "attention",
    sweep={"batch": (2,), "tokens": (24,)},
    inputs=(randn("batch", 2, "tokens", 16), randn("batch", 2, "tokens", 16), randn("batch", 2, "tokens", 16)),
    variants={
        "stock": Variant(F.scaled_dot_product_attention),
        "own": Variant(attend_backward()),
        "unscaled_keys": Variant(attend_backward(keys=0.0)),
        "no_row_sum": Variant(attend_backward(row=False)),
        "value_detached": Variant(attend_backward(value=lambda v: v.mean(-2, keepdim=True).expand_as(v))),
    },
)


def conv_backward(weight_change=lambda g: g, input_change=lambda g: g):
    def backward(g, x, weight, _):
        gx = torch.nn.grad.conv2d_input(x.shape, weight, g, padding=1)
        return input_change(gx), weight_change(torch.nn.grad.conv2d_weight(x, weight.shape, g, padding=1))

    return function(conv, backward)


def conv(x, weight):
    return F.conv2d(x, weight, padding=1)


def without_corner(g):
    kept = torch.ones_like(g)
    kept[..., -1, -1] = 0
    return g * kept


conv2d = Layer(
    "conv",
    sweep={"batch": (2,), "side": (8,)},
    inputs=(randn("batch", 3, "side", "side"),),
    parameters={"weight": randn(5, 3, 3, 3)},
    variants={
        "stock": Variant(conv),
        "own": Variant(conv_backward()),
        "tap_missing": Variant(conv_backward(weight_change=without_corner)),
        "border_missing": Variant(conv_backward(input_change=lambda g: F.pad(g[..., :-1], (0, 1)))),
    },
)


def pointwise(name, stock, right, wrong, inputs=None):
    variants = {"stock": Variant(stock)} | {each: Variant(made) for each, made in (right | wrong).items()}
    return Layer(name, {"batch": (16,), "width": (32,)}, inputs or (randn("batch", "width"),), variants=variants)


def below(x):
    return (1 + torch.erf(x / 2**0.5)) / 2


def density(x):
    return (-x * x / 2).exp() / (2 * torch.pi) ** 0.5


def of_tanh(g, x, y):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(F.gelu(leaf, approximate="tanh"), leaf, g)[0]


gelu = pointwise(
    "gelu",
    F.gelu,
    {"own": function(F.gelu, lambda g, x, y: g * (below(x) + x * density(x)))},
    {"no_density": function(F.gelu, lambda g, x, y: g * below(x)), "of_tanh": function(F.gelu, of_tanh)},
)


def gate(x):
    a, b = x.chunk(2, -1)
    return F.silu(a) * b


def gate_backward(order):
    def backward(g, x, y):
        a, b = x.chunk(2, -1)
        s = a.sigmoid()
        return torch.cat([(g * b * s * (1 + a * (1 - s)), g * F.silu(a))[each] for each in order], -1)

    return function(gate, backward)


swiglu = pointwise("swiglu", gate, {"own": gate_backward((0, 1))}, {"halves": gate_backward((1, 0))}, (randn("batch", 2, "width"),))


def slope(y):
    return y * (1 - y)


class Second(torch.autograd.Function):
    """g y (1 - y), with a derivative of its own that takes g for 1."""

    @staticmethod
    def forward(ctx, g, y):
        ctx.save_for_backward(g, y)
        return g * slope(y)

    @staticmethod
    def backward(ctx, gg):
        _, y = ctx.saved_tensors
        return gg * slope(y), gg * (1 - 2 * y)


def outside(g, x, y):
    with torch.no_grad():
        return g * slope(y)


def writes_input(x):
    y = x.mul_(0.5).tanh().add(1).div(2)
    x.mul_(2)
    return y


sigmoid = pointwise(
    "sigmoid",
    torch.sigmoid,
    {"own": function(torch.sigmoid, lambda g, x, y: g * slope(y)), "copied": lambda x: x.clone().mul_(0.5).tanh().add(1).div(2)},
    {
        "twice_wrong": function(torch.sigmoid, outside),
        "saved_detached": function(torch.sigmoid, lambda g, x, y: g * slope(y.detach()) + 0 * g * x),
        "twice_wrong_for_gradient": function(torch.sigmoid, lambda g, x, y: Second.apply(g, y)),
        "writes_gradient": function(torch.sigmoid, lambda g, x, y: g.mul_(slope(y))),
        "writes_input": function(writes_input, lambda g, x, y: g * slope(y)),
        "writes_saved": function(torch.sigmoid, lambda g, x, y: g * y.mul_(1 - y)),
        "returns_gradient": function(torch.sigmoid, lambda g, x, y: g.mul_(slope(y)) if g.numel() > 256 else g * slope(y)),
    },
)
residual = pointwise(
    "residual",
    lambda x, y: F.silu(x) + y,
    {"own": function(lambda x, y: F.silu(x) + y, lambda g, x, y, _: (g * x.sigmoid() * (1 + x * (1 - x.sigmoid())), g))},
    {"adds_in_place": lambda x, y: y.data.add_(F.silu(x.detach())) + F.silu(x) - F.silu(x).detach()},
    (randn("batch", "width"), randn("batch", "width")),
)
