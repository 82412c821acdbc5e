"""Embedding:  y = W[index];  backward  dW[r] = sum of g over the positions whose index is r.

Method   Forward copies rows.  Backward sorts the indices, stably, so that the positions of one row of W stand together; a program owns
         one row of dW and walks along its positions in their order.  No atomics: deterministic.
Bytes    Forward reads the indices and the rows they name and writes y.  Backward reads g once, in rows, and writes dW, most of it zeros;
         sorting adds some passes over the indices, 8 bytes each.
Numbers  float32, bfloat16, float16; summed in float32.  Indices are int64.
Limits   One program adds up a row however often it is used: with a few very frequent indices the rest of the GPU waits for it.
         Nothing is read for an index out of range: its y is NaN, and it has no part in dW, where torch would stop the process.
         Fewer than 2^31 - 64 rows of W and of y; rows shorter than 2^31 - 128.  Differentiable once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def _gather_kernel(
    index_ptr, weight_ptr, y_ptr, positions, rows, width, blocks_width, BLOCK_POSITIONS: tl.constexpr, BLOCK_WIDTH: tl.constexpr
):
    """Grid: one program per BLOCK_POSITIONS positions and BLOCK_WIDTH columns."""
    position = tl.program_id(0) // blocks_width * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    column = tl.program_id(0) % blocks_width * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
    index = tl.load(index_ptr + position, mask=position < positions, other=0)
    known = (index >= 0) & (index < rows)
    mask = (position[:, None] < positions) & (column[None, :] < width)
    row = tl.load(weight_ptr + index[:, None] * width + column[None, :], mask=mask & known[:, None], other=float("nan"))
    tl.store(y_ptr + position.to(tl.int64)[:, None] * width + column[None, :], row, mask=mask)


@triton.jit
def _sum_kernel(
    grad_ptr,
    order_ptr,
    first_ptr,
    grad_weight_ptr,
    width,
    blocks_width,
    padding_row,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Row r of dW: its positions are order[first[r] : first[r + 1]].  Grid: one program per row and BLOCK_WIDTH columns."""
    row = tl.program_id(0) // blocks_width
    column = tl.program_id(0) % blocks_width * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
    first, end = tl.load(first_ptr + row), tl.load(first_ptr + row + 1)
    end = tl.where(row == padding_row, first, end)
    total = tl.zeros((BLOCK_POSITIONS, BLOCK_WIDTH), dtype=tl.float32)
    for start in range(first, end, BLOCK_POSITIONS):
        place = start + tl.arange(0, BLOCK_POSITIONS)
        position = tl.load(order_ptr + place, mask=place < end, other=0)
        mask = (place[:, None] < end) & (column[None, :] < width)
        total += tl.load(grad_ptr + position[:, None] * width + column[None, :], mask=mask, other=0.0).to(tl.float32)
    result = tl.sum(total, axis=0).to(grad_weight_ptr.dtype.element_ty)
    tl.store(grad_weight_ptr + row.to(tl.int64) * width + column, result, mask=column < width)


def _tile(width: int) -> dict[str, int]:
    """At most 128 columns, and positions for about 2048 numbers, 16 to a thread."""
    block_width = min(128, triton.next_power_of_2(width))
    return {"BLOCK_POSITIONS": min(64, 2048 // block_width), "BLOCK_WIDTH": block_width, "num_warps": 4}


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::embedding", mutates_args=())
def _embedding(index: Tensor, weight: Tensor, padding_row: int) -> Tensor:
    """(positions,), (rows, width) -> (positions, width).  padding_row gets no gradient; -1: all rows get theirs."""
    (positions,), (rows, width) = index.shape, weight.shape
    index, weight = index.contiguous(), weight.contiguous()
    y = weight.new_empty(positions, width)
    if y.numel():
        tile = _tile(width)
        blocks_width = triton.cdiv(width, tile["BLOCK_WIDTH"])
        with torch.cuda.device_of(weight):
            grid = (triton.cdiv(positions, tile["BLOCK_POSITIONS"]) * blocks_width,)
            _gather_kernel[grid](index, weight, y, positions, rows, width, blocks_width, **tile)
    return y


@_embedding.register_fake
def _(index: Tensor, weight: Tensor, padding_row: int) -> Tensor:
    return weight.new_empty(index.shape[0], weight.shape[1])


@torch.library.custom_op(f"{OPS}::embedding_backward", mutates_args=())
def _embedding_backward(grad: Tensor, index: Tensor, rows: int, padding_row: int) -> Tensor:
    """dW (rows, width) from g (positions, width)."""
    grad, width = grad.contiguous(), grad.shape[1]
    grad_weight = grad.new_empty(rows, width)
    if grad_weight.numel():
        ordered, order = index.sort(stable=True)
        first = torch.searchsorted(ordered, torch.arange(rows + 1, device=index.device))
        tile = _tile(width)
        blocks_width = triton.cdiv(width, tile["BLOCK_WIDTH"])
        with torch.cuda.device_of(grad):
            _sum_kernel[(rows * blocks_width,)](grad, order, first, grad_weight, width, blocks_width, padding_row, **tile)
    return grad_weight


@_embedding_backward.register_fake
def _(grad: Tensor, index: Tensor, rows: int, padding_row: int) -> Tensor:
    return grad.new_empty(rows, grad.shape[1])


def _keep_index(ctx, inputs, output) -> None:
    index, weight, ctx.padding_row = inputs
    ctx.rows = len(weight)
    ctx.save_for_backward(index)


def _backward(ctx, grad: Tensor) -> tuple[None, Tensor, None]:
    (index,) = ctx.saved_tensors
    return None, _embedding_backward(grad, index, ctx.rows, ctx.padding_row), None


_embedding.register_autograd(_backward, setup_context=_keep_index)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """torch.nn.functional.embedding:  int64 indices of any shape -> that shape and the width of weight (rows, width).

    padding_idx, from -rows to rows - 1, is a row that gets no gradient.  For an index out of range see Limits.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, weight, padding_idx)
    padding_row = -1 if padding_idx is None else padding_idx % len(weight)
    return _embedding(input.reshape(-1), weight, padding_row).view(*input.shape, weight.shape[1])


def _check(input: Tensor, weight: Tensor, padding_idx: int | None) -> None:
    if weight.dim() != 2:
        raise ValueError(f"embedding: weight is {tuple(weight.shape)}; give (rows, width)")
    if padding_idx is not None and not -len(weight) <= padding_idx < len(weight):
        raise ValueError(f"embedding: padding_idx is {padding_idx}; weight has {len(weight)} rows")
    if input.dtype != torch.int64 or weight.dtype not in DTYPES:
        raise ValueError(f"embedding: input is {input.dtype}, weight {weight.dtype}; give int64, and float32, bfloat16 or float16")
    if weight.device != input.device:
        raise ValueError(f"embedding: input is on {input.device}, weight on {weight.device}; move both to one")
    if not input.is_cuda and isinstance(_gather_kernel, triton.JITFunction):
        raise ValueError(f"embedding: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
