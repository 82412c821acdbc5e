"""Losses of timm 1.0.31, torchvision 0.28.0, transformers 5.24.0 and liger-kernel 0.8.5, against torch's own or a plain formula."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, draw, integers, probabilities, randn

need("timm", "transformers", "torchvision", "liger_kernel")

import timm.loss as timm  # noqa: E402  they are looked for first
from liger_kernel import chunked_loss as liger  # noqa: E402
from torchvision.ops import sigmoid_focal_loss  # noqa: E402
from transformers.loss.loss_utils import ForCausalLMLoss  # noqa: E402

CLASSES = 50
labelled = {"sweep": {"batch": (8, 64)}, "inputs": (randn("batch", CLASSES), integers("batch", below=CLASSES))}


def alone(module, size):
    return module()


right_label_smoothing = Layer(
    "right_label_smoothing",
    **labelled,
    build=alone,
    variants={
        "torch": Variant(partial(nn.CrossEntropyLoss, label_smoothing=0.1)),
        "timm": Variant(partial(timm.LabelSmoothingCrossEntropy, 0.1)),
    },
)

right_soft_targets = Layer(
    "right_soft_targets",
    sweep={"batch": (8, 64)},
    inputs=(randn("batch", CLASSES), probabilities("batch", CLASSES, requires_grad=False)),
    build=alone,
    variants={"torch": Variant(nn.CrossEntropyLoss), "timm": Variant(timm.SoftTargetCrossEntropy)},
)


class Independent(nn.Module):
    """Every class by itself: -log sigmoid(x) or -log(1 - sigmoid(x)), with smoothed targets."""

    def forward(self, x, labels):
        target = F.one_hot(labels, CLASSES).to(x.dtype) * 0.9 + 0.1 / CLASSES
        return -(target * F.logsigmoid(x) + (1 - target) * F.logsigmoid(-x)).mean()


right_binary_cross_entropy = Layer(
    "right_binary_cross_entropy",
    **labelled,
    build=alone,
    variants={"plain": Variant(Independent), "timm": Variant(timm.BinaryCrossEntropy)},
)


def several(size, generator):
    return torch.rand(size["batch"], CLASSES, generator=generator).lt(0.2).float()


multiple = {"sweep": {"batch": (8, 64)}, "inputs": (randn("batch", CLASSES), draw(several, requires_grad=False))}


def focal(x, target):
    chance = torch.where(target > 0, x.sigmoid(), (-x).sigmoid())
    return (0.75 - 0.5 * target) * (1 - chance) ** 2 * -torch.where(target > 0, F.logsigmoid(x), F.logsigmoid(-x))


right_focal = Layer("right_focal", **multiple, variants={"plain": Variant(focal), "torchvision": Variant(sigmoid_focal_loss)})


class Asymmetric(nn.Module):
    """Focal, with 4 for the wrong classes and 1 for the right ones, and chances of wrong ones cut at 0.05."""

    def forward(self, x, target):
        right, wrong = x.sigmoid(), ((-x).sigmoid() + 0.05).clamp(max=1)
        each = target * right.clamp(min=1e-8).log() * (1 - right) + (1 - target) * wrong.clamp(min=1e-8).log() * (1 - wrong) ** 4
        return -each.sum() / x.shape[0]


class TimmAsymmetric(timm.AsymmetricLossMultiLabel):
    """Its loss is float32 whatever it is given; here it is cast back, as the others' is."""

    def forward(self, x, target):
        return super().forward(x, target).to(x.dtype)


right_asymmetric = Layer(
    "right_asymmetric", **multiple, build=alone, variants={"plain": Variant(Asymmetric), "timm": Variant(TimmAsymmetric)}
)


class Divergence(nn.Module):
    """Cross entropy of the first third, and 12 times the mean divergence of all three from their mean."""

    def forward(self, x, labels):
        parts = x.chunk(3)
        logs = [part.log_softmax(-1) for part in parts]
        middle = sum(each.exp() for each in logs) / 3
        apart = sum((each.exp() * (each - middle.log())).sum() for each in logs) / parts[0].shape[0] / 3
        return F.cross_entropy(parts[0], labels, label_smoothing=0.1) + 12 * apart


right_augmix = Layer(
    "right_augmix",
    sweep={"batch": (4, 16)},
    inputs=(draw(lambda size, generator: torch.randn(3 * size["batch"], CLASSES, generator=generator)), integers("batch", below=CLASSES)),
    build=alone,
    variants={"plain": Variant(Divergence), "timm": Variant(timm.JsdCrossEntropy)},
)

words = {"sweep": {"batch": (2, 4)}, "inputs": (randn("batch", 16, CLASSES), integers("batch", 16, below=CLASSES))}


def next_word(logits, labels):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def of_transformers(logits, labels):
    return ForCausalLMLoss(logits, labels, CLASSES).to(logits.dtype)


right_next_word = Layer("right_next_word", **words, variants={"plain": Variant(next_word), "transformers": Variant(of_transformers)})

WIDTH, WORDS = 16, 12
pairs = {
    "sweep": {"batch": (2, 8)},
    "inputs": (
        draw(lambda size, generator: torch.randn(2 * size["batch"], WORDS, WIDTH, generator=generator)),
        draw(lambda size, generator: torch.randint(0, CLASSES, (2 * size["batch"], WORDS), generator=generator)),
    ),
    "parameters": {"weight": randn(CLASSES, WIDTH)},
}


def chances(x, labels, weight, mean=False):
    """The logarithm of the probability of each sentence: of those that were chosen, and of those that were not."""
    found = -F.cross_entropy((x @ weight.T).flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    return (found.mean(-1) if mean else found.sum(-1)).chunk(2)


def preference(x, labels, weight):
    chosen, rejected = chances(x, labels, weight)
    return -F.logsigmoid(0.1 * (chosen - rejected)).mean()


def liger_preference(chunk):
    loss = liger.LigerFusedLinearDPOLoss(compiled=False, use_ref_model=False, chunk_size=chunk)
    return lambda x, labels, weight: loss(weight, x, labels)[0].to(x.dtype)


right_dpo = Layer(
    "right_dpo",
    **pairs,
    variants={"plain": Variant(preference), "liger": Variant(liger_preference(1)), "liger_two": Variant(liger_preference(2))},
)


def simple_preference(x, labels, weight):
    chosen, rejected = chances(x, labels, weight, mean=True)
    likely = F.cross_entropy((x @ weight.T).chunk(2)[0].flatten(0, 1), labels.chunk(2)[0].flatten())
    return likely - F.logsigmoid(0.1 * (chosen - rejected) - 0.5).mean()


def liger_simple(x, labels, weight):
    loss = liger.LigerFusedLinearSimPOLoss(compiled=False, beta=0.1, gamma=0.5, compute_nll_loss=True)
    return loss(weight, x, labels)[0].to(x.dtype)


right_simpo = Layer("right_simpo", **pairs, variants={"plain": Variant(simple_preference), "liger": Variant(liger_simple)})
