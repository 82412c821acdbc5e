"""Feed-forward blocks of transformers 5.24.0, timm 1.0.31 and diffusers 0.42.1, against a plain formula."""

from types import SimpleNamespace

import torch
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, randn

need("timm", "transformers", "diffusers")

import timm.layers as timm  # noqa: E402  they are looked for first
from diffusers.models.attention import FeedForward  # noqa: E402
from transformers.models.clip.modeling_clip import CLIPMLP  # noqa: E402
from transformers.models.gemma.modeling_gemma import GemmaMLP  # noqa: E402
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaMLP  # noqa: E402
from transformers.models.phi3.modeling_phi3 import Phi3MLP  # noqa: E402
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP  # noqa: E402
from transformers.pytorch_utils import Conv1D  # noqa: E402

tokens = {"sweep": {"batch": (2, 8), "width": (64,)}, "inputs": (randn("batch", 16, "width"),)}


def of_width(module, size):
    return module(size["width"])


def config(width, act):
    return SimpleNamespace(
        hidden_size=width, intermediate_size=2 * width, mlp_bias=False, hidden_act=act, activation_function=act, resid_pdrop=0.0
    )


def of_config(module, act):
    return lambda width: module(config(width, act))


class Gated(nn.Module):
    """down(act(gate x) * up x)."""

    def __init__(self, width):
        super().__init__()
        self.gate_proj = nn.Linear(width, 2 * width, bias=False)
        self.up_proj = nn.Linear(width, 2 * width, bias=False)
        self.down_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, x):
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class SwiGLU(Gated):
    def act(self, x):
        return x * x.sigmoid()


class GeGLU(Gated):
    def act(self, x):
        return nn.functional.gelu(x, approximate="tanh")


def as_timm(width):
    return timm.SwiGLU(width, 2 * width, bias=False)


def as_timm_packed(width):
    return timm.SwiGLUPacked(width, 4 * width, bias=False)


TIMM = {"gate_proj.weight": "fc1_g.weight", "up_proj.weight": "fc1_x.weight", "down_proj.weight": "fc2.weight"}


def packed(first, last, order=("gate_proj", "up_proj")):
    def state(given):
        return {first: torch.cat([given[f"{name}.weight"] for name in order]), last: given["down_proj.weight"]}

    return state


right_swiglu = Layer(
    "right_swiglu",
    **tokens,
    build=of_width,
    variants={
        "plain": Variant(SwiGLU),
        "llama": Variant(of_config(LlamaMLP, "silu")),
        "qwen2": Variant(of_config(Qwen2MLP, "silu")),
        "phi3": Variant(of_config(Phi3MLP, "silu"), state=packed("gate_up_proj.weight", "down_proj.weight")),
        "timm": Variant(as_timm, state=TIMM),
        "timm_packed": Variant(as_timm_packed, state=packed("fc1.weight", "fc2.weight")),
        "diffusers": Variant(
            lambda width: FeedForward(width, inner_dim=2 * width, activation_fn="swiglu", bias=False),
            state=packed("net.0.proj.weight", "net.2.weight", ("up_proj", "gate_proj")),
        ),
    },
)

right_geglu = Layer(
    "right_geglu",
    **tokens,
    build=of_width,
    variants={"plain": Variant(GeGLU), "gemma": Variant(of_config(GemmaMLP, "gelu_pytorch_tanh"))},
)


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


def of_clip(width):
    return CLIPMLP(SimpleNamespace(hidden_size=width, intermediate_size=4 * width, hidden_act="gelu"))


DIFFUSERS = {"fc1.weight": "net.0.proj.weight", "fc1.bias": "net.0.proj.bias", "fc2.weight": "net.2.weight", "fc2.bias": "net.2.bias"}


def convolved(state):
    return {name: each[..., None, None] if name.endswith("weight") else each for name, each in state.items()}


class OverPixels(nn.Module):
    """timm's MLP of 1x1 convolutions, given tokens as pixels."""

    def __init__(self, width):
        super().__init__()
        self.inner = timm.Mlp(width, 4 * width, use_conv=True)

    def forward(self, x):
        return self.inner(x.mT.unsqueeze(-1)).squeeze(-1).mT


right_mlp = Layer(
    "right_mlp",
    **tokens,
    build=of_width,
    variants={
        "plain": Variant(MLP),
        "timm": Variant(lambda width: timm.Mlp(width, 4 * width)),
        "timm_convolved": Variant(OverPixels, state=lambda state: {f"inner.{name}": each for name, each in convolved(state).items()}),
        "clip": Variant(of_clip),
        "diffusers": Variant(lambda width: FeedForward(width, activation_fn="gelu"), state=DIFFUSERS),
    },
)


def transposed(state):
    return {name: each.T if each.dim() == 2 else each for name, each in state.items()}


def as_gpt2(state):
    names = {"fc1": "c_fc", "fc2": "c_proj"}
    return transposed({name.replace(name[:3], names[name[:3]]): each for name, each in state.items()})


class TanhMLP(MLP):
    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x), approximate="tanh"))


right_gpt2_mlp = Layer(
    "right_gpt2_mlp",
    **tokens,
    build=of_width,
    variants={
        "plain": Variant(TanhMLP),
        "gpt2": Variant(lambda width: GPT2MLP(4 * width, config(width, "gelu_new")), state=as_gpt2),
    },
)

right_linear_transposed = Layer(
    "right_linear_transposed",
    **tokens,
    build=of_width,
    variants={
        "torch": Variant(lambda width: nn.Linear(width, 48)),
        "gpt2": Variant(lambda width: Conv1D(48, width), state=transposed),
        "timm": Variant(lambda width: timm.Linear(width, 48)),
    },
)
