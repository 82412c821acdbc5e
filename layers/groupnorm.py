"""GroupNorm:  y = (x - mean) / sqrt(var + eps) * weight + bias,  mean and var over a group of channels.   (Wu & He, 2018, arXiv:1803.08494)

weight and bias have one number per channel.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from ._blocks import blocks


class GroupNormFunction(torch.autograd.Function):
    """With m the mean and r = 1 / sqrt(var + eps) of a group, and x_hat = r (x - m):  dL/dw = sum of g x_hat and dL/db = sum of g over
    images and positions;  dL/dx = r (g w - mean(g w) - x_hat mean(g w x_hat)),  the means over the group.

    Both kinds of sums come from the same ones, of g and g x_hat over the positions of one channel of one image: the means weigh them by w.
    Saves x, w, and m and r of each group.  Forward is torch's own kernel, which returns m and r.
    Half types are computed in float32; only m and r are kept in the half type on a CPU, as stock keeps them.
    On a CPU, backward goes by blocks of images, whose temporaries stay in the caches; even so backward takes four to five times
    as long as stock's (docs/layers.md), for it passes over each block eight times where stock's fused kernels do twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        batch, channels = x.shape[:2]
        y, mean, rstd = torch.native_group_norm(x.contiguous(), weight, bias, batch, channels, x.shape[2:].numel(), groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        wants_x, _, wants_weight, wants_bias, _ = ctx.needs_input_grad
        dtype = torch.promote_types(x.dtype, torch.float32)
        channels, groups = x.shape[1], mean.shape[1]
        mean, rstd = mean.unsqueeze(2).to(dtype), rstd.unsqueeze(2).to(dtype)
        scale = (rstd.new_ones(channels) if weight is None else weight.to(dtype)).view(groups, -1)
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if wants_x else None
        grad_weight, grad_bias = rstd.new_zeros(2, channels)
        for part in blocks(x):
            g = grad[part].to(dtype).reshape(-1, channels, x.shape[2:].numel())
            centred = x[part].reshape(len(g), groups, -1) - mean[part]
            product = centred.view(g.shape) * g
            level, along = g.sum(2), product.sum(2).view(len(g), groups, -1).mul_(rstd[part])  # sums of g and g x_hat over a plane
            grad_bias += level.sum(0)
            grad_weight += along.sum(0).view(channels)
            if wants_x:
                share = rstd[part] / centred.shape[2]
                level, along = ((sums.view(along.shape) * scale).sum(2, keepdim=True) * share for sums in (level, along))
                d = torch.mul(g, (scale * rstd[part]).view(len(g), channels, 1), out=product).view(centred.shape)  # its memory is free
                d.sub_(level)
                torch.addcmul(d, centred, along * rstd[part], value=-1, out=grad_x[part].view(centred.shape))
        return (
            grad_x,
            None,
            grad_weight if wants_weight else None,  # autograd rounds both to the parameters' own type
            grad_bias if wants_bias else None,
            None,
        )


class FunctionGroupNorm(nn.GroupNorm):
    """nn.GroupNorm with the hand-derived backward of GroupNormFunction.

    Raises ValueError, as stock does, for one number to a group in all.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() == self.num_groups and len(input) == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(input.shape)}")
        return GroupNormFunction.apply(input, self.num_groups, self.weight, self.bias, self.eps)


class TritonGroupNorm(nn.GroupNorm):
    """nn.GroupNorm with the Triton kernels of kernels/groupnorm.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.groupnorm import group_norm  # here, so that this file can be read where Triton is not installed

        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


groupnorm = Layer(
    "groupnorm",
    sweep={"batch": (1, 8, 32), "channels": (128,), "side": (16,), "groups": (32,)},
    inputs=(randn("batch", "channels", "side", "side"),),
    build=lambda module, size: module(size["groups"], size["channels"]),
    variants={
        "stock": Variant(nn.GroupNorm),
        "function": Variant(FunctionGroupNorm),
        "triton": Variant(TritonGroupNorm, devices=GPU),
        "compile": Variant(nn.GroupNorm, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 6, "side": 3, "groups": 2},
        {"batch": 1, "channels": 4, "side": 37, "groups": 2},  # planes longer than one block of the kernel
        {"batch": 5, "channels": 20, "side": 3, "groups": 5},
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 32), "channels": (256,), "side": (64,)},
)
