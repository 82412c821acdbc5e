"""LSTM, one layer, forwards or in both directions.   (Hochreiter & Schmidhuber, 1997; with forget gates: Gers et al., 2000; torch.nn.LSTM)

i, f, o = sigmoid and g = tanh of  W_ih x_t + b_ih + W_hh h_{t-1} + b_hh,  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable

State = tuple[Tensor, Tensor]  # h and c, each (directions, batch, hidden)


class LSTMFunction(torch.autograd.Function):
    """One direction, x (batch, tokens, width) -> h of every step (batch, tokens, hidden), and the last h and c (batch, hidden).

    W_ih x of all steps is one product, into a buffer of (tokens, batch, 4 hidden) that each step then completes and activates in place.

    Backward through time, with dh and dc all that reaches h_t and c_t, and a' for a gate before its activation:
    dc += dh o (1 - tanh(c)^2),  di' = dc g i (1 - i),  df' = dc c_{t-1} f (1 - f),  dg' = dc i (1 - g^2),  do' = dh tanh(c) o (1 - o).
    Then dc f goes to c_{t-1} and W_hh^T d' to h_{t-1}.  What multiplies dh and dc does not depend on them: it is computed for all steps
    at once, and a step is left with four products by numbers and one by W_hh.  The weights' gradients are one product each at the end.

    Saves x only if W_ih wants a gradient, and W_ih only if x wants one; W_hh, the activated gates i, f, g, o, and h and c of every step;
    tanh(c) is computed again.  Beside the output that is 5 hidden numbers a step; stock's oneDNN kernel keeps three times as many.  Half
    types are computed and saved in float32.
    Where x is no half type, y is a view of the saved h: to change it in place is refused.
    On a CPU stock is one call for all steps where this is eight calls a step: at batch 8 forward took
    nearly three times as long, backward not quite twice (docs/layers.md).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h: Tensor, c: Tensor, back: bool) -> Any:
        (batch, tokens, width), hidden = x.shape, weight_hh.shape[1]
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows = x.transpose(0, 1).reshape(tokens * batch, width).to(dtype)
        gates = F.linear(rows, weight_ih.to(dtype), None if bias is None else bias.to(dtype)).view(tokens, batch, 4 * hidden)
        hs, cells = gates.new_empty(tokens + 1, batch, hidden), gates.new_empty(tokens + 1, batch, hidden)
        first, last = (-1, 0) if back else (0, -1)
        hs[first], cells[first] = h, c
        recurrent, tanh_c = weight_hh.to(dtype).T, torch.empty_like(cells[0])
        parts = gates, gates[..., : 2 * hidden], *gates.chunk(4, 2)
        around = (*before_and_now(hs, back), *before_and_now(cells, back))
        for gate, i_f, i, f, g, o, h_before, h_now, c_before, c_now in steps(back, *parts, *around):
            gate.addmm_(h_before, recurrent)
            i_f.sigmoid_()
            torch.mul(f, c_before, out=c_now).addcmul_(i, g.tanh_())
            torch.mul(o.sigmoid_(), torch.tanh(c_now, out=tanh_c), out=h_now)
        x_needed, ih_needed = x if ctx.needs_input_grad[1] else None, weight_ih if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(x_needed, ih_needed, weight_hh, gates.view(tokens, batch, 4, hidden), hs, cells)
        ctx.back = back
        y = before_and_now(hs, back)[1].transpose(0, 1)
        return y.to(x.dtype), hs[last].to(x.dtype, copy=True), cells[last].to(x.dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_ih, weight_hh, gates, hs, cells = ctx.saved_tensors
        wants_x, wants_ih, wants_hh, wants_bias, wants_h, wants_c, _ = ctx.needs_input_grad
        (tokens, batch, _, hidden), dtype = gates.shape, gates.dtype
        d, c_from_h = _slopes(gates, *before_and_now(cells, ctx.back))
        recurrent = weight_hh.to(dtype)
        grad_h, grad_c = grad_h.to(dtype), grad_c.to(dtype, copy=True)
        parts = d.view(tokens, batch, 4 * hidden), d[:, :, :3], d[:, :, 3], c_from_h, gates[:, :, 1], grad_y.to(dtype).transpose(0, 1)
        for d_now, from_c, from_h, slope, f, grad_out in steps(not ctx.back, *parts):
            grad_h = grad_h + grad_out
            grad_c.addcmul_(grad_h, slope)
            from_c.mul_(grad_c.unsqueeze(1))
            from_h.mul_(grad_h)
            grad_c.mul_(f)
            grad_h = d_now @ recurrent
        d = d.view(tokens * batch, 4 * hidden)
        return (  # autograd rounds each to the type of its tensor
            (d @ weight_ih.to(dtype)).view(tokens, batch, weight_ih.shape[1]).transpose(0, 1) if wants_x else None,
            d.T @ x.transpose(0, 1).reshape(len(d), x.shape[2]).to(dtype) if wants_ih else None,
            d.T @ before_and_now(hs, ctx.back)[0].reshape(len(d), hidden) if wants_hh else None,
            d.sum(0) if wants_bias else None,
            grad_h if wants_h else None,
            grad_c if wants_c else None,
            None,
        )


def _slopes(gates: Tensor, c_before: Tensor, c_now: Tensor) -> tuple[Tensor, Tensor]:
    """What dc (for i, f, g) and dh (for o) are multiplied by to give d', like gates (tokens, batch, 4, hidden); and o (1 - tanh(c)^2)."""
    (i, f, g, o), tanh_c = gates.unbind(2), c_now.tanh()
    slopes = torch.empty_like(gates)
    to_i, to_f, to_g, to_o = slopes.unbind(2)
    torch.addcmul(i, i, i, value=-1, out=to_i).mul_(g)
    torch.addcmul(f, f, f, value=-1, out=to_f).mul_(c_before)
    torch.addcmul(i, i, g.square(), value=-1, out=to_g)
    torch.addcmul(o, o, o, value=-1, out=to_o).mul_(tanh_c)
    return slopes, torch.addcmul(o, o, tanh_c.square_(), value=-1)


def before_and_now(states: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """Of states (tokens + 1, ...) that hold the first one too: what each step starts from, and what it comes to."""
    return (states[1:], states[:-1]) if back else (states[:-1], states[1:])


def steps(back: bool, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors (tokens, ...) step by step; all views are made at once, which is cheaper than one by one."""
    along = list(zip(*(tensor.unbind(0) for tensor in tensors), strict=True))
    return reversed(along) if back else iter(along)


def check_supported(module: nn.RNNBase, input: Tensor, start: Sequence[Tensor] | None) -> None:
    """Raises ValueError for what the variants of this file and of gru.py leave out, and for a first state of another shape."""
    if module.num_layers > 1 or module.proj_size or not module.batch_first or not isinstance(input, Tensor) or input.dim() != 3:
        raise ValueError(f"{module}: this variant takes one layer, batch_first=True, no proj_size, and a tensor (batch, tokens, width)")
    shape = (1 + module.bidirectional, len(input), module.hidden_size)
    states = [] if start is None else [tuple(each.shape) for each in start]
    if not input.shape[1] or any(each != shape for each in states):
        raise ValueError(f"{module}: input is {tuple(input.shape)}, hx {states}; give at least one token, and states of {shape}")


def each_direction(module: nn.RNNBase) -> Iterator[tuple[bool, Tensor, Tensor, Tensor | None, Tensor | None]]:
    """Backwards or not, W_ih, W_hh, b_ih and b_hh."""
    for back, suffix in ((False, ""), (True, "_reverse"))[: 1 + module.bidirectional]:
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(module, f"{name}_l0{suffix}", None) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        yield back, weight_ih, weight_hh, bias_ih, bias_hh


class FunctionLSTM(nn.LSTM):
    """nn.LSTM with the hand-derived backward of LSTMFunction; one layer, batch first."""

    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:
        check_supported(self, input, hx)
        start = [input.new_zeros(1 + self.bidirectional, len(input), self.hidden_size)] * 2 if hx is None else hx
        ends = []
        for (back, weight_ih, weight_hh, bias_ih, bias_hh), h, c in zip(each_direction(self), *start, strict=True):
            bias = None if bias_ih is None else bias_ih + bias_hh
            ends.append(LSTMFunction.apply(input, weight_ih, weight_hh, bias, h, c, back))
        y, h, c = zip(*ends, strict=True)
        return (torch.cat(y, 2) if self.bidirectional else y[0]), (torch.stack(h), torch.stack(c))


class TritonLSTM(nn.LSTM):
    """nn.LSTM with the Triton kernels of kernels/lstm.py and, for W_ih x of all steps, matmul.py; one layer, batch first."""

    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:
        from ..kernels.lstm import lstm  # here, so that this file can be read where Triton is not installed

        check_supported(self, input, hx)
        start = [input.new_zeros(1 + self.bidirectional, len(input), self.hidden_size)] * 2 if hx is None else hx
        ends = [lstm(input, h, c, *rest, back=back) for (back, *rest), h, c in zip(each_direction(self), *start, strict=True)]
        y, h, c = zip(*ends, strict=True)
        return (torch.cat(y, 2) if self.bidirectional else y[0]), (torch.stack(h), torch.stack(c))


def _layer(name: str, bidirectional: bool) -> Layer:
    return Layer(
        name,
        sweep={"batch": (1, 8, 32), "tokens": (32,), "width": (64,), "hidden": (128,)},
        inputs=(randn("batch", "tokens", "width"),),
        build=lambda module, size: module(size["width"], size["hidden"], batch_first=True, bidirectional=bidirectional),
        variants={
            "stock": Variant(nn.LSTM),
            "function": Variant(FunctionLSTM),
            "triton": Variant(TritonLSTM, devices=GPU),
        },
        absent={"compile": "torch.compile leaves nn.LSTM to eager: Dynamo supports RNN, GRU and LSTM only by its experimental allow_rnn."},
        verify_at=(
            {"batch": 2, "tokens": 4, "width": 3, "hidden": 5},
            {"batch": 37, "tokens": 3, "width": 20, "hidden": 9},  # several programs to a step, the last one part full
        ),
        on_request=True,
        gpu_sweep={"batch": (1, 8, 64), "tokens": (128,), "width": (256,), "hidden": (512,)},
    )


lstm = _layer("lstm", bidirectional=False)
bilstm = _layer("bilstm", bidirectional=True)
