"""Linear and GELU in one kernel:  y = z P(z)  with  z = x W^T + b  and  P(z) = (1 + erf(z / sqrt 2)) / 2.   (arXiv:1606.08415)

Method   The tiled product of matmul.py.  While z is still in registers, in float32, the bias and GELU are applied to it,
         so that z is not read again.  It is written where a gradient is wanted: computing it again would cost a third more arithmetic.
         Backward:  d = g (P(z) + z p(z)), p the normal density, in one pass that also sums d over SUM_ROWS rows at a time, for db;
         then  dx = d W  and  dW = d^T x  by matmul.py.
Bytes    Forward reads x, W and b and writes y, and z where a gradient is wanted.  Backward reads g and z and writes d, then reads d twice
         and W and x and writes dx and dW.  Operands count once if L2 holds them, at worst once per tile of the other side.
Numbers  float32, bfloat16, float16; sums and GELU in float32.  float32 is multiplied in IEEE float32, not TF32.
Limits   No split of the inner dimension: a small result with a very long inner dimension leaves most of the GPU idle.
         Each size is below 2^31 - 128.  Differentiable once.  Deterministic: no atomics, and tiles that depend on the sizes alone.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .matmul import add_product, check_operands, matmul, tile, tile_of

SUM_ROWS = 128  # rows that one program of _slope_kernel takes, and adds up


@triton.jit
def _product_kernel(
    a_ptr,
    b_ptr,
    bias_ptr,
    out_ptr,
    z_ptr,
    m,
    n,
    k,
    a_stride_m,
    a_stride_k,
    b_stride_k,
    b_stride_n,
    HAS_BIAS: tl.constexpr,
    KEEP_Z: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """z = a b + bias, and out = GELU(z).  Grid: one program per tile; out and z are contiguous."""
    rows, columns = tile_of(tl.program_id(0), m, n, BLOCK_M, BLOCK_N, GROUP_M)
    z = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    z = add_product(z, a_ptr, b_ptr, rows, columns, m, n, k, a_stride_m, a_stride_k, b_stride_k, b_stride_n, BLOCK_K)
    if HAS_BIAS:
        z += tl.load(bias_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]
    offset = rows.to(tl.int64)[:, None] * n + columns.to(tl.int64)[None, :]
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    if KEEP_Z:
        tl.store(z_ptr + offset, z.to(z_ptr.dtype.element_ty), mask=mask)
    y = z * (0.5 * (1 + tl.erf(z * 0.7071067811865476)))
    tl.store(out_ptr + offset, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _slope_kernel(
    grad_ptr,
    z_ptr,
    d_ptr,
    partial_ptr,
    rows,
    columns,
    grad_stride_row,
    grad_stride_column,
    ROWS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """d = g (P(z) + z p(z));  partial[i, c] = sum of d over the i-th ROWS rows.  Grid: a program per BLOCK_COLUMNS columns of ROWS rows."""
    blocks = tl.cdiv(columns, BLOCK_COLUMNS)
    group = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    column_64 = column.to(tl.int64)[None, :]
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    first = group * ROWS
    for start in range(first, min(first + ROWS, rows), BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        row_64 = row.to(tl.int64)[:, None]
        mask = (row[:, None] < rows) & (column[None, :] < columns)
        grad = tl.load(grad_ptr + row_64 * grad_stride_row + column_64 * grad_stride_column, mask=mask, other=0.0).to(tl.float32)
        z = tl.load(z_ptr + row_64 * columns + column_64, mask=mask, other=0.0).to(tl.float32)
        density = tl.exp(-0.5 * z * z) * 0.3989422804014327  # 1 / sqrt(2 pi)
        d = grad * (0.5 * (1 + tl.erf(z * 0.7071067811865476)) + z * density)
        tl.store(d_ptr + row_64 * columns + column_64, d.to(d_ptr.dtype.element_ty), mask=mask)
        total += d
    tl.store(partial_ptr + group.to(tl.int64) * columns + column, tl.sum(total, axis=0), mask=column < columns)


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::linear_gelu", mutates_args=())
def _linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None, keep: bool) -> tuple[Tensor, Tensor]:
    """(rows, in), (out, in), (out,) -> y (rows, out), and z if it is to be kept."""
    (m, k), n = x.shape, weight.shape[0]
    y, z = x.new_empty(m, n), x.new_empty(m if keep else 0, n)
    if y.numel():
        blocks = tile(m, n, x.dtype)
        grid = (triton.cdiv(m, blocks["BLOCK_M"]) * triton.cdiv(n, blocks["BLOCK_N"]),)
        bias = None if bias is None else bias.contiguous()
        flags = {"HAS_BIAS": bias is not None, "KEEP_Z": keep}
        strides = (*x.stride(), *weight.T.stride())
        with torch.cuda.device_of(x):
            _product_kernel[grid](x, weight, bias, y, z if keep else None, m, n, k, *strides, **flags, **blocks)
    return y, z


@_linear_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, keep: bool) -> tuple[Tensor, Tensor]:
    rows, out = x.shape[0], weight.shape[0]
    return x.new_empty(rows, out), x.new_empty(rows if keep else 0, out)


@torch.library.custom_op(f"{OPS}::linear_gelu_slope", mutates_args=())
def _slope(grad: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """d (rows, out) and its sum over the rows (out,)."""
    rows, columns = z.shape
    groups = triton.cdiv(rows, SUM_ROWS)
    d, partial = torch.empty_like(z), z.new_empty(groups, columns, dtype=torch.float32)
    if d.numel():
        with torch.cuda.device_of(z):
            grid = (triton.cdiv(columns, 64) * groups,)
            _slope_kernel[grid](grad, z, d, partial, rows, columns, *grad.stride(), ROWS=SUM_ROWS, BLOCK_ROWS=32, BLOCK_COLUMNS=64)
    return d, partial.sum(0).to(z.dtype)


@_slope.register_fake
def _(grad: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape), z.new_empty(z.shape[1])


def _keep_operands(ctx, inputs, output) -> None:
    x, weight, _, keep = inputs
    assert keep, "z was not kept, though a gradient is wanted"
    wants_x, wants_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None, output[1])
    ctx.set_materialize_grads(False)  # z gets no gradient; it counts as differentiable, so that a second derivative is refused at _slope


def _backward(ctx, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    x, weight, z = ctx.saved_tensors
    wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
    d, grad_bias = _slope(grad, z)
    grad_x = matmul(d, weight, None) if wants_x else None
    grad_weight = matmul(d.T, x, None) if wants_weight else None
    return grad_x, grad_weight, grad_bias if wants_bias else None, None


_linear_gelu.register_autograd(_backward, setup_context=_keep_operands)


def linear_gelu(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """gelu(linear(input, weight, bias)) of torch.nn.functional, GELU exact:  (..., in_features) -> (..., out_features).

    weight is (out_features, in_features), bias (out_features,) or None.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    tensors = [input, weight] if bias is None else [input, weight, bias]
    _check(tensors)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    y, _ = _linear_gelu(input.reshape(math.prod(input.shape[:-1]), input.shape[-1]), weight, bias, keep)
    return y.view(*input.shape[:-1], weight.shape[0])


def _check(tensors: list[Tensor]) -> None:
    input, weight = tensors[:2]
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if weight.dim() != 2 or input.dim() < 1 or input.shape[-1] != weight.shape[1] or shapes[2:] not in ([], [shapes[1][:1]]):
        raise ValueError(f"linear_gelu: shapes are {shapes}; give input (..., in), weight (out, in) and bias (out,) or None")
    check_operands("linear_gelu", tensors)
