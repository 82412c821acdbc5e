"""GroupNorm:  y = (x - m) r w + b  with  m and r = 1 / sqrt(var + eps) of each group of channels.   (Wu & He, 2018, arXiv:1803.08494)

Method   A group's numbers lie together.  One program reads a group in blocks for m and var, each lane by Welford's running update, and the
         lanes joined at the end (Chan, Golub & LeVeque, 1983), so that no large sums are subtracted; then it reads the group again to
         write y.  Backward:  dx = r (g w - mean(g w) - x_hat mean(g w x_hat)),  x_hat = r (x - m).  A kernel sums g and g x_hat over each
         plane (one channel of one image); torch makes of these the means over the groups, dw and db; another kernel writes dx.
Bytes    Forward reads x twice, the second time from the caches where a group fits, and writes y.  Backward reads x and g twice and
         writes dx.  What there is per plane and group is small beside them.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Fewer than 2^31 planes, and groups of fewer than 2^31 - BLOCK numbers.  A non-contiguous input is copied.  Differentiable once.
         Deterministic: no atomics.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 1024  # numbers that a program works on at a time


@triton.jit
def _forward_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    mean_ptr,
    rstd_ptr,
    groups,
    channels,
    plane,
    eps,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid: one program per group of an image, of `channels` planes each."""
    program = tl.program_id(0).to(tl.int64)
    length = channels * plane
    x_ptr += program * length
    y_ptr += program * length
    lane = tl.arange(0, BLOCK)
    means = tl.zeros((BLOCK,), dtype=tl.float32)
    squares = tl.zeros((BLOCK,), dtype=tl.float32)  # of the distances from the lane's mean
    for start in range(0, length, BLOCK):
        mask = start + lane < length
        away = tl.load(x_ptr + start + lane, mask=mask, other=0.0).to(tl.float32) - means
        away = tl.where(mask, away, 0.0)
        step = away / (start // BLOCK + 1)
        means += step
        squares += away * (away - step)
    seen = ((length - lane + BLOCK - 1) // BLOCK).to(tl.float32)
    mean = tl.sum(seen * means, axis=0) / length
    variance = tl.sum(squares + seen * (means - mean) * (means - mean), axis=0) / length
    rstd = tl.rsqrt(variance + eps)
    tl.store(mean_ptr + program, mean)
    tl.store(rstd_ptr + program, rstd)
    first = (program % groups * channels).to(tl.int32)
    for start in range(0, length, BLOCK):
        mask = start + lane < length
        y = (tl.load(x_ptr + start + lane, mask=mask, other=0.0).to(tl.float32) - mean) * rstd
        channel = first + (start + lane) // plane
        if HAS_WEIGHT:
            y *= tl.load(weight_ptr + channel, mask=mask, other=0.0).to(tl.float32)
        if HAS_BIAS:
            y += tl.load(bias_ptr + channel, mask=mask, other=0.0).to(tl.float32)
        tl.store(y_ptr + start + lane, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _sums_kernel(grad_ptr, x_ptr, mean_ptr, rstd_ptr, sums_ptr, channels, plane, BLOCK: tl.constexpr):
    """Sums of g and of g x_hat, (planes, 2).  Grid: one program per plane; a group has `channels` of them."""
    program = tl.program_id(0).to(tl.int64)
    mean = tl.load(mean_ptr + program // channels)
    rstd = tl.load(rstd_ptr + program // channels)
    lane = tl.arange(0, BLOCK)
    level = tl.zeros((BLOCK,), dtype=tl.float32)
    along = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, plane, BLOCK):
        mask = start + lane < plane
        offset = program * plane + start + lane
        grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)  # 0 beyond the plane, so that x_hat does not count there
        level += grad
        along += grad * ((tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32) - mean) * rstd)
    tl.store(sums_ptr + 2 * program, tl.sum(level, axis=0))
    tl.store(sums_ptr + 2 * program + 1, tl.sum(along, axis=0))


@triton.jit
def _backward_kernel(grad_ptr, x_ptr, mean_ptr, rstd_ptr, scale_ptr, means_ptr, grad_x_ptr, channels, plane, planes, BLOCK: tl.constexpr):
    """dx = r (g w - means[0] - x_hat means[1]), with w by plane of an image.  Grid: one program per BLOCK numbers of a plane."""
    blocks = tl.cdiv(plane, BLOCK)
    program = (tl.program_id(0) // blocks).to(tl.int64)
    group = program // channels
    mean = tl.load(mean_ptr + group)
    rstd = tl.load(rstd_ptr + group)
    level = tl.load(means_ptr + 2 * group)
    along = tl.load(means_ptr + 2 * group + 1)
    scale = tl.load(scale_ptr + program % planes)
    position = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = position < plane
    offset = program * plane + position
    x_hat = (tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32) - mean) * rstd
    grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    grad_x = (grad * scale - level - x_hat * along) * rstd
    tl.store(grad_x_ptr + offset, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)


def _block(length: int) -> dict[str, int]:
    block = min(BLOCK, max(32, triton.next_power_of_2(length)))
    return {"BLOCK": block, "num_warps": max(1, block // 256)}


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::group_norm", mutates_args=())
def _group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(images, channels, positions) -> y and the float32 m and r of each group, (images, groups)."""
    x = x.contiguous()
    weight, bias = (None if tensor is None else tensor.contiguous() for tensor in (weight, bias))
    y, mean, rstd = _like_y(x, groups, weight, bias, eps)
    channels = x.shape[1] // groups
    if x.numel():
        flags = {"HAS_WEIGHT": weight is not None, "HAS_BIAS": bias is not None}
        block = _block(channels * x.shape[2])
        with torch.cuda.device_of(x):
            _forward_kernel[(len(x) * groups,)](x, weight, bias, y, mean, rstd, groups, channels, x.shape[2], eps, **flags, **block)
    return y, mean, rstd


@_group_norm.register_fake
def _like_y(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean, rstd = (x.new_empty(x.shape[0], groups, dtype=torch.float32) for _ in range(2))
    return x.new_empty(x.shape), mean, rstd


@torch.library.custom_op(f"{OPS}::group_norm_backward", mutates_args=())
def _group_norm_backward(grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dx (images, channels, positions), dw and db (channels,)."""
    grad, x = grad.contiguous(), x.contiguous()
    images, planes, plane = x.shape
    groups = mean.shape[1]
    channels = planes // groups
    scale = mean.new_ones(planes) if weight is None else weight.float().contiguous()
    grad_x, sums = torch.empty_like(x), mean.new_zeros(images, planes, 2)
    if x.numel():
        block = _block(plane)
        with torch.cuda.device_of(x):
            _sums_kernel[(images * planes,)](grad, x, mean, rstd, sums, channels, plane, **block)
            means = (sums * scale[:, None]).view(images, groups, channels, 2).sum(2) / (channels * plane)
            grid = (images * planes * triton.cdiv(plane, block["BLOCK"]),)
            _backward_kernel[grid](grad, x, mean, rstd, scale, means, grad_x, channels, plane, planes, **block)
    grad_bias, grad_weight = sums.sum(0).to(x.dtype).unbind(1)
    return grad_x, grad_weight.clone(), grad_bias.clone()  # an op's results share no memory


@_group_norm_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _keep_inputs(ctx, inputs, output) -> None:
    x, _, weight, bias, _ = inputs
    ctx.affine = weight is not None, bias is not None
    ctx.save_for_backward(x, weight, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    has_weight, has_bias = ctx.affine
    grad_x, grad_weight, grad_bias = _group_norm_backward(grad, *ctx.saved_tensors)
    return grad_x, None, grad_weight if has_weight else None, grad_bias if has_bias else None, None


_group_norm.register_autograd(_backward, setup_context=_keep_inputs)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """torch.nn.functional.group_norm for input (images, channels, ...); weight and bias are (channels,) or None.

    Raises ValueError where shapes, dtypes or devices do not fit, for one number in all to a group (as torch does), or where the tensors
    are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, num_groups, {"weight": weight, "bias": bias})
    flat = input.reshape(*input.shape[:2], math.prod(input.shape[2:]))
    y, _, _ = _group_norm(flat, num_groups, weight, bias, eps)
    return y.view(input.shape)


def _check(input: Tensor, groups: int, affine: dict[str, Tensor | None]) -> None:
    if input.dim() < 2 or groups < 1 or input.shape[1] % groups or not input.shape[1]:
        raise ValueError(f"group_norm: input {tuple(input.shape)} in {groups} groups; give (images, channels, ...), a multiple of groups")
    if input.shape[0] == 1 and input.numel() == groups:
        raise ValueError(f"group_norm: Expected more than 1 value per channel when training, got input size {list(input.shape)}")
    if input.dtype not in DTYPES:
        raise ValueError(f"group_norm: input is {input.dtype}; give float32, bfloat16 or float16")
    for name, tensor in affine.items():
        if tensor is not None and tensor.shape != input.shape[1:2]:
            raise ValueError(f"group_norm: {name} is {tuple(tensor.shape)}; input {tuple(input.shape)} needs {tuple(input.shape[1:2])}")
        if tensor is not None and (tensor.dtype, tensor.device) != (input.dtype, input.device):
            raise ValueError(f"group_norm: {name} is {tensor.dtype} on {tensor.device}; input is {input.dtype} on {input.device}")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"group_norm: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
