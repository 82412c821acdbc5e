"""Triton kernels of liger-kernel 0.8.5, against torch's own; without a GPU under Triton's interpreter.

The others of its kernels are left out: that interpreter cannot run them (`eps.to` of a number, launches that ask for a driver).
"""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from _installed import need
from torch import nn

from layerbench.bench import GPU, Layer, Variant, integers, randn

need("liger_kernel")

from liger_kernel import transformers as liger  # noqa: E402  it is looked for first
from liger_kernel.transformers.softmax import LigerSoftmax  # noqa: E402
from liger_kernel.transformers.sparsemax import LigerSparsemax  # noqa: E402

rows = {"sweep": {"batch": (4, 16), "width": (64,)}, "inputs": (randn("batch", "width"),), "verify_at": ({"batch": 3, "width": 33},)}


def alone(module, size):
    return module()


right_liger_softmax = Layer(
    "right_liger_softmax",
    **rows,
    build=alone,
    variants={"torch": Variant(partial(nn.Softmax, -1)), "liger": Variant(LigerSoftmax, devices=GPU)},
)


class Sparse(nn.Module):
    """The projection onto the simplex: x less a threshold, cut at 0, whose rows sum to 1."""

    def forward(self, x):
        ordered, _ = x.sort(-1, descending=True)
        count = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
        size = (1 + count * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True)
        threshold = (ordered.cumsum(-1).gather(-1, size - 1) - 1) / size
        return (x - threshold).relu()


right_liger_sparsemax = Layer(
    "right_liger_sparsemax", **rows, build=alone, variants={"plain": Variant(Sparse), "liger": Variant(LigerSparsemax, devices=GPU)}
)

CLASSES = 40


class Smoothed(liger.LigerCrossEntropyLoss):
    """On a copy, since it writes the gradient into its input; and a contiguous one: of others it returns the input as its gradient."""

    def __init__(self):
        super().__init__(label_smoothing=0.1)

    def forward(self, x, labels):
        return super().forward(x.clone(memory_format=torch.contiguous_format), labels)


labelled = {"sweep": {"batch": (4, 16)}, "verify_at": ({"batch": 3},)}

right_liger_cross_entropy = Layer(
    "right_liger_cross_entropy",
    **labelled,
    inputs=(randn("batch", CLASSES), integers("batch", below=CLASSES)),
    build=alone,
    variants={
        "torch": Variant(partial(nn.CrossEntropyLoss, label_smoothing=0.1)),
        "liger": Variant(Smoothed, devices=GPU),
    },
)


def next_word(x, labels, weight):
    return F.cross_entropy(x @ weight.T, labels)


def of_liger(x, labels, weight):
    return liger.LigerFusedLinearCrossEntropyLoss()(weight, x, labels).to(x.dtype)


right_liger_linear_cross_entropy = Layer(
    "right_liger_linear_cross_entropy",
    **labelled,
    inputs=(randn("batch", 32), integers("batch", below=CLASSES)),
    parameters={"weight": randn(CLASSES, 32)},
    variants={"plain": Variant(next_word), "liger": Variant(of_liger, devices=GPU)},
)


def turned(q, k):
    angle = torch.outer(torch.arange(q.shape[-2], dtype=q.dtype), 100.0 ** -(torch.arange(0, 16, 2, dtype=q.dtype) / 16)).repeat(1, 2)
    return tuple(x * angle.cos() + torch.cat([-x[..., 8:], x[..., :8]], -1) * angle.sin() for x in (q, k))


def turned_by_liger(q, k):
    angle = torch.outer(torch.arange(q.shape[-2], dtype=q.dtype), 100.0 ** -(torch.arange(0, 16, 2, dtype=q.dtype) / 16)).repeat(1, 2)
    return liger.liger_rotary_pos_emb(q, k, angle.cos()[None], angle.sin()[None])


right_liger_rope = Layer(
    "right_liger_rope",
    sweep={"batch": (2, 4), "tokens": (8,)},
    inputs=(randn("batch", 2, "tokens", 16), randn("batch", 2, "tokens", 16)),
    variants={"plain": Variant(turned), "liger": Variant(turned_by_liger, devices=GPU)},
    verify_at=({"batch": 3, "tokens": 7},),
)
