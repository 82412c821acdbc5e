"""The kernels behind optimizers.py, which has their method and their contract, and the table they walk along: not for use on their own."""

import itertools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # numbers to a program
ALIGNMENT = 16  # bytes, and numbers: what the widest loads want of every address and every length

# rows of the table; the first is each tensor's first program, and the state has as many as it needs
COUNT, WEIGHT, GRADIENT, STATE = (tl.constexpr(row) for row in range(1, 5))


@triton.jit
def _place(table_ptr, tensors, ALIGNED: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Which tensor this program works on, at which of its numbers, and which of those there are."""
    program = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    first = tl.load(table_ptr + column, mask=column < tensors, other=1 << 62)
    which = tl.sum((first <= program).to(tl.int32), axis=0) - 1
    offset = (program - tl.load(table_ptr + which)) * BLOCK + tl.arange(0, BLOCK)
    count = tl.load(table_ptr + COUNT * tensors + which)
    if ALIGNED:
        count = tl.multiple_of(count, 16)
    return which, offset, offset < count


@triton.jit
def _start(table_ptr, row, tensors, which, like_ptr, ALIGNED: tl.constexpr):
    """Where the tensor in a row of the table begins; like_ptr is of its dtype."""
    start = tl.load(table_ptr + row * tensors + which).to(like_ptr.dtype)
    if ALIGNED:
        start = tl.multiple_of(start, 16)
    return start


@triton.jit
def sgd_kernel(table_ptr, like_ptr, tensors, lr, momentum, weight_decay, ALIGNED: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Grid: one program per block of every tensor."""
    which, offset, mask = _place(table_ptr, tensors, ALIGNED, COLUMNS, BLOCK)
    w_ptr = _start(table_ptr, WEIGHT, tensors, which, like_ptr, ALIGNED) + offset
    g_ptr = _start(table_ptr, GRADIENT, tensors, which, like_ptr, ALIGNED) + offset
    b_ptr = _start(table_ptr, STATE, tensors, which, like_ptr, ALIGNED) + offset
    w = tl.load(w_ptr, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(g_ptr, mask=mask, other=0.0).to(tl.float32) + weight_decay * w
    b = momentum * tl.load(b_ptr, mask=mask, other=0.0).to(tl.float32) + d
    tl.store(b_ptr, b.to(like_ptr.dtype.element_ty), mask=mask)
    tl.store(w_ptr, (w - lr * b).to(like_ptr.dtype.element_ty), mask=mask)


@triton.jit
def adam_kernel(
    table_ptr,
    like_ptr,
    tensors,
    lr,
    beta1,
    rest1,
    log2_beta1,
    beta2,
    rest2,
    log2_beta2,
    eps,
    weight_decay,
    ALIGNED: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """rest is 1 - beta, which float32 would take from beta with an error of 5e-5.  Grid: one program per block of every tensor."""
    which, offset, mask = _place(table_ptr, tensors, ALIGNED, COLUMNS, BLOCK)
    w_ptr = _start(table_ptr, WEIGHT, tensors, which, like_ptr, ALIGNED) + offset
    g_ptr = _start(table_ptr, GRADIENT, tensors, which, like_ptr, ALIGNED) + offset
    m_ptr = _start(table_ptr, STATE, tensors, which, like_ptr, ALIGNED) + offset
    v_ptr = _start(table_ptr, STATE + 1, tensors, which, like_ptr, ALIGNED) + offset
    step = tl.load(tl.load(table_ptr + (STATE + 2) * tensors + which).to(tl.pointer_type(tl.float32)))
    correction1 = (1 - tl.exp2((step * log2_beta1).to(tl.float64))).to(tl.float32)  # float64: at first beta^step is close to 1
    correction2 = (1 - tl.exp2((step * log2_beta2).to(tl.float64))).to(tl.float32)
    w = tl.load(w_ptr, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(g_ptr, mask=mask, other=0.0).to(tl.float32) + weight_decay * w
    m = beta1 * tl.load(m_ptr, mask=mask, other=0.0).to(tl.float32) + rest1 * d
    v = beta2 * tl.load(v_ptr, mask=mask, other=0.0).to(tl.float32) + rest2 * d * d
    tl.store(m_ptr, m.to(like_ptr.dtype.element_ty), mask=mask)
    tl.store(v_ptr, v.to(like_ptr.dtype.element_ty), mask=mask)
    w -= lr / correction1 * m / (tl.sqrt(v) / tl.sqrt(correction2) + eps)
    tl.store(w_ptr, w.to(like_ptr.dtype.element_ty), mask=mask)


@triton.jit
def rmsprop_kernel(
    table_ptr,
    like_ptr,
    tensors,
    lr,
    alpha,
    rest,
    eps,
    momentum,
    weight_decay,
    ALIGNED: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """rest is 1 - alpha.  Grid: one program per block of every tensor."""
    which, offset, mask = _place(table_ptr, tensors, ALIGNED, COLUMNS, BLOCK)
    w_ptr = _start(table_ptr, WEIGHT, tensors, which, like_ptr, ALIGNED) + offset
    g_ptr = _start(table_ptr, GRADIENT, tensors, which, like_ptr, ALIGNED) + offset
    v_ptr = _start(table_ptr, STATE, tensors, which, like_ptr, ALIGNED) + offset
    b_ptr = _start(table_ptr, STATE + 1, tensors, which, like_ptr, ALIGNED) + offset
    w = tl.load(w_ptr, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(g_ptr, mask=mask, other=0.0).to(tl.float32) + weight_decay * w
    v = alpha * tl.load(v_ptr, mask=mask, other=0.0).to(tl.float32) + rest * d * d
    b = momentum * tl.load(b_ptr, mask=mask, other=0.0).to(tl.float32) + d / (tl.sqrt(v) + eps)
    tl.store(v_ptr, v.to(like_ptr.dtype.element_ty), mask=mask)
    tl.store(b_ptr, b.to(like_ptr.dtype.element_ty), mask=mask)
    tl.store(w_ptr, (w - lr * b).to(like_ptr.dtype.element_ty), mask=mask)


def launch(kernel: triton.JITFunction, rows: Sequence[Sequence[Tensor]], counters: Sequence[Tensor], *numbers: float) -> None:
    """Once over all tensors.  rows: weights, gradients and state, one of each to a column; counters, where there are any, are the last.

    The table lies on the device of the weights: first programs, lengths, addresses.
    """
    weights = rows[0]
    counts = [weight.numel() for weight in weights]
    firsts = [0, *itertools.accumulate(triton.cdiv(count, BLOCK) for count in counts)]
    programs = firsts.pop()
    if not programs:
        return
    addresses = [[tensor.data_ptr() for tensor in row] for row in rows]
    aligned = not any(number % ALIGNMENT for row in (counts, *addresses) for number in row)
    table = torch.tensor([firsts, counts, *addresses, *([[each.data_ptr() for each in counters]] if counters else [])])
    columns = triton.next_power_of_2(len(weights))
    with torch.cuda.device_of(weights[0]):
        table = table.to(weights[0].device, non_blocking=True)
        kernel[(programs,)](table, weights[0], len(weights), *numbers, ALIGNED=aligned, COLUMNS=columns, BLOCK=BLOCK, num_warps=4)
