"""LayerNorm over the last axes:  y = (x - m) r w + b  with  m = mean x,  r = 1 / sqrt(var x + eps).   (Ba et al., 2016, arXiv:1607.06450)

Method   A program holds whole rows in registers, several at a time where rows are short, so that x is read once and the variance is
         the mean of (x - m)^2, not a difference of large sums.
         Backward:  dx = r (g w - mean(g w) - x_hat mean(g w x_hat)),  dw = sum of g x_hat,  db = sum of g, with x_hat = r (x - m).
         Each of at most PROGRAMS programs walks over its share of the rows and adds up its own dw and db; torch adds the shares.
         No atomics: deterministic.
Bytes    Forward reads x, w, b and writes y, m, r.  Backward reads x, g, m, r, w and writes dx, and dw and db by way of at most PROGRAMS
         rows each.
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
    weight_ptr,
    bias_ptr,
    y_ptr,
    mean_ptr,
    rstd_ptr,
    rows,
    width,
    eps,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Grid: one program per BLOCK_ROWS rows."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row[:, None] < rows) & (column[None, :] < width)
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=1) / width
    centred = tl.where(mask, x - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, axis=1) / width + eps)
    tl.store(mean_ptr + row, mean, mask=row < rows)
    tl.store(rstd_ptr + row, rstd, mask=row < rows)
    y = centred * rstd[:, None]
    if HAS_WEIGHT:
        y *= tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    if HAS_BIAS:
        y += tl.load(bias_ptr + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _backward_kernel(
    grad_ptr,
    x_ptr,
    weight_ptr,
    mean_ptr,
    rstd_ptr,
    grad_x_ptr,
    partial_ptr,
    rows,
    width,
    rows_per_program,
    HAS_WEIGHT: tl.constexpr,
    AFFINE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Grid: one program per rows_per_program rows; partial is (programs, 2, width), for dw and db, and not touched unless AFFINE."""
    program = tl.program_id(0)
    first = program * rows_per_program
    end = min(first + rows_per_program, rows)
    column = tl.arange(0, BLOCK_WIDTH)
    grad_weight = tl.zeros((BLOCK_WIDTH,), dtype=tl.float32)
    grad_bias = tl.zeros((BLOCK_WIDTH,), dtype=tl.float32)
    if HAS_WEIGHT:
        weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    for start in range(first, end, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row[:, None] < end) & (column[None, :] < width)
        offset = row.to(tl.int64)[:, None] * width + column[None, :]
        mean = tl.load(mean_ptr + row, mask=row < end, other=0.0)[:, None]
        rstd = tl.load(rstd_ptr + row, mask=row < end, other=0.0)[:, None]
        x_hat = (tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32) - mean) * rstd
        grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)  # 0 beyond the row, so that x_hat does not count there
        if AFFINE:
            grad_weight += tl.sum(grad * x_hat, axis=0)
            grad_bias += tl.sum(grad, axis=0)
        if HAS_WEIGHT:
            grad *= weight[None, :]
        level = tl.sum(grad, axis=1) / width
        along = tl.sum(grad * x_hat, axis=1) / width
        grad_x = (grad - level[:, None] - x_hat * along[:, None]) * rstd
        tl.store(grad_x_ptr + offset, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)
    if AFFINE:
        partial_ptr += program.to(tl.int64) * 2 * width
        tl.store(partial_ptr + column, grad_weight, mask=column < width)
        tl.store(partial_ptr + width + column, grad_bias, mask=column < width)


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


@torch.library.custom_op(f"{OPS}::layer_norm", mutates_args=())
def _layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, width) -> y and the float32 m and r of each row."""
    rows, width = x.shape
    x = x.contiguous()
    weight, bias = (None if tensor is None else tensor.contiguous() for tensor in (weight, bias))
    y, mean, rstd = torch.empty_like(x), x.new_empty(rows, dtype=torch.float32), x.new_empty(rows, dtype=torch.float32)
    if x.numel():
        tile = _tile(width)
        flags = {"HAS_WEIGHT": weight is not None, "HAS_BIAS": bias is not None}
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(rows, tile["BLOCK_ROWS"]),)
            _forward_kernel[grid](x, weight, bias, y, mean, rstd, rows, width, eps, **flags, **tile)
    return y, mean, rstd


@_layer_norm.register_fake
def _(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[0], dtype=torch.float32), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::layer_norm_backward", mutates_args=())
def _layer_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor, affine: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """dx (rows, width), dw and db (width,); unless affine, dw and db have no elements."""
    rows, width = x.shape
    grad, x = grad.contiguous(), x.contiguous()
    weight = None if weight is None else weight.contiguous()
    tile = _tile(width)
    rows_per_program = triton.cdiv(triton.cdiv(rows, tile["BLOCK_ROWS"]), PROGRAMS) * tile["BLOCK_ROWS"]
    programs = triton.cdiv(rows, max(1, rows_per_program))
    grad_x = torch.empty_like(x)
    partial = x.new_empty(programs, 2, width if affine else 0, dtype=torch.float32)
    if x.numel():
        flags = {"HAS_WEIGHT": weight is not None, "AFFINE": affine}
        with torch.cuda.device_of(x):
            _backward_kernel[(programs,)](grad, x, weight, mean, rstd, grad_x, partial, rows, width, rows_per_program, **flags, **tile)
    grad_weight, grad_bias = partial.sum(0).to(x.dtype)
    return grad_x, grad_weight, grad_bias.clone()  # an op's results share no memory


@_layer_norm_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor, affine: bool) -> tuple[Tensor, Tensor, Tensor]:
    width = x.shape[1] if affine else 0
    return x.new_empty(x.shape), x.new_empty(width), x.new_empty(width)


def _keep_inputs(ctx, inputs, output) -> None:
    x, weight, bias, _ = inputs
    ctx.affine = weight is not None, bias is not None
    ctx.save_for_backward(x, weight, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    has_weight, has_bias = ctx.affine
    grad_x, grad_weight, grad_bias = _layer_norm_backward(grad, *ctx.saved_tensors, has_weight or has_bias)
    return grad_x, grad_weight if has_weight else None, grad_bias if has_bias else None, None


_layer_norm.register_autograd(_backward, setup_context=_keep_inputs)


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """torch.nn.functional.layer_norm over the last dimensions of input, those of normalized_shape.

    weight and bias have normalized_shape, or are None.  A non-contiguous input is copied.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    shape = tuple(normalized_shape)
    _check(input, shape, {"weight": weight, "bias": bias})
    width = math.prod(shape)
    weight, bias = (None if tensor is None else tensor.reshape(width) for tensor in (weight, bias))
    y, _, _ = _layer_norm(input.reshape(input.numel() // width, width), weight, bias, eps)
    return y.view(input.shape)


def _check(input: Tensor, shape: tuple[int, ...], affine: dict[str, Tensor | None]) -> None:
    if not shape or input.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: input {tuple(input.shape)} must end in normalized_shape {shape}")
    if not 0 < math.prod(shape) <= LONGEST_ROW:
        raise ValueError(f"layer_norm: normalized_shape {shape} has {math.prod(shape)} numbers; this kernel takes 1 to {LONGEST_ROW}")
    if input.dtype not in DTYPES:
        raise ValueError(f"layer_norm: input is {input.dtype}; give float32, bfloat16 or float16")
    for name, tensor in affine.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"layer_norm: {name} is {tuple(tensor.shape)}; normalized_shape is {shape}")
        if tensor is not None and (tensor.dtype, tensor.device) != (input.dtype, input.device):
            raise ValueError(f"layer_norm: {name} is {tensor.dtype} on {tensor.device}; input is {input.dtype} on {input.device}")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"layer_norm: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
