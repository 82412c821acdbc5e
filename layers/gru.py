"""GRU, one layer, with the reset gate after the product.   (Cho et al., 2014, arXiv:1406.1078, have it before; torch.nn.GRU, cuDNN: after)

r, z = sigmoid of W_i x_t + b_i + W_h h_{t-1} + b_h,  n = tanh(W_in x_t + b_in + r m)  with  m = W_hn h_{t-1} + b_hn,
h_t = (1 - z) n + z h_{t-1}.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable
from .lstm import before_and_now, check_supported, each_direction, steps


class GRUFunction(torch.autograd.Function):
    """x (batch, tokens, width) -> h of every step (batch, tokens, hidden).

    W_i x of all steps is one product; its parts then hold r, z and n in place.

    Backward through time, with dh all that reaches h_t, and a' for a gate before its activation:
    dn' = dh (1 - z) (1 - n^2),  dz' = dh (h_{t-1} - n) z (1 - z),  dr' = dn' m r (1 - r),  dm = dn' r,
    and h_{t-1} gets  dh z + W_h^T (dr', dz', dm).  Each of the four is dh times a number that forward has fixed: those numbers are computed
    for all steps at once, and a step is left with one product of numbers, one by z and one by W_h.  The weights' gradients are one
    product each at the end, those of W_i from (dr', dz', dn'), those of W_h from (dr', dz', dm).

    Saves x only if W_i wants a gradient, and W_i only if x wants one; W_h, r, z, n and m, and h of every step: 4 hidden numbers a step
    beside the output.  Stock on a CPU is written out in single operations and saves more.  Half types are computed and saved in float32.
    Where x is no half type, the output is a view of the saved h: to change it in place is refused, where stock allows it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None, h: Tensor, back: bool
    ) -> Tensor:
        (batch, tokens, width), hidden = x.shape, weight_hh.shape[1]
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows = x.transpose(0, 1).reshape(tokens * batch, width).to(dtype)
        gates = F.linear(rows, weight_ih.to(dtype), None if bias_ih is None else bias_ih.to(dtype)).view(tokens, batch, 3 * hidden)
        hs, ms = gates.new_empty(tokens + 1, batch, hidden), gates.new_empty(tokens, batch, hidden)
        hs[-1 if back else 0] = h
        recurrent, shift = weight_hh.to(dtype), None if bias_hh is None else bias_hh.to(dtype)
        r, z, n = gates.chunk(3, 2)
        parts = gates[..., : 2 * hidden], r, z, n, ms, *before_and_now(hs, back)
        for r_z, r, z, n, m, h_before, h_now in steps(back, *parts):
            product = F.linear(h_before, recurrent, shift)
            r_z.add_(product[:, : 2 * hidden]).sigmoid_()
            m.copy_(product[:, 2 * hidden :])
            n.addcmul_(r, m).tanh_()
            torch.lerp(n, h_before, z, out=h_now)
        x_needed, ih_needed = x if ctx.needs_input_grad[1] else None, weight_ih if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(x_needed, ih_needed, weight_hh, gates.view(tokens, batch, 3, hidden), ms, hs)
        ctx.back = back
        return before_and_now(hs, back)[1].transpose(0, 1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_ih, weight_hh, gates, ms, hs = ctx.saved_tensors
        wants_x, wants_ih, wants_hh, wants_bias_ih, wants_bias_hh, wants_h, _ = ctx.needs_input_grad
        (tokens, batch, _, hidden), dtype = gates.shape, gates.dtype
        h_before = before_and_now(hs, ctx.back)[0]
        d = _slopes(gates, ms, h_before)
        recurrent, grad_h = weight_hh.to(dtype), hs.new_zeros(batch, hidden)
        parts = d, d.view(tokens, batch, 4 * hidden)[..., : 3 * hidden], gates[:, :, 1], grad_y.to(dtype).transpose(0, 1)
        for d_now, to_h, z, grad_out in steps(not ctx.back, *parts):
            grad_h = grad_h + grad_out
            d_now.mul_(grad_h.unsqueeze(1))
            grad_h = grad_h.mul_(z).addmm_(to_h, recurrent)
        d = d.view(tokens * batch, 4, hidden)
        d_h = d[:, :3].reshape(tokens * batch, 3 * hidden)
        d_i = torch.cat((d[:, :2], d[:, 3:]), 1).view(tokens * batch, 3 * hidden)
        return (  # autograd rounds each to the type of its tensor
            (d_i @ weight_ih.to(dtype)).view(tokens, batch, weight_ih.shape[1]).transpose(0, 1) if wants_x else None,
            d_i.T @ x.transpose(0, 1).reshape(tokens * batch, x.shape[2]).to(dtype) if wants_ih else None,
            d_h.T @ h_before.reshape(tokens * batch, hidden) if wants_hh else None,
            d_i.sum(0) if wants_bias_ih else None,
            d_h.sum(0) if wants_bias_hh else None,
            grad_h if wants_h else None,
            None,
        )


def _slopes(gates: Tensor, m: Tensor, h_before: Tensor) -> Tensor:
    """What dh is multiplied by to give dr', dz', dm and dn', in this order:  (tokens, batch, 4, hidden)."""
    r, z, n = gates.unbind(2)
    slopes = gates.new_empty(*gates.shape[:2], 4, gates.shape[3])
    to_r, to_z, to_m, to_n = slopes.unbind(2)
    keep = 1 - z
    torch.addcmul(keep, keep, n.square(), value=-1, out=to_n)
    torch.mul(to_n, r, out=to_m)
    torch.mul(to_m, m, out=to_r).mul_(1 - r)
    torch.sub(h_before, n, out=to_z).mul_(keep.mul_(z))
    return slopes


class FunctionGRU(nn.GRU):
    """nn.GRU with the hand-derived backward of GRUFunction; one layer, batch first."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_supported(self, input, None if hx is None else (hx,))
        start = input.new_zeros(1 + self.bidirectional, len(input), self.hidden_size) if hx is None else hx
        ys = [GRUFunction.apply(input, *weights, h, back) for (back, *weights), h in zip(each_direction(self), start, strict=True)]
        return _outputs(ys)


class TritonGRU(nn.GRU):
    """nn.GRU with the Triton kernels of kernels/gru.py and, for W_i x of all steps, matmul.py; one layer, batch first."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        from ..kernels.gru import gru  # here, so that this file can be read where Triton is not installed

        check_supported(self, input, None if hx is None else (hx,))
        start = input.new_zeros(1 + self.bidirectional, len(input), self.hidden_size) if hx is None else hx
        return _outputs([gru(input, h, *weights, back=back) for (back, *weights), h in zip(each_direction(self), start, strict=True)])


def _outputs(ys: list[Tensor]) -> tuple[Tensor, Tensor]:
    """nn.GRU's two results from h of every step, one tensor per direction."""
    last = torch.stack([y[:, 0 if back else -1] for back, y in enumerate(ys)])
    return (ys[0] if len(ys) == 1 else torch.cat(ys, 2)), last


gru = Layer(
    "gru",
    sweep={"batch": (1, 8, 32), "tokens": (32,), "width": (64,), "hidden": (128,)},
    inputs=(randn("batch", "tokens", "width"),),
    build=lambda module, size: module(size["width"], size["hidden"], batch_first=True),
    variants={
        "stock": Variant(nn.GRU),
        "function": Variant(FunctionGRU),
        "triton": Variant(TritonGRU, devices=GPU),
    },
    absent={"compile": "torch.compile leaves nn.GRU to eager: Dynamo supports RNN, GRU and LSTM only by its experimental allow_rnn."},
    verify_at=(
        {"batch": 2, "tokens": 4, "width": 3, "hidden": 5},
        {"batch": 37, "tokens": 3, "width": 20, "hidden": 9},  # several programs to a step, the last one part full
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 64), "tokens": (128,), "width": (256,), "hidden": (512,)},
)
