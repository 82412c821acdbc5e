"""Norms over the last dimension, and over channels, of transformers 5.24.0, timm 1.0.31 and diffusers 0.42.1, against torch's own."""

from functools import partial

import torch
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, randn

need("timm", "transformers", "diffusers")

import timm.layers as timm  # noqa: E402  they are looked for first
from diffusers.models import normalization as diffusers  # noqa: E402
from transformers.models.convnext.modeling_convnext import ConvNextLayerNorm  # noqa: E402
from transformers.models.convnextv2.modeling_convnextv2 import ConvNextV2GRN  # noqa: E402
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaRMSNorm  # noqa: E402
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm  # noqa: E402
from transformers.models.t5.modeling_t5 import T5LayerNorm  # noqa: E402

EPS = 1e-6


def of_width(module, size):
    return module(size["width"], eps=EPS)


def of_channels(module, size):
    return module(size["channels"])


rows = {"sweep": {"batch": (8, 64), "width": (256,)}, "inputs": (randn("batch", "width"),)}
images = {"sweep": {"batch": (2, 8), "channels": (16,)}, "inputs": (randn("batch", "channels", 8, 8),)}

right_rmsnorm = Layer(
    "right_rmsnorm",
    **rows,
    build=of_width,
    variants={
        "torch": Variant(nn.RMSNorm),
        "llama": Variant(LlamaRMSNorm),
        "qwen2": Variant(Qwen2RMSNorm),
        "t5": Variant(T5LayerNorm),
        "timm": Variant(timm.RmsNorm),
        "timm_fp32": Variant(timm.RmsNormFp32),
        "diffusers": Variant(diffusers.RMSNorm),
        "mochi": Variant(diffusers.MochiRMSNorm),
    },
)

right_layernorm = Layer(
    "right_layernorm",
    **rows,
    build=of_width,
    variants={
        "torch": Variant(nn.LayerNorm),
        "timm": Variant(timm.LayerNorm),
        "timm_fp32": Variant(timm.LayerNormFp32),
        "diffusers_fp32": Variant(diffusers.FP32LayerNorm),
        "convnext": Variant(ConvNextLayerNorm),
    },
)


class OneMore(nn.Module):
    """RMSNorm whose weight is kept less 1."""

    def __init__(self, width, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return nn.functional.rms_norm(x, x.shape[-1:], 1 + self.weight, self.eps)


right_gemma_rmsnorm = Layer(
    "right_gemma_rmsnorm", **rows, build=of_width, variants={"plain": Variant(OneMore), "gemma": Variant(GemmaRMSNorm)}
)


class ChannelsLast(nn.LayerNorm):
    """LayerNorm over the channels of an image."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


right_layernorm2d = Layer(
    "right_layernorm2d",
    **images,
    build=of_channels,
    variants={
        "plain": Variant(partial(ChannelsLast, eps=EPS)),
        "timm": Variant(timm.LayerNorm2d),
        "timm_fp32": Variant(timm.LayerNorm2dFp32),
        "convnext": Variant(partial(ConvNextLayerNorm, data_format="channels_first")),
    },
)

right_groupnorm = Layer(
    "right_groupnorm",
    **images,
    build=of_channels,
    variants={
        "torch": Variant(partial(nn.GroupNorm, 4)),
        "timm": Variant(partial(timm.GroupNorm, num_groups=4)),
        "timm_act": Variant(partial(timm.GroupNormAct, num_groups=4, apply_act=False)),
    },
    verify_at=({"batch": 1}, {"batch": 3, "channels": 20}),
)

right_groupnorm1 = Layer(
    "right_groupnorm1",
    **images,
    build=of_channels,
    variants={
        "torch": Variant(partial(nn.GroupNorm, 1)),
        "timm": Variant(timm.GroupNorm1),
        "timm_act": Variant(partial(timm.GroupNorm1Act, apply_act=False)),
    },
)


class NormThenReLU(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


right_batchnorm_relu = Layer(
    "right_batchnorm_relu",
    **images,
    build=of_channels,
    variants={
        "torch": Variant(NormThenReLU),
        "timm": Variant(partial(timm.BatchNormAct2d, inplace=False)),
        "timm_inplace": Variant(timm.BatchNormAct2d),
    },
    calls=3,
)


class Frozen(nn.Module):
    """BatchNorm in eval(): statistics that never change."""

    def __init__(self, channels):
        super().__init__()
        self.norm = timm.FrozenBatchNormAct2d(channels, apply_act=False)

    def forward(self, x):
        given = (self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias)
        return nn.functional.batch_norm(x, *given, training=False, eps=self.norm.eps)


class FrozenTimm(Frozen):
    def forward(self, x):
        return self.norm(x)


right_frozen_batchnorm = Layer(
    "right_frozen_batchnorm", **images, build=of_channels, variants={"plain": Variant(Frozen), "timm": Variant(FrozenTimm)}
)


class Response(nn.Module):
    """Global response normalisation of images whose channels come last."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.randn(1, 1, 1, channels))

    def forward(self, x):
        strength = x.square().sum((1, 2), keepdim=True).sqrt()
        return x + self.beta + self.gamma * x * strength / (strength.mean(-1, keepdim=True) + EPS)


def flat(state):
    return {"weight": state["gamma"].flatten(), "bias": state["beta"].flatten()}


def one_by_one(state):
    return {"weight": state["gamma"], "bias": state["beta"]}


right_response_norm = Layer(
    "right_response_norm",
    sweep={"batch": (2, 8), "channels": (16,)},
    inputs=(randn("batch", 8, 8, "channels"),),
    build=of_channels,
    variants={
        "plain": Variant(Response),
        "timm": Variant(timm.grn.GlobalResponseNorm, state=flat),
        "diffusers": Variant(diffusers.GlobalResponseNorm),
        "convnextv2": Variant(ConvNextV2GRN, state=one_by_one),
    },
)

right_groupnorm_relu = Layer(
    "right_groupnorm_relu",
    **images,
    build=lambda module, size: module(size["channels"]),
    variants={
        "torch": Variant(lambda channels: NormedReLU(4, channels)),
        "timm": Variant(partial(timm.GroupNormAct, num_groups=4)),
    },
    verify_at=({"batch": 1}, {"batch": 3, "channels": 20}),
)


class NormedReLU(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x).relu()
