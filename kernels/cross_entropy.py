"""Cross-entropy with class indices, row by row:  l = s - x_t  with  s = log sum_j exp(x_j);  backward  dx_j = (exp(x_j - s) - 1[j = t]) g.

Method   One program reads one row of forward in blocks and keeps its maximum and sum together, as softmax.py does for long rows, so that
         a row of any length is read once and the softmax is never stored.
         Backward needs s alone: every number of dx is made from its own x, and the reduction over the rows is torch's.
Bytes    Forward reads x and the classes and writes l and s, a number per row each.  Backward reads x, the classes, s and g, and writes dx.
Numbers  float32, bfloat16, float16; computed in float32.  A class outside the row that is not ignore_index makes NaN of its row's loss
         and gradient, where torch stops the process's use of the GPU.
Limits   Fewer than 2^31 rows, each shorter than 2^31 - BLOCK.  A non-contiguous input is copied.  Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .softmax import top_and_sum

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 4096  # numbers of a row that a program works on at a time


@triton.jit
def _forward_kernel(x_ptr, target_ptr, loss_ptr, lse_ptr, width, ignore_index, BLOCK: tl.constexpr):
    """Grid: one program per row."""
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * width
    top, total = top_and_sum(x_ptr, width, BLOCK)
    lse = top + tl.log(total)
    target = tl.load(target_ptr + row)
    inside = (target >= 0) & (target < width)
    x_target = tl.load(x_ptr + target, mask=inside, other=float("nan")).to(tl.float32)
    tl.store(loss_ptr + row, tl.where(target == ignore_index, 0.0, lse - x_target))
    tl.store(lse_ptr + row, lse)


@triton.jit
def _backward_kernel(grad_ptr, x_ptr, target_ptr, lse_ptr, grad_x_ptr, width, ignore_index, BLOCK: tl.constexpr):
    """Grid: one program per BLOCK numbers of a row."""
    blocks = tl.cdiv(width, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    column = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    target = tl.load(target_ptr + row)
    grad = tl.load(grad_ptr + row).to(tl.float32)
    inside = (target >= 0) & (target < width)
    grad = tl.where(inside, grad, float("nan"))
    x = tl.load(x_ptr + row * width + column, mask=column < width, other=0.0).to(tl.float32)
    d = (tl.exp(x - tl.load(lse_ptr + row)) - tl.where(column == target, 1.0, 0.0)) * grad
    d = tl.where(target == ignore_index, 0.0, d)
    tl.store(grad_x_ptr + row * width + column, d.to(grad_x_ptr.dtype.element_ty), mask=column < width)


def _block(width: int) -> dict[str, int]:
    block = min(BLOCK, max(128, triton.next_power_of_2(width)))
    return {"BLOCK": block, "num_warps": max(1, block // 512)}


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::cross_entropy", mutates_args=())
def _cross_entropy(x: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """(rows, width) and (rows,) -> the float32 loss l of each row, 0 where it is ignored, and s."""
    rows, width = x.shape
    x, target = x.contiguous(), target.contiguous()
    loss, lse = x.new_empty(rows, dtype=torch.float32), x.new_empty(rows, dtype=torch.float32)
    if rows:
        with torch.cuda.device_of(x):
            _forward_kernel[(rows,)](x, target, loss, lse, width, ignore_index, **_block(width))
    return loss, lse


@_cross_entropy.register_fake
def _(x: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], dtype=torch.float32), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::cross_entropy_backward", mutates_args=())
def _cross_entropy_backward(grad: Tensor, x: Tensor, target: Tensor, lse: Tensor, ignore_index: int) -> Tensor:
    """dx (rows, width) from g (rows,)."""
    rows, width = x.shape
    grad, x, target = grad.contiguous(), x.contiguous(), target.contiguous()
    grad_x = torch.empty_like(x)
    if rows:
        block = _block(width)
        grid = (rows * triton.cdiv(width, block["BLOCK"]),)
        with torch.cuda.device_of(x):
            _backward_kernel[grid](grad, x, target, lse, grad_x, width, ignore_index, **block)
    return grad_x


@_cross_entropy_backward.register_fake
def _(grad: Tensor, x: Tensor, target: Tensor, lse: Tensor, ignore_index: int) -> Tensor:
    return x.new_empty(x.shape)


def _keep_inputs(ctx, inputs, output) -> None:
    x, target, ctx.ignore_index = inputs
    ctx.save_for_backward(x, target, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, _: None) -> tuple[Tensor, None, None]:
    return _cross_entropy_backward(grad, *ctx.saved_tensors, ctx.ignore_index), None, None


_cross_entropy.register_autograd(_backward, setup_context=_keep_inputs)


def cross_entropy(input: Tensor, target: Tensor, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """torch.nn.functional.cross_entropy(input, target, ...) for input (rows, classes) and target (rows,) of class indices.

    reduction is "mean" (over the rows that are not ignored), "sum" or "none".
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, target, reduction)
    losses, _ = _cross_entropy(input, target, ignore_index)
    if reduction == "none":
        return losses.to(input.dtype)
    total = losses.sum()
    return (total if reduction == "sum" else total / (target != ignore_index).sum()).to(input.dtype)


def _check(input: Tensor, target: Tensor, reduction: str) -> None:
    if input.dim() != 2 or not input.shape[1] or target.shape != input.shape[:1]:
        raise ValueError(
            f"cross_entropy: input is {tuple(input.shape)}, target {tuple(target.shape)}; give (rows, classes) and (rows,), a class or more"
        )
    if input.dtype not in DTYPES or target.dtype != torch.int64:
        raise ValueError(
            f"cross_entropy: input is {input.dtype}, target {target.dtype}; give float32, bfloat16 or float16, and int64 class indices"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy: reduction is {reduction!r}; give 'mean', 'sum' or 'none'")
    if target.device != input.device:
        raise ValueError(f"cross_entropy: input is on {input.device}, target on {target.device}; move both to one")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"cross_entropy: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
