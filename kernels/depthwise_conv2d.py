"""Depthwise 2-D convolution of stride 1:  y[n, c, p, q] = b[c] + sum over r, s of W[c, r, s] x[n, c, p + r - padding, q + s - padding].

Method   One program for a block of positions of one plane; its few taps are scalars, and the loop over them is unrolled.
         dx    the same kernel: g convolved with W turned by 180 degrees, padded by kernel size - 1 - padding.
         dW    one program per plane holds a tile of (taps, positions) and adds up its plane; torch adds the batch.  No atomics.
         db    one more tap of that tile, where x is 1 throughout.
Bytes    x, W and b read and y written once, if the caches hold the overlap: each number of x is asked for once per tap that covers it.
         dW reads x and g likewise and writes one float32 number per plane and tap.
Numbers  float32, bfloat16, float16; sums in float32, on the ordinary cores.
Limits   Stride 1, dilation 1, one output channel to an input channel, 0 <= padding < kernel size, at most MOST_TAPS taps.
         Planes of fewer than 2^30 positions.  Non-contiguous inputs are copied.  Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_TAPS = 127  # with db a tile of 128, and the code of an unrolled loop


@triton.jit
def _depthwise_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    channels,
    height,
    width,
    out_height,
    out_width,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    TURNED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid: one program per BLOCK output positions of a plane.  TURNED: W is read turned by 180 degrees."""
    blocks = tl.cdiv(out_height * out_width, BLOCK)
    plane = (tl.program_id(0) // blocks).to(tl.int64)
    channel = plane % channels
    position = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = position < out_height * out_width
    row = position // out_width - PAD_H
    column = position % out_width - PAD_W
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    if HAS_BIAS:
        total += tl.load(bias_ptr + channel).to(tl.float32)
    for tap in tl.static_range(KH * KW):
        x_row = row + tap // KW
        x_column = column + tap % KW
        mask = inside & (x_row >= 0) & (x_row < height) & (x_column >= 0) & (x_column < width)
        x = tl.load(x_ptr + plane * height * width + x_row * width + x_column, mask=mask, other=0.0)
        weight = tl.load(weight_ptr + channel * (KH * KW) + (KH * KW - 1 - tap if TURNED else tap))
        total += x.to(tl.float32) * weight.to(tl.float32)
    tl.store(y_ptr + plane * out_height * out_width + position, total.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _grad_weight_kernel(
    grad_ptr,
    x_ptr,
    partial_ptr,
    height,
    width,
    out_height,
    out_width,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK_TAPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """partial[plane, tap] of dW; the tap after the last is db.  Grid: one program per plane."""
    plane = tl.program_id(0).to(tl.int64)
    tap = tl.arange(0, BLOCK_TAPS)[:, None]
    positions = out_height * out_width
    total = tl.zeros((BLOCK_TAPS, BLOCK), dtype=tl.float32)
    for start in range(0, positions, BLOCK):
        position = start + tl.arange(0, BLOCK)
        grad = tl.load(grad_ptr + plane * positions + position, mask=position < positions, other=0.0).to(tl.float32)
        row = (position // out_width)[None, :] + tap // KW - PAD_H
        column = (position % out_width)[None, :] + tap % KW - PAD_W
        mask = (position < positions)[None, :] & (tap < KH * KW) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        x = tl.load(x_ptr + plane * height * width + row * width + column, mask=mask, other=0.0).to(tl.float32)
        total += tl.where(tap == KH * KW, 1.0, x) * grad[None, :]
    tap = tl.arange(0, BLOCK_TAPS)
    tl.store(partial_ptr + plane * (KH * KW + 1) + tap, tl.sum(total, axis=1), mask=tap <= KH * KW)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, padding: tuple[int, int], turned: bool) -> Tensor:
    """Fills y (batch, channels, ...) from x (batch, channels, ...) and weight (channels, 1, rows, columns)."""
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    positions = y.shape[2] * y.shape[3]
    block = min(512, max(64, triton.next_power_of_2(positions)))
    if y.numel():
        with torch.cuda.device_of(x):
            grid = (x.shape[0] * x.shape[1] * triton.cdiv(positions, block),)
            sizes = (*x.shape[1:], *y.shape[2:], *padding, *weight.shape[2:])
            _depthwise_kernel[grid](
                x, weight, bias, y, *sizes, TURNED=turned, HAS_BIAS=bias is not None, BLOCK=block, num_warps=max(1, block // 128)
            )
    return y


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::depthwise_conv2d", mutates_args=())
def _depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    return _convolve(x, weight, bias, _like_y(x, weight, bias, padding), (padding, padding), turned=False)


@_depthwise_conv2d.register_fake
def _like_y(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    (batch, channels, height, width), (kh, kw) = x.shape, weight.shape[2:]
    return x.new_empty(batch, channels, height + 2 * padding - kh + 1, width + 2 * padding - kw + 1)


@torch.library.custom_op(f"{OPS}::depthwise_conv2d_grad_input", mutates_args=())
def _grad_input(grad: Tensor, weight: Tensor, padding: int) -> Tensor:
    kh, kw = weight.shape[2:]
    return _convolve(grad, weight, None, _like_x(grad, weight, padding), (kh - 1 - padding, kw - 1 - padding), turned=True)


@_grad_input.register_fake
def _like_x(grad: Tensor, weight: Tensor, padding: int) -> Tensor:
    (batch, channels, out_height, out_width), (kh, kw) = grad.shape, weight.shape[2:]
    return grad.new_empty(batch, channels, out_height - 2 * padding + kh - 1, out_width - 2 * padding + kw - 1)


@torch.library.custom_op(f"{OPS}::depthwise_conv2d_grad_weight", mutates_args=())
def _grad_weight(grad: Tensor, x: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """dW and db."""
    grad, x = grad.contiguous(), x.contiguous()
    grad_weight, grad_bias = _like_weight(grad, x, padding)
    (channels, _, kh, kw), batch = grad_weight.shape, len(x)
    block_taps = triton.next_power_of_2(kh * kw + 1)
    blocks = {"BLOCK_TAPS": block_taps, "BLOCK": max(16, 2048 // block_taps)}
    partial = x.new_empty(batch, channels, kh * kw + 1, dtype=torch.float32)
    if partial.numel():
        with torch.cuda.device_of(x):
            sizes = (*x.shape[2:], *grad.shape[2:], padding, padding, kh, kw)
            _grad_weight_kernel[(batch * channels,)](grad, x, partial, *sizes, **blocks, num_warps=4)
    total = partial.sum(0)
    return grad_weight.copy_(total[:, :-1].view(grad_weight.shape)), grad_bias.copy_(total[:, -1])


@_grad_weight.register_fake
def _like_weight(grad: Tensor, x: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    kh, kw = (size + 2 * padding - out_size + 1 for size, out_size in zip(x.shape[2:], grad.shape[2:], strict=True))
    return x.new_empty(x.shape[1], 1, kh, kw), x.new_empty(x.shape[1])


def _keep_inputs(ctx, inputs, output) -> None:
    x, weight, _, ctx.padding = inputs
    wants_x, *wants_parameters = ctx.needs_input_grad[:3]
    ctx.save_for_backward(x if any(wants_parameters) else None, weight if wants_x else None)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x = None if weight is None else _grad_input(grad, weight, ctx.padding)
    grad_weight, grad_bias = (None, None) if x is None else _grad_weight(grad, x, ctx.padding)
    _, _, wants_bias = ctx.needs_input_grad[:3]
    return grad_x, grad_weight, grad_bias if wants_bias else None, None


_depthwise_conv2d.register_autograd(_backward, setup_context=_keep_inputs)


def depthwise_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """torch.nn.functional.conv2d of stride 1 with groups = channels:  (batch, channels, height, width) -> (..., height', width').

    weight is (channels, 1, rows, columns), bias (channels,) or None; 0 <= padding < rows and columns;
    height' = height + 2 padding - rows + 1.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, weight, bias)
    if not 0 <= padding < min(weight.shape[2:]) or any(n + 2 * padding < k for n, k in zip(input.shape[2:], weight.shape[2:], strict=True)):
        raise ValueError(
            f"depthwise_conv2d: padding {padding} with input {tuple(input.shape)} and weight {tuple(weight.shape)} is out of range"
        )
    return _depthwise_conv2d(input, weight, bias, padding)


def _check(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    tensors = [input, weight] if bias is None else [input, weight, bias]
    if input.dim() != 4 or weight.dim() != 4 or weight.shape[:2] != (input.shape[1], 1):
        raise ValueError(
            f"depthwise_conv2d: input {tuple(input.shape)} does not fit weight {tuple(weight.shape)}; give (batch, c, h, w), (c, 1, kh, kw)"
        )
    if weight.shape[2] * weight.shape[3] > MOST_TAPS:
        raise ValueError(f"depthwise_conv2d: weight {tuple(weight.shape)} has more than {MOST_TAPS} taps to a channel")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"depthwise_conv2d: bias is {tuple(bias.shape)}; weight {tuple(weight.shape)} needs {tuple(weight.shape[:1])}")
    if input.dtype not in DTYPES or any(tensor.dtype != input.dtype for tensor in tensors):
        given = [tensor.dtype for tensor in tensors]
        raise ValueError(f"depthwise_conv2d: dtypes are {given}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != input.device for tensor in tensors):
        raise ValueError(f"depthwise_conv2d: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not input.is_cuda and isinstance(_depthwise_kernel, triton.JITFunction):
        raise ValueError(
            f"depthwise_conv2d: tensors are on {input.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton"
        )
