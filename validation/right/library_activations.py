"""Activations of transformers 5.24.0, timm 1.0.31 and diffusers 0.42.1, against torch's own or a plain formula."""

from functools import partial

import torch
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, randn

need("timm", "transformers", "diffusers")

import transformers.activations as transformers  # noqa: E402  they are looked for first
from diffusers.models.activations import ApproximateGELU, FP32SiLU  # noqa: E402
from timm.layers import activations as timm  # noqa: E402
from timm.layers import activations_me as by_hand  # noqa: E402

numbers = {"sweep": {"batch": (8, 64), "width": (256,)}, "inputs": (randn("batch", "width"),)}


class Plain(nn.Module):
    """A formula."""

    def forward(self, x):
        raise NotImplementedError


class QuickGELU(Plain):
    def forward(self, x):
        return x / (1 + torch.exp(-1.702 * x))


class HardMish(Plain):
    def forward(self, x):
        return x / 2 * (x + 2).clamp(0, 2)


class ReLUSquared(Plain):
    def forward(self, x):
        return x * x * (x > 0)


class Laplace(Plain):
    """The distribution function of a normal variable."""

    def forward(self, x):
        return torch.special.ndtr((x - 0.707107) / 0.282095)


class SqrtSoftplus(Plain):
    def forward(self, x):
        return (1 + x.exp()).log().sqrt()


right_gelu = Layer(
    "right_gelu",
    **numbers,
    variants={
        "torch": Variant(nn.GELU),
        "transformers": Variant(transformers.GELUActivation),
        "transformers_python": Variant(partial(transformers.GELUActivation, use_gelu_python=True)),
        "timm": Variant(timm.GELU),
    },
    build=lambda module, size: module(),
)

right_gelu_tanh = Layer(
    "right_gelu_tanh",
    **numbers,
    variants={
        "torch": Variant(partial(nn.GELU, approximate="tanh")),
        "new": Variant(transformers.NewGELUActivation),
        "fast": Variant(transformers.FastGELUActivation),
        "accurate": Variant(transformers.AccurateGELUActivation),
        "tanh": Variant(transformers.GELUTanh),
        "tanh_python": Variant(partial(transformers.GELUTanh, use_gelu_tanh_python=True)),
        "timm": Variant(timm.GELUTanh),
    },
    build=lambda module, size: module(),
)

right_quick_gelu = Layer(
    "right_quick_gelu",
    **numbers,
    variants={"plain": Variant(QuickGELU), "transformers": Variant(transformers.QuickGELUActivation), "timm": Variant(timm.QuickGELU)},
)

right_silu = Layer(
    "right_silu",
    **numbers,
    variants={
        "torch": Variant(nn.SiLU),
        "transformers": Variant(transformers.SiLUActivation),
        "timm": Variant(timm.Swish),
        "timm_by_hand": Variant(by_hand.SwishMe),
        "diffusers_fp32": Variant(FP32SiLU),
    },
)


def mish_of_transformers():
    layer = transformers.MishActivation()
    layer.act = layer._mish_python
    return layer


right_mish = Layer(
    "right_mish",
    **numbers,
    variants={
        "torch": Variant(nn.Mish),
        "transformers": Variant(transformers.MishActivation),
        "transformers_python": Variant(mish_of_transformers),
        "timm": Variant(timm.Mish),
        "timm_by_hand": Variant(by_hand.MishMe),
    },
    build=lambda module, size: module(),
)

right_hardswish = Layer(
    "right_hardswish",
    **numbers,
    variants={"torch": Variant(nn.Hardswish), "timm": Variant(timm.HardSwish), "timm_by_hand": Variant(by_hand.HardSwishMe)},
)

right_hardsigmoid = Layer(
    "right_hardsigmoid",
    **numbers,
    variants={"torch": Variant(nn.Hardsigmoid), "timm": Variant(timm.HardSigmoid), "timm_by_hand": Variant(by_hand.HardSigmoidMe)},
)

right_hardmish = Layer(
    "right_hardmish",
    **numbers,
    variants={"plain": Variant(HardMish), "timm": Variant(timm.HardMish), "timm_by_hand": Variant(by_hand.HardMishMe)},
)

right_relu_squared = Layer(
    "right_relu_squared", **numbers, variants={"plain": Variant(ReLUSquared), "transformers": Variant(transformers.ReLUSquaredActivation)}
)

right_laplace = Layer(
    "right_laplace", **numbers, variants={"plain": Variant(Laplace), "transformers": Variant(transformers.LaplaceActivation)}
)

right_sqrt_softplus = Layer(
    "right_sqrt_softplus",
    **numbers,
    variants={"plain": Variant(SqrtSoftplus), "transformers": Variant(transformers.SqrtSoftplusActivation)},
)


class Projected(nn.Module):
    """A linear layer, then x sigmoid(1.702 x)."""

    def __init__(self, width):
        super().__init__()
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        x = self.proj(x)
        return x * (1.702 * x).sigmoid()


right_approximate_gelu = Layer(
    "right_approximate_gelu",
    **numbers,
    build=lambda module, size: module(size["width"]),
    variants={"plain": Variant(Projected), "diffusers": Variant(lambda width: ApproximateGELU(width, width))},
)
