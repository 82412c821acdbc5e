"""Products of matrices, convolutions, pooling and look-ups in other forms and orders of summation, against torch's own."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from layerbench.bench import Layer, Variant, integers, randn

rows = {"sweep": {"batch": (8, 64), "width": (96,)}, "inputs": (randn("batch", "width"),)}
OUT = 40


def of_width(module, size):
    return module(size["width"], OUT)


class SplitK(nn.Linear):
    """Partial sums over blocks of the inner dimension."""

    def forward(self, x):
        return sum(a @ b.T for a, b in zip(x.split(16, -1), self.weight.split(16, -1), strict=True)) + self.bias


class Blocked(nn.Linear):
    """The output in tiles."""

    def forward(self, x):
        columns = [x @ block.T for block in self.weight.split(16)]
        return torch.cat(columns, -1) + self.bias


class Einsum(nn.Linear):
    def forward(self, x):
        return torch.einsum("...i,oi->...o", x, self.weight) + self.bias


class Batched(nn.Linear):
    def forward(self, x):
        return torch.baddbmm(self.bias[None, None], x[:, None], self.weight.T.expand(x.shape[0], -1, -1))[:, 0]


class Products(nn.Linear):
    """Every product by itself, then their sum."""

    def forward(self, x):
        return (x[:, None] * self.weight).sum(-1) + self.bias


class Halves(nn.Linear):
    """Sums of pairs, of pairs of pairs, and so on."""

    def forward(self, x):
        terms = x[:, None] * self.weight
        while terms.shape[-1] > 1:
            half = terms.shape[-1] // 2
            terms = torch.cat([terms[..., :half] + terms[..., half : 2 * half], terms[..., 2 * half :]], -1)
        return terms[..., 0] + self.bias


class LinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.addmm(bias, x, weight.T)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.T @ x, g.sum(0)


class ByHand(nn.Linear):
    def forward(self, x):
        return LinearFunction.apply(x, self.weight, self.bias)


right_linear_forms = Layer(
    "right_linear_forms",
    **rows,
    build=of_width,
    variants={
        "torch": Variant(nn.Linear),
        "split_k": Variant(SplitK),
        "blocked": Variant(Blocked),
        "einsum": Variant(Einsum),
        "batched": Variant(Batched),
        "products": Variant(Products),
        "halves": Variant(Halves),
        "by_hand": Variant(ByHand),
    },
)


def strassen(a, b):
    """Seven products of quarters instead of eight: Strassen, Numerische Mathematik 13, 1969."""
    (a11, a12), (a21, a22) = (half.chunk(2, -1) for half in a.chunk(2, -2))
    (b11, b12), (b21, b22) = (half.chunk(2, -1) for half in b.chunk(2, -2))
    m1, m2, m3 = (a11 + a22) @ (b11 + b22), (a21 + a22) @ b11, a11 @ (b12 - b22)
    m4, m5, m6, m7 = a22 @ (b21 - b11), (a11 + a12) @ b22, (a21 - a11) @ (b11 + b12), (a12 - a22) @ (b21 + b22)
    return torch.cat([torch.cat([m1 + m4 - m5 + m7, m3 + m5], -1), torch.cat([m2 + m4, m1 - m2 + m3 + m6], -1)], -2)


right_strassen = Layer(
    "right_strassen",
    sweep={"batch": (2, 4), "side": (32,)},
    inputs=(randn("batch", "side", "side"), randn("batch", "side", "side")),
    variants={"torch": Variant(torch.bmm), "strassen": Variant(strassen)},
    verify_at=({"batch": 1}, {"batch": 3, "side": 46}),
)

images = {"sweep": {"batch": (2, 4), "channels": (8,)}, "inputs": (randn("batch", "channels", 8, 8),)}


def of_channels(module, size):
    return module(size["channels"], 12, 3, padding=1)


class Unfolded(nn.Conv2d):
    """im2col: columns of pixels, times a matrix."""

    def forward(self, x):
        return (self.weight.flatten(1) @ F.unfold(x, 3, padding=1) + self.bias[:, None]).unflatten(-1, x.shape[2:])


class Shifts(nn.Conv2d):
    """A sum over the nine places of the filter."""

    def forward(self, x):
        wide, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[2:]
        taps = [(i, j) for i in range(3) for j in range(3)]
        terms = [torch.einsum("bchw,oc->bohw", wide[..., i : i + height, j : j + width], self.weight[..., i, j]) for i, j in taps]
        return sum(terms) + self.bias[:, None, None]


class Winograd(nn.Conv2d):
    """F(2x2, 3x3) of Lavin and Gray, 2015, arXiv:1509.09308: tiles of four outputs by sixteen products instead of thirty-six."""

    def forward(self, x):
        like = {"dtype": x.dtype, "device": x.device}
        b = torch.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], **like)
        g = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], **like)
        a = torch.tensor([[1, 1, 1, 0], [0, 1, -1, -1]], **like)
        tiles = F.pad(x, (1, 1, 1, 1)).unfold(2, 4, 2).unfold(3, 4, 2)
        products = torch.einsum("bcyxij,ocij->boyxij", b @ tiles @ b.T, g @ self.weight @ g.T)
        return (a @ products @ a.T).transpose(3, 4).flatten(4, 5).flatten(2, 3) + self.bias[:, None, None]


class Waves(nn.Conv2d):
    """By the Fourier transform, in float32 at least."""

    def forward(self, x):
        wide = torch.promote_types(x.dtype, torch.float32)
        shape = (x.shape[2] + 2, x.shape[3] + 2)
        image, filters = torch.fft.rfft2(x.to(wide), shape), torch.fft.rfft2(self.weight.to(wide).flip(2, 3), shape)
        found = torch.fft.irfft2(torch.einsum("bchw,ochw->bohw", image, filters), shape)
        return found[..., 1:-1, 1:-1].to(x.dtype) + self.bias[:, None, None]


right_conv_forms = Layer(
    "right_conv_forms",
    **images,
    build=of_channels,
    variants={
        "torch": Variant(nn.Conv2d),
        "unfolded": Variant(Unfolded),
        "shifts": Variant(Shifts),
        "winograd": Variant(Winograd),
        "waves": Variant(Waves),
    },
)


class DepthwiseShifts(nn.Conv2d):
    def forward(self, x):
        wide, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[2:]
        return self.bias[:, None, None] + sum(
            wide[..., i : i + height, j : j + width] * self.weight[:, :, i, j, None] for i in range(3) for j in range(3)
        )


right_depthwise_forms = Layer(
    "right_depthwise_forms",
    **images,
    build=lambda module, size: module(size["channels"], size["channels"], 3, padding=1, groups=size["channels"]),
    variants={"torch": Variant(nn.Conv2d), "shifts": Variant(DepthwiseShifts)},
)


def window(x):
    return F.unfold(x, 2, stride=2).unflatten(1, (x.shape[1], 4)).unflatten(-1, (x.shape[2] // 2, x.shape[3] // 2))


right_average_pool_forms = Layer(
    "right_average_pool_forms",
    **images,
    build=lambda module, size: module() if isinstance(module, partial) else module,
    variants={
        "torch": Variant(partial(nn.AvgPool2d, 2)),
        "unfolded": Variant(lambda x: window(x).mean(2)),
        "shaped": Variant(lambda x: x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-1, -3))),
    },
)

right_max_pool_forms = Layer(
    "right_max_pool_forms",
    **images,
    build=lambda module, size: module() if isinstance(module, partial) else module,
    variants={
        "torch": Variant(partial(nn.MaxPool2d, 2)),
        "unfolded": Variant(lambda x: window(x).max(2).values),
        "even": Variant(lambda x: window(x).amax(2)),
        "pairs": Variant(lambda x: torch.maximum(*(torch.maximum(y[..., ::2, :], y[..., 1::2, :]) for y in (x[..., ::2], x[..., 1::2])))),
    },
)

ENTRIES = 50


class OneHot(nn.Embedding):
    def forward(self, x):
        return F.one_hot(x, ENTRIES).to(self.weight.dtype) @ self.weight


class Selected(nn.Embedding):
    def forward(self, x):
        return self.weight.index_select(0, x.flatten()).unflatten(0, x.shape)


class Gathered(nn.Embedding):
    def forward(self, x):
        return self.weight.gather(0, x.flatten()[:, None].expand(-1, self.weight.shape[1])).unflatten(0, x.shape)


right_embedding_forms = Layer(
    "right_embedding_forms",
    sweep={"batch": (4, 16), "width": (32,)},
    inputs=(integers("batch", 12, below=ENTRIES),),
    build=lambda module, size: module(ENTRIES, size["width"]),
    variants={"torch": Variant(nn.Embedding), "one_hot": Variant(OneHot), "selected": Variant(Selected), "gathered": Variant(Gathered)},
)
