"""LSTM, one layer in one direction.  i, f, o = sigmoid and g = tanh of W_ih x + W_hh h + b,  c = f c + i g,  h = o tanh(c), step by step.

Method   W_ih x of all steps is one product of matmul.py.  A step is then torch's product W_hh h_{t-1} and one kernel for all that is
         pointwise, both ways; the weights' gradients are one product each, from d of all steps.  (Appleyard et al., 2016, arXiv:1604.01946)
Bytes    A step of forward reads W_hh h and W_ih x, 4 hidden numbers each, and c, and writes 4 activated gates, c and h.  A step of backward
         reads those gates, both c, dy and W_hh^T d, and writes d and dc.  W_hh is read once per step, from L2 where it fits.
Numbers  float32, bfloat16, float16.  A step is computed in float32; c and dc are kept in float32, the gates and d in the inputs' type.
Limits   Two launches a step and way, one after the other: small layers are bound by launching.  No dropout, projection or packed
         sequences; fewer than 2^31 numbers in the gates of a step.  Differentiable once.  Deterministic as far as torch's product is.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .matmul import linear

BLOCK = 256  # numbers of h to a program: a step is small


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _forward_kernel(inputs_ptr, recurrent_ptr, c_before_ptr, gates_ptr, c_ptr, h_ptr, numbers, hidden, BLOCK: tl.constexpr):
    """One step from W_ih x + b and W_hh h.  Grid: one program per BLOCK of the batch * hidden numbers of h."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = number < numbers
    gate = number // hidden * (4 * hidden) + number % hidden  # of i; f, g and o are hidden numbers apart
    a_i = tl.load(inputs_ptr + gate, mask=mask).to(tl.float32) + tl.load(recurrent_ptr + gate, mask=mask).to(tl.float32)
    gate_f = gate + hidden
    a_f = tl.load(inputs_ptr + gate_f, mask=mask).to(tl.float32) + tl.load(recurrent_ptr + gate_f, mask=mask).to(tl.float32)
    gate_g = gate_f + hidden
    a_g = tl.load(inputs_ptr + gate_g, mask=mask).to(tl.float32) + tl.load(recurrent_ptr + gate_g, mask=mask).to(tl.float32)
    gate_o = gate_g + hidden
    a_o = tl.load(inputs_ptr + gate_o, mask=mask).to(tl.float32) + tl.load(recurrent_ptr + gate_o, mask=mask).to(tl.float32)
    i, f, g, o = tl.sigmoid(a_i), tl.sigmoid(a_f), _tanh(a_g), tl.sigmoid(a_o)
    c = f * tl.load(c_before_ptr + number, mask=mask) + i * g
    dtype = h_ptr.dtype.element_ty
    tl.store(gates_ptr + gate, i.to(dtype), mask=mask)
    tl.store(gates_ptr + gate_f, f.to(dtype), mask=mask)
    tl.store(gates_ptr + gate_g, g.to(dtype), mask=mask)
    tl.store(gates_ptr + gate_o, o.to(dtype), mask=mask)
    tl.store(c_ptr + number, c, mask=mask)
    tl.store(h_ptr + number, (o * _tanh(c)).to(dtype), mask=mask)


@triton.jit
def _backward_kernel(grad_y_ptr, from_next_ptr, gates_ptr, c_before_ptr, c_ptr, grad_c_ptr, d_ptr, numbers, hidden, BLOCK: tl.constexpr):
    """One step: d of the four gates before their activation, and dc in place.  Grid as forward's."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = number < numbers
    gate = number // hidden * (4 * hidden) + number % hidden
    gate_f, gate_g, gate_o = gate + hidden, gate + 2 * hidden, gate + 3 * hidden
    i = tl.load(gates_ptr + gate, mask=mask).to(tl.float32)
    f = tl.load(gates_ptr + gate_f, mask=mask).to(tl.float32)
    g = tl.load(gates_ptr + gate_g, mask=mask).to(tl.float32)
    o = tl.load(gates_ptr + gate_o, mask=mask).to(tl.float32)
    grad_h = tl.load(grad_y_ptr + number, mask=mask).to(tl.float32) + tl.load(from_next_ptr + number, mask=mask).to(tl.float32)
    tanh_c = _tanh(tl.load(c_ptr + number, mask=mask))
    grad_c = tl.load(grad_c_ptr + number, mask=mask) + grad_h * o * (1 - tanh_c * tanh_c)
    d_f = grad_c * tl.load(c_before_ptr + number, mask=mask) * f * (1 - f)
    dtype = d_ptr.dtype.element_ty
    tl.store(d_ptr + gate, (grad_c * g * i * (1 - i)).to(dtype), mask=mask)
    tl.store(d_ptr + gate_f, d_f.to(dtype), mask=mask)
    tl.store(d_ptr + gate_g, (grad_c * i * (1 - g * g)).to(dtype), mask=mask)
    tl.store(d_ptr + gate_o, (grad_h * tanh_c * o * (1 - o)).to(dtype), mask=mask)
    tl.store(grad_c_ptr + number, grad_c * f, mask=mask)


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::lstm", mutates_args=())
def _lstm(inputs: Tensor, weight: Tensor, h: Tensor, c: Tensor, back: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From W_ih x + b (tokens, batch, 4 hidden):  y (tokens, batch, hidden), the last c, the activated gates, float32 c of each step."""
    (tokens, batch, _), hidden = inputs.shape, h.shape[1]
    inputs, h, c_before = inputs.contiguous(), h.contiguous(), c.float().contiguous()
    gates = torch.empty_like(inputs)
    y, cells = inputs.new_empty(tokens, batch, hidden), inputs.new_empty(tokens, batch, hidden, dtype=torch.float32)
    grid = (triton.cdiv(h.numel(), BLOCK),)
    for step in reversed(range(tokens)) if back else range(tokens):
        if h.numel():
            recurrent = h @ weight.T
            with torch.cuda.device_of(inputs):
                _forward_kernel[grid](
                    inputs[step], recurrent, c_before, gates[step], cells[step], y[step], h.numel(), hidden, BLOCK=BLOCK, num_warps=4
                )
        h, c_before = y[step], cells[step]
    return y, c_before.to(c.dtype, copy=True), gates, cells


@_lstm.register_fake
def _(inputs: Tensor, weight: Tensor, h: Tensor, c: Tensor, back: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (*inputs.shape[:2], h.shape[1])
    return inputs.new_empty(shape), c.new_empty(c.shape), inputs.new_empty(inputs.shape), c.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::lstm_backward", mutates_args=())
def _lstm_backward(
    grad_y: Tensor, grad_c: Tensor, weight: Tensor, c: Tensor, y: Tensor, gates: Tensor, cells: Tensor, back: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """d of all steps (tokens, batch, 4 hidden), and dh and dc of the first h and c.

    y is not read: it depends on all that is learnt, so that autograd refuses a second derivative here.
    """
    tokens, hidden = len(gates), c.shape[1]
    grad_y, first_c, from_next = grad_y.contiguous(), c.float().contiguous(), torch.zeros_like(grad_y[0])
    d, grad_c = torch.empty_like(gates), grad_c.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    grid = (triton.cdiv(c.numel(), BLOCK),)
    for step in range(tokens) if back else reversed(range(tokens)):
        before = step + 1 if back else step - 1
        c_before = cells[before] if 0 <= before < tokens else first_c
        if c.numel():
            with torch.cuda.device_of(gates):
                state = grad_y[step], from_next, gates[step], c_before, cells[step]
                _backward_kernel[grid](*state, grad_c, d[step], c.numel(), hidden, BLOCK=BLOCK, num_warps=4)
            from_next = d[step] @ weight
    return d, from_next, grad_c.to(c.dtype, copy=True)


@_lstm_backward.register_fake
def _(
    grad_y: Tensor, grad_c: Tensor, weight: Tensor, c: Tensor, y: Tensor, gates: Tensor, cells: Tensor, back: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return gates.new_empty(gates.shape), c.new_empty(c.shape), c.new_empty(c.shape)


def _keep_steps(ctx, inputs, output) -> None:
    _, weight, h, c, ctx.back = inputs
    y, _, gates, cells = output
    ctx.save_for_backward(weight, h, c, y, gates, cells)
    ctx.mark_non_differentiable(gates, cells)


def _backward(ctx, grad_y: Tensor, grad_c: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    weight, h, c, y, gates, cells = ctx.saved_tensors
    d, grad_h, grad_c = _lstm_backward(grad_y, grad_c, weight, c, y, gates, cells, ctx.back)
    h_before = torch.cat((y[1:], h[None])) if ctx.back else torch.cat((h[None], y[:-1]))
    return d, d.flatten(0, 1).T @ h_before.flatten(0, 1), grad_h, grad_c, None


_lstm.register_autograd(_backward, setup_context=_keep_steps)


def lstm(
    input: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    back: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """One direction of torch.nn.LSTM:  input (batch, tokens, width), and h and c (batch, hidden) before the first step.

    weight_ih is (4 hidden, width), weight_hh (4 hidden, hidden), the biases (4 hidden,), all in the order i, f, g, o.  back: from the
    last token to the first.  Returns h of every step (batch, tokens, hidden), and h and c after the last one.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, h, c, weight_ih, weight_hh, (bias_ih, bias_hh))
    bias = bias_ih if bias_hh is None else bias_hh if bias_ih is None else bias_ih + bias_hh
    y, last_c, _, _ = _lstm(linear(input.transpose(0, 1), weight_ih, bias), weight_hh, h, c, back)
    return y.transpose(0, 1), y[0 if back else -1], last_c


def _check(input: Tensor, h: Tensor, c: Tensor, weight_ih: Tensor, weight_hh: Tensor, biases: tuple[Tensor | None, ...]) -> None:
    """What linear does not check."""
    hidden = weight_hh.shape[-1]
    if input.dim() != 3 or not input.shape[1] or h.shape != (len(input), hidden) or c.shape != h.shape:
        raise ValueError(
            f"lstm: input is {tuple(input.shape)}, h {tuple(h.shape)}, c {tuple(c.shape)}; give (batch, tokens, width) with at least one "
            f"token, and (batch, {hidden}) twice"
        )
    if weight_hh.shape != (4 * hidden, hidden) or weight_ih.shape != (4 * hidden, input.shape[2]):
        raise ValueError(
            f"lstm: weight_ih is {tuple(weight_ih.shape)}, weight_hh {tuple(weight_hh.shape)}; give (4 hidden, {input.shape[2]}) and "
            f"(4 hidden, hidden)"
        )
    given = [bias for bias in biases if bias is not None]
    if any(bias.shape != (4 * hidden,) for bias in given):
        raise ValueError(f"lstm: biases are {[tuple(bias.shape) for bias in given]}; give {(4 * hidden,)} to each")
    tensors = (input, h, c, weight_hh, *given)
    if any(tensor.dtype != input.dtype or tensor.device != input.device for tensor in tensors):
        found = [f"{tensor.dtype} on {tensor.device}" for tensor in tensors]
        raise ValueError(f"lstm: tensors are {found}; give one dtype and device to all")
