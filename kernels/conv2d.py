"""2-D convolution of stride 1:  y[n, o, p, q] = b[o] + sum over c, r, s of W[o, c, r, s] x[n, c, p + r - padding, q + s - padding].

Method   A matrix product whose left operand is never stored ("implicit GEMM": Chetlur et al., 2014, arXiv:1410.0759).  Its rows are the
         output positions (n, p, q), its inner dimension the taps (c, r, s), and x is gathered by address.
         dx    the same kernel: g convolved with W turned by 180 degrees, inputs and outputs swapped, padded by kernel size - 1 - padding.
         dW    the product of g and the gathered x along the positions, in shares of POSITIONS that torch adds up; no atomics.
         db    one more column of that product, where x is 1 throughout.
Bytes    x, W and b read and y written once, if the caches hold the overlap: each number of x is asked for once per tap that covers it.
         dW reads x and g likewise and writes one float32 share of dW for every POSITIONS positions.
Numbers  float32, bfloat16, float16; sums in float32.  float32 is multiplied in IEEE float32 on the ordinary cores.  torch's own
         convolution uses TF32 (10 bits of each factor) unless torch.backends.cudnn.allow_tf32 = False: set that to compare like with like.
Limits   Stride 1, dilation 1, one group, 0 <= padding < kernel size.  Fewer than 2^31 positions, and 2^31 numbers in an image.
         Non-contiguous inputs are copied.  Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
POSITIONS = 1024  # that one program of _grad_weight_kernel adds up


@triton.jit
def _gather(
    x_ptr,
    position,
    tap,
    mask,
    channels,
    height,
    width,
    out_height,
    out_width,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
):
    """x at (positions, taps), 0 in the padding."""
    image = (position // (out_height * out_width)).to(tl.int64)
    row = position // out_width % out_height - PAD_H
    column = position % out_width - PAD_W
    tap_row = tap // KW % KH
    tap_column = tap % KW
    if PAD_H + PAD_W > 0:
        mask &= (row[:, None] >= -tap_row[None, :]) & (row[:, None] < (height - tap_row)[None, :])
        mask &= (column[:, None] >= -tap_column[None, :]) & (column[:, None] < (width - tap_column)[None, :])
    corner = image * channels * height * width + row * width + column
    step = tap // (KH * KW) * (height * width) + tap_row * width + tap_column
    return tl.load(x_ptr + (corner[:, None] + step[None, :]), mask=mask, other=0.0)


@triton.jit
def _conv2d_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    positions,
    channels,
    height,
    width,
    out_channels,
    out_height,
    out_width,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    TURNED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_TAPS: tl.constexpr,
):
    """Grid: (blocks of positions, blocks of output channels).  TURNED: W is (in, out, rows, columns) and read turned by 180 degrees."""
    position = tl.program_id(0) * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    taps = channels * KH * KW
    total = tl.zeros((BLOCK_POSITIONS, BLOCK_OUT), dtype=tl.float32)
    for start in range(0, taps, BLOCK_TAPS):
        tap = start + tl.arange(0, BLOCK_TAPS)
        x_mask = (position < positions)[:, None] & (tap < taps)[None, :]
        x = _gather(x_ptr, position, tap, x_mask, channels, height, width, out_height, out_width, PAD_H, PAD_W, KH, KW)
        channel = (tap // (KH * KW))[:, None]
        in_plane = (tap % (KH * KW))[:, None]
        if TURNED:
            offset = (channel * out_channels + out[None, :] + 1) * (KH * KW) - 1 - in_plane
        else:
            offset = (out[None, :] * channels + channel) * (KH * KW) + in_plane
        weight = tl.load(weight_ptr + offset, mask=(tap < taps)[:, None] & (out < out_channels)[None, :], other=0.0)
        total = tl.dot(x, weight, total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias_ptr + out, mask=out < out_channels, other=0.0).to(tl.float32)[None, :]
    plane_size = out_height * out_width
    plane = (position // plane_size).to(tl.int64)[:, None] * out_channels + out[None, :]
    y_mask = (position < positions)[:, None] & (out < out_channels)[None, :]
    tl.store(y_ptr + plane * plane_size + (position % plane_size)[:, None], total.to(y_ptr.dtype.element_ty), mask=y_mask)


@triton.jit
def _grad_weight_kernel(
    grad_ptr,
    x_ptr,
    partial_ptr,
    positions,
    channels,
    height,
    width,
    out_channels,
    out_height,
    out_width,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    POSITIONS: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_TAPS: tl.constexpr,
):
    """partial[share, o, tap] of dW; the tap after the last is db.  Grid: (blocks of taps, blocks of output channels, shares)."""
    taps = channels * KH * KW
    tap = tl.program_id(0) * BLOCK_TAPS + tl.arange(0, BLOCK_TAPS)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    share = tl.program_id(2)
    plane_size = out_height * out_width
    total = tl.zeros((BLOCK_OUT, BLOCK_TAPS), dtype=tl.float32)
    first = share * POSITIONS
    for start in range(first, min(first + POSITIONS, positions), BLOCK_POSITIONS):
        position = start + tl.arange(0, BLOCK_POSITIONS)
        plane = (position // plane_size).to(tl.int64)[None, :] * out_channels + out[:, None]
        grad_mask = (out < out_channels)[:, None] & (position < positions)[None, :]
        grad = tl.load(grad_ptr + plane * plane_size + (position % plane_size)[None, :], mask=grad_mask, other=0.0)
        x_mask = (position < positions)[:, None] & (tap < taps)[None, :]
        x = _gather(x_ptr, position, tap, x_mask, channels, height, width, out_height, out_width, PAD_H, PAD_W, KH, KW)
        x = tl.where(tap[None, :] == taps, 1.0, x).to(grad.dtype)
        total = tl.dot(grad, x, total, input_precision="ieee")
    offset = (share.to(tl.int64) * out_channels + out[:, None]) * (taps + 1) + tap[None, :]
    tl.store(partial_ptr + offset, total, mask=(out < out_channels)[:, None] & (tap <= taps)[None, :])


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, padding: tuple[int, int], turned: bool) -> Tensor:
    """Fills y (batch, out, ...) from x (batch, in, ...) and weight (out, in, ...), or (in, out, ...) if turned."""
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    (batch, channels, height, width), (_, out_channels, out_height, out_width) = x.shape, y.shape
    positions = batch * out_height * out_width
    sizes = (positions, channels, height, width, out_channels, out_height, out_width, *padding, *weight.shape[2:])
    blocks = {"BLOCK_POSITIONS": 128, "BLOCK_OUT": min(64, max(16, triton.next_power_of_2(out_channels))), "BLOCK_TAPS": 32}
    grid = (triton.cdiv(positions, blocks["BLOCK_POSITIONS"]), triton.cdiv(out_channels, blocks["BLOCK_OUT"]))
    if y.numel():
        with torch.cuda.device_of(x):
            _conv2d_kernel[grid](x, weight, bias, y, *sizes, TURNED=turned, HAS_BIAS=bias is not None, **blocks, num_warps=8, num_stages=1)
    return y


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::conv2d", mutates_args=())
def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    return _convolve(x, weight, bias, _like_y(x, weight, bias, padding), (padding, padding), turned=False)


@_conv2d.register_fake
def _like_y(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    (batch, _, height, width), (out_channels, _, kh, kw) = x.shape, weight.shape
    return x.new_empty(batch, out_channels, height + 2 * padding - kh + 1, width + 2 * padding - kw + 1)


@torch.library.custom_op(f"{OPS}::conv2d_grad_input", mutates_args=())
def _grad_input(grad: Tensor, weight: Tensor, padding: int) -> Tensor:
    kh, kw = weight.shape[2:]
    return _convolve(grad, weight, None, _like_x(grad, weight, padding), (kh - 1 - padding, kw - 1 - padding), turned=True)


@_grad_input.register_fake
def _like_x(grad: Tensor, weight: Tensor, padding: int) -> Tensor:
    (batch, _, out_height, out_width), (_, channels, kh, kw) = grad.shape, weight.shape
    return grad.new_empty(batch, channels, out_height - 2 * padding + kh - 1, out_width - 2 * padding + kw - 1)


@torch.library.custom_op(f"{OPS}::conv2d_grad_weight", mutates_args=())
def _grad_weight(grad: Tensor, x: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """dW and db."""
    grad, x = grad.contiguous(), x.contiguous()
    grad_weight, grad_bias = _like_weight(grad, x, padding)
    (out_channels, channels, kh, kw), (batch, _, out_height, out_width) = grad_weight.shape, grad.shape
    positions, taps = batch * out_height * out_width, channels * kh * kw
    blocks = {"BLOCK_POSITIONS": 64, "BLOCK_OUT": min(64, max(16, triton.next_power_of_2(out_channels))), "BLOCK_TAPS": 32}
    shares = triton.cdiv(positions, POSITIONS)
    grid = (triton.cdiv(taps + 1, blocks["BLOCK_TAPS"]), triton.cdiv(out_channels, blocks["BLOCK_OUT"]), shares)
    partial = x.new_empty(shares, out_channels, taps + 1, dtype=torch.float32)
    sizes = (positions, *x.shape[1:], *grad.shape[1:], padding, padding, kh, kw)
    if partial.numel():
        with torch.cuda.device_of(x):
            _grad_weight_kernel[grid](grad, x, partial, *sizes, POSITIONS=POSITIONS, **blocks, num_warps=8, num_stages=1)
    total = partial.sum(0)
    return grad_weight.copy_(total[:, :taps].view(grad_weight.shape)), grad_bias.copy_(total[:, taps])


@_grad_weight.register_fake
def _like_weight(grad: Tensor, x: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    kh, kw = (size + 2 * padding - out_size + 1 for size, out_size in zip(x.shape[2:], grad.shape[2:], strict=True))
    return x.new_empty(grad.shape[1], x.shape[1], kh, kw), x.new_empty(grad.shape[1])


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


_conv2d.register_autograd(_backward, setup_context=_keep_inputs)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """torch.nn.functional.conv2d of stride 1:  (batch, in, height, width) -> (batch, out, height', width').

    weight is (out, in, rows, columns), bias (out,) or None; 0 <= padding < rows and columns; height' = height + 2 padding - rows + 1.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    tensors = [input, weight] if bias is None else [input, weight, bias]
    if input.dim() != 4 or weight.dim() != 4 or input.shape[1] != weight.shape[1]:
        raise ValueError(
            f"conv2d: input {tuple(input.shape)} does not fit weight {tuple(weight.shape)}; give (batch, in, h, w), (out, in, kh, kw)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"conv2d: bias is {tuple(bias.shape)}; weight {tuple(weight.shape)} needs {tuple(weight.shape[:1])}")
    if not 0 <= padding < min(weight.shape[2:]) or any(n + 2 * padding < k for n, k in zip(input.shape[2:], weight.shape[2:], strict=True)):
        raise ValueError(f"conv2d: padding {padding} with input {tuple(input.shape)} and weight {tuple(weight.shape)} is out of range")
    if input.dtype not in DTYPES or any(tensor.dtype != input.dtype for tensor in tensors):
        raise ValueError(f"conv2d: dtypes are {[tensor.dtype for tensor in tensors]}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != input.device for tensor in tensors):
        raise ValueError(f"conv2d: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not input.is_cuda and isinstance(_conv2d_kernel, triton.JITFunction):
        raise ValueError(f"conv2d: tensors are on {input.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton")
    return _conv2d(input, weight, bias, padding)
