"""Attention of transformers 5.24.0, timm 1.0.31 and diffusers 0.42.1, eager and by torch's fused function, against a plain formula."""

import torch
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, randn

need("timm", "transformers", "diffusers")

import timm.layers as timm  # noqa: E402  they are looked for first
from diffusers.models import attention_processor as diffusers  # noqa: E402
from transformers import BertConfig, LlamaConfig, ViTConfig  # noqa: E402
from transformers.models.bert.modeling_bert import BertSelfAttention  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaAttention  # noqa: E402
from transformers.models.vit.modeling_vit import ViTAttention  # noqa: E402

HEADS = 4
tokens = {"sweep": {"batch": (2, 8), "tokens": (32,)}, "inputs": (randn("batch", "tokens", 64),), "build": lambda module, size: module(64)}


def heads(x, count=HEADS):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def attend(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return ((scores if mask is None else scores + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)


class Packed(nn.Module):
    """Self-attention whose three projections are one."""

    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        return self.proj(attend(*(heads(each) for each in self.qkv(x).chunk(3, -1))))


def of_timm(fused):
    def make(width):
        layer = timm.Attention(width, HEADS, qkv_bias=True)
        layer.fused_attn = fused
        return layer

    return make


class Only(nn.Module):
    """The first of several outputs of a layer that is given keywords."""

    def __init__(self, inner, **given):
        super().__init__()
        self.inner, self.given = inner, given

    def forward(self, x):
        return self.inner(x, **self.given)[0]


def of_vit(implementation):
    def make(width):
        config = ViTConfig(hidden_size=width, num_attention_heads=HEADS, intermediate_size=width, attention_probs_dropout_prob=0.0)
        config._attn_implementation = implementation
        return Only(ViTAttention(config))

    return make


def of_diffusers(processor):
    return lambda width: diffusers.Attention(width, heads=HEADS, dim_head=width // HEADS, bias=True, processor=processor())


def apart(names, last):
    def state(given):
        found = {last + kind: given[f"proj.{kind}"] for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            found |= dict(zip([f"{name}.{kind}" for name in names], given[f"qkv.{kind}"].chunk(3), strict=True))
        return found

    return state


VIT = apart(("inner.q_proj", "inner.k_proj", "inner.v_proj"), "inner.o_proj.")
DIFFUSERS = apart(("to_q", "to_k", "to_v"), "to_out.0.")


def as_torch(state):
    names = {"qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias", "proj.weight": "out_proj.weight", "proj.bias": "out_proj.bias"}
    return {f"inner.{names[name]}": each for name, each in state.items()}


class Torch(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.MultiheadAttention(width, HEADS, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


right_attention = Layer(
    "right_attention",
    **tokens,
    variants={
        "plain": Variant(Packed),
        "timm": Variant(of_timm(fused=False)),
        "timm_fused": Variant(of_timm(fused=True)),
        "torch": Variant(Torch, state=as_torch),
        "vit_eager": Variant(of_vit("eager"), state=VIT),
        "vit_sdpa": Variant(of_vit("sdpa"), state=VIT),
        "diffusers": Variant(of_diffusers(diffusers.AttnProcessor), state=DIFFUSERS),
        "diffusers_fused": Variant(of_diffusers(diffusers.AttnProcessor2_0), state=DIFFUSERS),
    },
)


class BertPlain(nn.Module):
    """Self-attention without a projection behind it."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        return attend(heads(self.query(x)), heads(self.key(x)), heads(self.value(x)))


class OfBert(BertSelfAttention):
    def forward(self, x):
        return super().forward(x)[0]


def of_bert(implementation):
    def make(width):
        config = BertConfig(hidden_size=width, num_attention_heads=HEADS, attention_probs_dropout_prob=0.0)
        config._attn_implementation = implementation
        return OfBert(config)

    return make


right_bert_attention = Layer(
    "right_bert_attention",
    **tokens,
    variants={"plain": Variant(BertPlain), "eager": Variant(of_bert("eager")), "sdpa": Variant(of_bert("sdpa"))},
)


class LlamaPlain(nn.Module):
    """Causal attention with two key heads for four of queries, and rotary positions by complex numbers."""

    def __init__(self, width):
        super().__init__()
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width // 2, bias=False)
        self.v_proj = nn.Linear(width, width // 2, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x):
        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x), 2), heads(self.v_proj(x), 2)
        q, k, v = turned(q), turned(k).repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        mask = torch.full((x.shape[1],) * 2, float("-inf"), dtype=x.dtype).triu(1)
        return self.o_proj(attend(q, k, v, mask))


def angles(count, width, dtype):
    return torch.outer(torch.arange(count, dtype=dtype), 10000.0 ** -(torch.arange(0, width, 2, dtype=dtype) / width))


def turned(x):
    wide = x.double()
    angle = angles(x.shape[-2], x.shape[-1], torch.float64)
    pairs = torch.complex(*wide.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([pairs.real, pairs.imag], -1).to(x.dtype)


class OfLlama(LlamaAttention):
    def forward(self, x):
        angle = angles(x.shape[1], self.head_dim, torch.float32).repeat(1, 2)[None]
        mask = torch.full((1, 1, x.shape[1], x.shape[1]), float("-inf"), dtype=x.dtype).triu(1)
        return super().forward(x, (angle.cos().to(x.dtype), angle.sin().to(x.dtype)), mask)[0]


def of_llama(implementation):
    def make(width):
        config = LlamaConfig(hidden_size=width, num_attention_heads=HEADS, num_key_value_heads=2, attention_bias=False)
        config._attn_implementation = implementation
        return OfLlama(config, 0)

    return make


right_llama_attention = Layer(
    "right_llama_attention",
    **tokens,
    variants={"plain": Variant(LlamaPlain), "eager": Variant(of_llama("eager")), "sdpa": Variant(of_llama("sdpa"))},
)
