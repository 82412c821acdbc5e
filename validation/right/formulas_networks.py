"""Cells and small networks in other forms: gates by hand, checkpoints, merged weights, experts, against torch's own or a plain one."""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn
from torch.utils.checkpoint import checkpoint

from layerbench.bench import Layer, Variant, randn

WIDTH, HIDDEN = 24, 32
cells = {"sweep": {"batch": (4, 16)}, "build": lambda module, size: module(WIDTH, HIDDEN)}


class GRU(nn.GRUCell):
    def forward(self, x, h):
        reset, update, new = (x @ self.weight_ih.T + self.bias_ih).chunk(3, -1)
        hidden_reset, hidden_update, hidden_new = (h @ self.weight_hh.T + self.bias_hh).chunk(3, -1)
        reset, update = (reset + hidden_reset).sigmoid(), (update + hidden_update).sigmoid()
        return torch.lerp((new + reset * hidden_new).tanh(), h, update)


class GRUByGates(nn.GRUCell):
    """Six products of matrices."""

    def forward(self, x, h):
        w, u, b, c = (each.chunk(3) for each in (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh))
        reset, update = (torch.sigmoid(F.linear(x, w[i], b[i]) + F.linear(h, u[i], c[i])) for i in range(2))
        new = torch.tanh(F.linear(x, w[2], b[2]) + reset * F.linear(h, u[2], c[2]))
        return (1 - update) * new + update * h


right_gru_cell = Layer(
    "right_gru_cell",
    **cells,
    inputs=(randn("batch", WIDTH), randn("batch", HIDDEN)),
    variants={"torch": Variant(nn.GRUCell), "by_hand": Variant(GRU), "by_gates": Variant(GRUByGates)},
)


class LSTM(nn.LSTMCell):
    def forward(self, x, state):
        h, c = state
        gates = F.linear(torch.cat([x, h], -1), torch.cat([self.weight_ih, self.weight_hh], -1), self.bias_ih + self.bias_hh)
        enter, forget, new, leave = gates.chunk(4, -1)
        c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * c.tanh(), c


right_lstm_cell = Layer(
    "right_lstm_cell",
    **cells,
    inputs=(randn("batch", WIDTH), [randn("batch", HIDDEN), randn("batch", HIDDEN)]),
    variants={"torch": Variant(nn.LSTMCell), "one_product": Variant(LSTM)},
)


class Steps(nn.Module):
    """nn.GRU step by step."""

    def __init__(self, width, hidden):
        super().__init__()
        self.inner = nn.GRU(width, hidden, batch_first=True)

    def forward(self, x):
        gru, h = self.inner, x.new_zeros(x.shape[0], HIDDEN)
        found = []
        for step in x.unbind(1):
            parts = (F.linear(step, gru.weight_ih_l0, gru.bias_ih_l0), F.linear(h, gru.weight_hh_l0, gru.bias_hh_l0))
            (r, z, n), (hr, hz, hn) = (each.chunk(3, -1) for each in parts)
            update = (z + hz).sigmoid()
            h = (1 - update) * (n + (r + hr).sigmoid() * hn).tanh() + update * h
            found.append(h)
        return torch.stack(found, 1)


class Whole(Steps):
    def forward(self, x):
        return self.inner(x)[0]


right_gru = Layer("right_gru", **cells, inputs=(randn("batch", 6, WIDTH),), variants={"torch": Variant(Whole), "steps": Variant(Steps)})


class MLP(nn.Sequential):
    def __init__(self, width, hidden):
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Checkpointed(MLP):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class InPieces(MLP):
    """The hidden units in two halves."""

    def forward(self, x):
        first, _, last = self
        halves = zip(first.weight.chunk(2), first.bias.chunk(2), last.weight.chunk(2, -1), strict=True)
        return sum(F.gelu(F.linear(x, w, b)) @ v.T for w, b, v in halves) + last.bias


right_checkpointed = Layer(
    "right_checkpointed",
    **cells,
    inputs=(randn("batch", WIDTH),),
    variants={
        "plain": Variant(MLP),
        "checkpointed": Variant(Checkpointed),
        "in_pieces": Variant(InPieces),
    },
)


class LowRank(nn.Module):
    """A linear layer with a product of two thin matrices added to it."""

    def __init__(self, width, hidden):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(hidden, width) / width**0.5)
        self.down, self.up = nn.Parameter(torch.randn(4, width) / 8), nn.Parameter(torch.randn(hidden, 4) / 8)

    def forward(self, x):
        return x @ self.weight.T + 2 * (x @ self.down.T) @ self.up.T


class Merged(LowRank):
    def forward(self, x):
        return x @ (self.weight + 2 * self.up @ self.down).T


right_low_rank = Layer(
    "right_low_rank", **cells, inputs=(randn("batch", WIDTH),), variants={"plain": Variant(LowRank), "merged": Variant(Merged)}
)


class Experts(nn.Module):
    """Two of four linear layers for each row, mixed by a softmax over their scores: every one computed, most of them weighted by 0."""

    def __init__(self, width, hidden):
        super().__init__()
        self.gate = nn.Linear(width, 4)
        self.weight = nn.Parameter(torch.randn(4, hidden, width) / width**0.5)

    def mixture(self, x):
        best = self.gate(x).topk(2, -1)
        return best.values.softmax(-1), best.indices

    def forward(self, x):
        share, chosen = self.mixture(x)
        every = torch.zeros(x.shape[0], 4, dtype=x.dtype).scatter(1, chosen, share)
        return torch.einsum("bi,eoi,be->bo", x, self.weight, every)


class Routed(Experts):
    """Each expert sees its own rows only."""

    def forward(self, x):
        share, chosen = self.mixture(x)
        found = torch.zeros(x.shape[0], self.weight.shape[1], dtype=x.dtype)
        for expert, weight in enumerate(self.weight):
            row, place = torch.where(chosen == expert)
            found = found.index_add(0, row, x[row] @ weight.T * share[row, place, None])
        return found


class Gathered(Experts):
    """The weights of each row's experts, picked out."""

    def forward(self, x):
        share, chosen = self.mixture(x)
        return ((self.weight[chosen] @ x[:, None, :, None])[..., 0] * share[..., None]).sum(1)


right_experts = Layer(
    "right_experts",
    **cells,
    inputs=(randn("batch", WIDTH),),
    variants={"plain": Variant(Experts), "routed": Variant(Routed), "gathered": Variant(Gathered)},
)


class Directed(nn.Module):
    """A linear layer whose rows have a length and a direction.  Not torch's: its second derivatives are wrong in 2.13 (gradgradcheck)."""

    def __init__(self, width, hidden):
        super().__init__()
        self.length, self.direction = nn.Parameter(torch.ones(hidden, 1)), nn.Parameter(torch.randn(hidden, width))
        self.bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, x):
        return F.linear(x, self.length * F.normalize(self.direction), self.bias)


class ScaledRows(Directed):
    def forward(self, x):
        return (x @ self.direction.T) * (self.length[:, 0] / self.direction.norm(dim=1)) + self.bias


right_weight_norm = Layer(
    "right_weight_norm",
    **cells,
    inputs=(randn("batch", WIDTH),),
    variants={"plain": Variant(Directed), "scaled_rows": Variant(ScaledRows)},
)
