"""RMSNorm over the last axes, alone or after a residual addition:  y = h r w  with  r = 1 / sqrt(mean(h^2) + eps), one r per row,

and h = x, or h = x + residual, which is then a result too.   (Zhang & Sennrich, 2019, arXiv:1910.07467)

Method   A program holds whole rows in registers, several at a time where rows are short, so that x is read once.  A sum h goes straight
         from the addition into the norm, rounded first as the h that is written.
         Backward, from the gradients g of y and e of h:  dx = dresidual = e + r (g w - h_hat mean(g w h_hat)),  dw = sum of g h_hat over
         the rows, with h_hat = r h.  Each of at most PROGRAMS programs walks over its share of the rows and adds up its own dw;
         torch adds the shares.  No atomics: deterministic.
Bytes    Forward reads x and w and writes y and r; with a residual it reads that and writes h as well: two passes less than an addition
         and a norm, which writes h and reads it again.  Backward reads h, g, r and w, and e where there is one, and writes dx, which is
         dresidual too, and dw by way of at most PROGRAMS rows.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Rows of at most 16384 numbers, and fewer than 2^31 - 2048 rows.  Differentiable once.
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
    residual_ptr,
    weight_ptr,
    y_ptr,
    h_ptr,
    rstd_ptr,
    rows,
    width,
    eps,
    HAS_RESIDUAL: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Grid: one program per BLOCK_ROWS rows.  Without a residual, h is x and is not written."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row[:, None] < rows) & (column[None, :] < width)
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    h = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        h += tl.load(residual_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        h = h.to(h_ptr.dtype.element_ty)
        tl.store(h_ptr + offset, h, mask=mask)
        h = h.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(h * h, axis=1) / width + eps)
    tl.store(rstd_ptr + row, rstd, mask=row < rows)
    y = h * rstd[:, None]
    if HAS_WEIGHT:
        y *= tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _backward_kernel(
    grad_ptr,
    grad_h_ptr,
    h_ptr,
    weight_ptr,
    rstd_ptr,
    grad_x_ptr,
    partial_ptr,
    rows,
    width,
    rows_per_program,
    HAS_GRAD_H: tl.constexpr,
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
        h_hat = tl.load(h_ptr + offset, mask=mask, other=0.0).to(tl.float32) * rstd
        grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        if HAS_WEIGHT:
            grad_weight += tl.sum(grad * h_hat, axis=0)
            grad *= weight[None, :]
        mean = tl.sum(grad * h_hat, axis=1) / width
        grad_x = (grad - h_hat * mean[:, None]) * rstd
        if HAS_GRAD_H:
            grad_x += tl.load(grad_h_ptr + offset, mask=mask, other=0.0).to(tl.float32)
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
def _rms_norm(x: Tensor, residual: Tensor | None, weight: Tensor | None, width: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x and residual of one shape, rows of `width` -> y, h, which has no elements without a residual, and the float32 r of each row.

    Rows are told apart here, and not before: a view for each input would give each a view of the one gradient that both have, and
    autograd would take either for memory of its own.
    """
    rows = x.numel() // width
    x = x.contiguous()
    residual, weight = (None if tensor is None else tensor.contiguous() for tensor in (residual, weight))
    y, h = torch.empty_like(x), x.new_empty(0) if residual is None else torch.empty_like(x)
    rstd = x.new_empty(rows, dtype=torch.float32)
    if x.numel():
        tile = _tile(width)
        flags = {"HAS_RESIDUAL": residual is not None, "HAS_WEIGHT": weight is not None}
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(rows, tile["BLOCK_ROWS"]),)
            _forward_kernel[grid](x, residual, weight, y, h, rstd, rows, width, eps, **flags, **tile)
    return y, h, rstd


@_rms_norm.register_fake
def _(x: Tensor, residual: Tensor | None, weight: Tensor | None, width: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    h = x.new_empty(0) if residual is None else x.new_empty(x.shape)
    return x.new_empty(x.shape), h, x.new_empty(x.numel() // width, dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::rms_norm_backward", mutates_args=())
def _rms_norm_backward(
    grad: Tensor, grad_h: Tensor | None, h: Tensor, weight: Tensor | None, rstd: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """dx, shaped as h, which is dresidual too, and dw (width,); without a weight, dw has no elements."""
    rows = len(rstd)
    grad, h = grad.contiguous(), h.contiguous()
    grad_h, weight = (None if tensor is None else tensor.contiguous() for tensor in (grad_h, weight))
    tile = _tile(width)
    rows_per_program = triton.cdiv(triton.cdiv(rows, tile["BLOCK_ROWS"]), PROGRAMS) * tile["BLOCK_ROWS"]
    programs = triton.cdiv(rows, max(1, rows_per_program))
    grad_x = torch.empty_like(h)
    partial = h.new_empty(programs, 0 if weight is None else width, dtype=torch.float32)
    if h.numel():
        flags = {"HAS_GRAD_H": grad_h is not None, "HAS_WEIGHT": weight is not None}
        with torch.cuda.device_of(h):
            _backward_kernel[(programs,)](grad, grad_h, h, weight, rstd, grad_x, partial, rows, width, rows_per_program, **flags, **tile)
    return grad_x, partial.sum(0).to(h.dtype)


@_rms_norm_backward.register_fake
def _(grad: Tensor, grad_h: Tensor | None, h: Tensor, weight: Tensor | None, rstd: Tensor, width: int) -> tuple[Tensor, Tensor]:
    return h.new_empty(h.shape), h.new_empty(0 if weight is None else width)


def _keep_sum(ctx, inputs, output) -> None:
    (x, residual, weight, width, _), (_, h, rstd) = inputs, output
    ctx.has_residual, ctx.width = residual is not None, width
    ctx.save_for_backward(h if ctx.has_residual else x, weight, rstd)
    ctx.mark_non_differentiable(*(output[2:] if ctx.has_residual else output[1:]))
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor | None, grad_h: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return grad_h, grad_h, None, None, None
    h, weight, rstd = ctx.saved_tensors
    grad_x, grad_weight = _rms_norm_backward(grad, grad_h, h, weight, rstd, ctx.width)
    return grad_x, grad_x if ctx.has_residual else None, None if weight is None else grad_weight, None, None


_rms_norm.register_autograd(_backward, setup_context=_keep_sum)


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """torch.nn.functional.rms_norm:  y = input / sqrt(mean(input^2) + eps) * weight over the last dimensions, those of normalized_shape.

    Here and below: weight has normalized_shape, or is None; eps None is float32's epsilon, the type computed in.  Non-contiguous inputs
    are copied.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    y, _ = _normalise("rms_norm", input, None, tuple(normalized_shape), weight, eps)
    return y


def add_rms_norm(
    input: Tensor, residual: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> tuple[Tensor, Tensor]:
    """h = input + residual, both of one shape, and y = rms_norm(h, normalized_shape, weight, eps); returns (y, h)."""
    return _normalise("add_rms_norm", input, residual, tuple(normalized_shape), weight, eps)


def _normalise(
    name: str, input: Tensor, residual: Tensor | None, shape: tuple[int, ...], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    _check(name, input, residual, shape, weight)
    width = math.prod(shape)
    flat = None if weight is None else weight.reshape(width)
    y, h, _ = _rms_norm(input, residual, flat, width, torch.finfo(torch.float32).eps if eps is None else eps)
    return y, h


def _check(name: str, input: Tensor, residual: Tensor | None, shape: tuple[int, ...], weight: Tensor | None) -> None:
    if residual is not None and residual.shape != input.shape:
        raise ValueError(f"{name}: input is {tuple(input.shape)}, residual {tuple(residual.shape)}; give both one shape")
    if not shape or input.shape[-len(shape) :] != shape:
        raise ValueError(f"{name}: input {tuple(input.shape)} must end in normalized_shape {shape}")
    if not 0 < math.prod(shape) <= LONGEST_ROW:
        raise ValueError(f"{name}: normalized_shape {shape} has {math.prod(shape)} numbers; this kernel takes 1 to {LONGEST_ROW}")
    if weight is not None and weight.shape != shape:
        raise ValueError(f"{name}: weight is {tuple(weight.shape)}; normalized_shape is {shape}")
    tensors = [tensor for tensor in (input, residual, weight) if tensor is not None]
    dtypes, devices = [tensor.dtype for tensor in tensors], [str(tensor.device) for tensor in tensors]
    if input.dtype not in DTYPES or len(set(dtypes)) > 1:
        raise ValueError(f"{name}: dtypes are {dtypes}; give one of float32, bfloat16, float16 to all")
    if len(set(devices)) > 1:
        raise ValueError(f"{name}: devices are {devices}; move all to one")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"{name}: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
