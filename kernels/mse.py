"""Mean squared error:  L = mean of (x - t)^2;  backward  dx = 2 (x - t) g / n,  dt = -dx.

Method   Each program sums the squares of a share of the numbers; torch adds the shares.  No atomics: deterministic.
Bytes    Forward reads x and t; backward reads them again and writes the gradients that are wanted.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Fewer than 2^31 shares of SHARE numbers.  Non-contiguous inputs are copied.  Differentiable once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 1024  # numbers that a program works on at a time
SHARE = 8 * BLOCK  # numbers that one program sums up


@triton.jit
def _forward_kernel(x_ptr, target_ptr, partial_ptr, count, SHARE: tl.constexpr, BLOCK: tl.constexpr):
    """partial[i] = sum of squares over the i-th SHARE numbers.  Grid: one program per share."""
    first = tl.program_id(0).to(tl.int64) * SHARE
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, SHARE, BLOCK):
        place = first + start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + place, mask=place < count, other=0.0).to(tl.float32)
        away = x - tl.load(target_ptr + place, mask=place < count, other=0.0).to(tl.float32)
        total += away * away
    tl.store(partial_ptr + tl.program_id(0), tl.sum(total, axis=0))


@triton.jit
def _backward_kernel(x_ptr, target_ptr, grad_ptr, dx_ptr, dt_ptr, count, X: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """dx if X and dt if T, from 2 (x - t) grad.  Grid: one program per BLOCK numbers."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + place, mask=place < count, other=0.0).to(tl.float32)
    away = x - tl.load(target_ptr + place, mask=place < count, other=0.0).to(tl.float32)
    grad_x = 2 * away * tl.load(grad_ptr)
    if X:
        tl.store(dx_ptr + place, grad_x.to(dx_ptr.dtype.element_ty), mask=place < count)
    if T:
        tl.store(dt_ptr + place, (-grad_x).to(dt_ptr.dtype.element_ty), mask=place < count)


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::squared_error", mutates_args=())
def _squared_error(x: Tensor, target: Tensor) -> Tensor:
    """The float32 sum of (x - t)^2 over all numbers."""
    x, target = x.contiguous(), target.contiguous()
    partial = x.new_empty(triton.cdiv(x.numel(), SHARE), dtype=torch.float32)
    if x.numel():
        with torch.cuda.device_of(x):
            _forward_kernel[(len(partial),)](x, target, partial, x.numel(), SHARE=SHARE, BLOCK=BLOCK, num_warps=4)
    return partial.sum()


@_squared_error.register_fake
def _(x: Tensor, target: Tensor) -> Tensor:
    return x.new_empty((), dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::squared_error_backward", mutates_args=())
def _squared_error_backward(grad: Tensor, x: Tensor, target: Tensor, wants_x: bool, wants_target: bool) -> tuple[Tensor, Tensor]:
    """dx and dt from the gradient of the sum; the one that is not wanted has no elements."""
    x, target = x.contiguous(), target.contiguous()
    grad_x, grad_target = torch.empty_like(x if wants_x else x[:0]), torch.empty_like(x if wants_target else x[:0])
    if x.numel():
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(x.numel(), BLOCK),)
            flags = {"X": wants_x, "T": wants_target, "BLOCK": BLOCK, "num_warps": 4}
            _backward_kernel[grid](x, target, grad, grad_x, grad_target, x.numel(), **flags)
    return grad_x, grad_target


@_squared_error_backward.register_fake
def _(grad: Tensor, x: Tensor, target: Tensor, wants_x: bool, wants_target: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty((x if wants_x else x[:0]).shape), x.new_empty((x if wants_target else x[:0]).shape)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    wants_x, wants_target = ctx.needs_input_grad
    grad_x, grad_target = _squared_error_backward(grad, *ctx.saved_tensors, wants_x, wants_target)
    return grad_x if wants_x else None, grad_target if wants_target else None


_squared_error.register_autograd(_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """torch.nn.functional.mse_loss for two tensors of one shape; reduction is "mean" or "sum".

    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    if input.shape != target.shape:
        raise ValueError(f"mse_loss: input is {tuple(input.shape)}, target {tuple(target.shape)}; give both one shape")
    if input.dtype not in DTYPES or target.dtype != input.dtype:
        raise ValueError(f"mse_loss: input is {input.dtype}, target {target.dtype}; give one of float32, bfloat16, float16 to both")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"mse_loss: reduction is {reduction!r}; give 'mean' or 'sum'")
    if target.device != input.device:
        raise ValueError(f"mse_loss: input is on {input.device}, target on {target.device}; move both to one")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"mse_loss: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
    total = _squared_error(input.reshape(-1), target.reshape(-1))
    return (total if reduction == "sum" else total / input.numel()).to(input.dtype)
