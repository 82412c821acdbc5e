"""BatchNorm of images:  y = (x - mean) / sqrt(var + eps) * weight + bias,  by channel.   (Ioffe & Szegedy, 2015, arXiv:1502.03167)

In training mean and var are those of the batch, over images and positions: n numbers to a channel.  They are then mixed into the running
ones, running <- (1 - momentum) running + momentum new,  the variance as var n / (n - 1), without bias; y is made with var as it is.
momentum None stands for 1 / (number of batches so far), the plain average.  In inference mean and var are the running ones.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from ._blocks import blocks


class BatchNormFunction(torch.autograd.Function):
    """With m and r = 1 / sqrt(var + eps) of a channel, and x_hat = r (x - m):  dL/dw = sum of g x_hat,  dL/db = sum of g.
    In training m and r depend on x:  dL/dx = w r (g - mean(g) - x_hat mean(g x_hat)).   In inference they do not:  dL/dx = w r g.

    Saves x, w, m and r; in inference the running statistics for m and r, and x only if w wants a gradient.
    Forward is torch's own kernel, which returns m and r and changes the running statistics.
    Half types are computed in float32; only m and r are kept in the half type on a CPU, as stock keeps them.
    On a CPU, backward goes twice by blocks of images, for the sums and for dL/dx, each time with temporaries that stay in the caches;
    even so it takes two to four times as long as stock's fused kernels (docs/layers.md).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None],
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        if x.numel():
            y, mean, rstd = torch.native_batch_norm(x, weight, bias, *running, training, momentum, eps)
        else:
            y, mean, rstd = torch.empty_like(x), x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
        ctx.training, ctx.eps = training, eps
        if training:
            ctx.save_for_backward(x, weight, mean, rstd)
        else:
            ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight, *running)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        mean, rstd = (each.to(_wide(grad)).view(1, -1, 1) for each in (mean, rstd))
        if not ctx.training:
            rstd = (rstd + ctx.eps).rsqrt_()  # it was the running variance
        scale = rstd if weight is None else rstd * weight.view(1, -1, 1)
        level, along = _sums(grad, x, mean) if ctx.training or wants_weight or wants_bias else (None, None)
        grad_x = torch.empty_like(grad, memory_format=torch.contiguous_format) if wants_x else None
        if ctx.training and wants_x:
            share = scale * (-rstd.numel() / max(1, grad.numel()))
            level_share, along_share = level * share, along * rstd.square() * share
        for part in blocks(grad) if wants_x else ():
            g, d = (each[part].flatten(2) for each in (grad, grad_x))
            if ctx.training:
                off = (x[part].flatten(2) - mean).mul_(along_share).add_(level_share)
                torch.addcmul(off, g, scale, out=d)
            else:
                torch.mul(g, scale, out=d)
        grad_weight = (along * rstd).view(-1) if wants_weight else None  # autograd rounds both to the parameters' own type
        return grad_x, grad_weight, level.view(-1) if wants_bias else None, None, None, None, None


def _sums(grad: Tensor, x: Tensor | None, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of g and, if there is an x, of g (x - m) by channel, shaped as m (1, channels, 1)."""
    level, along = torch.zeros_like(mean), torch.zeros_like(mean)
    for part in blocks(grad):
        g = grad[part].to(mean.dtype).flatten(2)
        level += g.sum(2, keepdim=True).sum(0, keepdim=True)
        if x is not None:
            along += (x[part].flatten(2) - mean).mul_(g).sum(2, keepdim=True).sum(0, keepdim=True)
    return level, along


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _momentum(norm: nn.BatchNorm2d) -> float:
    """Count the batch, where running statistics are to be changed, and return the weight that it gets in them."""
    if not norm.training or not norm.track_running_stats or norm.num_batches_tracked is None:
        return 0.0 if norm.momentum is None else norm.momentum
    norm.num_batches_tracked.add_(1)
    return 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum


class FunctionBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d with the hand-derived backward of BatchNormFunction.

    Raises ValueError, as stock does, for one number to a channel in training.
    """

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        training = self.training or self.running_mean is None
        if training and input.numel() == input.shape[1]:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        momentum = _momentum(self)
        running = (self.running_mean, self.running_var) if not self.training or self.track_running_stats else (None, None)
        return BatchNormFunction.apply(input, self.weight, self.bias, running, training, momentum, self.eps)


class TritonBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d with the Triton kernels of kernels/batchnorm.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.batchnorm import batch_norm  # here, so that this file can be read where Triton is not installed

        self._check_input_dim(input)
        training = self.training or self.running_mean is None
        momentum = _momentum(self)
        running = (self.running_mean, self.running_var) if not self.training or self.track_running_stats else (None, None)
        return batch_norm(input, *running, self.weight, self.bias, training, momentum, self.eps)


VARIANTS = {
    "stock": Variant(nn.BatchNorm2d),
    "function": Variant(FunctionBatchNorm),
    "triton": Variant(TritonBatchNorm, devices=GPU),
    "compile": Variant(nn.BatchNorm2d, compile=True),
}
SWEEP = {"batch": (1, 8, 32), "channels": (64,), "side": (28,)}
SWEEP_ON_GPU = {"batch": (1, 8, 64), "channels": (256,), "side": (56,)}
ODD = (
    {"batch": 2, "channels": 3, "side": 4},
    {"batch": 3, "channels": 4, "side": 37},  # planes longer than one block of the kernel, two shares of a channel
)


def _in_inference(module: type[nn.BatchNorm2d], size: Mapping[str, int]) -> nn.Module:
    """In inference, with running statistics that are not those of a new module: 0 and 1 would hide that they are ignored."""
    norm = module(size["channels"]).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


batchnorm = Layer(
    "batchnorm",
    sweep=SWEEP,
    inputs=(randn("batch", "channels", "side", "side"),),
    build=lambda module, size: module(size["channels"]),
    variants=VARIANTS,
    verify_at=ODD,
    on_request=True,
    gpu_sweep=SWEEP_ON_GPU,
)
batchnorm_inference = Layer(
    "batchnorm_inference",
    sweep=SWEEP,
    inputs=(randn("batch", "channels", "side", "side"),),
    build=_in_inference,
    variants=VARIANTS,
    verify_at=ODD,
    on_request=True,
    gpu_sweep=SWEEP_ON_GPU,
)
