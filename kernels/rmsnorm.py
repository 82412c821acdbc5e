"""RMSNorm over the last axes:  y = x r w  with  r = 1 / sqrt(mean(x^2) + eps), one r per row.   (Zhang & Sennrich, 2019, arXiv:1910.07467)

Method   A program holds whole rows in registers, several at a time where rows are short, so that x is read once.
         Backward:  dx = r (g w - x_hat mean(g w x_hat)),  dw = sum of g x_hat over the rows, with x_hat = r x.  Each of at most PROGRAMS
         programs walks over its share of the rows and adds up its own dw; torch adds the shares.  No atomics: deterministic.
Bytes    Forward reads x and w and writes y and r.  Backward reads x, g, r and w and writes dx, and dw by way of at most PROGRAMS rows.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Rows of at most 16384 numbers, and fewer than 2^31 rows.  Differentiable once.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LONGEST_ROW = 16384  # what the registers of one program hold
PROGRAMS = 256  # about two for each processor of a large GPU


@triton.jit
def _forward_kernel(
    x_ptr,
    weight_ptr,
    y_ptr,
    rstd_ptr,
    rows,
    width,
    eps,
    HAS_WEIGHT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Grid: one program per BLOCK_ROWS rows."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row[:, None] < rows) & (column[None, :] < width)
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(x * x, axis=1) / width + eps)
    tl.store(rstd_ptr + row, rstd, mask=row < rows)
    y = x * rstd[:, None]
    if HAS_WEIGHT:
        y *= tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _backward_kernel(
    grad_ptr,
    x_ptr,
    weight_ptr,
    rstd_ptr,
    grad_x_ptr,
    partial_ptr,
    rows,
    width,
    rows_per_program,
    HAS_WEIGHT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Grid: one program per rows_per_program rows; partial has one row per program."""
    program = tl.program_id(0)
    first = program * rows_per_program
    end = min(first + rows_per_program, rows)
    column = tl.arange(0, BLOCK_WIDTH)
    grad_weight = tl.zeros((BLOCK_WIDTH,), dtype=tl.float32)
    if HAS_WEIGHT:
        weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    for start in range(first, end, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row[:, None] < end) & (column[None, :] < width)
        offset = row.to(tl.int64)[:, None] * width + column[None, :]
        rstd = tl.load(rstd_ptr + row, mask=row < end, other=0.0)[:, None]
        x_hat = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32) * rstd
        grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        if HAS_WEIGHT:
            grad_weight += tl.sum(grad * x_hat, axis=0)
            grad *= weight[None, :]
        mean = tl.sum(grad * x_hat, axis=1) / width
        grad_x = (grad - x_hat * mean[:, None]) * rstd
        tl.store(grad_x_ptr + offset, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)
    if HAS_WEIGHT:
        tl.store(partial_ptr + program.to(tl.int64) * width + column, grad_weight, mask=column < width)


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


@torch.library.custom_op(f"{OPS}::rms_norm", mutates_args=())
def _rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """(rows, width) -> y and the float32 r of each row."""
    rows, width = x.shape
    x = x.contiguous()
    weight = None if weight is None else weight.contiguous()
    y, rstd = torch.empty_like(x), x.new_empty(rows, dtype=torch.float32)
    if x.numel():
        tile = _tile(width)
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(rows, tile["BLOCK_ROWS"]),)
            _forward_kernel[grid](x, weight, y, rstd, rows, width, eps, HAS_WEIGHT=weight is not None, **tile)
    return y, rstd


@_rms_norm.register_fake
def _(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::rms_norm_backward", mutates_args=())
def _rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor | None, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """dx (rows, width) and dw (width,); without a weight, dw has no elements."""
    rows, width = x.shape
    grad, x = grad.contiguous(), x.contiguous()
    weight = None if weight is None else weight.contiguous()
    tile = _tile(width)
    rows_per_program = triton.cdiv(triton.cdiv(rows, tile["BLOCK_ROWS"]), PROGRAMS) * tile["BLOCK_ROWS"]
    programs = triton.cdiv(rows, max(1, rows_per_program))
    grad_x = torch.empty_like(x)
    partial = x.new_empty(programs, 0 if weight is None else width, dtype=torch.float32)
    if x.numel():
        with torch.cuda.device_of(x):
            _backward_kernel[(programs,)](
                grad, x, weight, rstd, grad_x, partial, rows, width, rows_per_program, HAS_WEIGHT=weight is not None, **tile
            )
    return grad_x, partial.sum(0).to(x.dtype)


@_rms_norm_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor | None, rstd: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(0 if weight is None else x.shape[1])


def _keep_inputs(ctx, inputs, output) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    x, weight, rstd = ctx.saved_tensors
    grad_x, grad_weight = _rms_norm_backward(grad, x, weight, rstd)
    return grad_x, None if weight is None else grad_weight, None


_rms_norm.register_autograd(_backward, setup_context=_keep_inputs)


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """torch.nn.functional.rms_norm:  y = input / sqrt(mean(input^2) + eps) * weight over the last dimensions, those of normalized_shape.

    weight has normalized_shape, or is None; eps None is float32's epsilon, the type computed in.  A non-contiguous input is copied.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    shape = tuple(normalized_shape)
    _check(input, shape, weight)
    width = math.prod(shape)
    rows = input.reshape(input.numel() // width, width)
    flat = None if weight is None else weight.reshape(width)
    y, _ = _rms_norm(rows, flat, torch.finfo(torch.float32).eps if eps is None else eps)
    return y.view(input.shape)


def _check(input: Tensor, shape: tuple[int, ...], weight: Tensor | None) -> None:
    if not shape or input.shape[-len(shape) :] != shape:
        raise ValueError(f"rms_norm: input {tuple(input.shape)} must end in normalized_shape {shape}")
    if not 0 < math.prod(shape) <= LONGEST_ROW:
        raise ValueError(f"rms_norm: normalized_shape {shape} has {math.prod(shape)} numbers; this kernel takes 1 to {LONGEST_ROW}")
    if weight is not None and weight.shape != shape:
        raise ValueError(f"rms_norm: weight is {tuple(weight.shape)}; normalized_shape is {shape}")
    if input.dtype not in DTYPES or (weight is not None and weight.dtype != input.dtype):
        given = [input.dtype] if weight is None else [input.dtype, weight.dtype]
        raise ValueError(f"rms_norm: dtypes are {given}; give one of float32, bfloat16, float16 to all")
    if weight is not None and weight.device != input.device:
        raise ValueError(f"rms_norm: input is on {input.device}, weight on {weight.device}; move both to one")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"rms_norm: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
