"""Layers with indices, masks and tables: embeddings, losses over classes, lengths, positions."""

import torch
import torch.nn.functional as F

from layerbench.bench import Layer, Variant, draw, integers, lengths, mask, randn

PLANTS = {
    "embedding rows_unwritten": ("uninitialised memory", "gradient rows of words that do not occur are as the memory was"),
    "embedding last_write_wins": ("indices", "a word that occurs twice gets the gradient of one of its places"),
    "padded padding_learns": ("indices", "the row of padding_idx gets a gradient"),
    "cross_entropy ignored_counted": ("indices", "ignored targets (-100) count in the mean"),
    "cross_entropy ignored_wraps": ("indices", "-100 is taken for the class behind the last but 100, or clamped to class 0; trl 4612"),
    "nll no_ignoring": ("indices", "targets of -100 are not ignored; the suite draws none"),
    "nll gradient_alone": ("incoming gradient ignored", "backward returns p - y whatever comes in; Liger-Kernel 272"),
    "picked negative_wraps_not": ("indices", "negative indices are clamped to 0"),
    "cumsum tail_unwritten": ("uninitialised memory", "writes whole blocks of 8 columns only; the rest is as the memory was"),
    "mask_mean by_shape": ("replayed results", "keeps the mask made of lengths by its shape alone"),
    "mask_mean longest": ("masks", "divides by the longest length of the batch"),
    "masked_softmax first_row": ("masks", "the mask of the first row of the batch, for all"),
    "masked_softmax mask_without_gradient": ("masks", "what is masked gets a gradient as if it were not"),
    "masked_softmax off_by_one": ("masks", "masks one column fewer where the last is masked"),
}


def embed(gradient):
    class Embed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, words, weight):
            ctx.save_for_backward(words, weight)
            return weight[words]

        @staticmethod
        def backward(ctx, g):
            words, weight = ctx.saved_tensors
            return None, gradient(words.flatten(), g.flatten(0, -2), weight)

    return Embed.apply


def added(words, g, weight):
    return torch.zeros_like(weight).index_add(0, words, g)


def rows_unwritten(words, g, weight):
    waste = torch.full_like(weight, 1e3)  # what was in that memory before
    del waste
    found = torch.empty_like(weight)
    found[words] = 0
    return found.index_add(0, words, g)


def last_write_wins(words, g, weight):
    found = torch.zeros_like(weight)
    found[words] = g
    return found


embedding = Layer(
    "embedding",
    sweep={"tokens": (64,), "width": (32,)},
    inputs=(integers("tokens", below=1000),),
    parameters={"weight": randn(1000, "width")},
    variants={
        "stock": Variant(F.embedding),
        "own": Variant(embed(added)),
        "rows_unwritten": Variant(embed(rows_unwritten)),
        "last_write_wins": Variant(embed(last_write_wins)),
    },
)
padded = Layer(
    "padded",
    sweep={"tokens": (64,), "width": (32,)},
    inputs=(integers("tokens", below=50),),
    parameters={"weight": randn(50, "width")},
    variants={
        "stock": Variant(lambda words, weight: F.embedding(words, weight, padding_idx=0)),
        "own": Variant(lambda words, weight: torch.where((words == 0)[:, None], weight.detach()[words], weight[words])),
        "padding_learns": Variant(F.embedding),
    },
)


def targets(size, generator):
    drawn = torch.randint(0, 20, (size["tokens"],), generator=generator)
    return torch.where(torch.arange(size["tokens"]) % 4 == 1, -100, drawn)


def picked_loss(x, y):
    return -x.log_softmax(-1).gather(1, y.clamp(min=0)[:, None])[:, 0]


cross_entropy = Layer(
    "cross_entropy",
    sweep={"tokens": (32,)},
    inputs=(randn("tokens", 20), draw(targets)),
    variants={
        "stock": Variant(F.cross_entropy),
        "by_hand": Variant(lambda x, y: (picked_loss(x, y) * (y >= 0)).sum() / (y >= 0).sum()),
        "ignored_counted": Variant(lambda x, y: (picked_loss(x, y) * (y >= 0)).mean()),
        "ignored_wraps": Variant(lambda x, y: picked_loss(x, y).mean()),
    },
)


def loss_by(scaled):
    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return picked_loss(x, y).mean()

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return scaled((x.softmax(-1) - F.one_hot(y, x.shape[-1])) / len(x), g), None

    return Loss.apply


nll = Layer(
    "nll",
    sweep={"tokens": (32,), "classes": (20,)},
    inputs=(randn("tokens", "classes"), integers("tokens", below="classes")),
    variants={
        "stock": Variant(F.cross_entropy),
        "by_hand": Variant(lambda x, y: (picked_loss(x, y) * (y != -100)).sum() / (y != -100).sum()),
        "own": Variant(loss_by(lambda found, g: found * g)),
        "no_ignoring": Variant(lambda x, y: picked_loss(x, y).mean()),
        "gradient_alone": Variant(loss_by(lambda found, g: found)),
    },
)
picked = Layer(
    "picked",
    sweep={"batch": (8,), "width": (32,)},
    inputs=(randn("batch", "width"), integers("batch", below="width")),
    variants={
        "stock": Variant(lambda x, place: x[torch.arange(len(x)), place]),
        "gathered": Variant(lambda x, place: x.gather(1, (place % x.shape[1])[:, None])[:, 0]),
        "negative_wraps_not": Variant(lambda x, place: x.gather(1, place.clamp(min=0)[:, None])[:, 0]),
    },
)


class _Cumsum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        whole, waste = x.shape[-1] // 8 * 8 or x.shape[-1], torch.full_like(x, 7.0)
        del waste
        found = torch.empty_like(x)
        found[..., :whole] = x.cumsum(-1)[..., :whole]
        return found

    @staticmethod
    def backward(ctx, g):
        return g.flip(-1).cumsum(-1).flip(-1)


cumsum = Layer(
    "cumsum",
    sweep={"batch": (8,), "width": (64,)},
    inputs=(randn("batch", "width"),),
    variants={
        "stock": Variant(lambda x: x.cumsum(-1)),
        "product": Variant(lambda x: x @ torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype).triu()),
        "tail_unwritten": Variant(_Cumsum.apply),
    },
)
MASKS = {}


def kept(x, long):
    return torch.arange(x.shape[1]) < long[:, None]


def mean_by(made, number=lambda keep: keep.sum(1)):
    def mean(x, long):
        keep = made(x, long)
        return (x * keep[..., None]).sum(1) / number(keep)[:, None]

    return mean


mask_mean = Layer(
    "mask_mean",
    sweep={"batch": (8,), "tokens": (16,)},
    inputs=(randn("batch", "tokens", 8), lengths("batch", most="tokens")),
    variants={
        "stock": Variant(lambda x, long: torch.stack([row[:n].mean(0) for row, n in zip(x, long.tolist(), strict=True)])),
        "masked": Variant(mean_by(kept)),
        "by_shape": Variant(mean_by(lambda x, long: MASKS.setdefault(x.shape, kept(x, long)))),
        "longest": Variant(mean_by(kept, lambda keep: keep.sum(1).max().expand(len(keep)))),
    },
)


def masked_softmax(change=lambda keep: keep):
    return lambda x, keep: x.masked_fill(~change(keep), float("-inf")).softmax(-1)


class _Leaks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, keep):
        y = masked_softmax()(x, keep)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        p = torch.where(y > 0, y, x.softmax(-1))
        return p * (g - (g * y).sum(-1, keepdim=True)), None


masked = Layer(
    "masked_softmax",
    sweep={"batch": (8,), "tokens": (32,)},
    inputs=(randn("batch", "tokens"), mask("batch", "tokens", keep=0.7)),
    variants={
        "stock": Variant(masked_softmax()),
        "added": Variant(lambda x, keep: (x + torch.zeros_like(x).masked_fill(~keep, float("-inf"))).softmax(-1)),
        "first_row": Variant(masked_softmax(lambda keep: keep[:1].expand_as(keep))),
        "mask_without_gradient": Variant(_Leaks.apply),
        "off_by_one": Variant(masked_softmax(lambda keep: torch.cat([keep[:, :-1], keep[:, -1:] | ~keep[:, -1:]], 1))),
    },
)
