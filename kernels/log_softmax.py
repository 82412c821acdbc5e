"""Log-softmax along one dimension:  y_i = x_i - max x - log sum_j exp(x_j - max x);  backward  dx = g - exp(y) sum(g).

Method   Rows of up to LONGEST_BLOCK numbers stay in the registers of one program, several rows to a program where they are short.
         A longer row is read twice, in blocks: once for its maximum and sum, kept together ("online": Milakov & Gimelshein, 2018,
         arXiv:1805.02867), once to write.  Likewise backward: g once for its sum, then y and g to write.
Bytes    Forward reads x and writes y; backward reads y and g and writes dx.  Longer rows: x, and in backward g, are read twice.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   A dimension other than the last is moved there by a copy.  Fewer than 2^31 rows, each shorter than 2^31.  Differentiable once.
         Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LONGEST_BLOCK = 16384  # 16 numbers to each of 1024 threads
LONG_ROW_BLOCK = 4096


@triton.jit
def _forward_kernel(x_ptr, y_ptr, rows, width, BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """Whole rows at a time.  Grid: one program per BLOCK_ROWS rows."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row[:, None] < rows) & (column[None, :] < width)
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    # rows past the last one read 0, not -inf, so that they make no NaN
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    x = tl.where(column[None, :] < width, x, float("-inf"))
    x -= tl.max(x, axis=1)[:, None]
    y = x - tl.log(tl.sum(tl.exp(x), axis=1))[:, None]
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _forward_long_kernel(x_ptr, y_ptr, width, BLOCK_WIDTH: tl.constexpr):
    """One row, block by block.  Grid: one program per row."""
    row_offset = tl.program_id(0).to(tl.int64) * width
    highest = tl.full((BLOCK_WIDTH,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_WIDTH,), dtype=tl.float32)
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        x = tl.load(x_ptr + row_offset + column, mask=column < width, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(highest, x)
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # -inf - -inf would be NaN; exp(-inf - 0) is the 0 that is meant
        total = total * tl.exp(highest - shift) + tl.exp(x - shift)
        highest = higher
    top = tl.max(highest, axis=0)
    log_total = tl.log(tl.sum(total * tl.exp(highest - top), axis=0))
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        x = tl.load(x_ptr + row_offset + column, mask=column < width, other=float("-inf")).to(tl.float32)
        y = x - top - log_total
        tl.store(y_ptr + row_offset + column, y.to(y_ptr.dtype.element_ty), mask=column < width)


@triton.jit
def _backward_kernel(grad_ptr, y_ptr, grad_x_ptr, rows, width, BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """Whole rows at a time.  Grid: one program per BLOCK_ROWS rows."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row[:, None] < rows) & (column[None, :] < width)
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    y = tl.load(y_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    grad_x = grad - tl.exp(y) * tl.sum(grad, axis=1)[:, None]
    tl.store(grad_x_ptr + offset, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _backward_long_kernel(grad_ptr, y_ptr, grad_x_ptr, width, BLOCK_WIDTH: tl.constexpr):
    """One row, block by block.  Grid: one program per row."""
    row_offset = tl.program_id(0).to(tl.int64) * width
    partial = tl.zeros((BLOCK_WIDTH,), dtype=tl.float32)
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        partial += tl.load(grad_ptr + row_offset + column, mask=column < width, other=0.0).to(tl.float32)
    total = tl.sum(partial, axis=0)
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        y = tl.load(y_ptr + row_offset + column, mask=column < width, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + row_offset + column, mask=column < width, other=0.0).to(tl.float32)
        grad_x = grad - tl.exp(y) * total
        tl.store(grad_x_ptr + row_offset + column, grad_x.to(grad_x_ptr.dtype.element_ty), mask=column < width)


def _tile(width: int) -> dict[str, int]:
    """Whole rows, about 2048 numbers or one row to a program, 16 numbers to a thread."""
    block_width = triton.next_power_of_2(width)
    block_rows = max(1, 2048 // block_width)
    return {
        "BLOCK_ROWS": block_rows,
        "BLOCK_WIDTH": block_width,
        "num_warps": min(32, max(4, block_rows * block_width // 512)),
    }


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::log_softmax", mutates_args=())
def _log_softmax(x: Tensor) -> Tensor:
    """(rows, width), over the width."""
    rows, width = x.shape
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        with torch.cuda.device_of(x):
            if width > LONGEST_BLOCK:
                _forward_long_kernel[(rows,)](x, y, width, BLOCK_WIDTH=LONG_ROW_BLOCK, num_warps=8)
            else:
                tile = _tile(width)
                _forward_kernel[(triton.cdiv(rows, tile["BLOCK_ROWS"]),)](x, y, rows, width, **tile)
    return y


@_log_softmax.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op(f"{OPS}::log_softmax_backward", mutates_args=())
def _log_softmax_backward(grad: Tensor, y: Tensor) -> Tensor:
    """dx (rows, width) from g and the log-softmax itself."""
    rows, width = y.shape
    grad, y = grad.contiguous(), y.contiguous()
    grad_x = torch.empty_like(y)
    if y.numel():
        with torch.cuda.device_of(y):
            if width > LONGEST_BLOCK:
                _backward_long_kernel[(rows,)](grad, y, grad_x, width, BLOCK_WIDTH=LONG_ROW_BLOCK, num_warps=8)
            else:
                tile = _tile(width)
                _backward_kernel[(triton.cdiv(rows, tile["BLOCK_ROWS"]),)](grad, y, grad_x, rows, width, **tile)
    return grad_x


@_log_softmax_backward.register_fake
def _(grad: Tensor, y: Tensor) -> Tensor:
    return y.new_empty(y.shape)


_log_softmax.register_autograd(
    lambda ctx, grad: _log_softmax_backward(grad, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """torch.nn.functional.log_softmax over dimension dim of an input of any shape.

    A non-contiguous input is copied.  A row of nothing but -inf gives NaN, as in torch.
    Raises ValueError for another dtype, or an input that is not on a GPU (under TRITON_INTERPRET=1: anywhere);
    IndexError for a dim out of range.
    """
    if input.dtype not in DTYPES:
        raise ValueError(f"log_softmax: input is {input.dtype}; give float32, bfloat16 or float16")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"log_softmax: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
    if not input.dim():
        return log_softmax(input.reshape(1), dim).reshape(())
    last = input.movedim(dim, -1)
    width = last.shape[-1]
    rows = last.reshape(last.numel() // max(1, width), width)
    return _log_softmax(rows).view(last.shape).movedim(-1, dim)
