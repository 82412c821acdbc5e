"""Cross-entropy with class indices:  L = mean over rows of  log sum_j exp(x_j) - x_t,  t the row's class.   (torch.nn.CrossEntropyLoss)"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, integers, randn
from ._autograd import once_differentiable
from ._blocks import blocks


class CrossEntropyFunction(torch.autograd.Function):
    """With p = softmax x, row by row:  dL/dx_j = (p_j - 1[j = t]) / rows.   Rows of class ignore_index do not count.

    Saves x and the classes, which the caller has anyway, and nothing else; backward makes p again, which takes no longer than reading it
    from memory.  Stock saves the log-softmax, as large as x.
    The gradient is written to memory of its own, never over x.  On a CPU both ways go by blocks of rows, so that what is as large as x
    is made once, for the gradient itself.  Half types are computed in float32; stock rounds the log-softmax to the half type.
    At a few rows on a CPU stock is up to three times as fast: a softmax in backward and Python's share are then what counts.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, classes: Tensor, ignore_index: int) -> Tensor:
        ctx.save_for_backward(x, classes)
        ctx.ignore_index = ignore_index
        counts = classes != ignore_index
        column = classes.where(counts, 0).unsqueeze(1)
        losses = x.new_zeros(len(x), 1, dtype=_wide(x))
        for rows in blocks(x):
            losses[rows] = torch.log_softmax(x[rows], 1, losses.dtype).gather(1, column[rows]).neg_()
        return (losses.squeeze(1).where(counts, 0).sum() / counts.sum()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, classes = ctx.saved_tensors
        counts = classes != ctx.ignore_index
        column = classes.where(counts, 0).unsqueeze(1)
        scale = (grad.to(_wide(x)) / counts.sum().clamp(min=1) * counts).unsqueeze(1)
        minus_one = scale.new_full((1, 1), -1.0).expand_as(column)
        grad_x = torch.empty_like(x)
        for rows in blocks(x):
            d = torch.softmax(x[rows], 1, scale.dtype).scatter_add_(1, column[rows], minus_one[rows])
            torch.mul(d, scale[rows], out=grad_x[rows])
        return grad_x, None, None


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class FunctionCrossEntropy(nn.CrossEntropyLoss):
    """nn.CrossEntropyLoss with the hand-derived backward of CrossEntropyFunction, for (rows, classes) and the mean over the rows.

    Raises ValueError for class weights, label smoothing, another reduction or shape.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.weight is not None or self.label_smoothing or self.reduction != "mean":
            raise ValueError("FunctionCrossEntropy: give no weight and no label_smoothing, and reduction='mean'")
        if input.dim() != 2 or target.shape != input.shape[:1] or target.is_floating_point():
            raise ValueError(
                f"FunctionCrossEntropy: input is {tuple(input.shape)}, target {tuple(target.shape)} of {target.dtype}; "
                "give (rows, classes) and (rows,) of class indices"
            )
        return CrossEntropyFunction.apply(input, target, self.ignore_index)


class TritonCrossEntropy(nn.CrossEntropyLoss):
    """nn.CrossEntropyLoss with the Triton kernels of kernels/cross_entropy.py, for (rows, classes) and class indices.

    Raises ValueError for class weights or label smoothing.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        from ..kernels.cross_entropy import cross_entropy  # here, so that this file can be read where Triton is not installed

        if self.weight is not None or self.label_smoothing:
            raise ValueError("TritonCrossEntropy: give no weight and no label_smoothing")
        return cross_entropy(input, target, self.ignore_index, self.reduction)


crossentropy = Layer(
    "crossentropy",
    sweep={"batch": (4, 16, 64), "classes": (32_000,)},
    inputs=(randn("batch", "classes"), integers("batch", below="classes")),
    build=lambda module, size: module(),
    variants={
        "stock": Variant(nn.CrossEntropyLoss),
        "function": Variant(FunctionCrossEntropy),
        "triton": Variant(TritonCrossEntropy, devices=GPU),
        "compile": Variant(nn.CrossEntropyLoss, compile=True),
    },
    verify_at=(
        {"batch": 5, "classes": 13},
        {"batch": 2, "classes": 9_000},  # rows longer than one block of the kernel
    ),
    gpu_sweep={"batch": (64, 1024, 8192)},
)
