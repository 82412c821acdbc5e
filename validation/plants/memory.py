"""Layers that answer with what they have: results of an earlier call, buffers handed out twice, memory that nobody wrote."""

import torch
import torch.nn.functional as F
from torch import nn

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "mlp by_pointer": ("replayed results", "the output of the last call while pointers and versions are the same; kernelbot 501"),
    "mlp by_identity": ("replayed results", "a dict of outputs by id() of the input"),
    "mlp by_fingerprint": ("replayed results", "the output of the last call while the sum of the input is the same"),
    "mlp by_corner": ("replayed results", "the output of the last call while the first and last number of the input are the same"),
    "mlp warm": ("drift over calls", "skips its second product from the 20th call on"),
    "mlp drifting": ("drift over calls", "a factor of 1 + 1e-6 more at every call"),
    "mlp out_buffer": ("buffers reused", "writes every output into one buffer, and hands that out"),
    "mlp two_buffers": ("buffers reused", "two buffers in turn: an output is overwritten by the next but one"),
    "mlp gradient_buffer": ("buffers reused", "hands out one buffer for the gradient of the input"),
    "mlp shared_scratch": ("buffers reused", "saves its hidden values in a buffer that all instances share"),
}


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Parameter(torch.randn(2 * width, width) / width**0.5)
        self.down = nn.Parameter(torch.randn(width, 2 * width) / width**0.5)
        self.calls = 0

    def forward(self, x):
        return F.silu(x @ self.up.T) @ self.down.T


class ByHand(Mlp):
    def forward(self, x):
        h = x @ self.up.T
        return (h * h.sigmoid()) @ self.down.T


class Remembers(ByHand):
    seen = None

    def key(self, x):
        raise NotImplementedError

    def forward(self, x):
        key = (self.key(x), torch.is_grad_enabled())
        if self.seen is None or self.seen[0] != key:
            with torch.no_grad():
                self.seen = key, super().forward(x)
        return self.seen[1] + 0 * x.sum() if not torch.is_grad_enabled() else _Answer.apply(self.seen[1], x, self.up, self.down)


class _Answer(torch.autograd.Function):
    """The gradients are computed; the output is not."""

    @staticmethod
    def forward(ctx, y, x, up, down):
        ctx.save_for_backward(x, up, down)
        return y.clone()

    @staticmethod
    def backward(ctx, g):
        with torch.enable_grad():
            x, up, down = (each.detach().requires_grad_() for each in ctx.saved_tensors)
            return None, *torch.autograd.grad(F.silu(x @ up.T) @ down.T, (x, up, down), g)


class ByPointer(Remembers):
    def key(self, x):
        return [(each.data_ptr(), each._version) for each in (x, self.up, self.down)]


class ByIdentity(Remembers):
    def __init__(self, width):
        super().__init__(width)
        self.kept = {}

    def key(self, x):
        self.kept.setdefault(id(x), x)  # so that the id is not another tensor's
        return id(x), self.up._version, self.down._version


class ByFingerprint(Remembers):
    def key(self, x):
        return float(x.sum()), tuple(x.shape), float(self.up.sum()), float(self.down.sum())


class ByCorner(Remembers):
    def key(self, x):
        return float(x.flatten()[0]), float(x.flatten()[-1]), tuple(x.shape), float(self.up.sum()), float(self.down.sum())


class Warm(ByHand):
    def forward(self, x):
        self.calls += 1
        return super().forward(x) if self.calls < 20 else x @ self.up.T @ self.down.T


class Drifting(ByHand):
    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + 1e-6) ** self.calls


class _Handed(torch.autograd.Function):
    """Computes as `_Answer` does; `place` says where outputs and gradients of the input are written."""

    @staticmethod
    def forward(ctx, x, up, down, place):
        ctx.save_for_backward(x, up, down)
        ctx.place = place
        return place("output", F.silu(x @ up.T) @ down.T)

    @staticmethod
    def backward(ctx, g):
        _, gx, gu, gd = _Answer.backward(ctx, g)
        return ctx.place("gradient", gx), gu, gd, None


class Fresh(Mlp):
    def place(self, what, tensor):
        return tensor

    def forward(self, x):
        return _Handed.apply(x, self.up, self.down, self.place)


class Buffers(Fresh):
    used, count = "output", 1

    def __init__(self, width):
        super().__init__(width)
        self.buffers_of, self.turn = {}, 0

    def place(self, what, tensor):
        if what != self.used:
            return tensor
        self.turn = (self.turn + 1) % self.count
        buffer = self.buffers_of.setdefault((self.turn, tensor.shape, tensor.dtype), torch.empty_like(tensor))
        return buffer.copy_(tensor).view(tensor.shape)


class TwoBuffers(Buffers):
    count = 2


class GradientBuffer(Buffers):
    used = "gradient"


SCRATCH = {}


class _Scratch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, up, down):
        ctx.save_for_backward(x, up, down)
        ctx.hidden = SCRATCH.setdefault((len(up), x.shape, x.dtype), torch.empty_like(x @ up.T))
        ctx.hidden.copy_(x @ up.T)
        return F.silu(ctx.hidden) @ down.T

    @staticmethod
    def backward(ctx, g):
        x, up, down = ctx.saved_tensors
        h, s = ctx.hidden, ctx.hidden.sigmoid()
        gh = (g @ down) * s * (1 + h * (1 - s))
        return gh @ up, gh.T @ x, g.T @ F.silu(h)


class SharedScratch(Mlp):
    def forward(self, x):
        return _Scratch.apply(x, self.up, self.down)


mlp = Layer(
    "mlp",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={
        "stock": Variant(Mlp),
        "by_hand": Variant(ByHand),
        "fresh": Variant(Fresh),
        "by_pointer": Variant(ByPointer),
        "by_identity": Variant(ByIdentity),
        "by_fingerprint": Variant(ByFingerprint),
        "by_corner": Variant(ByCorner),
        "warm": Variant(Warm),
        "drifting": Variant(Drifting),
        "out_buffer": Variant(Buffers),
        "two_buffers": Variant(TwoBuffers),
        "gradient_buffer": Variant(GradientBuffer),
        "shared_scratch": Variant(SharedScratch),
    },
)
