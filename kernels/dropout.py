"""Dropout:  y = x m / (1 - p) + residual,  m = 0 with the probability p and else 1;  backward  dx = g m / (1 - p).

Method   m is not stored.  Every number has its own draw of Philox, a generator that makes the n-th number of a seed at once (Salmon et al.,
         "Parallel random numbers: as easy as 1, 2, 3", 2011); backward draws it again from the same seed.
Bytes    Forward reads x, and the residual where there is one, and writes y; backward reads g and writes dx.  Saved: one seed.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Inputs are made contiguous by a copy.  Fewer than 2^31 numbers, as Philox counts in 32 bits.  The mask is another one than
         torch's of the same seed.  Differentiable once.  Deterministic for a seed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 1024
MOST = 2**31 - BLOCK


@triton.jit
def _dropout_kernel(x_ptr, residual_ptr, y_ptr, count, p, seed, HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr):
    """Grid: one program per BLOCK numbers.  Forward on x; backward on the gradient, without a residual."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < count
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    y = tl.where(tl.rand(seed, offset) >= p, x / (1 - p), 0.0)
    if HAS_RESIDUAL:
        y += tl.load(residual_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=mask)


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::dropout", mutates_args=())
def _dropout(x: Tensor, residual: Tensor | None, p: float, seed: int) -> Tensor:
    """x m / (1 - p), + residual, of any shape."""
    x = x.contiguous()
    residual = None if residual is None else residual.contiguous()
    y = torch.empty_like(x)
    if count := x.numel():
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(count, BLOCK),)
            _dropout_kernel[grid](x, residual, y, count, p, seed, HAS_RESIDUAL=residual is not None, BLOCK=BLOCK, num_warps=4)
    return y


@_dropout.register_fake
def _(x: Tensor, residual: Tensor | None, p: float, seed: int) -> Tensor:
    return x.new_empty(x.shape)


def _keep_seed(ctx, inputs, output) -> None:
    _, residual, ctx.p, ctx.seed = inputs
    ctx.has_residual = residual is not None


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _dropout(grad, None, ctx.p, ctx.seed), grad if ctx.has_residual else None, None, None


_dropout.register_autograd(_backward, setup_context=_keep_seed)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, residual: Tensor | None = None) -> Tensor:
    """torch.nn.functional.dropout of an input of any shape, + residual where one is given.

    The seed is drawn from torch's default generator, so torch.manual_seed repeats the mask.  p = 1 gives zeros.
    Raises ValueError for a p outside 0..1, another dtype, a residual of another shape, dtype or device, or an input that is not on a GPU
    (under TRITON_INTERPRET=1: anywhere).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}; give a probability from 0 to 1")
    if input.dtype not in DTYPES:
        raise ValueError(f"dropout: input is {input.dtype}; give float32, bfloat16 or float16")
    if input.numel() > MOST:
        raise ValueError(f"dropout: input has {input.numel()} numbers; this kernel takes up to {MOST}")
    if residual is not None and (residual.shape, residual.dtype, residual.device) != (input.shape, input.dtype, input.device):
        raise ValueError(
            f"dropout: residual is {tuple(residual.shape)} {residual.dtype} on {residual.device}; "
            f"input is {tuple(input.shape)} {input.dtype} on {input.device}"
        )
    if not input.is_cuda and isinstance(_dropout_kernel, triton.JITFunction):
        raise ValueError(f"dropout: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
    if not training or p in (0, 1):
        kept = input * (0 if training and p == 1 else 1)
        return kept if residual is None else kept + residual
    return _dropout(input, residual, p, int(torch.randint(2**31, ())))
