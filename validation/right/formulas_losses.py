"""Losses by other algebra, in chunks and by hand-written backwards, against torch's own."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn
from torch.autograd.function import once_differentiable

from layerbench.bench import Layer, Variant, draw, integers, positive, probabilities, randn

CLASSES = 50
CHUNK = 8
labelled = {"sweep": {"batch": (8, 64)}, "inputs": (randn("batch", CLASSES), integers("batch", below=CLASSES))}


def of_any(module, size):
    return module() if isinstance(module, type | partial) else module


def wide(x):
    """What sums of many terms are kept in: float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def by_logsumexp(x, labels):
    return (x.logsumexp(-1) - x.gather(1, labels[:, None])[:, 0]).mean()


def by_one_hot(x, labels):
    return -(F.one_hot(labels, CLASSES) * x.log_softmax(-1)).sum() / len(x)


def chunked(x, labels):
    parts = zip(x.split(CHUNK), labels.split(CHUNK), strict=True)
    return (sum(F.cross_entropy(part, wanted, reduction="sum").to(wide(x)) for part, wanted in parts) / len(x)).to(x.dtype)


class CrossEntropyByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, labels):
        ctx.save_for_backward(x, labels)
        return by_logsumexp(x, labels)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, labels = ctx.saved_tensors
        return (x.softmax(-1) - F.one_hot(labels, CLASSES)) * (g / len(x)), None


right_cross_entropy = Layer(
    "right_cross_entropy",
    **labelled,
    build=of_any,
    variants={
        "torch": Variant(nn.CrossEntropyLoss),
        "by_logsumexp": Variant(by_logsumexp),
        "by_one_hot": Variant(by_one_hot),
        "chunked": Variant(chunked),
        "by_hand": Variant(CrossEntropyByHand.apply),
    },
)


def some_ignored(size, generator):
    found = torch.randint(0, CLASSES, (size["batch"],), generator=generator)
    return found.where(found >= 10, -100)


def ignoring(x, labels):
    kept = labels >= 0
    return F.cross_entropy(x[kept], labels[kept])


def weighted(x, labels):
    kept = labels >= 0
    return (-x.log_softmax(-1).gather(1, labels.clamp(min=0)[:, None])[:, 0] * kept).sum() / kept.sum()


right_ignored_labels = Layer(
    "right_ignored_labels",
    sweep=labelled["sweep"],
    inputs=(randn("batch", CLASSES), draw(some_ignored)),
    build=of_any,
    variants={"torch": Variant(nn.CrossEntropyLoss), "ignoring": Variant(ignoring), "weighted": Variant(weighted)},
)


def linear_cross_entropy(x, labels, weight):
    return F.cross_entropy(x @ weight.T, labels)


class Chunked(torch.autograd.Function):
    """Logits of a few rows at a time, with their gradients at once: what Liger-Kernel and others do to save memory."""

    @staticmethod
    def forward(ctx, x, labels, weight):
        loss, x_grad = x.new_zeros((), dtype=wide(x)), torch.empty_like(x)
        weight_grad = torch.zeros_like(weight, dtype=wide(x))
        for start in range(0, len(x), CHUNK):
            rows, wanted = x[start : start + CHUNK], labels[start : start + CHUNK]
            logits = rows @ weight.T
            loss += F.cross_entropy(logits, wanted, reduction="sum") / len(x)
            g = (logits.softmax(-1) - F.one_hot(wanted, CLASSES)) / len(x)
            x_grad[start : start + CHUNK] = g @ weight
            weight_grad += g.T @ rows
        ctx.save_for_backward(x_grad, weight_grad.to(weight.dtype))
        return loss.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x_grad, weight_grad = ctx.saved_tensors
        return g * x_grad, None, g * weight_grad


right_linear_cross_entropy = Layer(
    "right_linear_cross_entropy",
    sweep=labelled["sweep"],
    inputs=(randn("batch", 32), integers("batch", below=CLASSES)),
    parameters={"weight": randn(CLASSES, 32)},
    variants={"plain": Variant(linear_cross_entropy), "chunked": Variant(Chunked.apply)},
)

right_binary_forms = Layer(
    "right_binary_forms",
    sweep=labelled["sweep"],
    inputs=(randn("batch", CLASSES), probabilities("batch", CLASSES, requires_grad=False)),
    build=of_any,
    variants={
        "torch": Variant(nn.BCEWithLogitsLoss),
        "split": Variant(lambda x, y: (x.clamp(min=0) - x * y + (-x.abs()).exp().log1p()).mean()),
        "softplus": Variant(lambda x, y: (F.softplus(x) - x * y).mean()),
        "logsigmoid": Variant(lambda x, y: -(y * F.logsigmoid(x) + (1 - y) * F.logsigmoid(-x)).mean()),
    },
)

right_divergence_forms = Layer(
    "right_divergence_forms",
    sweep=labelled["sweep"],
    inputs=(randn("batch", CLASSES), probabilities("batch", CLASSES, requires_grad=False)),
    variants={
        "torch": Variant(lambda x, y: F.kl_div(x.log_softmax(-1), y, reduction="batchmean")),
        "plain": Variant(lambda x, y: (y * (y.log() - x.log_softmax(-1))).sum() / len(x)),
        "less_entropy": Variant(lambda x, y: ((y * y.log()).sum() - (y * x.log_softmax(-1)).sum()) / len(x)),
        "quotient": Variant(lambda x, y: (y * (y / x.to(wide(x)).softmax(-1)).log()).sum(-1).mean().to(x.dtype)),
    },
)

pairs = {"sweep": labelled["sweep"], "inputs": (randn("batch", CLASSES), randn("batch", CLASSES, requires_grad=False))}

right_square_forms = Layer(
    "right_square_forms",
    **pairs,
    build=of_any,
    variants={
        "torch": Variant(nn.MSELoss),
        "product": Variant(lambda x, y: product((x - y).flatten().to(wide(x))).to(x.dtype)),
        "norm": Variant(lambda x, y: (torch.linalg.vector_norm(x - y, dtype=wide(x)).square() / x.numel()).to(x.dtype)),
        "expanded": Variant(lambda x, y: (x * x - 2 * x * y + y * y).mean()),
        "rows": Variant(lambda x, y: (x - y).square().mean(-1).mean()),
    },
)


def product(x):
    return x @ x / x.numel()


right_huber_forms = Layer(
    "right_huber_forms",
    **pairs,
    build=of_any,
    variants={
        "torch": Variant(nn.HuberLoss),
        "clamped": Variant(lambda x, y: huber((x - y).abs())),
        "where": Variant(lambda x, y: torch.where((x - y).abs() < 1, (x - y).square() / 2, (x - y).abs() - 0.5).mean()),
    },
)


def huber(distance):
    near = distance.clamp(max=1)
    return (near * (distance - near / 2)).mean()


right_poisson_forms = Layer(
    "right_poisson_forms",
    sweep=labelled["sweep"],
    inputs=(randn("batch", CLASSES), positive("batch", CLASSES, requires_grad=False)),
    build=of_any,
    variants={
        "torch": Variant(nn.PoissonNLLLoss),
        "apart": Variant(lambda x, y: x.exp().mean() - (x * y).mean()),
    },
)
