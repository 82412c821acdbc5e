"""Triton kernels of liger-kernel 0.8.5, against torch's own; on a machine without a GPU they run under Triton's interpreter."""

from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from _installed import need
from torch import nn

from layerbench.bench import GPU, Layer, Variant, integers, probabilities, randn

need("liger_kernel")

from liger_kernel import transformers as liger  # noqa: E402  it is looked for first
from liger_kernel.transformers.dyt import LigerDyT  # noqa: E402
from liger_kernel.transformers.softmax import LigerSoftmax  # noqa: E402
from liger_kernel.transformers.sparsemax import LigerSparsemax  # noqa: E402

rows = {"sweep": {"batch": (4, 16), "width": (64,)}, "inputs": (randn("batch", "width"),), "verify_at": ({"batch": 3, "width": 33},)}


def of_width(module, size):
    return module(size["width"])


def alone(module, size):
    return module()


right_liger_rmsnorm = Layer(
    "right_liger_rmsnorm",
    **rows,
    build=of_width,
    variants={
        "torch": Variant(partial(nn.RMSNorm, eps=1e-6)),
        "liger": Variant(partial(liger.LigerRMSNorm, in_place=False), devices=GPU),
        "liger_in_place": Variant(liger.LigerRMSNorm, devices=GPU),
        "liger_gemma": Variant(partial(liger.LigerRMSNorm, casting_mode="gemma", in_place=False), devices=GPU),
    },
)

right_liger_layernorm = Layer(
    "right_liger_layernorm",
    **rows,
    build=of_width,
    variants={"torch": Variant(partial(nn.LayerNorm, eps=1e-6)), "liger": Variant(partial(liger.LigerLayerNorm, bias=True), devices=GPU)},
)

right_liger_softmax = Layer(
    "right_liger_softmax",
    **rows,
    build=alone,
    variants={"torch": Variant(partial(nn.Softmax, -1)), "liger": Variant(LigerSoftmax, devices=GPU)},
)


class Tanh(nn.Module):
    """gamma tanh(alpha x) + beta."""

    def __init__(self, width):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.gamma * (self.alpha * x).tanh() + self.beta


right_liger_dyt = Layer(
    "right_liger_dyt", **rows, build=of_width, variants={"plain": Variant(Tanh), "liger": Variant(LigerDyT, devices=GPU)}
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

right_liger_groupnorm = Layer(
    "right_liger_groupnorm",
    sweep={"batch": (2, 4)},
    inputs=(randn("batch", 8, 6, 6),),
    build=alone,
    variants={
        "torch": Variant(lambda: nn.GroupNorm(2, 8, eps=1e-6)),
        "liger": Variant(lambda: liger.LigerGroupNorm(8, 2, eps=1e-6, bias=True), devices=GPU),
    },
    verify_at=({"batch": 3},),
)


class Gated(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, x):
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class SwiGLU(Gated):
    act = staticmethod(F.silu)


class GeGLU(Gated):
    act = staticmethod(partial(F.gelu, approximate="tanh"))


def configured(module, act):
    return lambda width: module(SimpleNamespace(hidden_size=width, intermediate_size=2 * width, hidden_act=act))


right_liger_swiglu = Layer(
    "right_liger_swiglu",
    **rows,
    build=of_width,
    variants={"plain": Variant(SwiGLU), "liger": Variant(configured(liger.LigerSwiGLUMLP, "silu"), devices=GPU)},
)

right_liger_geglu = Layer(
    "right_liger_geglu",
    **rows,
    build=of_width,
    variants={"plain": Variant(GeGLU), "liger": Variant(configured(liger.LigerGEGLUMLP, "gelu_pytorch_tanh"), devices=GPU)},
)

CLASSES = 40
labelled = {"sweep": {"batch": (4, 16)}, "verify_at": ({"batch": 3},)}

right_liger_cross_entropy = Layer(
    "right_liger_cross_entropy",
    **labelled,
    inputs=(randn("batch", CLASSES), integers("batch", below=CLASSES)),
    build=alone,
    variants={
        "torch": Variant(partial(nn.CrossEntropyLoss, label_smoothing=0.1)),
        "liger": Variant(partial(liger.LigerCrossEntropyLoss, label_smoothing=0.1), devices=GPU),
    },
)


def next_word(x, labels, weight):
    return F.cross_entropy(x @ weight.T, labels)


def of_liger(x, labels, weight):
    return liger.LigerFusedLinearCrossEntropyLoss()(weight, x, labels)


right_liger_linear_cross_entropy = Layer(
    "right_liger_linear_cross_entropy",
    **labelled,
    inputs=(randn("batch", 32), integers("batch", below=CLASSES)),
    parameters={"weight": randn(CLASSES, 32)},
    variants={"plain": Variant(next_word), "liger": Variant(of_liger, devices=GPU)},
)


class Divergence(nn.Module):
    def forward(self, x, target):
        return F.kl_div(x.log_softmax(-1), target, reduction="batchmean")


class OfLiger(nn.Module):
    def __init__(self):
        super().__init__()
        self.loss = liger.LigerKLDIVLoss(reduction="batchmean")

    def forward(self, x, target):
        return self.loss(x.log_softmax(-1), target)


right_liger_kl = Layer(
    "right_liger_kl",
    **labelled,
    inputs=(randn("batch", CLASSES), probabilities("batch", CLASSES, requires_grad=False)),
    build=alone,
    variants={"torch": Variant(Divergence), "liger": Variant(OfLiger, devices=GPU)},
)


def variation(p, q):
    return (p - q).abs().sum(-1).mean() / 2


right_liger_total_variation = Layer(
    "right_liger_total_variation",
    **labelled,
    inputs=(probabilities("batch", CLASSES), probabilities("batch", CLASSES, requires_grad=False)),
    variants={"plain": Variant(variation), "liger": Variant(lambda p, q: liger.LigerTVDLoss()(p, q), devices=GPU)},
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
