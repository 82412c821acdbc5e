"""Recurrent layers and attention over sequences: states, gates, masks that are right at one length."""

import torch
import torch.nn.functional as F
from torch import nn

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "lstm forget_gate_of_input": ("a term of backward", "the cell's gradient flows back through the input gate"),
    "lstm gates_in_other_order": ("another convention", "takes the gates as i f o g, not i f g o"),
    "lstm one_bias": ("another formula", "the second bias is left out"),
    "lstm state_kept": ("state between calls", "begins with the state that the last call ended with"),
    "lstm truncated": ("a term of backward", "the gradient is cut after 32 steps"),
    "lstm last_state_of_batch": ("several outputs", "the last state is that of the last but one step where tokens are odd"),
    "heads merged_wrongly": ("another convention", "heads are merged without being transposed back"),
    "heads mask_of_first_length": ("replayed results", "a causal mask of the first length that it saw; longer sequences see the future"),
    "heads cache_of_keys": ("state between calls", "keeps keys and values between calls in eval(), as a server does"),
    "heads norm_over_batch": ("another formula", "normalizes queries over all tokens at once"),
    "positions first_length": ("replayed results", "keeps its table of positions, scaled by the length of the first call"),
    "rolling wraps": ("sizes and tails", "looks back by roll: the first tokens see the last"),
}


class Lstm(nn.Module):
    """nn.LSTM of one layer, batch first, written out; what is wrong with others is one method of theirs."""

    def __init__(self, width):
        super().__init__()
        plain = nn.LSTM(width, width, batch_first=True)
        for name, parameter in plain.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone()))

    def forward(self, x):
        h, c = self.start(x)
        outputs = []
        for token in range(x.shape[1]):
            h, c = self.step(x[:, token], h, c, token)
            outputs.append(h)
        return torch.stack(outputs, 1), self.end(outputs, c)

    def start(self, x):
        return torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])

    def end(self, outputs, c):
        return outputs[-1]

    def step(self, x, h, c, token):
        i, f, g, o = self.gates(F.linear(x, self.weight_ih_l0, self.bias_ih_l0) + self.hidden(h))
        c = self.cell(i.sigmoid(), f.sigmoid(), g.tanh(), c)
        return o.sigmoid() * c.tanh(), c

    def hidden(self, h):
        return F.linear(h, self.weight_hh_l0, self.bias_hh_l0)

    def gates(self, found):
        return found.chunk(4, -1)

    def cell(self, i, f, g, c):
        return f * c + i * g


class Stock(nn.LSTM):
    def __init__(self, width):
        super().__init__(width, width, batch_first=True)

    def forward(self, x):
        y, (h, _) = super().forward(x)
        return y, h[0]


class ForgetGateOfInput(Lstm):
    def cell(self, i, f, g, c):
        return (f * c.detach() + i * (c - c.detach())) + (f - f.detach()) * 0 + i * g


class GatesInOtherOrder(Lstm):
    def gates(self, found):
        i, f, o, g = found.chunk(4, -1)
        return i, f, g, o


class OneBias(Lstm):
    def hidden(self, h):
        return h @ self.weight_hh_l0.T + 0 * self.bias_hh_l0


class StateKept(Lstm):
    kept = None

    def start(self, x):
        return self.kept if self.kept is not None and self.kept[0].shape == x[:, 0].shape else super().start(x)

    def end(self, outputs, c):
        self.kept = outputs[-1].detach(), c.detach()
        return outputs[-1]


class Truncated(Lstm):
    def step(self, x, h, c, token):
        cut = token and token % 32 == 0
        return super().step(x, h.detach() if cut else h, c.detach() if cut else c, token)


class LastStateOfBatch(Lstm):
    def end(self, outputs, c):
        return outputs[len(outputs) // 2 * 2 - 1]


def snake(name):
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")


wrong = (ForgetGateOfInput, GatesInOtherOrder, OneBias, StateKept, Truncated, LastStateOfBatch)
lstm = Layer(
    "lstm",
    sweep={"batch": (4,), "tokens": (16,), "width": (16,)},
    inputs=(randn("batch", "tokens", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={"stock": Variant(Stock), "written_out": Variant(Lstm)} | {snake(each.__name__): Variant(each) for each in wrong},
)


class Heads(nn.Module):
    """Causal attention of four heads with one projection for queries, keys and values."""

    def __init__(self, width):
        super().__init__()
        self.qkv, self.out = nn.Parameter(torch.randn(3 * width, width) / width**0.5), nn.Parameter(torch.randn(width, width))

    def forward(self, x):
        q, k, v = (each.unflatten(-1, (4, -1)).transpose(1, 2) for each in (x @ self.qkv.T).chunk(3, -1))
        return self.merged(self.attend(q, k, v)) @ self.out.T

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def merged(self, y):
        return y.transpose(1, 2).flatten(2)


class WrittenOut(Heads):
    kept = None

    def mask(self, q):
        return torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()

    def attend(self, q, k, v):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~self.mask(q), float("-inf")).softmax(-1) @ v


class MergedWrongly(WrittenOut):
    def merged(self, y):
        return y.reshape(y.shape[0], y.shape[2], -1)


class MaskOfFirstLength(WrittenOut):
    def mask(self, q):
        if self.kept is None:
            self.kept = super().mask(q)
        tokens = q.shape[2]
        whole = torch.ones(tokens, tokens, dtype=torch.bool)
        seen = self.kept[:tokens, :tokens]
        whole[: len(seen), : len(seen)] = seen
        return whole


class CacheOfKeys(WrittenOut):
    def attend(self, q, k, v):
        if self.training or torch.is_grad_enabled():
            self.kept = None
            return super().attend(q, k, v)
        if self.kept is not None and self.kept[0].shape == k.shape:
            k, v = torch.cat([self.kept[0], k], 2), torch.cat([self.kept[1], v], 2)
        self.kept = k[:, :, -q.shape[2] :], v[:, :, -q.shape[2] :]
        return F.scaled_dot_product_attention(q, k, v)


class NormOverBatch(WrittenOut):
    def attend(self, q, k, v):
        q = q * (q.square().mean(-1, keepdim=True) / q.square().mean(-1, keepdim=True).mean((1, 2), keepdim=True)).detach() ** 0.01
        return super().attend(q, k, v)


wrong = (MergedWrongly, MaskOfFirstLength, CacheOfKeys, NormOverBatch)
heads = Layer(
    "heads",
    sweep={"batch": (2,), "tokens": (16, 24)},
    inputs=(randn("batch", "tokens", 32),),
    build=lambda module, size: module(32),
    variants={"stock": Variant(Heads), "written_out": Variant(WrittenOut)} | {snake(each.__name__): Variant(each) for each in wrong},
)


class Positions(nn.Module):
    """Adds t / tokens to the tokens."""

    kept = None

    def forward(self, x):
        return x + (torch.arange(x.shape[1], dtype=x.dtype) / x.shape[1])[:, None]


class ByLinspace(Positions):
    def table(self, tokens, dtype):
        return torch.linspace(0, 1, tokens + 1, dtype=dtype)[:-1, None]

    def forward(self, x):
        return x + self.table(x.shape[1], x.dtype)


class FirstLength(ByLinspace):
    def table(self, tokens, dtype):
        self.kept = self.kept or tokens
        return super().table(self.kept, dtype).repeat(tokens // self.kept + 1, 1)[:tokens]


positions = Layer(
    "positions",
    sweep={"batch": (2,), "tokens": (16, 24)},
    inputs=(randn("batch", "tokens", 8),),
    variants={"stock": Variant(Positions), "own": Variant(ByLinspace), "first_length": Variant(FirstLength)},
)
rolling = Layer(
    "rolling",
    sweep={"batch": (2,), "tokens": (16,)},
    inputs=(randn("batch", "tokens", 8),),
    variants={
        "stock": Variant(lambda x: x + 0.5 * F.pad(x, (0, 0, 1, 0))[:, :-1]),
        "own": Variant(lambda x: torch.cat([x[:, :1], x[:, 1:] + 0.5 * x[:, :-1]], 1)),
        "wraps": Variant(lambda x: x + 0.5 * x.roll(1, 1)),
    },
)
