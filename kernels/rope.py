"""Rotary position embedding, half-split:  y_low = low cos - high sin,  y_high = high cos + low sin.   (Su et al., 2021, arXiv:2104.09864)

Method   A program turns a few rows of the last axis; row r stands at position r mod tokens.  Backward is the same kernel with -sin.
Bytes    Reads x and writes y; the tables of cos and sin are read once per head, from L2.  Saves the tables alone.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Rows of at most 2048 numbers, fewer than 2^31 - 1024 rows.  A non-contiguous input is copied.
         Differentiable any number of times, in x.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LONGEST_ROW = 2048


@triton.jit
def _rotate_kernel(
    x_ptr,
    cos_ptr,
    sin_ptr,
    y_ptr,
    rows,
    tokens,
    half,
    BACK: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    """Grid: one program per BLOCK_ROWS rows of 2 * half numbers."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_HALF)
    mask = (row[:, None] < rows) & (column[None, :] < half)
    offset = row.to(tl.int64)[:, None] * (2 * half) + column[None, :]
    entry = (row % tokens).to(tl.int64)[:, None] * half + column[None, :]
    cos = tl.load(cos_ptr + entry, mask=mask, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + entry, mask=mask, other=0.0).to(tl.float32)
    if BACK:
        sin = -sin
    low = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    high = tl.load(x_ptr + offset + half, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + offset, (low * cos - high * sin).to(y_ptr.dtype.element_ty), mask=mask)
    tl.store(y_ptr + offset + half, (high * cos + low * sin).to(y_ptr.dtype.element_ty), mask=mask)


def _tile(half: int) -> dict[str, int]:
    """About 1024 pairs or one row to a program, 8 pairs to a thread."""
    block_half = triton.next_power_of_2(half)
    return {"BLOCK_ROWS": max(1, 1024 // block_half), "BLOCK_HALF": block_half, "num_warps": 4}


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::rotate", mutates_args=())
def _rotate(x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    """(..., tokens, width) turned by the angles of cos and sin (tokens, width / 2), or turned back."""
    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        tokens, half = cos.shape
        tile = _tile(half)
        rows = x.numel() // (2 * half)
        with torch.cuda.device_of(x):
            _rotate_kernel[(triton.cdiv(rows, tile["BLOCK_ROWS"]),)](x, cos, sin, y, rows, tokens, half, BACK=back, **tile)
    return y


@_rotate.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    return x.new_empty(x.shape)


def _keep_tables(ctx, inputs, output) -> None:
    _, cos, sin, ctx.back = inputs
    ctx.save_for_backward(cos, sin)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _rotate(grad, *ctx.saved_tensors, not ctx.back), None, None, None


_rotate.register_autograd(_backward, setup_context=_keep_tables)


def rope(input: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """input (..., tokens, width) with the pairs (i, i + width / 2) of each row turned by the angles of cos and sin (tokens, width / 2).

    The tables get no gradient.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, cos, sin)
    return _rotate(input, cos, sin, False)


def _check(input: Tensor, cos: Tensor, sin: Tensor) -> None:
    tensors = (input, cos, sin)
    if input.dim() < 2 or input.shape[-1] % 2 or not 0 < input.shape[-1] <= LONGEST_ROW:
        raise ValueError(f"rope: input is {tuple(input.shape)}; give (..., tokens, width) with an even width of 2 to {LONGEST_ROW}")
    table = (input.shape[-2], input.shape[-1] // 2)
    if cos.shape != table or sin.shape != table:
        raise ValueError(f"rope: cos is {tuple(cos.shape)}, sin {tuple(sin.shape)}; input {tuple(input.shape)} needs {table}")
    if cos.requires_grad or sin.requires_grad:
        raise ValueError("rope: cos or sin wants a gradient, and gets none here; detach it")
    if any(tensor.dtype not in DTYPES for tensor in tensors):
        raise ValueError(f"rope: dtypes are {[tensor.dtype for tensor in tensors]}; give float32, bfloat16 or float16")
    if any(tensor.device != input.device for tensor in tensors):
        raise ValueError(f"rope: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not input.is_cuda and isinstance(_rotate_kernel, triton.JITFunction):
        raise ValueError(f"rope: tensors are on {input.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton")
