"""Blocks of diffusers 0.42.1, against the same blocks put together of torch's own layers."""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, randn, uniform

need("diffusers")

from diffusers.models import normalization  # noqa: E402  it is looked for first
from diffusers.models.downsampling import Downsample2D  # noqa: E402
from diffusers.models.embeddings import TimestepEmbedding  # noqa: E402
from diffusers.models.resnet import ResnetBlock2D  # noqa: E402
from diffusers.models.upsampling import FirUpsample2D, Upsample2D  # noqa: E402

images = {"sweep": {"batch": (2, 4), "channels": (16,)}, "inputs": (randn("batch", "channels", 8, 8),)}


def of_channels(module, size):
    return module(size["channels"])


class Residual(nn.Module):
    """Norm, SiLU, convolution, plus the time; norm, SiLU, convolution; plus the input."""

    def __init__(self, channels):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(4, channels, eps=1e-6) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.time_emb_proj = nn.Linear(32, channels)

    def forward(self, x, time):
        hidden = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(time)).unflatten(-1, (-1, 1, 1))
        return x + self.conv2(F.silu(self.norm2(hidden)))


right_resnet_block = Layer(
    "right_resnet_block",
    sweep=images["sweep"],
    inputs=(randn("batch", "channels", 8, 8), randn("batch", 32)),
    build=of_channels,
    variants={
        "plain": Variant(Residual),
        "diffusers": Variant(lambda channels: ResnetBlock2D(in_channels=channels, temb_channels=32, groups=4)),
    },
    verify_at=({"batch": 1}, {"batch": 3, "channels": 20}),
)


class Doubled(nn.Module):
    """Every pixel four times, then a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


right_upsample = Layer(
    "right_upsample",
    **images,
    build=of_channels,
    variants={"plain": Variant(Doubled), "diffusers": Variant(lambda channels: Upsample2D(channels, use_conv=True))},
)


class Halved(nn.Module):
    def forward(self, x):
        return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


right_downsample = Layer(
    "right_downsample",
    **images,
    build=of_channels,
    variants={
        "plain": Variant(lambda channels: Halved()),
        "diffusers": Variant(lambda channels: Downsample2D(channels)),
        "torch": Variant(lambda channels: nn.AvgPool2d(2)),
    },
)


class Filtered(nn.Module):
    """Zeros between the pixels, then the filter (1, 3, 3, 1) / 4 along each side, as a transposed convolution."""

    def forward(self, x):
        weight = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 4
        kernel = torch.outer(weight, weight).expand(x.shape[1], 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


right_fir_upsample = Layer(
    "right_fir_upsample",
    **images,
    build=of_channels,
    variants={"plain": Variant(lambda channels: Filtered()), "diffusers": Variant(lambda channels: FirUpsample2D(channels))},
)

tokens = {"sweep": {"batch": (2, 8), "width": (32,)}, "build": lambda module, size: module(size["width"])}


class Modulated(nn.Module):
    """A norm whose scale and shift are made of a second input."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, x, given):
        shift, scale = (F.silu(given) @ self.linear.weight.T + self.linear.bias).unsqueeze(1).chunk(2, -1)
        variance, mean = torch.var_mean(x, -1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * (1 + scale) + shift


class OfDiffusers(normalization.AdaLayerNorm):
    def __init__(self, width):
        super().__init__(width, chunk_dim=1)

    def forward(self, x, given):
        return super().forward(x, temb=given)


right_ada_layernorm = Layer(
    "right_ada_layernorm",
    **tokens,
    inputs=(randn("batch", 6, "width"), randn("batch", "width")),
    variants={"plain": Variant(Modulated), "diffusers": Variant(OfDiffusers)},
    verify_at=({"batch": 3, "width": 31},),
)


class Continuous(Modulated):
    """The same with the scale first."""

    def forward(self, x, given):
        scale, shift = self.linear(F.silu(given)).unsqueeze(1).chunk(2, -1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-5) * (1 + scale) + shift


right_ada_continuous = Layer(
    "right_ada_continuous",
    **tokens,
    inputs=(randn("batch", 6, "width"), randn("batch", "width")),
    variants={
        "plain": Variant(Continuous),
        "diffusers": Variant(lambda width: normalization.AdaLayerNormContinuous(width, width, elementwise_affine=False)),
    },
    verify_at=({"batch": 3, "width": 31},),
)


class Zero(nn.Module):
    """Six parts of the second input's projection: of two norms and of two gates."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, x, given):
        shift, scale, *others = self.linear(F.silu(given)).chunk(6, -1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1), *others


class OfDiffusersZero(normalization.AdaLayerNormZero):
    def forward(self, x, given):
        return super().forward(x, emb=given)


right_ada_zero = Layer(
    "right_ada_zero",
    **tokens,
    inputs=(randn("batch", 6, "width"), randn("batch", "width")),
    variants={"plain": Variant(Zero), "diffusers": Variant(OfDiffusersZero)},
    verify_at=({"batch": 3, "width": 31},),
)


class Embedded(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, 48), nn.Linear(48, 48)

    def forward(self, x):
        hidden = self.linear_1(x)
        return self.linear_2(hidden / (1 + (-hidden).exp()))


right_timestep_embedding = Layer(
    "right_timestep_embedding",
    **tokens,
    inputs=(uniform("batch", "width", low=-1, high=1),),
    variants={"plain": Variant(Embedded), "diffusers": Variant(lambda width: TimestepEmbedding(width, 48))},
)
