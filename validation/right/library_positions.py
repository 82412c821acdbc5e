"""Rotary embeddings, positions and patches of transformers 5.24.0, timm 1.0.31 and diffusers 0.42.1, against a plain formula."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from _installed import need
from torch import nn

from layerbench.bench import Layer, Variant, randn, uniform

need("timm", "transformers", "diffusers")

import timm.layers as timm  # noqa: E402  they are looked for first
from diffusers.models import embeddings as diffusers  # noqa: E402
from timm.layers.pos_embed_sincos import apply_rot_embed  # noqa: E402
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as gptj  # noqa: E402
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama  # noqa: E402
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding  # noqa: E402
from transformers.models.vit.modeling_vit import ViTPatchEmbeddings  # noqa: E402

WIDTH = 32
heads = {"sweep": {"batch": (2, 8), "tokens": (24,)}, "inputs": (randn("batch", 4, "tokens", WIDTH),)}


def angles(tokens):
    return torch.outer(torch.arange(tokens).double(), 10000.0 ** -(torch.arange(0, WIDTH, 2).double() / WIDTH))


def turned(x, y):
    """Pairs (x, y), each turned by its angle as a complex number."""
    angle = angles(x.shape[-2])
    pairs = torch.complex(x.double(), y.double()) * torch.polar(torch.ones_like(angle), angle)
    return pairs.real.to(x.dtype), pairs.imag.to(x.dtype)


def cosine_and_sine(x, double):
    angle = double(angles(x.shape[-2]))
    return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def halves(angle):
    return torch.cat([angle, angle], -1)


def neighbours(angle):
    return angle.repeat_interleave(2, -1)


def plain_halves(x):
    return torch.cat(turned(*x.chunk(2, -1)), -1)


def of_llama(x):
    cosine, sine = cosine_and_sine(x, halves)
    return llama(x, x, cosine[None], sine[None])[0]


def of_timm_halves(x):
    cosine, sine = cosine_and_sine(x, halves)
    return apply_rot_embed(x, sine, cosine, half=True)


def of_diffusers_halves(x):
    return diffusers.apply_rotary_emb(x, cosine_and_sine(x, halves), use_real_unbind_dim=-2)


right_rope = Layer(
    "right_rope",
    **heads,
    variants={
        "plain": Variant(plain_halves),
        "llama": Variant(of_llama),
        "timm": Variant(of_timm_halves),
        "diffusers": Variant(of_diffusers_halves),
    },
)


def plain_neighbours(x):
    return torch.stack(turned(x[..., ::2], x[..., 1::2]), -1).flatten(-2)


def of_timm(x):
    cosine, sine = cosine_and_sine(x, neighbours)
    return apply_rot_embed(x, sine, cosine)


def of_diffusers(x):
    return diffusers.apply_rotary_emb(x, cosine_and_sine(x, neighbours))


def of_diffusers_complex(x):
    wave = diffusers.get_1d_rotary_pos_embed(WIDTH, x.shape[-2], use_real=False, freqs_dtype=torch.float64)
    return diffusers.apply_rotary_emb(x.transpose(1, 2), wave[None], use_real=False).transpose(1, 2)


def of_gptj(x):
    angle = angles(x.shape[-2])
    return gptj(x.transpose(1, 2), angle.sin()[None].to(x.dtype), angle.cos()[None].to(x.dtype)).transpose(1, 2)


right_rope_neighbours = Layer(
    "right_rope_neighbours",
    **heads,
    variants={
        "plain": Variant(plain_neighbours),
        "timm": Variant(of_timm),
        "diffusers": Variant(of_diffusers),
        "diffusers_complex": Variant(of_diffusers_complex),
        "gptj": Variant(of_gptj),
    },
)


class Patches(nn.Module):
    """Patches of 4x4 pixels, cut out and multiplied by a matrix."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 48, 4, 4)

    def forward(self, x):
        return F.linear(F.unfold(x, 4, stride=4).mT, self.proj.weight.flatten(1), self.proj.bias)


def of_vit():
    return ViTPatchEmbeddings(SimpleNamespace(image_size=16, patch_size=4, num_channels=3, hidden_size=48))


right_patch_embedding = Layer(
    "right_patch_embedding",
    sweep={"batch": (2, 8)},
    inputs=(randn("batch", 3, 16, 16),),
    build=lambda module, size: module(),
    variants={
        "plain": Variant(Patches),
        "timm": Variant(lambda: timm.PatchEmbed(16, 4, 3, 48)),
        "diffusers": Variant(lambda: diffusers.PatchEmbed(16, 16, 4, 3, 48, pos_embed_type=None)),
        "vit": Variant(of_vit, state={"proj.weight": "projection.weight", "proj.bias": "projection.bias"}),
    },
)


WAVES = 64


def waves(steps):
    angle = torch.outer(steps, 10000.0 ** -(torch.arange(WAVES // 2, dtype=steps.dtype) / (WAVES // 2)))
    return torch.cat([angle.sin(), angle.cos()], -1)


def of_diffusers_steps(steps):
    return diffusers.get_timestep_embedding(steps, WAVES, downscale_freq_shift=0).to(steps.dtype)


right_timesteps = Layer(
    "right_timesteps",
    sweep={"batch": (8, 64)},
    inputs=(uniform("batch", low=0, high=1000, requires_grad=False),),
    variants={"plain": Variant(waves), "diffusers": Variant(of_diffusers_steps)},
)


class Sines(nn.Module):
    """The rows of a table of sines, then of cosines."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(waves(torch.arange(64.0)), requires_grad=False)

    def forward(self, x):
        return self.weight[: x.shape[1]].clone()


class OfMarian(MarianSinusoidalPositionalEmbedding):
    def __init__(self):
        super().__init__(64, 64)
        self.weight.copy_(self.create_weight())

    def forward(self, x):
        return super().forward(x.shape[:2])


right_sinusoids = Layer(
    "right_sinusoids",
    sweep={"tokens": (16, 64)},
    inputs=(randn(2, "tokens", 8),),
    build=lambda module, size: module(),
    variants={"plain": Variant(Sines), "marian": Variant(OfMarian)},
    verify_at=({"tokens": 7},),
)
