"""Linear:  y = x W^T + b,  by one tiled matrix product that also serves dx = g W and dW = g^T x.

Method   Each program owns one BLOCK_M x BLOCK_N tile of the result and walks along the inner dimension; programs that share rows run
         next to each other, so that the operands stay in L2 (https://triton-lang.org, tutorial "Matrix Multiplication").
         Operands are read by their strides: a transposed or broadcast view costs no copy.
Bytes    The result once; each operand once if L2 holds it, at worst once per tile of the other side.  db reads g once more.
Numbers  float32, bfloat16, float16; sums in float32.  float32 is multiplied in IEEE float32 on the ordinary cores, as torch does with
         torch.backends.cuda.matmul.allow_tf32 = False, its default.  TF32 would use the tensor cores and keep 10 bits of each factor.
Limits   No split of the inner dimension: a small result with a very long inner dimension leaves most of the GPU idle.
         Each size is below 2^31 - 128.  Deterministic: no atomics, and tiles that depend on the sizes alone.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SUM_ROWS = 1024  # rows that one program of _column_sum_kernel adds up


@triton.jit
def tile_of(program, m, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """Rows and columns of a program's tile of (m, n).  Programs that share rows run next to each other, GROUP_M rows of tiles at a time."""
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    group = program // (GROUP_M * tiles_n)
    group_m = min(tiles_m - group * GROUP_M, GROUP_M)
    in_group = program % (GROUP_M * tiles_n)
    rows = (group * GROUP_M + in_group % group_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = (in_group // group_m) * BLOCK_N + tl.arange(0, BLOCK_N)
    return rows, columns


@triton.jit
def add_product(total, a_ptr, b_ptr, rows, columns, m, n, k, a_stride_m, a_stride_k, b_stride_k, b_stride_n, BLOCK_K: tl.constexpr):
    """total + the tile at rows and columns of a[m, k] b[k, n]."""
    rows_64 = rows.to(tl.int64)[:, None]
    columns_64 = columns.to(tl.int64)[None, :]
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        inner_64 = inner.to(tl.int64)
        a_mask = (rows[:, None] < m) & (inner[None, :] < k)
        b_mask = (inner[:, None] < k) & (columns[None, :] < n)
        a = tl.load(a_ptr + rows_64 * a_stride_m + inner_64[None, :] * a_stride_k, mask=a_mask, other=0.0)
        b = tl.load(b_ptr + inner_64[:, None] * b_stride_k + columns_64 * b_stride_n, mask=b_mask, other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    return total


@triton.jit
def _matmul_kernel(
    a_ptr,
    b_ptr,
    bias_ptr,
    out_ptr,
    m,
    n,
    k,
    a_stride_m,
    a_stride_k,
    b_stride_k,
    b_stride_n,
    HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """out[m, n] = sum over k of a[m, k] b[k, n], + bias[n].  Grid: one program per tile; out is contiguous."""
    rows, columns = tile_of(tl.program_id(0), m, n, BLOCK_M, BLOCK_N, GROUP_M)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    total = add_product(total, a_ptr, b_ptr, rows, columns, m, n, k, a_stride_m, a_stride_k, b_stride_k, b_stride_n, BLOCK_K)
    if HAS_BIAS:
        total += tl.load(bias_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]
    offset = rows.to(tl.int64)[:, None] * n + columns.to(tl.int64)[None, :]
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(out_ptr + offset, total.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _column_sum_kernel(
    x_ptr,
    partial_ptr,
    rows,
    columns,
    stride_row,
    stride_column,
    ROWS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """partial[i, c] = sum of x[r, c] over the i-th ROWS rows.  Grid: one program per BLOCK_COLUMNS columns of ROWS rows."""
    blocks = tl.cdiv(columns, BLOCK_COLUMNS)
    group = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    first = group * ROWS
    for start in range(first, min(first + ROWS, rows), BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row[:, None] < rows) & (column[None, :] < columns)
        offset = row.to(tl.int64)[:, None] * stride_row + column.to(tl.int64)[None, :] * stride_column
        total += tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(partial_ptr + group.to(tl.int64) * columns + column, tl.sum(total, axis=0), mask=column < columns)


def tile(m: int, n: int, dtype: torch.dtype) -> dict[str, int]:
    """Block sizes and warps: large tiles for tensor cores, once there are enough of them to fill a GPU of 100 to 150 processors."""
    large = dtype != torch.float32 and m * n >= 128 * 128 * 128
    most = 128 if large else 64
    return {
        "BLOCK_M": min(most, max(16, triton.next_power_of_2(m))),
        "BLOCK_N": min(most, max(16, triton.next_power_of_2(n))),
        "BLOCK_K": 16 if dtype == torch.float32 else 64,  # short float32 sums round less
        "GROUP_M": 8,
        "num_warps": 8 if large else 4,
        "num_stages": 3,
    }


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::matmul", mutates_args=())
def matmul(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """(m, k) @ (k, n) + (n,)."""
    (m, k), n = a.shape, b.shape[1]
    out = a.new_empty(m, n)
    if out.numel():
        blocks = tile(m, n, a.dtype)
        grid = (triton.cdiv(m, blocks["BLOCK_M"]) * triton.cdiv(n, blocks["BLOCK_N"]),)
        bias = None if bias is None else bias.contiguous()
        with torch.cuda.device_of(a):
            _matmul_kernel[grid](a, b, bias, out, m, n, k, *a.stride(), *b.stride(), HAS_BIAS=bias is not None, **blocks)
    return out


@matmul.register_fake
def _(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


@torch.library.custom_op(f"{OPS}::column_sum", mutates_args=())
def _column_sum(x: Tensor) -> Tensor:
    """(rows, columns) -> (columns,): partial sums of SUM_ROWS rows each, then their sum."""
    rows, columns = x.shape
    groups = triton.cdiv(rows, SUM_ROWS)
    partial = x.new_empty(groups, columns, dtype=torch.float32)
    if partial.numel():
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(columns, 64) * groups,)
            _column_sum_kernel[grid](x, partial, rows, columns, *x.stride(), ROWS=SUM_ROWS, BLOCK_ROWS=32, BLOCK_COLUMNS=64)
    return partial.sum(0).to(x.dtype)


@_column_sum.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[1])


def _keep_operands(ctx, inputs, output) -> None:
    a, b, _ = inputs
    wants_a, wants_b = ctx.needs_input_grad[:2]
    ctx.save_for_backward(a if wants_b else None, b if wants_a else None)


def _matmul_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    wants_a, wants_b, wants_bias = ctx.needs_input_grad[:3]
    return (
        matmul(grad, b.T, None) if wants_a else None,
        matmul(grad.T, a, None).T if wants_b else None,  # so that linear's weight, which is b.T, gets a contiguous gradient
        _column_sum(grad) if wants_bias else None,
    )


matmul.register_autograd(_matmul_backward, setup_context=_keep_operands)
_column_sum.register_autograd(
    lambda ctx, grad: grad.expand(ctx.rows, -1),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "rows", len(inputs[0])),
)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch.nn.functional.linear:  (..., in_features) -> (..., out_features),  y = x W^T + b.

    weight is (out_features, in_features), bias (out_features,) or None.  Differentiable any number of times.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, weight, bias)
    rows = input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
    return matmul(rows, weight.T, bias).view(*input.shape[:-1], weight.shape[0])


def _check(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if weight.dim() != 2 or input.dim() < 1 or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: input {tuple(input.shape)} does not fit weight {tuple(weight.shape)}; the last of both must be in_features"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias is {tuple(bias.shape)}; weight {tuple(weight.shape)} needs {tuple(weight.shape[:1])}")
    check_operands("linear", [input, weight] if bias is None else [input, weight, bias])


def check_operands(name: str, tensors: list[Tensor]) -> None:
    """Raises ValueError, in the name of a function, unless the tensors are of one type and on one GPU."""
    first = tensors[0]
    if first.dtype not in DTYPES or any(tensor.dtype != first.dtype for tensor in tensors):
        raise ValueError(f"{name}: dtypes are {[tensor.dtype for tensor in tensors]}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != first.device for tensor in tensors):
        raise ValueError(f"{name}: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not first.is_cuda and isinstance(_matmul_kernel, triton.JITFunction):
        raise ValueError(f"{name}: tensors are on {first.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton")
