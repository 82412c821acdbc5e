"""Blocks for images of timm 1.0.31, torchvision 0.28.0 and transformers 5.24.0, against torch's own or a plain formula."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, randn

need("timm", "transformers", "torchvision")

import timm.layers as timm  # noqa: E402  they are looked for first
from timm.layers.filter_response_norm import FilterResponseNormAct2d  # noqa: E402
from torchvision.ops import Permute, SqueezeExcitation, StochasticDepth  # noqa: E402
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d  # noqa: E402

images = {"sweep": {"batch": (2, 8), "channels": (16,)}, "inputs": (randn("batch", "channels", 12, 12),)}


def of_channels(module, size):
    return module(size["channels"])


def alone(module, size):
    return module()


class Squeeze(nn.Module):
    """Squeeze and excitation by products of matrices."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 8, 1)
        self.fc2 = nn.Conv2d(8, channels, 1)

    def forward(self, x):
        hidden = F.relu(F.linear(x.flatten(2).mean(-1), self.fc1.weight.flatten(1), self.fc1.bias))
        return x * F.linear(hidden, self.fc2.weight.flatten(1), self.fc2.bias).sigmoid()[..., None, None]


right_squeeze_excite = Layer(
    "right_squeeze_excite",
    **images,
    build=of_channels,
    variants={
        "plain": Variant(Squeeze),
        "timm": Variant(partial(timm.SEModule, rd_channels=8)),
        "torchvision": Variant(lambda channels: SqueezeExcitation(channels, 8)),
    },
)


class Standardized(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1."""

    def __init__(self, channels):
        super().__init__(channels, 8, 3, padding=1, bias=False)

    def forward(self, x):
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), unbiased=False, keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (variance + 1e-6).sqrt(), padding=1)


right_standardized_conv = Layer(
    "right_standardized_conv",
    **images,
    build=of_channels,
    variants={
        "plain": Variant(Standardized),
        "timm": Variant(lambda channels: timm.StdConv2d(channels, 8, 3, padding=1)),
        "timm_same": Variant(lambda channels: timm.StdConv2dSame(channels, 8, 3)),
        "transformers": Variant(lambda channels: WeightStandardizedConv2d(channels, 8, 3, padding=1)),
    },
)


class Padded(nn.Conv2d):
    """Stride 2 with what "same" means there: the odd pixel of padding comes last."""

    def __init__(self, channels):
        super().__init__(channels, 8, 3, stride=2)

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


right_conv_same = Layer(
    "right_conv_same",
    **images,
    build=of_channels,
    variants={"plain": Variant(Padded), "timm": Variant(lambda channels: timm.Conv2dSame(channels, 8, 3, stride=2))},
)


class Blur(nn.Module):
    """A binomial blur, every second pixel kept, as two passes of shifted sums."""

    def forward(self, x):
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        x = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
        return ((x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4)[..., ::2, ::2]


right_blur_pool = Layer("right_blur_pool", **images, build=alone, variants={"plain": Variant(Blur), "timm": Variant(timm.BlurPool2d)})


class Response(nn.Module):
    """x over its root mean square within a channel, scaled and shifted."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        scaled = F.rms_norm(x.flatten(2), (x[0, 0].numel(),), eps=1e-5).unflatten(2, x.shape[2:])
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


right_filter_response = Layer(
    "right_filter_response",
    **images,
    build=of_channels,
    variants={"plain": Variant(Response), "timm": Variant(partial(FilterResponseNormAct2d, apply_act=False))},
)

right_global_pool = Layer(
    "right_global_pool",
    **images,
    build=alone,
    variants={
        "torch": Variant(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        "timm_fast": Variant(partial(timm.SelectAdaptivePool2d, pool_type="fast", flatten=True)),
        "timm": Variant(partial(timm.SelectAdaptivePool2d, pool_type="avg", flatten=True)),
    },
)

right_global_max_pool = Layer(
    "right_global_max_pool",
    **images,
    build=alone,
    variants={
        "torch": Variant(lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())),
        "timm_fast": Variant(partial(timm.SelectAdaptivePool2d, pool_type="fastmax", flatten=True)),
        "timm": Variant(partial(timm.SelectAdaptivePool2d, pool_type="max", flatten=True)),
    },
)


right_drop_path = Layer(
    "right_drop_path",
    **images,
    build=lambda module, size: module().eval(),
    variants={
        "plain": Variant(nn.Identity),
        "timm": Variant(partial(timm.DropPath, 0.5)),
        "torchvision": Variant(partial(StochasticDepth, 0.5, "row")),
    },
)


class LastFirst(nn.Module):
    def forward(self, x):
        return torch.einsum("bchw->bhwc", x)


right_permute = Layer(
    "right_permute", **images, build=alone, variants={"plain": Variant(LastFirst), "torchvision": Variant(partial(Permute, [0, 2, 3, 1]))}
)

SHUFFLED = {"sweep": {"batch": (2, 8), "channels": (4,)}, "inputs": (randn("batch", "channels", 8, 8),)}


class Unshuffled(nn.Module):
    """Pixels to channels, the place within a block slowest: torch's own order is the other one."""

    def forward(self, x):
        return F.pixel_unshuffle(x, 4).unflatten(1, (x.shape[1], 16)).transpose(1, 2).flatten(1, 2)


right_space_to_depth = Layer(
    "right_space_to_depth", **SHUFFLED, build=alone, variants={"plain": Variant(Unshuffled), "timm": Variant(timm.SpaceToDepth)}
)

right_layer_scale = Layer(
    "right_layer_scale",
    sweep={"batch": (2, 8), "width": (64,)},
    inputs=(randn("batch", 16, "width"),),
    build=lambda module, size: module(size["width"]),
    variants={"plain": Variant(lambda width: Scaled(width)), "timm": Variant(timm.LayerScale)},
)


class Scaled(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x):
        return torch.einsum("...c,c->...c", x, self.gamma)


class CombinedPool(nn.Module):
    def forward(self, x):
        return (F.avg_pool2d(x, x.shape[-2:]) + F.max_pool2d(x, x.shape[-2:])) / 2


right_average_and_max = Layer(
    "right_average_and_max", **images, build=alone, variants={"plain": Variant(CombinedPool), "timm": Variant(timm.AdaptiveAvgMaxPool2d)}
)
