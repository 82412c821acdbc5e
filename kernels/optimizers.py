"""One step of SGD with momentum, Adam or RMSprop over a list of tensors, in place.   (torch.optim; the formulas: layers/optimizers.py)

Method   One launch for all tensors, however many and however long each is.  Its argument is a table of addresses, a column to a tensor;
         every program works on one block of one tensor, and finds which by the columns' first programs.  Counters are raised before, in
         a launch of torch's.
Bytes    SGD reads w, g, b and writes w, b.  Adam reads w, g, m, v and writes w, m, v.  RMSprop reads w, g, v, b and writes w, v, b.
         The table, 8 bytes a cell, is made on the host and copied at every step: gradients rarely lie where they lay before.
Numbers  float32, bfloat16, float16; computed in float32, and rounded only where it is stored.  Counters are float32.
Limits   All tensors of one dtype, on one device; gradients are made contiguous by a copy, the others must be.  One tensor that is no
         multiple of 16 long, or begins at no multiple of 16 bytes, takes the widest loads from all.  The host takes some microseconds for
         each tensor to check it and write its column: many short tensors wait for that.  No amsgrad, centering, dampening, Nesterov,
         maximize, nor learning rates that are tensors.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import triton
from torch import Tensor

from .optimizers_tables import adam_kernel, launch, rmsprop_kernel, sgd_kernel

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process
Tensors = list[Tensor]  # of a schema; the public functions take any sequence


@torch.library.custom_op(f"{OPS}::sgd_step", mutates_args=("params", "momentum_buffers"))
def _sgd(params: Tensors, grads: Tensors, momentum_buffers: Tensors, lr: float, momentum: float, weight_decay: float) -> None:
    launch(sgd_kernel, (params, _contiguous(grads), momentum_buffers), (), lr, momentum, weight_decay)


@torch.library.custom_op(f"{OPS}::adam_step", mutates_args=("params", "exp_avgs", "exp_avg_sqs", "state_steps"))
def _adam(
    params: Tensors,
    grads: Tensors,
    exp_avgs: Tensors,
    exp_avg_sqs: Tensors,
    state_steps: Tensors,
    lr: float,
    betas: list[float],
    eps: float,
    weight_decay: float,
) -> None:
    torch._foreach_add_(state_steps, 1)
    first, second = ((beta, 1 - beta, math.log2(beta) if beta else -math.inf) for beta in betas)
    launch(adam_kernel, (params, _contiguous(grads), exp_avgs, exp_avg_sqs), state_steps, lr, *first, *second, eps, weight_decay)


@torch.library.custom_op(f"{OPS}::rmsprop_step", mutates_args=("params", "square_avgs", "momentum_buffers", "state_steps"))
def _rmsprop(
    params: Tensors,
    grads: Tensors,
    square_avgs: Tensors,
    momentum_buffers: Tensors,
    state_steps: Tensors,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    torch._foreach_add_(state_steps, 1)
    rows = (params, _contiguous(grads), square_avgs, momentum_buffers)
    launch(rmsprop_kernel, rows, (), lr, alpha, 1 - alpha, eps, momentum, weight_decay)


def _contiguous(tensors: Tensors) -> Tensors:
    return [tensor.contiguous() for tensor in tensors]


for _op in (_sgd, _adam, _rmsprop):
    _op.register_fake(lambda *_, **__: None)


def sgd(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    momentum_buffers: Sequence[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """A step of torch.optim.SGD, but that the first step wants momentum buffers too, of zeros.

    Raises ValueError where lists are not of one length, shapes, dtypes or devices do not fit, what is written is not contiguous, or the
    tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check("sgd", {"params": params, "grads": grads, "momentum_buffers": momentum_buffers})
    _sgd(list(params), list(grads), list(momentum_buffers), lr, momentum, weight_decay)


def adam(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    state_steps: Sequence[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """A step of torch.optim.Adam.  state_steps are float32 numbers on the device of params, as for fused=True.  Raises as sgd does."""
    _check("adam", {"params": params, "grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs}, state_steps)
    _adam(list(params), list(grads), list(exp_avgs), list(exp_avg_sqs), list(state_steps), lr, list(betas), eps, weight_decay)


def rmsprop(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    square_avgs: Sequence[Tensor],
    momentum_buffers: Sequence[Tensor],
    state_steps: Sequence[Tensor],
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """A step of torch.optim.RMSprop.  state_steps are float32 numbers on the device of params.  Raises as sgd does."""
    lists = {"params": params, "grads": grads, "square_avgs": square_avgs, "momentum_buffers": momentum_buffers}
    _check("rmsprop", lists, state_steps)
    _rmsprop(*map(list, lists.values()), list(state_steps), lr, alpha, eps, momentum, weight_decay)


def _check(name: str, lists: Mapping[str, Sequence[Tensor]], steps: Sequence[Tensor] | None = None) -> None:
    """Raises the ValueError of the first thing that does not fit.  steps: one counter for each of params; None where there are none."""
    params = lists["params"]
    for what, tensors in (lists | ({} if steps is None else {"state_steps": steps})).items():
        if len(tensors) != len(params):
            raise ValueError(f"{name}: {len(tensors)} {what} for {len(params)} params; give one for each")
    if not params:
        raise ValueError(f"{name}: params is empty; give at least one tensor")
    first = params[0]
    if first.dtype not in DTYPES:
        raise ValueError(f"{name}: params[0] is {first.dtype}; give float32, bfloat16 or float16")
    for what, tensors in lists.items():
        for index, (tensor, param) in enumerate(zip(tensors, params, strict=True)):
            if tensor.shape != param.shape:
                raise ValueError(f"{name}: {what}[{index}] is {tuple(tensor.shape)}; params[{index}] is {tuple(param.shape)}")
            if tensor.dtype != first.dtype or tensor.device != first.device:
                raise ValueError(
                    f"{name}: {what}[{index}] is {tensor.dtype} on {tensor.device}; params[0] is {first.dtype} on {first.device}"
                )
            if what != "grads" and not tensor.is_contiguous():
                raise ValueError(f"{name}: {what}[{index}] is not contiguous, and is to be written; keep it contiguous")
    for index, step in enumerate(steps or ()):
        if step.numel() != 1 or step.dtype != torch.float32 or step.device != first.device:
            shown = f"{tuple(step.shape)} {step.dtype} on {step.device}"
            raise ValueError(f"{name}: state_steps[{index}] is {shown}; give one float32 number on {first.device}")
    if not first.is_cuda and isinstance(sgd_kernel, triton.JITFunction):
        raise ValueError(f"{name}: params are on {first.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton")
