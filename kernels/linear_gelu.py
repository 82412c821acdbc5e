"""Linear and GELU in one kernel:  y = z P(z)  with  z = x W^T + b  and  P(z) = (1 + erf(z / sqrt 2)) / 2.   (arXiv:1606.08415)

Method   A tiled product, as kernels/matmul.py explains it.  While z is still in registers, in float32, the bias and GELU are applied to it,
         so that z is not read again.  It is written where a gradient is wanted: computing it again would cost a third more arithmetic.
         Backward:  d = g (P(z) + z p(z)), p the normal density, in one pass that also sums d over SUM_ROWS rows at a time, for db;
         then  dx = d W  and  dW = d^T x  by the same product without GELU.
Bytes    Forward reads x, W and b and writes y, and z where a gradient is wanted.  Backward reads g and z and writes d, then reads d twice
         and W and x and writes dx and dW.  Operands count once if L2 holds them, at worst once per tile of the other side.
Numbers  float32, bfloat16, float16; sums and GELU in float32.  float32 is multiplied in IEEE float32, not TF32.
Limits   No split of the inner dimension: a small result with a very long inner dimension leaves most of the GPU idle.
         Each size is below 2^31.  Differentiable once.  Deterministic: no atomics, and tiles that depend on the sizes alone.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
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
    GELU: tl.constexpr,
    KEEP_Z: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """z = a b + bias;  out = GELU(z) or z.  Grid: one program per tile; out and z are contiguous."""
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    group = pid // (GROUP_M * tiles_n)
    group_m = min(tiles_m - group * GROUP_M, GROUP_M)
    in_group = pid % (GROUP_M * tiles_n)
    rows = (group * GROUP_M + in_group % group_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = (in_group // group_m) * BLOCK_N + tl.arange(0, BLOCK_N)
    rows_64 = rows.to(tl.int64)[:, None]
    columns_64 = columns.to(tl.int64)[None, :]

    z = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        inner_64 = inner.to(tl.int64)
        a_mask = (rows[:, None] < m) & (inner[None, :] < k)
        b_mask = (inner[:, None] < k) & (columns[None, :] < n)
        a = tl.load(a_ptr + rows_64 * a_stride_m + inner_64[None, :] * a_stride_k, mask=a_mask, other=0.0)
        b = tl.load(b_ptr + inner_64[:, None] * b_stride_k + columns_64 * b_stride_n, mask=b_mask, other=0.0)
        z = tl.dot(a, b, z, input_precision="ieee")
    if HAS_BIAS:
        z += tl.load(bias_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]
    offset = rows_64 * n + columns_64
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    if KEEP_Z:
        tl.store(z_ptr + offset, z.to(z_ptr.dtype.element_ty), mask=mask)
    if GELU:
        z *= 0.5 * (1 + tl.erf(z * 0.7071067811865476))
    tl.store(out_ptr + offset, z.to(out_ptr.dtype.element_ty), mask=mask)


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
    """d = g (P(z) + z p(z));  partial[i, c] = sum of d over the i-th ROWS rows.  Grid: (groups of ROWS rows, blocks of columns)."""
    group = tl.program_id(0)
    column = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
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


def _tile(m: int, n: int, dtype: torch.dtype) -> dict[str, int]:
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


def _product(a: Tensor, b: Tensor, bias: Tensor | None, gelu: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """GELU((m, k) @ (k, n) + (n,)), or without GELU; and z, which has no elements unless it is kept."""
    (m, k), n = a.shape, b.shape[1]
    out, z = a.new_empty(m, n), a.new_empty(m if keep else 0, n)
    if out.numel():
        tile = _tile(m, n, a.dtype)
        grid = (triton.cdiv(m, tile["BLOCK_M"]) * triton.cdiv(n, tile["BLOCK_N"]),)
        bias = None if bias is None else bias.contiguous()
        flags = {"HAS_BIAS": bias is not None, "GELU": gelu, "KEEP_Z": keep}
        with torch.cuda.device_of(a):
            _product_kernel[grid](a, b, bias, out, z if keep else None, m, n, k, *a.stride(), *b.stride(), **flags, **tile)
    return out, z


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::linear_gelu", mutates_args=())
def _linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None, keep: bool) -> tuple[Tensor, Tensor]:
    """(rows, in), (out, in), (out,) -> y (rows, out), and z if it is to be kept."""
    return _product(x, weight.T, bias, gelu=True, keep=keep)


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
            grid = (groups, triton.cdiv(columns, 64))
            _slope_kernel[grid](grad, z, d, partial, rows, columns, *grad.stride(), ROWS=SUM_ROWS, BLOCK_ROWS=32, BLOCK_COLUMNS=64)
    return d, partial.sum(0).to(z.dtype)


@_slope.register_fake
def _(grad: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape), z.new_empty(z.shape[1])


@torch.library.custom_op(f"{OPS}::linear_gelu_product", mutates_args=())
def _plain_product(a: Tensor, b: Tensor) -> Tensor:
    """(m, k) @ (k, n), of backward."""
    return _product(a, b, None, gelu=False, keep=False)[0]


@_plain_product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


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
    grad_x = _plain_product(d, weight) if wants_x else None
    grad_weight = _plain_product(d.T, x) if wants_weight else None
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
    y, _ = _linear_gelu(input.reshape(-1, input.shape[-1]), weight, bias, keep)
    return y.view(*input.shape[:-1], weight.shape[0])


def _check(tensors: list[Tensor]) -> None:
    input, weight = tensors[:2]
    shapes, dtypes = [tuple(tensor.shape) for tensor in tensors], [tensor.dtype for tensor in tensors]
    if weight.dim() != 2 or input.dim() < 1 or input.shape[-1] != weight.shape[1] or shapes[2:] not in ([], [shapes[1][:1]]):
        raise ValueError(f"linear_gelu: shapes are {shapes}; give input (..., in), weight (out, in) and bias (out,) or None")
    if input.dtype not in DTYPES or any(dtype != input.dtype for dtype in dtypes):
        raise ValueError(f"linear_gelu: dtypes are {dtypes}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != input.device for tensor in tensors):
        raise ValueError(f"linear_gelu: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not input.is_cuda and isinstance(_product_kernel, triton.JITFunction):
        raise ValueError(f"linear_gelu: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
