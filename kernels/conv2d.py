"""2-D convolution of any stride S, and its transpose.  A kernel W[o, c, r, s] joins a coarse image, of channels o, to a fine one, of c:

coarse[n, o, p, q] = b[o] + sum of W[o, c, r, s] fine[n, c, i, j]     the convolution,
fine[n, c, i, j]   = b[c] + sum of W[o, c, r, s] coarse[n, o, p, q]   the transposed convolution,

both over all pairs of places with S p + r - padding = i and S q + s - padding = j.  Each is the other's input gradient.

Method   Matrix products whose gathered operand is never stored ("implicit GEMM": Chetlur et al., 2014, arXiv:1410.0759).
         coarse  its rows are the coarse positions (n, p, q), its inner dimension the taps (c, r, s), and fine is gathered by address.
         fine    rows i, i + S, i + 2 S, ... meet the same taps, one in S: each of the S x S phases of the fine image is a product of its
                 own, and nothing is multiplied by the zeros of a spread-out coarse image.
         dW      the product of coarse and the gathered fine along the positions, in shares that torch adds up; no atomics.
         db      of the convolution: one more column of that product, where fine is 1 throughout.  Of the transposed one: torch's sum.
Bytes    Operands read and the result written once, if the caches hold the overlap: each number is asked for once per tap that covers it.
         dW reads both images likewise, and writes its shares in float32: one to 1024 positions or more, and at most PROGRAMS tiles of
         dW in all, 8 MB, or all of dW once.
         A phase writes every S-th number of a row.
Numbers  float32, bfloat16, float16; sums in float32.  float32 is multiplied in IEEE float32 on the ordinary cores.  torch's own
         convolution uses TF32 (10 bits of each factor) unless torch.backends.cudnn.allow_tf32 = False: set that to compare like with like.
Limits   One stride and one padding for rows and columns, dilation 1, one group, no output padding, 0 <= padding < kernel size.  Fewer than
         2^31 - 2^17 positions, and 2^31 numbers in an image and in W.  Non-contiguous inputs are copied.  Differentiable once.
         Deterministic.
"""

import torch
import triton
from torch import Tensor

from .conv2d_tiles import conv2d_kernel, conv_transpose2d_kernel, grad_weight_kernel

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
POSITIONS = 1024  # that one program of grad_weight_kernel adds up; more of them where there would be over PROGRAMS programs
PROGRAMS = 1024  # about eight for each processor of a large GPU

OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


def _blocks(out_channels: int) -> dict[str, int]:
    return {"BLOCK_OUT": min(64, max(16, triton.next_power_of_2(out_channels))), "BLOCK_TAPS": 32}


@torch.library.custom_op(f"{OPS}::conv2d", mutates_args=())
def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    y = _like_y(x, weight, bias, stride, padding)
    batch, out_channels, out_height, out_width = y.shape
    positions, tile = batch * out_height * out_width, _blocks(out_channels) | {"BLOCK_POSITIONS": 128}
    grid = (triton.cdiv(positions, tile["BLOCK_POSITIONS"]), triton.cdiv(out_channels, tile["BLOCK_OUT"]))
    sizes = (positions, *x.shape[1:], *y.shape[1:], stride, padding, *weight.shape[2:])
    if y.numel():
        with torch.cuda.device_of(x):
            conv2d_kernel[grid](x, weight, bias, y, *sizes, HAS_BIAS=bias is not None, **tile, num_warps=8, num_stages=1)
    return y


@_conv2d.register_fake
def _like_y(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    height, width = ((size + 2 * padding - taps) // stride + 1 for size, taps in zip(x.shape[2:], weight.shape[2:], strict=True))
    return x.new_empty(x.shape[0], weight.shape[0], height, width)


@torch.library.custom_op(f"{OPS}::conv2d_grad_weight", mutates_args=())
def _grad_weight(grad: Tensor, x: Tensor, kh: int, kw: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """dW and db."""
    grad, x = grad.contiguous(), x.contiguous()
    grad_weight, grad_bias = _like_weight(grad, x, kh, kw, stride, padding)
    batch, out_channels, out_height, out_width = grad.shape
    positions, taps = batch * out_height * out_width, x.shape[1] * kh * kw
    tile = _blocks(out_channels) | {"BLOCK_POSITIONS": 64}
    tiles = (triton.cdiv(taps + 1, tile["BLOCK_TAPS"]), triton.cdiv(out_channels, tile["BLOCK_OUT"]))
    most = max(1, PROGRAMS // max(1, tiles[0] * tiles[1]))
    share = triton.cdiv(max(POSITIONS, triton.cdiv(positions, most)), tile["BLOCK_POSITIONS"]) * tile["BLOCK_POSITIONS"]
    shares = triton.cdiv(positions, share)
    partial = x.new_empty(shares, out_channels, taps + 1, dtype=torch.float32)
    sizes = (positions, *x.shape[1:], *grad.shape[1:], stride, padding, kh, kw)
    if partial.numel():
        with torch.cuda.device_of(x):
            grad_weight_kernel[(*tiles, shares)](grad, x, partial, share, *sizes, **tile, num_warps=8, num_stages=1)
    total = partial.sum(0)
    return grad_weight.copy_(total[:, :taps].view(grad_weight.shape)), grad_bias.copy_(total[:, taps])


@_grad_weight.register_fake
def _like_weight(grad: Tensor, x: Tensor, kh: int, kw: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(grad.shape[1], x.shape[1], kh, kw), x.new_empty(grad.shape[1])


@torch.library.custom_op(f"{OPS}::conv_transpose2d", mutates_args=())
def _conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, height: int, width: int) -> Tensor:
    """y (batch, out, height, width); rows and columns that no tap reaches are the bias."""
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    y = _like_fine(x, weight, bias, stride, padding, height, width)
    batch, out_channels = y.shape[:2]
    positions = batch * triton.cdiv(height, stride) * triton.cdiv(width, stride)
    tile = _blocks(out_channels) | {"BLOCK_POSITIONS": 128}
    grid = (triton.cdiv(positions, tile["BLOCK_POSITIONS"]), triton.cdiv(out_channels, tile["BLOCK_OUT"]), stride * stride)
    sizes = (positions, *x.shape[1:], *y.shape[1:], stride, padding, *weight.shape[2:])
    if y.numel():
        with torch.cuda.device_of(x):
            conv_transpose2d_kernel[grid](x, weight, bias, y, *sizes, HAS_BIAS=bias is not None, **tile, num_warps=8, num_stages=1)
    return y


@_conv_transpose2d.register_fake
def _like_fine(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, height: int, width: int) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1], height, width)


def _keep_fine(ctx, inputs, output) -> None:
    x, weight, _, ctx.stride, ctx.padding = inputs
    wants_x, *wants_parameters = ctx.needs_input_grad[:3]
    ctx.plane, ctx.kernel = x.shape[2:], weight.shape[2:]
    ctx.save_for_backward(x if any(wants_parameters) else None, weight if wants_x else None)


def _conv2d_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x = None if weight is None else _conv_transpose2d(grad, weight, None, ctx.stride, ctx.padding, *ctx.plane)
    grad_weight, grad_bias = (None, None) if x is None else _grad_weight(grad, x, *ctx.kernel, ctx.stride, ctx.padding)
    _, _, wants_bias = ctx.needs_input_grad[:3]
    return grad_x, grad_weight, grad_bias if wants_bias else None, None, None


_conv2d.register_autograd(_conv2d_backward, setup_context=_keep_fine)


def _keep_coarse(ctx, inputs, output) -> None:
    x, weight, _, ctx.stride, ctx.padding, *_ = inputs
    wants_x, wants_weight = ctx.needs_input_grad[:2]
    ctx.kernel = weight.shape[2:]
    ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)


def _conv_transpose2d_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x = None if weight is None else _conv2d(grad, weight, None, ctx.stride, ctx.padding)
    grad_weight = None if x is None else _grad_weight(x, grad, *ctx.kernel, ctx.stride, ctx.padding)[0]
    _, _, wants_bias = ctx.needs_input_grad[:3]
    return grad_x, grad_weight, grad.sum((0, 2, 3)) if wants_bias else None, None, None, None, None


_conv_transpose2d.register_autograd(_conv_transpose2d_backward, setup_context=_keep_coarse)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """torch.nn.functional.conv2d of any stride:  (batch, in, height, width) -> (batch, out, height', width').

    weight is (out, in, rows, columns), bias (out,) or None; 0 <= padding < rows and columns;
    height' = (height + 2 padding - rows) // stride + 1.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    if input.dim() != 4 or weight.dim() != 4 or input.shape[1] != weight.shape[1]:
        raise ValueError(
            f"conv2d: input {tuple(input.shape)} does not fit weight {tuple(weight.shape)}; give (batch, in, h, w), (out, in, kh, kw)"
        )
    too_small = any(n + 2 * padding < k for n, k in zip(input.shape[2:], weight.shape[2:], strict=True))
    if stride < 1 or not 0 <= padding < min(weight.shape[2:]) or too_small:
        given = f"stride {stride}, padding {padding} with input {tuple(input.shape)} and weight {tuple(weight.shape)}"
        raise ValueError(f"conv2d: {given} is out of range")
    _check("conv2d", input, weight, bias, weight.shape[0])
    return _conv2d(input, weight, bias, stride, padding)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """torch.nn.functional.conv_transpose2d:  (batch, in, height, width) -> (batch, out, height', width').

    weight is (in, out, rows, columns), bias (out,) or None; 0 <= padding < rows and columns;
    height' = (height - 1) stride - 2 padding + rows, at least 1.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    if input.dim() != 4 or weight.dim() != 4 or input.shape[1] != weight.shape[0]:
        given = f"input {tuple(input.shape)} does not fit weight {tuple(weight.shape)}"
        raise ValueError(f"conv_transpose2d: {given}; give (batch, in, h, w), (in, out, kh, kw)")
    height, width = ((size - 1) * stride - 2 * padding + taps for size, taps in zip(input.shape[2:], weight.shape[2:], strict=True))
    if stride < 1 or not 0 <= padding < min(weight.shape[2:]) or min(height, width, *input.shape[2:]) < 1:
        given = f"stride {stride}, padding {padding} with input {tuple(input.shape)} and weight {tuple(weight.shape)}"
        raise ValueError(f"conv_transpose2d: {given} is out of range")
    _check("conv_transpose2d", input, weight, bias, weight.shape[1])
    return _conv_transpose2d(input, weight, bias, stride, padding, height, width)


def _check(name: str, input: Tensor, weight: Tensor, bias: Tensor | None, out_channels: int) -> None:
    """What the convolution and its transpose ask of their tensors alike.  Raises ValueError."""
    tensors = [input, weight] if bias is None else [input, weight, bias]
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"{name}: bias is {tuple(bias.shape)}; weight {tuple(weight.shape)} needs {(out_channels,)}")
    if input.dtype not in DTYPES or any(tensor.dtype != input.dtype for tensor in tensors):
        raise ValueError(f"{name}: dtypes are {[tensor.dtype for tensor in tensors]}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != input.device for tensor in tensors):
        raise ValueError(f"{name}: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not input.is_cuda and isinstance(conv2d_kernel, triton.JITFunction):
        raise ValueError(f"{name}: tensors are on {input.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton")
