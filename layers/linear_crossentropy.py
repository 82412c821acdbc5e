"""Linear and cross-entropy in one, without the logits:  L = mean over the rows of  log sum_j exp(x W_j) - x W_t,  t the row's class.

The logits, rows times classes, are what training a language model needs most memory for, and only their softmax is ever used.
(after Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024, arXiv:2411.09009)
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, integers, randn
from ._autograd import once_differentiable

IGNORED = -100  # torch's own default: a row of this class does not count
HELD_ON_CPU = 2**18  # logits that exist at a time: what the caches hold
HELD_ON_GPU = 2**24  # enough to keep a GPU busy


class LinearCrossEntropy(nn.Linear):
    """Stock.  (rows, in_features) and class indices (rows,) -> the mean loss.  No bias, as in most language models."""

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__(in_features, classes, bias=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(super().forward(input), target)


class LinearCrossEntropyFunction(torch.autograd.Function):
    """With z_j = x W_j, s = log sum_j exp(z_j) and d_j = exp(z_j - s) - 1[j = t]:  dL/dx = d W / rows,  dL/dW = d^T x / rows.
    Rows of class -100 do not count, as in stock.

    Goes by blocks of classes: forward joins their sums by log(exp a + exp b); backward makes the logits of a block again, from them d,
    and from d the block's rows of dL/dW, each written once, and its share of dL/dx.
    Saves x, W and the classes, which the caller has anyway, and one s per row.  Of logits and d only a block is ever held: neither saved
    bytes nor peak grow with rows times classes.  The price is a fourth matrix product beside stock's three: on a CPU forward and
    backward take up to twice as long each (docs/layers.md).  Making the gradients in forward would save that product, but
    keep a matrix as large as W from forward to backward.
    The products are in the dtype of x, as in stock; what lies between them, and the sum of the shares of dL/dx, in float32 at least.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
        s = x.new_full((len(x),), -torch.inf, dtype=torch.promote_types(x.dtype, torch.float32))
        own = torch.full_like(s, torch.nan)
        for block in _blocks(x, weight):
            logits = (x @ weight[block].T).to(s.dtype)
            s = torch.logaddexp(s, logits.logsumexp(1))
            place, inside = _places(classes, block, logits)
            own = logits.gather(1, place).squeeze(1).where(inside, own)  # rounded as the logits in s are, or s - own could be negative
        ctx.save_for_backward(x, weight, classes, s)
        counts = classes != IGNORED
        return ((s - own).where(counts, 0).sum() / counts.sum()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, classes, s = ctx.saved_tensors
        wants_x, wants_weight, _ = ctx.needs_input_grad
        counts = classes != IGNORED
        scale = (grad.to(s.dtype) / counts.sum().clamp(min=1) * counts).unsqueeze(1)
        scaled_x = (x * scale).to(x.dtype) if wants_weight else None
        s = s.unsqueeze(1)
        grad_x = torch.zeros_like(x, dtype=s.dtype) if wants_x else None
        grad_weight = torch.empty_like(weight) if wants_weight else None
        for block in _blocks(x, weight):
            part = weight[block]
            d = (x @ part.T).to(s.dtype).sub_(s).exp_()
            place, inside = _places(classes, block, d)
            d.scatter_add_(1, place, -inside.to(d.dtype).unsqueeze(1))  # adds 0 where the class is in another block
            d = d.to(x.dtype)
            if wants_x:
                grad_x += d @ part
            if wants_weight:
                torch.mm(d.T, scaled_x, out=grad_weight[block])
        return grad_x.mul_(scale).to(x.dtype) if wants_x else None, grad_weight, None


def _blocks(x: Tensor, weight: Tensor) -> Iterator[slice]:
    """The classes in blocks of 128 or more."""
    held = HELD_ON_CPU if x.device.type == "cpu" else HELD_ON_GPU
    step = max(128, held // max(1, len(x)))
    return (slice(start, start + step) for start in range(0, len(weight), step))


def _places(classes: Tensor, block: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The column (rows, 1) of each row's class among a block's logits, any where it is in another block; and whether it is in this one."""
    place = classes - block.start
    return place.clamp(0, logits.shape[1] - 1).unsqueeze(1), (place >= 0) & (place < logits.shape[1])


class FunctionLinearCrossEntropy(LinearCrossEntropy):
    """LinearCrossEntropy with the hand-derived backward of LinearCrossEntropyFunction.  Raises ValueError for other shapes.

    A class out of range raises IndexError, as in stock; on a GPU, where to look would be to wait, it makes the loss NaN.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if input.dim() != 2 or target.shape != input.shape[:1]:
            shapes = f"input is {tuple(input.shape)}, target {tuple(target.shape)}"
            raise ValueError(f"FunctionLinearCrossEntropy: {shapes}; give (rows, in_features) and (rows,)")
        if target.device.type == "cpu" and ((target >= self.out_features) | (target < 0) & (target != IGNORED)).any():
            raise IndexError(f"FunctionLinearCrossEntropy: a class is not in 0 to {self.out_features - 1}")
        return LinearCrossEntropyFunction.apply(input, self.weight, target)


class TritonLinearCrossEntropy(LinearCrossEntropy):
    """LinearCrossEntropy with the Triton kernels of kernels/linear_cross_entropy.py."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        from ..kernels.linear_cross_entropy import linear_cross_entropy  # here, so that this file can be read where Triton is missing

        return linear_cross_entropy(input, self.weight, target)


linear_crossentropy = Layer(
    "linear_crossentropy",
    sweep={"batch": (16, 64, 256), "width": (64,), "classes": (8192,)},
    inputs=(randn("batch", "width"), integers("batch", below="classes")),
    build=lambda module, size: module(size["width"], size["classes"]),
    variants={
        "stock": Variant(LinearCrossEntropy),
        "function": Variant(FunctionLinearCrossEntropy),
        "triton": Variant(TritonLinearCrossEntropy, devices=GPU),
        "compile": Variant(LinearCrossEntropy, compile=True),
    },
    verify_at=(
        {"batch": 3, "width": 5, "classes": 11},
        {"batch": 130, "width": 37, "classes": 600},  # three tiles each way
    ),
    on_request=True,
    gpu_sweep={"batch": (64, 512, 4096), "width": (2048,), "classes": (32_000,)},
)
