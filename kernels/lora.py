"""Linear with a low-rank adapter:  y = x W^T + b + scale (x A^T) B^T.   (Hu et al., 2021, arXiv:2106.09685)

Method   One kernel:  out = scale (c d) + a b + bias,  where a b and the bias may be left out.  Each program owns one tile of the result
         and, as in matmul.py, walks along the inner dimension: of c d, the rank, then of a b.  The sum stays in registers.  With
         u = x A^T  and  v = g B,  the results  y = scale (u B^T) + x W^T + b  and  dx = scale (v A) + g W  are one launch each; u, v,
         dA = scale (v^T x)  and  dB = scale (g^T u)  are launches without a b.  u is computed again in backward, not stored.
Bytes    Each result once, without an intermediate of its size; each operand once if L2 holds it, at worst once per tile of the other side.
         So forward reads x twice, once of it for u; backward reads g three times, and x twice.
Numbers  float32, bfloat16, float16; sums in float32, u and v rounded.  float32 is multiplied in IEEE float32, not TF32.
Limits   No split of the inner dimension: u, v, dA and dB, one side of which is the rank, leave most of a GPU idle where the other is short.
         Each size is below 2^31 - 128.  Differentiable once.  Deterministic: no atomics, and tiles that depend on the sizes alone.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .matmul import add_product, check_operands, tile, tile_of


@triton.jit
def _product_kernel(
    c_ptr,
    d_ptr,
    a_ptr,
    b_ptr,
    bias_ptr,
    out_ptr,
    scale,
    m,
    n,
    rank,
    k,
    c_stride_m,
    c_stride_rank,
    d_stride_rank,
    d_stride_n,
    a_stride_m,
    a_stride_k,
    b_stride_k,
    b_stride_n,
    HAS_BASE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """out[m, n] = scale c[m, rank] d[rank, n] + a[m, k] b[k, n] + bias[n].  Grid: one program per tile; out is contiguous."""
    rows, columns = tile_of(tl.program_id(0), m, n, BLOCK_M, BLOCK_N, GROUP_M)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    total = add_product(total, c_ptr, d_ptr, rows, columns, m, n, rank, c_stride_m, c_stride_rank, d_stride_rank, d_stride_n, BLOCK_K)
    total *= scale
    if HAS_BASE:
        total = add_product(total, a_ptr, b_ptr, rows, columns, m, n, k, a_stride_m, a_stride_k, b_stride_k, b_stride_n, BLOCK_K)
    if HAS_BIAS:
        total += tl.load(bias_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]
    offset = rows.to(tl.int64)[:, None] * n + columns.to(tl.int64)[None, :]
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(out_ptr + offset, total.to(out_ptr.dtype.element_ty), mask=mask)


def _product(
    c: Tensor, d: Tensor, scale: float = 1.0, a: Tensor | None = None, b: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """scale (m, rank) @ (rank, n)  +  (m, k) @ (k, n)  +  (n,)."""
    (m, rank), n = c.shape, d.shape[1]
    out = c.new_empty(m, n)
    if out.numel():
        blocks = tile(m, n, c.dtype)
        grid = (triton.cdiv(m, blocks["BLOCK_M"]) * triton.cdiv(n, blocks["BLOCK_N"]),)
        bias = None if bias is None else bias.contiguous()
        k, strides = (0, (0, 0, 0, 0)) if a is None else (a.shape[1], (*a.stride(), *b.stride()))
        flags = {"HAS_BASE": a is not None, "HAS_BIAS": bias is not None}
        with torch.cuda.device_of(c):
            _product_kernel[grid](c, d, a, b, bias, out, scale, m, n, rank, k, *c.stride(), *d.stride(), *strides, **flags, **blocks)
    return out


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::lora_linear", mutates_args=())
def _lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """(rows, in) -> (rows, out)."""
    return _product(_product(x, a.T), b.T, scale, x, weight.T, bias)


@_lora_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@torch.library.custom_op(f"{OPS}::lora_linear_grad_input", mutates_args=())
def _grad_input(grad: Tensor, v: Tensor, weight: Tensor, a: Tensor, scale: float) -> Tensor:
    """g W + scale v A,  (rows, in)."""
    return _product(v, a, scale, grad, weight)


@_grad_input.register_fake
def _(grad: Tensor, v: Tensor, weight: Tensor, a: Tensor, scale: float) -> Tensor:
    return grad.new_empty(grad.shape[0], weight.shape[1])


@torch.library.custom_op(f"{OPS}::scaled_product", mutates_args=())
def _scaled_product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale (m, k) @ (k, n)."""
    return _product(a, b, scale)


@_scaled_product.register_fake
def _(a: Tensor, b: Tensor, scale: float) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def _keep_operands(ctx, inputs, output) -> None:
    x, weight, _, a, b, ctx.scale = inputs
    _, wants_weight, _, wants_a, wants_b = ctx.needs_input_grad[:5]
    ctx.save_for_backward(x if wants_weight or wants_a or wants_b else None, weight, a, b)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, a, b = ctx.saved_tensors
    wants_x, wants_weight, wants_bias, wants_a, wants_b = ctx.needs_input_grad[:5]
    v = _scaled_product(grad, b, 1.0) if wants_x or wants_a else None
    return (
        _grad_input(grad, v, weight, a, ctx.scale) if wants_x else None,
        _scaled_product(grad.T, x, 1.0) if wants_weight else None,  # frozen as a rule; who asks gets it
        grad.sum(0) if wants_bias else None,
        _scaled_product(v.T, x, ctx.scale) if wants_a else None,
        _scaled_product(grad.T, _scaled_product(x, a.T, 1.0), ctx.scale) if wants_b else None,
        None,
    )


_lora_linear.register_autograd(_backward, setup_context=_keep_operands)


def lora_linear(input: Tensor, weight: Tensor, bias: Tensor | None, lora_a: Tensor, lora_b: Tensor, scale: float) -> Tensor:
    """linear(input, weight, bias) + scale * linear(linear(input, lora_a), lora_b):  (..., in_features) -> (..., out_features).

    weight is (out_features, in_features), bias (out_features,) or None, lora_a (rank, in_features), lora_b (out_features, rank).
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, weight, bias, lora_a, lora_b)
    rows = input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
    return _lora_linear(rows, weight, bias, lora_a, lora_b, scale).view(*input.shape[:-1], weight.shape[0])


def _check(input: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor) -> None:
    tensors = [tensor for tensor in (input, weight, bias, a, b) if tensor is not None]
    fits = input.dim() > 0 and weight.dim() == a.dim() == b.dim() == 2
    fits = fits and input.shape[-1] == weight.shape[1] == a.shape[1] and b.shape == (weight.shape[0], a.shape[0])
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        raise ValueError(
            f"lora_linear: shapes are {[tuple(tensor.shape) for tensor in tensors]}; "
            "give input (..., in), weight (out, in), bias (out,) or None, lora_a (rank, in), lora_b (out, rank)"
        )
    check_operands("lora_linear", tensors)
