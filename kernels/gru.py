"""GRU, one layer in one direction, reset gate after the product:  r, z = sigmoid of W_i x + W_h h + b,  m = W_hn h + b_hn,
n = tanh(W_in x + b_in + r m),  h = (1 - z) n + z h, step by step.   (torch.nn.GRU; Cho et al., 2014, arXiv:1406.1078)

Method   W_i x of all steps is one product of matmul.py.  A step is then torch's product W_h h + b_h and one kernel for all that is
         pointwise, both ways; the weights' gradients are one product each, from d of all steps.  (Appleyard et al., 2016, arXiv:1604.01946)
Bytes    A step of forward reads W_h h and W_i x, 3 hidden numbers each, and h, and writes r, z, n, m and h.  A step of backward reads those
         four, h, dy and what came back from the next step, and writes d of r, z, m and n and dh z.  W_h is read once per step, from L2
         where it fits.
Numbers  float32, bfloat16, float16.  A step is computed in float32; dh is kept in float32, gates and d in the inputs' type.
Limits   Two launches a step and way, one after the other: small layers are bound by launching.  No dropout or packed sequences; fewer
         than 2^31 numbers in the gates of a step.  Differentiable once.  Deterministic as far as torch's product is.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .matmul import linear

BLOCK = 256  # numbers of h to a program: a step is small


@triton.jit
def _forward_kernel(inputs_ptr, recurrent_ptr, h_before_ptr, gates_ptr, h_ptr, numbers, hidden, BLOCK: tl.constexpr):
    """One step from W_i x + b_i and W_h h + b_h.  Grid: one program per BLOCK of the batch * hidden numbers of h."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = number < numbers
    of_r = number // hidden * (3 * hidden) + number % hidden  # z and n are hidden numbers apart
    of_z, of_n = of_r + hidden, of_r + 2 * hidden
    a_r = tl.load(inputs_ptr + of_r, mask=mask).to(tl.float32) + tl.load(recurrent_ptr + of_r, mask=mask).to(tl.float32)
    a_z = tl.load(inputs_ptr + of_z, mask=mask).to(tl.float32) + tl.load(recurrent_ptr + of_z, mask=mask).to(tl.float32)
    m = tl.load(recurrent_ptr + of_n, mask=mask).to(tl.float32)
    r, z = tl.sigmoid(a_r), tl.sigmoid(a_z)
    a_n = tl.load(inputs_ptr + of_n, mask=mask).to(tl.float32) + r * m
    n = 2 * tl.sigmoid(2 * a_n) - 1  # tanh
    h = n + z * (tl.load(h_before_ptr + number, mask=mask).to(tl.float32) - n)
    dtype = h_ptr.dtype.element_ty
    saved = number // hidden * (4 * hidden) + number % hidden
    tl.store(gates_ptr + saved, r.to(dtype), mask=mask)
    tl.store(gates_ptr + saved + hidden, z.to(dtype), mask=mask)
    tl.store(gates_ptr + saved + 2 * hidden, m.to(dtype), mask=mask)
    tl.store(gates_ptr + saved + 3 * hidden, n.to(dtype), mask=mask)
    tl.store(h_ptr + number, h.to(dtype), mask=mask)


@triton.jit
def _backward_kernel(grad_y_ptr, product_ptr, gates_ptr, h_before_ptr, grad_h_ptr, d_ptr, numbers, hidden, BLOCK: tl.constexpr):
    """One step: d of r, z, m and n, and dh z in the place of dh, to which product is still to be added.  Grid as forward's."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = number < numbers
    of_r = number // hidden * (4 * hidden) + number % hidden
    of_z, of_m, of_n = of_r + hidden, of_r + 2 * hidden, of_r + 3 * hidden
    r = tl.load(gates_ptr + of_r, mask=mask).to(tl.float32)
    z = tl.load(gates_ptr + of_z, mask=mask).to(tl.float32)
    m = tl.load(gates_ptr + of_m, mask=mask).to(tl.float32)
    n = tl.load(gates_ptr + of_n, mask=mask).to(tl.float32)
    grad_h = tl.load(grad_h_ptr + number, mask=mask) + tl.load(product_ptr + number, mask=mask).to(tl.float32)
    grad_h += tl.load(grad_y_ptr + number, mask=mask).to(tl.float32)
    d_n = grad_h * (1 - z) * (1 - n * n)
    d_z = grad_h * (tl.load(h_before_ptr + number, mask=mask).to(tl.float32) - n) * z * (1 - z)
    dtype = d_ptr.dtype.element_ty
    tl.store(d_ptr + of_r, (d_n * m * r * (1 - r)).to(dtype), mask=mask)
    tl.store(d_ptr + of_z, d_z.to(dtype), mask=mask)
    tl.store(d_ptr + of_m, (d_n * r).to(dtype), mask=mask)
    tl.store(d_ptr + of_n, d_n.to(dtype), mask=mask)
    tl.store(grad_h_ptr + number, grad_h * z, mask=mask)


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::gru", mutates_args=())
def _gru(inputs: Tensor, weight: Tensor, bias: Tensor | None, h: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """From W_i x + b_i (tokens, batch, 3 hidden):  y (tokens, batch, hidden), and r, z, m and n (tokens, batch, 4 hidden)."""
    (tokens, batch, _), hidden = inputs.shape, h.shape[1]
    inputs, h = inputs.contiguous(), h.contiguous()
    y, gates = inputs.new_empty(tokens, batch, hidden), inputs.new_empty(tokens, batch, 4 * hidden)
    grid = (triton.cdiv(h.numel(), BLOCK),)
    for step in reversed(range(tokens)) if back else range(tokens):
        if h.numel():
            recurrent = torch.nn.functional.linear(h, weight, bias)
            with torch.cuda.device_of(inputs):
                _forward_kernel[grid](inputs[step], recurrent, h, gates[step], y[step], h.numel(), hidden, BLOCK=BLOCK, num_warps=4)
        h = y[step]
    return y, gates


@_gru.register_fake
def _(inputs: Tensor, weight: Tensor, bias: Tensor | None, h: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    (tokens, batch, _), hidden = inputs.shape, h.shape[1]
    return inputs.new_empty(tokens, batch, hidden), inputs.new_empty(tokens, batch, 4 * hidden)


@torch.library.custom_op(f"{OPS}::gru_backward", mutates_args=())
def _gru_backward(grad_y: Tensor, weight: Tensor, h: Tensor, y: Tensor, gates: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """d of r, z, m and n of all steps (tokens, batch, 4 hidden), and dh of the first h."""
    tokens, hidden = len(gates), h.shape[1]
    grad_y, h = grad_y.contiguous(), h.contiguous()
    d, grad_h, product = torch.empty_like(gates), torch.zeros_like(h, dtype=torch.float32), torch.zeros_like(h)
    grid = (triton.cdiv(h.numel(), BLOCK),)
    for step in range(tokens) if back else reversed(range(tokens)):
        before = step + 1 if back else step - 1
        h_before = y[before] if 0 <= before < tokens else h
        if h.numel():
            with torch.cuda.device_of(gates):
                state = grad_y[step], product, gates[step], h_before
                _backward_kernel[grid](*state, grad_h, d[step], h.numel(), hidden, BLOCK=BLOCK, num_warps=4)
            product = d[step, :, : 3 * hidden] @ weight
    return d, (grad_h + product).to(h.dtype)


@_gru_backward.register_fake
def _(grad_y: Tensor, weight: Tensor, h: Tensor, y: Tensor, gates: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    return gates.new_empty(gates.shape), h.new_empty(h.shape)


def _keep_steps(ctx, inputs, output) -> None:
    _, weight, bias, h, ctx.back = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(weight, h, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad_y: Tensor, _: None) -> tuple[Tensor | None, ...]:
    weight, h, y, gates = ctx.saved_tensors
    d, grad_h = _gru_backward(grad_y, weight, h, y, gates, ctx.back)
    hidden = h.shape[1]
    h_before = torch.cat((y[1:], h[None]) if ctx.back else (h[None], y[:-1]))
    d_h = d[..., : 3 * hidden].flatten(0, 1)
    d_i = torch.cat((d[..., : 2 * hidden], d[..., 3 * hidden :]), 2)
    return d_i, d_h.T @ h_before.flatten(0, 1), d_h.sum(0) if ctx.has_bias else None, grad_h, None


_gru.register_autograd(_backward, setup_context=_keep_steps)


def gru(
    input: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    back: bool = False,
) -> Tensor:
    """One direction of torch.nn.GRU:  input (batch, tokens, width), and h (batch, hidden) before the first step.

    weight_ih is (3 hidden, width), weight_hh (3 hidden, hidden), the biases (3 hidden,), all in the order r, z, n.  back: from the last
    token to the first.  Returns h of every step, (batch, tokens, hidden).
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(input, h, weight_ih, weight_hh, bias_hh)
    y, _ = _gru(linear(input.transpose(0, 1), weight_ih, bias_ih), weight_hh, bias_hh, h, back)
    return y.transpose(0, 1)


def _check(input: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_hh: Tensor | None) -> None:
    """What linear does not check."""
    hidden = weight_hh.shape[-1]
    if input.dim() != 3 or not input.shape[1] or h.shape != (len(input), hidden):
        raise ValueError(
            f"gru: input is {tuple(input.shape)}, h {tuple(h.shape)}; give (batch, tokens, width) with at least one token, and "
            f"(batch, {hidden})"
        )
    if weight_hh.shape != (3 * hidden, hidden) or weight_ih.shape != (3 * hidden, input.shape[2]):
        raise ValueError(
            f"gru: weight_ih is {tuple(weight_ih.shape)}, weight_hh {tuple(weight_hh.shape)}; give (3 hidden, {input.shape[2]}) and "
            f"(3 hidden, hidden)"
        )
    if bias_hh is not None and bias_hh.shape != (3 * hidden,):
        raise ValueError(f"gru: bias_hh is {tuple(bias_hh.shape)}; weight_hh {tuple(weight_hh.shape)} needs {(3 * hidden,)}")
    tensors = [tensor for tensor in (input, h, weight_hh, bias_hh) if tensor is not None]
    if any(tensor.dtype != input.dtype or tensor.device != input.device for tensor in tensors):
        found = [f"{tensor.dtype} on {tensor.device}" for tensor in tensors]
        raise ValueError(f"gru: tensors are {found}; give one dtype and device to all")
