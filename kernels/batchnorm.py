"""BatchNorm:  y = (x - m) r w + b  with  m and r = 1 / sqrt(var + eps) of each channel.   (Ioffe & Szegedy, 2015, arXiv:1502.03167)

Method   The numbers of a channel, over images and positions, are shared among programs.  Each reads its share for m and var, every lane
         by Welford's running update, the lanes and then the shares joined at the end (Chan, Golub & LeVeque, 1983), so that no large
         sums are subtracted.  A second kernel writes y.  Backward likewise: one kernel for the sums of g and g (x - m), and one that
         writes  dx = w r (g - mean(g) - x_hat mean(g x_hat)),  or  w r g  where m and r are given, as in inference.
Bytes    In training each way reads its tensors twice (forward x, backward x and g) and writes one; in inference forward reads x once.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Fewer than 2^31 - SHARE numbers to a channel, and as many planes (one channel of one image).  Planes of a few numbers leave
         most lanes idle.  A non-contiguous input is copied.  Differentiable once.  Deterministic: no atomics.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 1024  # numbers that a program works on at a time
SHARE = 4 * BLOCK  # numbers of a channel that one program sums up; more of them where there would be over SHARES shares
SHARES = 64


@triton.jit
def _statistics_kernel(x_ptr, mean_ptr, squares_ptr, channels, plane, length, share, BLOCK: tl.constexpr):
    """Mean, and sum of squared distances from it, of each share: (shares, channels).  Grid: (channels, shares)."""
    channel = tl.program_id(0)
    first = tl.program_id(1) * share
    count = min(share, length - first)
    lane = tl.arange(0, BLOCK)
    means = tl.zeros((BLOCK,), dtype=tl.float32)
    squares = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, count, BLOCK):
        mask = start + lane < count
        place = first + start + lane
        offset = ((place // plane).to(tl.int64) * channels + channel) * plane + place % plane
        away = tl.where(mask, tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32) - means, 0.0)
        step = away / (start // BLOCK + 1)
        means += step
        squares += away * (away - step)
    seen = ((count - lane + BLOCK - 1) // BLOCK).to(tl.float32)
    mean = tl.sum(seen * means, axis=0) / count
    squares += seen * (means - mean) * (means - mean)
    tl.store(mean_ptr + tl.program_id(1) * channels + channel, mean)
    tl.store(squares_ptr + tl.program_id(1) * channels + channel, tl.sum(squares, axis=0))


@triton.jit
def _sums_kernel(grad_ptr, x_ptr, mean_ptr, sums_ptr, channels, plane, length, share, BLOCK: tl.constexpr):
    """Sums of g and of g (x - m) of each share: (shares, channels, 2).  Grid: (channels, shares)."""
    channel = tl.program_id(0)
    first = tl.program_id(1) * share
    count = min(share, length - first)
    mean = tl.load(mean_ptr + channel)
    lane = tl.arange(0, BLOCK)
    level = tl.zeros((BLOCK,), dtype=tl.float32)
    along = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, count, BLOCK):
        mask = start + lane < count
        place = first + start + lane
        offset = ((place // plane).to(tl.int64) * channels + channel) * plane + place % plane
        grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)  # 0 beyond the share, so that x does not count there
        level += grad
        along += grad * (tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32) - mean)
    sums_ptr += 2 * (tl.program_id(1) * channels + channel)
    tl.store(sums_ptr, tl.sum(level, axis=0))
    tl.store(sums_ptr + 1, tl.sum(along, axis=0))


@triton.jit
def _apply_kernel(
    u_ptr, x_ptr, level_ptr, mean_ptr, scale_ptr, slope_ptr, shift_ptr, out_ptr, channels, plane, HAS_X: tl.constexpr, BLOCK: tl.constexpr
):
    """scale (u - level) + slope (x - mean) + shift, by channel; the second if HAS_X.  Grid: a program per BLOCK numbers of a plane."""
    blocks = tl.cdiv(plane, BLOCK)
    program = (tl.program_id(0) // blocks).to(tl.int64)
    channel = program % channels
    position = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = position < plane
    offset = program * plane + position
    out = tl.load(u_ptr + offset, mask=mask, other=0.0).to(tl.float32) - tl.load(level_ptr + channel)
    out = out * tl.load(scale_ptr + channel) + tl.load(shift_ptr + channel)
    if HAS_X:
        x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        out += tl.load(slope_ptr + channel) * (x - tl.load(mean_ptr + channel))
    tl.store(out_ptr + offset, out.to(out_ptr.dtype.element_ty), mask=mask)


def _apply(u: Tensor, level: Tensor, scale: Tensor, shift: Tensor, x: Tensor | None = None, mean=None, slope=None) -> Tensor:
    images, channels, plane = u.shape
    out = torch.empty_like(u)
    block = min(BLOCK, max(32, triton.next_power_of_2(plane)))
    grid = (images * channels * triton.cdiv(plane, block),)
    flags = {"HAS_X": x is not None, "BLOCK": block, "num_warps": max(1, block // 256)}
    _apply_kernel[grid](u, x, level, mean, scale, slope, shift, out, channels, plane, **flags)
    return out


def _shares(length: int) -> tuple[int, int]:
    """How many shares of how many numbers a channel of `length` numbers has."""
    share = max(SHARE, triton.cdiv(triton.cdiv(length, SHARES), BLOCK) * BLOCK)
    return triton.cdiv(length, share), share


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (channels,) of x (images, channels, positions)."""
    images, channels, plane = x.shape
    length = images * plane
    shares, share = _shares(length)
    means, squares = x.new_empty(2, shares, channels, dtype=torch.float32)
    _statistics_kernel[(channels, shares)](x, means, squares, channels, plane, length, share, BLOCK=BLOCK, num_warps=4)
    counts = (length - share * torch.arange(shares, device=x.device)).clamp(max=share).unsqueeze(1)
    mean = (means * counts).sum(0) / length
    return mean, (squares + counts * (means - mean).square()).sum(0) / length


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::batch_norm", mutates_args=())
def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, var: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(images, channels, positions) -> y, and float32 m and var of the channels, made here or as given."""
    x = x.contiguous()
    if not x.numel():
        return torch.empty_like(x), *(x.new_zeros(x.shape[1], dtype=torch.float32) for _ in range(2))
    with torch.cuda.device_of(x):
        mean, var = _statistics(x) if mean is None else (mean.float().clone(), var.float().clone())
        rstd = (var + eps).rsqrt()
        scale = rstd if weight is None else rstd * weight
        shift = torch.zeros_like(mean) if bias is None else bias.float().contiguous()
        return _apply(x, mean, scale, shift), mean, var


@_batch_norm.register_fake
def _(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, var: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), *(x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))


@torch.library.custom_op(f"{OPS}::batch_norm_backward", mutates_args=())
def _batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float, given: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """dx (images, channels, positions), dw and db (channels,); given says that m and var do not depend on x.

    dw and db are float32: autograd rounds them to the type of w and b, which need not be that of x.
    """
    grad, x = grad.contiguous(), x.contiguous()
    images, channels, plane = x.shape
    if not x.numel():
        return torch.empty_like(x), torch.zeros_like(mean), torch.zeros_like(mean)
    length = images * plane
    shares, share = _shares(length)
    sums = mean.new_empty(shares, channels, 2)
    rstd = (var + eps).rsqrt()
    scale, zero = rstd if weight is None else rstd * weight, torch.zeros_like(mean)
    with torch.cuda.device_of(x):
        _sums_kernel[(channels, shares)](grad, x, mean, sums, channels, plane, length, share, BLOCK=BLOCK, num_warps=4)
        level, along = sums.sum(0).unbind(1)
        if given:
            grad_x = _apply(grad, zero, scale, zero)
        else:
            grad_x = _apply(grad, level / length, scale, zero, x, mean, -scale * along * rstd.square() / length)
    return grad_x, along * rstd, level.clone()  # an op's results share no memory


@_batch_norm_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float, given: bool) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), mean.new_empty(mean.shape), mean.new_empty(mean.shape)


def _keep_inputs(ctx, inputs, output) -> None:
    x, weight, bias, mean, _, ctx.eps = inputs
    ctx.dtypes, ctx.given = [None if tensor is None else tensor.dtype for tensor in (weight, bias)], mean is not None
    ctx.save_for_backward(x, weight, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    grad_x, *sums = _batch_norm_backward(grad, *ctx.saved_tensors, ctx.eps, ctx.given)
    affine = (None if dtype is None else each.to(dtype) for each, dtype in zip(sums, ctx.dtypes, strict=True))
    return grad_x, *affine, None, None, None


_batch_norm.register_autograd(_backward, setup_context=_keep_inputs)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.batch_norm for input (images, channels, ...); the other tensors are (channels,) or None.

    In training the running statistics, where given, are changed in place: each becomes (1 - momentum) old + momentum new, the new
    variance the unbiased one.  An empty batch leaves them as they are.
    Raises ValueError where shapes, dtypes or devices do not fit, for one number to a channel in training (as torch does), or where the
    tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, training, {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias})
    flat = input.reshape(*input.shape[:2], math.prod(input.shape[2:]))
    given = (None, None) if training else (running_mean, running_var)
    y, mean, var = _batch_norm(flat, weight, bias, *given, eps)
    if training and running_mean is not None and input.numel():
        length = input.numel() // input.shape[1]
        with torch.no_grad():
            for running, new in ((running_mean, mean), (running_var, var * (length / (length - 1)))):
                running.copy_(running.float().lerp_(new, momentum))
    return y.view(input.shape)


def _check(input: Tensor, training: bool, by_channel: dict[str, Tensor | None]) -> None:
    if input.dim() < 2 or not input.shape[1]:
        raise ValueError(f"batch_norm: input is {tuple(input.shape)}; give (images, channels, ...)")
    if training and input.numel() == input.shape[1]:
        raise ValueError(f"batch_norm: Expected more than 1 value per channel when training, got input size {input.shape}")
    without = [by_channel[name] is None for name in ("running_mean", "running_var")]
    if without not in ([False, False], [True, True] if training else [False, False]):
        raise ValueError("batch_norm: give running_mean and running_var, or in training neither")
    if input.dtype not in DTYPES:
        raise ValueError(f"batch_norm: input is {input.dtype}; give float32, bfloat16 or float16")
    for name, tensor in by_channel.items():
        if tensor is not None and (tensor.shape != input.shape[1:2] or tensor.device != input.device):
            found = f"{tuple(tensor.shape)} on {tensor.device}"
            raise ValueError(f"batch_norm: {name} is {found}; input {tuple(input.shape)} on {input.device} needs {tuple(input.shape[1:2])}")
    if not input.is_cuda and isinstance(_apply_kernel, triton.JITFunction):
        raise ValueError(f"batch_norm: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
