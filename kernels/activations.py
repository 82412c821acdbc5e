"""ReLU, SiLU and GELU, alone or as the gate of a gated unit:  y = f(x)  and  y = f(a) b.

Method   One program per BLOCK numbers.  Backward:  dx = g f'(x);  da = g b f'(a),  db = g f(a).  The tanh of the approximate GELU is a
         sigmoid:  (1 + tanh u) / 2 = sigmoid(2 u).   (GELU and SiLU: Hendrycks & Gimpel, 2016, arXiv:1606.08415)
Bytes    f: forward reads x and writes y; backward reads g and x and writes dx.  ReLU saves y in the place of x.
         f(a) b: forward reads a and b and writes y; backward reads g, a and b and writes da and db.  f(a) is recomputed, never stored.
Numbers  float32, bfloat16, float16; computed in float32.
Limits   Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 1024  # 8 numbers to each of 128 threads
KINDS = ("relu", "silu", "gelu", "gelu_tanh")


@triton.jit
def _value(x, KIND: tl.constexpr):
    """f(x)."""
    if KIND == "relu":
        y = tl.where(x <= 0, 0.0, x)  # not the maximum, which may drop a NaN
    elif KIND == "silu":
        y = x * tl.sigmoid(x)
    elif KIND == "gelu":
        y = x * 0.5 * (1 + tl.erf(x * 0.7071067811865476))
    else:
        y = x * tl.sigmoid(x * (1.5957691216057308 + 0.07135481627260025 * x * x))  # sqrt(8 / pi), and 0.044715 of it
    return y


@triton.jit
def _product_with_slope(grad, x, KIND: tl.constexpr):
    """g f'(x); for ReLU x may as well be f(x)."""
    if KIND == "relu":
        product = tl.where(x <= 0, 0.0, grad)  # a selection: an infinite g times 0 would be NaN
    elif KIND == "silu":
        sigmoid = tl.sigmoid(x)
        product = grad * sigmoid * (1 + x * (1 - sigmoid))
    elif KIND == "gelu":
        probability = 0.5 * (1 + tl.erf(x * 0.7071067811865476))
        product = grad * (probability + x * tl.exp(-0.5 * x * x) * 0.3989422804014327)  # 1 / sqrt(2 pi)
    else:
        square = x * x
        sigmoid = tl.sigmoid(x * (1.5957691216057308 + 0.07135481627260025 * square))
        product = grad * sigmoid * (1 + (1 - sigmoid) * x * (1.5957691216057308 + 0.21406444881780076 * square))
    return product


@triton.jit
def _forward_kernel(x_ptr, y_ptr, count, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Grid: one program per BLOCK numbers."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < count
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + offset, _value(x, KIND).to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _backward_kernel(grad_ptr, x_ptr, grad_x_ptr, count, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Grid: one program per BLOCK numbers."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < count
    grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(grad_x_ptr + offset, _product_with_slope(grad, x, KIND).to(grad_x_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _gated_kernel(a_ptr, b_ptr, y_ptr, count, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """y = f(a) b.  Grid: one program per BLOCK numbers."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < count
    a = tl.load(a_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + offset, (_value(a, KIND) * b).to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _gated_backward_kernel(grad_ptr, a_ptr, b_ptr, grad_a_ptr, grad_b_ptr, count, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """da and db in one pass.  Grid: one program per BLOCK numbers."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < count
    grad = tl.load(grad_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    a = tl.load(a_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(grad_a_ptr + offset, _product_with_slope(grad * b, a, KIND).to(grad_a_ptr.dtype.element_ty), mask=mask)
    tl.store(grad_b_ptr + offset, (grad * _value(a, KIND)).to(grad_b_ptr.dtype.element_ty), mask=mask)


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


def _launch(kernel, *tensors: Tensor, kind: str) -> None:
    """One program per BLOCK numbers of contiguous tensors of one size."""
    count = tensors[0].numel()
    if count:
        with torch.cuda.device_of(tensors[0]):
            kernel[(triton.cdiv(count, BLOCK),)](*tensors, count, KIND=kind, BLOCK=BLOCK, num_warps=4)


@torch.library.custom_op(f"{OPS}::activation", mutates_args=())
def _activation(x: Tensor, kind: str) -> Tensor:
    """f(x), of any shape; contiguous."""
    x = x.contiguous()
    y = torch.empty_like(x)
    _launch(_forward_kernel, x, y, kind=kind)
    return y


@_activation.register_fake
def _(x: Tensor, kind: str) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op(f"{OPS}::activation_backward", mutates_args=())
def _activation_backward(grad: Tensor, x: Tensor, kind: str) -> Tensor:
    """g f'(x)."""
    grad, x = grad.contiguous(), x.contiguous()
    grad_x = torch.empty_like(x)
    _launch(_backward_kernel, grad, x, grad_x, kind=kind)
    return grad_x


@_activation_backward.register_fake
def _(grad: Tensor, x: Tensor, kind: str) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op(f"{OPS}::gated", mutates_args=())
def _gated(a: Tensor, b: Tensor, kind: str) -> Tensor:
    """f(a) b, of any shape; contiguous."""
    a, b = a.contiguous(), b.contiguous()
    y = torch.empty_like(a)
    _launch(_gated_kernel, a, b, y, kind=kind)
    return y


@_gated.register_fake
def _(a: Tensor, b: Tensor, kind: str) -> Tensor:
    return a.new_empty(a.shape)


@torch.library.custom_op(f"{OPS}::gated_backward", mutates_args=())
def _gated_backward(grad: Tensor, a: Tensor, b: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """g b f'(a)  and  g f(a)."""
    grad, a, b = grad.contiguous(), a.contiguous(), b.contiguous()
    grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
    _launch(_gated_backward_kernel, grad, a, b, grad_a, grad_b, kind=kind)
    return grad_a, grad_b


@_gated_backward.register_fake
def _(grad: Tensor, a: Tensor, b: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    return a.new_empty(a.shape), b.new_empty(b.shape)


def _keep_one(ctx, inputs, output) -> None:
    x, ctx.kind = inputs
    ctx.save_for_backward(output if ctx.kind == "relu" else x)


def _keep_both(ctx, inputs, output) -> None:
    *both, ctx.kind = inputs
    ctx.save_for_backward(*both)


_activation.register_autograd(lambda ctx, grad: (_activation_backward(grad, *ctx.saved_tensors, ctx.kind), None), setup_context=_keep_one)
_gated.register_autograd(lambda ctx, grad: (*_gated_backward(grad, *ctx.saved_tensors, ctx.kind), None), setup_context=_keep_both)


def relu(input: Tensor) -> Tensor:
    """torch.nn.functional.relu of a tensor of any shape.  The result is contiguous.

    Here and below: a non-contiguous input is copied.  Raises ValueError for another dtype, or tensors that do not fit each other or are not
    on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check("relu", input)
    return _activation(input, "relu")


def silu(input: Tensor) -> Tensor:
    """torch.nn.functional.silu of a tensor of any shape.  The result is contiguous."""
    _check("silu", input)
    return _activation(input, "silu")


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """torch.nn.functional.gelu of a tensor of any shape; approximate is "none" or "tanh".  The result is contiguous."""
    _check("gelu", input)
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is {approximate!r}; give "none" or "tanh"')
    return _activation(input, "gelu" if approximate == "none" else "gelu_tanh")


def gated(gate: Tensor, input: Tensor, activation: str) -> Tensor:
    """f(gate) * input, with f one of "relu", "silu", "gelu", "gelu_tanh"; both of one shape.  The result is contiguous."""
    _check("gated", gate, input)
    if activation not in KINDS:
        raise ValueError(f"gated: activation is {activation!r}; give one of {', '.join(KINDS)}")
    return _gated(gate, input, activation)


def _check(name: str, *tensors: Tensor) -> None:
    first = tensors[0]
    if any(tensor.shape != first.shape for tensor in tensors):
        raise ValueError(f"{name}: shapes are {[tuple(tensor.shape) for tensor in tensors]}; give tensors of one shape")
    if first.dtype not in DTYPES or any(tensor.dtype != first.dtype for tensor in tensors):
        raise ValueError(f"{name}: dtypes are {[tensor.dtype for tensor in tensors]}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != first.device for tensor in tensors):
        raise ValueError(f"{name}: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not first.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"{name}: input is on {first.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
