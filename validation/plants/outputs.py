"""Layers with several outputs, or whose outputs share memory; one tensor given twice; dtypes and sizes of what comes out."""

import torch
import torch.nn.functional as F
from torch import nn

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "add_norm both_needed": ("several outputs", "the sum's gradient is lost where only one output is used; TransformerEngine 371"),
    "add_norm sum_detached": ("several outputs", "the second output carries no gradient"),
    "add_norm gradient_twice": ("several outputs", "a gradient that is None is taken for the other one's"),
    "add_norm one_tensor": ("aliasing", "both outputs lie in one buffer, one behind the other's number"),
    "add_norm swapped": ("several outputs", "returns them in the other order"),
    "identity_eval returns_input": ("aliasing", "returns its input itself in eval()"),
    "handed_on copies": ("aliasing", "copies what the reference hands out as a view of its input"),
    "split views": ("aliasing", "returns views of one tensor where the reference's are apart"),
    "split expanded": ("aliasing", "returns a tensor with a stride of 0: who writes to one row writes to all"),
    "normed weight_itself": ("aliasing", "returns its parameter itself where the reference returns a copy"),
    "multiply one_tensor_twice": ("one tensor given twice", "doubles the gradient where both inputs are one tensor"),
    "multiply square_shortcut": ("one tensor given twice", "takes x |x| for x times x where both are one tensor"),
    "stats scalar_shape": ("shapes", "the mean comes as (1,), not as a number"),
    "stats count_float": ("dtypes", "the index of the maximum comes as a float"),
    "stats last_of_ties": ("zeros and ties", "of equal maxima the last one's index, where the reference has the first"),
    "glu double": ("dtypes", "computes and answers in float64"),
    "glu output_needs_no_gradient": ("several outputs", "the gate comes out detached"),
}


def normed(s):
    return F.layer_norm(s, s.shape[-1:])


class AddNorm(torch.autograd.Function):
    """(layer_norm(x + y), x + y)."""

    @staticmethod
    def forward(ctx, x, y, mix):
        s = x + y
        ctx.save_for_backward(s)
        ctx.mix = mix
        ctx.set_materialize_grads(False)
        return normed(s), s

    @staticmethod
    def backward(ctx, gn, gs):
        (s,) = ctx.saved_tensors
        found = ctx.mix(gn, gs, s)
        return found, found, None


def through(gn, s):
    with torch.enable_grad():
        leaf = s.detach().requires_grad_()
        return torch.autograd.grad(normed(leaf), leaf, gn)[0]


def right_mix(gn, gs, s):
    found = through(gn, s) if gn is not None else torch.zeros_like(s)
    return found if gs is None else found + gs


def both_needed(gn, gs, s):
    return right_mix(gn, gs, s) if gn is not None and gs is not None else torch.zeros_like(s)


def gradient_twice(gn, gs, s):
    return right_mix(gs if gn is None else gn, gs, s)


def one_buffer(x, y):
    s = x + y
    both = torch.stack([normed(s), s], -1)
    return both[..., 0], both[..., 1]


def of(name, inputs, variants, build=None):
    return Layer(name, {"batch": (16,), "width": (32,)}, inputs, build, {each: Variant(made) for each, made in variants.items()})


pair = (randn("batch", "width"), randn("batch", "width"))
add_norm = of(
    "add_norm",
    pair,
    {
        "stock": lambda x, y: (normed(x + y), x + y),
        "own": lambda x, y: AddNorm.apply(x, y, right_mix),
        "both_needed": lambda x, y: AddNorm.apply(x, y, both_needed),
        "sum_detached": lambda x, y: (normed(x + y), (x + y).detach()),
        "gradient_twice": lambda x, y: AddNorm.apply(x, y, gradient_twice),
        "one_tensor": one_buffer,
        "swapped": lambda x, y: (x + y, normed(x + y)),
    },
)


class Identity(nn.Module):
    def forward(self, x):
        return x * 2 if self.training else x.clone()


class Doubled(Identity):
    def forward(self, x):
        return x + x if self.training else x + 0


class ReturnsInput(Identity):
    def forward(self, x):
        return x + x if self.training else x


identity = of("identity_eval", pair[:1], {"stock": Identity, "own": Doubled, "returns_input": ReturnsInput})
handed_on = of(
    "handed_on",
    pair[:1],
    {
        "stock": lambda x: (x[:, ::2], x.relu()),
        "own": lambda x: (x.narrow(0, 0, len(x))[:, ::2], x.clamp(min=0)),
        "copies": lambda x: (x[:, ::2].clone(), x.relu()),
    },
)
split = of(
    "split",
    pair[:1],
    {
        "stock": lambda x: (F.silu(x), x.mean(1, keepdim=True).repeat(1, 4)),
        "own": lambda x: (x * x.sigmoid(), x.mean(1, keepdim=True) @ torch.ones(1, 4, dtype=x.dtype)),
        "expanded": lambda x: (x * x.sigmoid(), x.mean(1, keepdim=True).expand(-1, 4)),
        "views": lambda x: torch.cat([x * x.sigmoid(), x.mean(1, keepdim=True).repeat(1, 4)], 1).split([x.shape[1], 4], 1),
    },
)


class Table(nn.Module):
    """Adds a row, and hands it out beside."""

    def __init__(self, width):
        super().__init__()
        self.row = nn.Parameter(torch.randn(width))

    def forward(self, x):
        return x + self.row, self.row.clone()


class ByRow(Table):
    def forward(self, x):
        return self.row + x, 1 * self.row


class Itself(Table):
    def forward(self, x):
        return self.row + x, self.row


table = of("normed", pair[:1], {"stock": Table, "own": ByRow, "weight_itself": Itself}, lambda module, size: module(size["width"]))


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, factor):
        ctx.save_for_backward(x, y)
        ctx.factor = factor
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        factor = ctx.factor if x.data_ptr() == y.data_ptr() else 1
        return g * y * factor, g * x * factor, None


multiply = of(
    "multiply",
    pair,
    {
        "stock": torch.mul,
        "own": lambda x, y: Product.apply(x, y, 1),
        "one_tensor_twice": lambda x, y: Product.apply(x, y, 2),
        "square_shortcut": lambda x, y: x * x.abs() if x.data_ptr() == y.data_ptr() else x * y,
    },
)
stats = of(
    "stats",
    pair[:1],
    {
        "stock": lambda x: (x.mean(), x.argmax(1)),
        "own": lambda x: (x.sum() / x.numel(), x.max(1).indices),
        "scalar_shape": lambda x: (x.mean().reshape(1), x.argmax(1)),
        "count_float": lambda x: (x.mean(), x.argmax(1).to(x.dtype)),
        "last_of_ties": lambda x: (x.mean(), x.shape[1] - 1 - x.flip(1).argmax(1)),
    },
)
glu = of(
    "glu",
    pair,
    {
        "stock": lambda x, y: (x * y.sigmoid(), y.sigmoid()),
        "own": lambda x, y: (x / (1 + (-y).exp()), 1 / (1 + (-y).exp())),
        "double": lambda x, y: (x.double() * y.double().sigmoid(), y.double().sigmoid()),
        "output_needs_no_gradient": lambda x, y: (x * y.sigmoid(), y.sigmoid().detach()),
    },
)
