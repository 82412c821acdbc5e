"""Kullback-Leibler divergence of two softmaxes:  L = mean over rows of  sum_j q_j (log q_j - log p_j),  p = softmax x, q = softmax t.

The loss of distillation: x are a student's scores, t a teacher's.   (Hinton, Vinyals & Dean, 2015, arXiv:1503.02531; torch.nn.KLDivLoss)
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from ._blocks import blocks


class KLDivergence(nn.KLDivLoss):
    """Stock.  Scores x and t, both (rows, classes), before the softmax -> the loss."""

    def __init__(self) -> None:
        super().__init__(reduction="batchmean")

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input.log_softmax(1), target.softmax(1))


class KLDivergenceFunction(torch.autograd.Function):
    """With k = sum_j q_j (log q_j - log p_j), one per row:  dL/dx = (p - q) / rows,  dL/dt_j = q_j (log q_j - log p_j - k) / rows.

    Saves x and t, which the caller has anyway; backward makes both softmaxes again, which takes about as long as reading them.
    Stock saves log p and q.  On a CPU both ways go by blocks of rows, so that of what is made only the gradients are as large as x.
    Half types are computed in float32.  At one row Python's share makes forward slower than stock's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor) -> Tensor:
        ctx.save_for_backward(x, t)
        total = x.new_zeros((), dtype=torch.promote_types(x.dtype, torch.float32))
        for rows in blocks(x):
            log_q = t[rows].log_softmax(1, total.dtype)
            ratio = (log_q - x[rows].log_softmax(1, total.dtype)).clamp_(min=torch.finfo(total.dtype).min)  # q = 0 counts 0
            total += log_q.exp_().mul_(ratio).sum()
        return (total / len(x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors
        wants_x, wants_t = ctx.needs_input_grad
        wide = torch.promote_types(x.dtype, torch.float32)
        scale = grad.to(wide) / max(1, len(x))
        grad_x = torch.empty_like(x) if wants_x else None
        grad_t = torch.empty_like(t) if wants_t else None
        for rows in blocks(x):
            log_p, log_q = x[rows].log_softmax(1, wide), t[rows].log_softmax(1, wide)
            q = log_q.exp()
            if wants_x:
                torch.mul(log_p.exp().sub_(q), scale, out=grad_x[rows])
            if wants_t:
                ratio = log_q.sub_(log_p)
                k = (q * ratio).sum(1, keepdim=True)
                torch.mul(ratio.sub_(k).mul_(q), scale, out=grad_t[rows])
        return grad_x, grad_t


class FunctionKLDivergence(KLDivergence):
    """KLDivergence with the hand-derived backward of KLDivergenceFunction.

    For x and t of one shape (rows, classes) and one dtype.  Raises ValueError for others.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if input.dim() != 2 or (input.shape, input.dtype) != (target.shape, target.dtype):
            given = f"input is {tuple(input.shape)} {input.dtype}, target {tuple(target.shape)} {target.dtype}"
            raise ValueError(f"FunctionKLDivergence: {given}; give (rows, classes) twice, of one dtype")
        return KLDivergenceFunction.apply(input, target)


class TritonKLDivergence(KLDivergence):
    """KLDivergence with the Triton kernels of kernels/kl_div.py."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        from ..kernels.kl_div import softmax_kl_div  # here, so that this file can be read where Triton is not installed

        return softmax_kl_div(input, target)


kldiv = Layer(
    "kldiv",
    sweep={"batch": (1, 16, 128), "classes": (4096,)},
    inputs=(randn("batch", "classes"), randn("batch", "classes")),
    build=lambda module, size: module(),
    variants={
        "stock": Variant(KLDivergence),
        "function": Variant(FunctionKLDivergence),
        "triton": Variant(TritonKLDivergence, devices=GPU),
        "compile": Variant(KLDivergence, compile=True),
    },
    verify_at=(
        {"batch": 3, "classes": 11},
        {"batch": 3, "classes": 3_001},  # rows longer than one block of the kernel
    ),
    on_request=True,
    gpu_sweep={"batch": (64, 512, 4096), "classes": (32_000,)},
)
