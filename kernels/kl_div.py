"""KL divergence between two softmaxes, row by row:  k = sum_j q_j (log q_j - log p_j)  with  p = softmax x  and  q = softmax t.

Method   One program reads a row of x and t once, in blocks, and keeps the maximum and sum of each together ("online": Milakov &
         Gimelshein, 2018, arXiv:1805.02867), beside them the sum of exp(t_j - max t) (t_j - x_j); with s = log sum_j exp,
         k = sum_j q_j (t_j - x_j) - s_t + s_x.
         Backward:  dx_j = (p_j - q_j) g,  dt_j = q_j (log q_j - log p_j - k) g,  every number from its own x and t and three per row.
Bytes    Forward reads x and t and writes s_x, s_t and k, a number per row each.  Backward reads x and t again and writes dx and dt,
         or the one that is wanted.
Numbers  float32, bfloat16, float16; computed in float32.  A score of -inf in t counts 0 in k, as in torch.
Limits   Fewer than 2^31 rows, each shorter than 2^31 - BLOCK.  Non-contiguous inputs are copied.  Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 2048  # numbers of a row that a program works on at a time
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)


@triton.jit
def _forward_kernel(x_ptr, t_ptr, rows_ptr, rows, width, BLOCK: tl.constexpr):
    """s_x, s_t and k: (3, rows).  Grid: one program per row."""
    row = tl.program_id(0).to(tl.int64)
    top_x = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    top_t = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    sum_x = tl.zeros((BLOCK,), dtype=tl.float32)
    sum_t = tl.zeros((BLOCK,), dtype=tl.float32)
    away = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        mask = column < width
        x = tl.load(x_ptr + row * width + column, mask=mask, other=0.0).to(tl.float32)
        t = tl.load(t_ptr + row * width + column, mask=mask, other=0.0).to(tl.float32)
        distance = tl.maximum(t - x, LOWEST)  # finite where t is -inf, so that it counts 0 there
        x = tl.where(mask, x, float("-inf"))
        t = tl.where(mask, t, float("-inf"))
        higher_x = tl.maximum(top_x, x)
        higher_t = tl.maximum(top_t, t)
        shift_x = tl.where(higher_x == float("-inf"), 0.0, higher_x)  # -inf - -inf would be NaN; exp(-inf - 0) is the 0 that is meant
        shift_t = tl.where(higher_t == float("-inf"), 0.0, higher_t)
        sum_x = sum_x * tl.exp(top_x - shift_x) + tl.exp(x - shift_x)
        shrink = tl.exp(top_t - shift_t)
        power = tl.exp(t - shift_t)
        sum_t = sum_t * shrink + power
        away = away * shrink + power * distance
        top_x = higher_x
        top_t = higher_t
    highest_x = tl.max(top_x, axis=0)
    highest_t = tl.max(top_t, axis=0)
    lse_x = highest_x + tl.log(tl.sum(sum_x * tl.exp(top_x - highest_x), axis=0))
    shrink = tl.exp(top_t - highest_t)
    total_t = tl.sum(sum_t * shrink, axis=0)
    lse_t = highest_t + tl.log(total_t)
    tl.store(rows_ptr + row, lse_x)
    tl.store(rows_ptr + rows + row, lse_t)
    tl.store(rows_ptr + rows + rows + row, tl.sum(away * shrink, axis=0) / total_t - lse_t + lse_x)


@triton.jit
def _backward_kernel(grad_ptr, x_ptr, t_ptr, rows_ptr, dx_ptr, dt_ptr, rows, width, X: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """dx if X, dt if T.  Grid: one program per BLOCK numbers of a row."""
    blocks = tl.cdiv(width, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    column = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    offset = row * width + column
    log_p = tl.load(x_ptr + offset, mask=column < width, other=0.0).to(tl.float32) - tl.load(rows_ptr + row)
    log_q = tl.load(t_ptr + offset, mask=column < width, other=0.0).to(tl.float32) - tl.load(rows_ptr + rows + row)
    grad = tl.load(grad_ptr + row).to(tl.float32)
    q = tl.exp(log_q)
    if X:
        tl.store(dx_ptr + offset, ((tl.exp(log_p) - q) * grad).to(dx_ptr.dtype.element_ty), mask=column < width)
    if T:
        k = tl.load(rows_ptr + rows + rows + row)
        tl.store(dt_ptr + offset, (q * (log_q - log_p - k) * grad).to(dt_ptr.dtype.element_ty), mask=column < width)


def _block(width: int) -> dict[str, int]:
    block = min(BLOCK, max(128, triton.next_power_of_2(width)))
    return {"BLOCK": block, "num_warps": max(1, block // 256)}


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::softmax_kl_div", mutates_args=())
def _softmax_kl_div(x: Tensor, t: Tensor) -> Tensor:
    """(rows, width) twice -> s_x, s_t and k in float32: (3, rows)."""
    rows, width = x.shape
    x, t = x.contiguous(), t.contiguous()
    by_row = x.new_empty(3, rows, dtype=torch.float32)
    if rows:
        with torch.cuda.device_of(x):
            _forward_kernel[(rows,)](x, t, by_row, rows, width, **_block(width))
    return by_row


@_softmax_kl_div.register_fake
def _(x: Tensor, t: Tensor) -> Tensor:
    return x.new_empty(3, x.shape[0], dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::softmax_kl_div_backward", mutates_args=())
def _softmax_kl_div_backward(grad: Tensor, x: Tensor, t: Tensor, by_row: Tensor, wants_x: bool, wants_t: bool) -> tuple[Tensor, Tensor]:
    """dx and dt (rows, width) from g (rows,); the one that is not wanted has no elements."""
    rows, width = x.shape
    grad, x, t = grad.contiguous(), x.contiguous(), t.contiguous()
    dx, dt = torch.empty_like(x if wants_x else x[:0]), torch.empty_like(t if wants_t else t[:0])
    if rows:
        block = _block(width)
        grid = (rows * triton.cdiv(width, block["BLOCK"]),)
        with torch.cuda.device_of(x):
            _backward_kernel[grid](grad, x, t, by_row, dx, dt, rows, width, X=wants_x, T=wants_t, **block)
    return dx, dt


@_softmax_kl_div_backward.register_fake
def _(grad: Tensor, x: Tensor, t: Tensor, by_row: Tensor, wants_x: bool, wants_t: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty((x if wants_x else x[:0]).shape), t.new_empty((t if wants_t else t[:0]).shape)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    wants_x, wants_t = ctx.needs_input_grad
    dx, dt = _softmax_kl_div_backward(grad[2], *ctx.saved_tensors, wants_x, wants_t)
    return dx if wants_x else None, dt if wants_t else None


_softmax_kl_div.register_autograd(
    _backward,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs, output),
)


def softmax_kl_div(input: Tensor, target: Tensor) -> Tensor:
    """torch's kl_div(input.log_softmax(1), target.softmax(1), reduction="batchmean") for two of (rows, classes).

    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    if input.dim() != 2 or input.shape != target.shape or not input.shape[1]:
        raise ValueError(
            f"softmax_kl_div: input is {tuple(input.shape)}, target {tuple(target.shape)}; give (rows, classes) twice, a class or more"
        )
    if input.dtype not in DTYPES or target.dtype != input.dtype:
        raise ValueError(f"softmax_kl_div: input is {input.dtype}, target {target.dtype}; give one of float32, bfloat16, float16 to both")
    if target.device != input.device:
        raise ValueError(f"softmax_kl_div: input is on {input.device}, target on {target.device}; move both to one")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"softmax_kl_div: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
    return (_softmax_kl_div(input, target)[2].sum() / input.shape[0]).to(input.dtype)
