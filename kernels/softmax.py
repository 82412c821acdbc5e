"""Softmax along one dimension and its logarithm:  p_i = exp(x_i - max x) / sum_j exp(x_j - max x),  and y = p or y = log p.

Method   Rows of up to LONGEST_BLOCK numbers stay in the registers of one program, several rows to a program where they are short.
         A longer row is read twice, in blocks: once for its maximum and sum, kept together ("online": Milakov & Gimelshein, 2018,
         arXiv:1805.02867), once to write.  Backward, from y alone:  dx = y (g - sum(y g)),  of the logarithm  dx = g - exp(y) sum(g);
         a longer row is read once for the sum, once to write.
Bytes    Forward reads x and writes y; backward reads y and g and writes dx.  Longer rows: the reads count twice, but y's in the
         logarithm's backward, whose sum does not need it.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   A dimension other than the last is moved there by a copy.  Fewer than 2^31 - 2048 rows, each shorter than 2^31 - 4096.
         Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LONGEST_BLOCK = 16384  # 32 numbers to each of 512 threads
LONG_ROW_BLOCK = 4096


@triton.jit
def _value(x, top, total, LOG: tl.constexpr):
    """y, from max x and the sum of exp(x - max x) along the row."""
    return x - top - tl.log(total) if LOG else tl.exp(x - top) / total


@triton.jit
def _slope(grad, y, total, LOG: tl.constexpr):
    """dx, from the sum of y g, of the logarithm that of g, along the row."""
    return grad - tl.exp(y) * total if LOG else y * (grad - total)


@triton.jit
def top_and_sum(row_ptr, width, BLOCK: tl.constexpr):
    """max x, and the sum of exp(x - max x), of a row that is read once, block by block."""
    highest = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(row_ptr + column, mask=column < width, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(highest, x)
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # -inf - -inf would be NaN; exp(-inf - 0) is the 0 that is meant
        total = total * tl.exp(highest - shift) + tl.exp(x - shift)
        highest = higher
    top = tl.max(highest, axis=0)
    return top, tl.sum(total * tl.exp(highest - top), axis=0)


@triton.jit
def _forward_kernel(x_ptr, y_ptr, rows, width, LOG: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """Whole rows at a time.  Grid: one program per BLOCK_ROWS rows."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row[:, None] < rows) & (column[None, :] < width)
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    # rows past the last one read 0, not -inf, so that they make no NaN
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    x = tl.where(column[None, :] < width, x, float("-inf"))
    top = tl.max(x, axis=1)[:, None]
    y = _value(x, top, tl.sum(tl.exp(x - top), axis=1)[:, None], LOG)
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _forward_long_kernel(x_ptr, y_ptr, width, LOG: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """One row, block by block.  Grid: one program per row."""
    row_offset = tl.program_id(0).to(tl.int64) * width
    top, total = top_and_sum(x_ptr + row_offset, width, BLOCK_WIDTH)
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        x = tl.load(x_ptr + row_offset + column, mask=column < width, other=float("-inf")).to(tl.float32)
        y = _value(x, top, total, LOG)
        tl.store(y_ptr + row_offset + column, y.to(y_ptr.dtype.element_ty), mask=column < width)


@triton.jit
def _backward_kernel(grad_ptr, y_ptr, grad_x_ptr, rows, width, LOG: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """Whole rows at a time.  Grid: one program per BLOCK_ROWS rows."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row[:, None] < rows) & (column[None, :] < width)
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    y = tl.load(y_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    grad_x = _slope(grad, y, tl.sum(grad if LOG else y * grad, axis=1)[:, None], LOG)
    tl.store(grad_x_ptr + offset, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _backward_long_kernel(grad_ptr, y_ptr, grad_x_ptr, width, LOG: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """One row, block by block.  Grid: one program per row."""
    row_offset = tl.program_id(0).to(tl.int64) * width
    partial = tl.zeros((BLOCK_WIDTH,), dtype=tl.float32)
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        grad = tl.load(grad_ptr + row_offset + column, mask=column < width, other=0.0).to(tl.float32)
        if not LOG:
            grad *= tl.load(y_ptr + row_offset + column, mask=column < width, other=0.0).to(tl.float32)
        partial += grad
    total = tl.sum(partial, axis=0)
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        y = tl.load(y_ptr + row_offset + column, mask=column < width, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + row_offset + column, mask=column < width, other=0.0).to(tl.float32)
        grad_x = _slope(grad, y, total, LOG)
        tl.store(grad_x_ptr + row_offset + column, grad_x.to(grad_x_ptr.dtype.element_ty), mask=column < width)


def _tile(width: int) -> dict[str, int]:
    """Whole rows, about 2048 numbers or one row to a program, at most 32 numbers to a thread."""
    block_width = triton.next_power_of_2(width)
    block_rows = max(1, 2048 // block_width)
    return {
        "BLOCK_ROWS": block_rows,
        "BLOCK_WIDTH": block_width,
        "num_warps": min(16, max(4, block_rows * block_width // 1024)),
    }


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::softmax", mutates_args=())
def _softmax(x: Tensor, log: bool) -> Tensor:
    """(rows, width), over the width."""
    rows, width = x.shape
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        with torch.cuda.device_of(x):
            if width > LONGEST_BLOCK:
                _forward_long_kernel[(rows,)](x, y, width, LOG=log, BLOCK_WIDTH=LONG_ROW_BLOCK, num_warps=8)
            else:
                tile = _tile(width)
                _forward_kernel[(triton.cdiv(rows, tile["BLOCK_ROWS"]),)](x, y, rows, width, LOG=log, **tile)
    return y


@_softmax.register_fake
def _(x: Tensor, log: bool) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op(f"{OPS}::softmax_backward", mutates_args=())
def _softmax_backward(grad: Tensor, y: Tensor, log: bool) -> Tensor:
    """dx (rows, width) from g and y."""
    rows, width = y.shape
    grad, y = grad.contiguous(), y.contiguous()
    grad_x = torch.empty_like(y)
    if y.numel():
        with torch.cuda.device_of(y):
            if width > LONGEST_BLOCK:
                _backward_long_kernel[(rows,)](grad, y, grad_x, width, LOG=log, BLOCK_WIDTH=LONG_ROW_BLOCK, num_warps=8)
            else:
                tile = _tile(width)
                _backward_kernel[(triton.cdiv(rows, tile["BLOCK_ROWS"]),)](grad, y, grad_x, rows, width, LOG=log, **tile)
    return grad_x


@_softmax_backward.register_fake
def _(grad: Tensor, y: Tensor, log: bool) -> Tensor:
    return y.new_empty(y.shape)


def _keep_output(ctx, inputs, output) -> None:
    _, ctx.log = inputs
    ctx.save_for_backward(output)


_softmax.register_autograd(
    lambda ctx, grad: (_softmax_backward(grad, *ctx.saved_tensors, ctx.log), None),
    setup_context=_keep_output,
)


def softmax(input: Tensor, dim: int) -> Tensor:
    """torch.nn.functional.softmax over dimension dim of an input of any shape.

    Here and below: a non-contiguous input is copied.  A row of nothing but -inf gives NaN, as in torch.
    Raises ValueError for another dtype, or an input that is not on a GPU (under TRITON_INTERPRET=1: anywhere);
    IndexError for a dim out of range.
    """
    return _along("softmax", input, dim)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """torch.nn.functional.log_softmax over dimension dim of an input of any shape."""
    return _along("log_softmax", input, dim)


def _along(name: str, input: Tensor, dim: int) -> Tensor:
    if input.dtype not in DTYPES:
        raise ValueError(f"{name}: input is {input.dtype}; give float32, bfloat16 or float16")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"{name}: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
    if not input.dim():
        return _along(name, input.reshape(1), dim).reshape(())
    last = input.movedim(dim, -1)
    width = last.shape[-1]
    rows = last.reshape(last.numel() // max(1, width), width)
    return _softmax(rows, name == "log_softmax").view(last.shape).movedim(-1, dim)
