"""Linear and cross-entropy without the logits:  l = s - z_t  with  z = x W^T  and  s = log sum_j exp(z_j), row by row.

Method   (after Wijmans et al., 2024, arXiv:2411.09009)  Forward: a program makes the logits of BLOCK_M rows tile by tile and keeps only
         their maximum and sum ("online": Milakov & Gimelshein, 2018, arXiv:1805.02867) and z_t.  The classes are shared among at most
         SHARES programs, whose s torch joins.
         Backward: by chunks of classes of about HELD logits, made again.  A kernel writes d = exp(z - s) - 1[j = t] of a chunk;
         torch's matrix product makes of it the chunk's rows of dW = d^T (g x), and its share of dx = g d W, summed in float32.
Bytes    Forward reads x once per share and W once per BLOCK_M rows, where the caches do not help, and writes a few numbers per row.
         Backward besides writes d and reads it twice, chunk by chunk, and reads and writes the float32 dx once per chunk.
Numbers  float32, bfloat16, float16; sums in float32; d is rounded to the dtype of x, as the operand of a matrix product must be.
         float32 is multiplied in IEEE float32 here, and by torch as torch.backends.cuda.matmul.allow_tf32 says.
         A class outside the row that is not ignore_index makes NaN of the loss and the gradients.
Limits   No bias.  Fewer than 2^31 - 128 rows and classes.  Non-contiguous inputs are copied.  Differentiable once.
         Deterministic: no atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .matmul import add_product

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHARES = 64  # of the classes; with a few row tiles they fill a GPU
HELD = 2**24  # logits that backward holds at a time, about
MOST_TILES = 65535  # of classes at a time: what CUDA launches along the second axis of a grid


@triton.jit
def _logits(x_ptr, weight_ptr, rows, columns, m, n, k, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """x W^T at (rows, columns) in float32; 0 where either is out of range."""
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    return add_product(total, x_ptr, weight_ptr, rows, columns, m, n, k, k, 1, 1, k, BLOCK_K)  # strides of x, and of W^T


@triton.jit
def _forward_kernel(
    x_ptr,
    weight_ptr,
    target_ptr,
    lse_ptr,
    own_ptr,
    m,
    n,
    k,
    share,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """s over a share of the classes, and z_t if t is among them, else 0: both (shares, rows).  Grid: (tiles of rows, shares)."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    first = tl.program_id(1) * share
    target = tl.load(target_ptr + rows, mask=rows < m, other=-1)
    highest = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    own = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for start in range(first, min(first + share, n), BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        z = _logits(x_ptr, weight_ptr, rows, columns, m, n, k, BLOCK_M, BLOCK_N, BLOCK_K)
        own += tl.sum(tl.where(columns[None, :] == target[:, None], z, 0.0), axis=1)
        z = tl.where(columns[None, :] < n, z, float("-inf"))
        higher = tl.maximum(highest, tl.max(z, axis=1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # -inf - -inf would be NaN; exp(-inf - 0) is the 0 that is meant
        total = total * tl.exp(highest - shift) + tl.sum(tl.exp(z - shift[:, None]), axis=1)
        highest = higher
    offset = tl.program_id(1).to(tl.int64) * m + rows
    tl.store(lse_ptr + offset, highest + tl.log(total), mask=rows < m)
    tl.store(own_ptr + offset, own, mask=rows < m)


@triton.jit
def _difference_kernel(
    x_ptr,
    weight_ptr,
    target_ptr,
    lse_ptr,
    d_ptr,
    m,
    n,
    k,
    first,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """d (m, n) for the n classes from `first` on, whose rows of W begin at weight_ptr.  Grid: (tiles of rows, tiles of classes)."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    z = _logits(x_ptr, weight_ptr, rows, columns, m, n, k, BLOCK_M, BLOCK_N, BLOCK_K)
    target = tl.load(target_ptr + rows, mask=rows < m, other=-1) - first
    lse = tl.load(lse_ptr + rows, mask=rows < m, other=0.0)
    d = tl.exp(z - lse[:, None]) - tl.where(columns[None, :] == target[:, None], 1.0, 0.0)
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(d_ptr + rows.to(tl.int64)[:, None] * n + columns[None, :], d.to(d_ptr.dtype.element_ty), mask=mask)


def _tile(rows: int, dtype: torch.dtype) -> dict[str, int]:
    single = dtype == torch.float32
    return {
        "BLOCK_M": min(64, max(16, triton.next_power_of_2(rows))),
        "BLOCK_N": 64 if single else 128,
        "BLOCK_K": 16 if single else 64,  # short float32 sums round less
        "num_warps": 4 if single else 8,
        "num_stages": 3,
    }


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::linear_cross_entropy", mutates_args=())
def _linear_cross_entropy(x: Tensor, weight: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """(rows, features), (classes, features), (rows,) -> the float32 loss l of each row, 0 where it is ignored, and s."""
    (m, k), n = x.shape, weight.shape[0]
    if not m:
        return x.new_empty(0, dtype=torch.float32), x.new_empty(0, dtype=torch.float32)
    x, weight, target = x.contiguous(), weight.contiguous(), target.contiguous()
    tile = _tile(m, x.dtype)
    share = triton.cdiv(triton.cdiv(n, tile["BLOCK_N"]), SHARES) * tile["BLOCK_N"]
    shares = triton.cdiv(n, share)
    lse, own = x.new_empty(2, shares, m, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _forward_kernel[(triton.cdiv(m, tile["BLOCK_M"]), shares)](x, weight, target, lse, own, m, n, k, share, **tile)
    lse = lse.logsumexp(0)
    loss = (lse - own.sum(0)).where((target >= 0) & (target < n), torch.nan)
    return loss.where(target != ignore_index, 0), lse


@_linear_cross_entropy.register_fake
def _(x: Tensor, weight: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], dtype=torch.float32), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::linear_cross_entropy_backward", mutates_args=())
def _linear_cross_entropy_backward(
    grad: Tensor, x: Tensor, weight: Tensor, target: Tensor, lse: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """dx (rows, features) and dW (classes, features) from g (rows,)."""
    (m, k), n = x.shape, weight.shape[0]
    x, weight, target = x.contiguous(), weight.contiguous(), target.contiguous()
    g = grad.float().where((target >= 0) & (target < n), torch.nan).where(target != ignore_index, 0).unsqueeze(1)
    scaled_x, grad_x, grad_weight = (x * g).to(x.dtype), torch.zeros_like(x, dtype=torch.float32), torch.empty_like(weight)
    tile = _tile(m, x.dtype)
    chunk = min(triton.cdiv(max(1, HELD // max(1, m)), tile["BLOCK_N"]), MOST_TILES) * tile["BLOCK_N"]
    for first in range(0, n, chunk):
        part = weight[first : first + chunk]
        d = x.new_empty(m, len(part))
        if m:
            grid = (triton.cdiv(m, tile["BLOCK_M"]), triton.cdiv(len(part), tile["BLOCK_N"]))
            with torch.cuda.device_of(x):
                _difference_kernel[grid](x, part, target, lse, d, m, len(part), k, first, **tile)
        grad_x += d @ part
        torch.mm(d.T, scaled_x, out=grad_weight[first : first + chunk])
    return grad_x.mul_(g).to(x.dtype), grad_weight


@_linear_cross_entropy_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, target: Tensor, lse: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _keep_inputs(ctx, inputs, output) -> None:
    x, weight, target, ctx.ignore_index = inputs
    ctx.save_for_backward(x, weight, target, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return *_linear_cross_entropy_backward(grad, *ctx.saved_tensors, ctx.ignore_index), None, None


_linear_cross_entropy.register_autograd(_backward, setup_context=_keep_inputs)


def linear_cross_entropy(input: Tensor, weight: Tensor, target: Tensor, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """cross_entropy(linear(input, weight), target, ...) of torch.nn.functional, for (rows, features), (classes, features) and (rows,).

    target holds class indices; reduction is "mean" (over the rows that are not ignored), "sum" or "none".
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, weight, target, reduction)
    losses, _ = _linear_cross_entropy(input, weight, target, ignore_index)
    if reduction == "none":
        return losses.to(input.dtype)
    total = losses.sum()
    return (total if reduction == "sum" else total / (target != ignore_index).sum()).to(input.dtype)


def _check(input: Tensor, weight: Tensor, target: Tensor, reduction: str) -> None:
    shapes = [tuple(tensor.shape) for tensor in (input, weight, target)]
    dtypes, devices = [input.dtype, weight.dtype, target.dtype], [str(tensor.device) for tensor in (input, weight, target)]
    if [len(shape) for shape in shapes] != [2, 2, 1] or shapes[0] != (*shapes[2], shapes[1][1]) or not weight.shape[0]:
        raise ValueError(f"linear_cross_entropy: shapes are {shapes}; give (rows, features), (classes, features), (rows,), a class or more")
    if input.dtype not in DTYPES or dtypes[1:] != [input.dtype, torch.int64]:
        raise ValueError(f"linear_cross_entropy: dtypes are {dtypes}; give float32, bfloat16 or float16 twice, and int64 class indices")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"linear_cross_entropy: reduction is {reduction!r}; give 'mean', 'sum' or 'none'")
    if len(set(devices)) > 1:
        raise ValueError(f"linear_cross_entropy: devices are {devices}; move all to one")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(
            f"linear_cross_entropy: tensors are on {devices[0]}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton"
        )
