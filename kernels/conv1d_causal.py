"""Causal depthwise 1-D convolution:  y[n, c, t] = b[c] + sum over j of W[c, j] x[n, c, t - (K - 1) + j],  x being 0 before its start.

Method   One program for a block of tokens of one sequence and channel; its K taps are scalars, and the loop over them is unrolled.
         dx    the same kernel with W and time turned round.
         dW    one program per sequence and channel holds a tile of (taps, tokens) and adds up its row; torch adds the batch.  No atomics.
         db    one more tap of that tile, where x is 1 throughout.
Bytes    x, W and b read and y written once: the overlap of the taps comes from the caches.
         dW reads x and g likewise and writes K + 1 float32 numbers per sequence and channel.
Numbers  float32, bfloat16, float16; sums in float32.
Limits   At most MOST_TAPS taps.  Fewer than 2^30 tokens, 2^31 sequences times channels.  Non-contiguous inputs are copied.
         Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_TAPS = 63  # with db a tile of 64, and the code of an unrolled loop


@triton.jit
def _causal_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    channels,
    tokens,
    TAPS: tl.constexpr,
    TURNED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid: a program per BLOCK tokens of a sequence and channel.  TURNED: tap j reads K - 1 - j tokens ahead instead of back."""
    blocks = tl.cdiv(tokens, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    channel = row % channels
    token = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    if HAS_BIAS:
        total += tl.load(bias_ptr + channel).to(tl.float32)
    for tap in tl.static_range(TAPS):
        source = token + (TAPS - 1 - tap) if TURNED else token - (TAPS - 1 - tap)
        x = tl.load(x_ptr + row * tokens + source, mask=(source >= 0) & (source < tokens), other=0.0)
        total += x.to(tl.float32) * tl.load(weight_ptr + channel * TAPS + tap).to(tl.float32)
    tl.store(y_ptr + row * tokens + token, total.to(y_ptr.dtype.element_ty), mask=token < tokens)


@triton.jit
def _grad_weight_kernel(grad_ptr, x_ptr, partial_ptr, tokens, TAPS: tl.constexpr, BLOCK_TAPS: tl.constexpr, BLOCK: tl.constexpr):
    """partial[row, tap] of dW; the tap after the last is db.  Grid: one program per sequence and channel."""
    row = tl.program_id(0).to(tl.int64)
    tap = tl.arange(0, BLOCK_TAPS)
    total = tl.zeros((BLOCK_TAPS, BLOCK), dtype=tl.float32)
    for start in range(0, tokens, BLOCK):
        token = start + tl.arange(0, BLOCK)
        grad = tl.load(grad_ptr + row * tokens + token, mask=token < tokens, other=0.0).to(tl.float32)
        source = token[None, :] - (TAPS - 1) + tap[:, None]
        mask = (token < tokens)[None, :] & (tap < TAPS)[:, None] & (source >= 0)  # no tap looks ahead
        x = tl.load(x_ptr + row * tokens + source, mask=mask, other=0.0).to(tl.float32)
        total += tl.where(tap[:, None] == TAPS, 1.0, x) * grad[None, :]
    tl.store(partial_ptr + row * (TAPS + 1) + tap, tl.sum(total, axis=1), mask=tap <= TAPS)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, turned: bool) -> Tensor:
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    y = torch.empty_like(x)
    batch, channels, tokens = x.shape
    block = min(1024, max(128, triton.next_power_of_2(tokens)))
    if y.numel():
        with torch.cuda.device_of(x):
            grid = (batch * channels * triton.cdiv(tokens, block),)
            taps = {"TAPS": weight.shape[2], "TURNED": turned, "HAS_BIAS": bias is not None}
            _causal_kernel[grid](x, weight, bias, y, channels, tokens, **taps, BLOCK=block, num_warps=max(1, block // 256))
    return y


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::causal_conv1d", mutates_args=())
def _causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _convolve(x, weight, bias, turned=False)


@_causal_conv1d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op(f"{OPS}::causal_conv1d_grad_input", mutates_args=())
def _grad_input(grad: Tensor, weight: Tensor) -> Tensor:
    return _convolve(grad, weight, None, turned=True)


@_grad_input.register_fake
def _(grad: Tensor, weight: Tensor) -> Tensor:
    return grad.new_empty(grad.shape)


@torch.library.custom_op(f"{OPS}::causal_conv1d_grad_weight", mutates_args=())
def _grad_weight(grad: Tensor, x: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """dW (channels, 1, taps) and db (channels,)."""
    grad, x = grad.contiguous(), x.contiguous()
    batch, channels, tokens = x.shape
    block_taps = triton.next_power_of_2(taps + 1)
    blocks = {"BLOCK_TAPS": block_taps, "BLOCK": min(256, 2048 // block_taps)}
    partial = x.new_empty(batch, channels, taps + 1, dtype=torch.float32)
    if partial.numel():
        with torch.cuda.device_of(x):
            _grad_weight_kernel[(batch * channels,)](grad, x, partial, tokens, TAPS=taps, **blocks, num_warps=4)
    grad_weight, grad_bias = _like_weight(grad, x, taps)
    total = partial.sum(0)
    return grad_weight.copy_(total[:, None, :taps]), grad_bias.copy_(total[:, taps])


@_grad_weight.register_fake
def _like_weight(grad: Tensor, x: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[1], 1, taps), x.new_empty(x.shape[1])


def _keep_inputs(ctx, inputs, output) -> None:
    x, weight, _ = inputs
    wants_x, *wants_parameters = ctx.needs_input_grad
    ctx.taps = weight.shape[2]
    ctx.save_for_backward(x if any(wants_parameters) else None, weight if wants_x else None)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x = None if weight is None else _grad_input(grad, weight)
    grad_weight, grad_bias = (None, None) if x is None else _grad_weight(grad, x, ctx.taps)
    _, _, wants_bias = ctx.needs_input_grad
    return grad_x, grad_weight, grad_bias if wants_bias else None


_causal_conv1d.register_autograd(_backward, setup_context=_keep_inputs)


def causal_conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch.nn.functional.conv1d with groups = channels, of input with K - 1 zeros before it:  (batch, channels, tokens) -> the same.

    weight is (channels, 1, K), bias (channels,) or None.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    tensors = [input, weight] if bias is None else [input, weight, bias]
    if input.dim() != 3 or weight.dim() != 3 or weight.shape[:2] != (input.shape[1], 1):
        raise ValueError(
            f"causal_conv1d: input {tuple(input.shape)} does not fit weight {tuple(weight.shape)}; give (batch, c, tokens), (c, 1, taps)"
        )
    if not 1 <= weight.shape[2] <= MOST_TAPS:
        raise ValueError(f"causal_conv1d: weight {tuple(weight.shape)} has {weight.shape[2]} taps; this kernel takes 1 to {MOST_TAPS}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"causal_conv1d: bias is {tuple(bias.shape)}; weight {tuple(weight.shape)} needs {tuple(weight.shape[:1])}")
    if input.dtype not in DTYPES or any(tensor.dtype != input.dtype for tensor in tensors):
        raise ValueError(f"causal_conv1d: dtypes are {[tensor.dtype for tensor in tensors]}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != input.device for tensor in tensors):
        raise ValueError(f"causal_conv1d: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not input.is_cuda and isinstance(_causal_kernel, triton.JITFunction):
        raise ValueError(
            f"causal_conv1d: tensors are on {input.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton"
        )
    return _causal_conv1d(input, weight, bias)
