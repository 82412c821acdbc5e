"""The memory pass: tensor bytes of one forward and one backward.  On the CPU from the profiler's memory events, exact to the byte.

Not timed, and never mixed with the timed pass.  Gradients are None before; the outputs are held until backward has ended.
"""

import torch
from torch import Tensor
from torch.profiler import record_function

from ..data.record import Memory
from ..subject.make import Subject, tensors
from . import kineto


def weigh(subject: Subject, device: str) -> Memory:
    """Memory of a warmed-up subject.  Without any gradient to compute, backward's peak is what forward left behind."""
    return _on_host(subject) if device == "cpu" else _on_accelerator(subject, device)


def _on_host(subject: Subject) -> Memory:
    subject.clear_gradients()
    with kineto.session("cpu") as profiler:
        output = subject.forward()
        with record_function(kineto.BACKWARD):
            if _differentiable(subject):
                subject.backward(output)
    events = kineto.read(profiler)
    turn = kineto.ranges(events, kineto.BACKWARD)[0].start_ns
    outputs = new_bytes(subject, output)
    held = peak_forward = peak_backward = after_forward = 0
    for allocation in events.allocations:
        held += allocation.nbytes
        if allocation.at_ns < turn:
            after_forward = held
            peak_forward = max(peak_forward, held)
        peak_backward = max(peak_backward, held) if allocation.at_ns >= turn else peak_backward
    peak_backward = max(peak_backward, after_forward)
    del output
    subject.clear_gradients()
    return Memory(live_bytes(subject), max(0, after_forward - outputs), peak_forward, peak_backward)


def _on_accelerator(subject: Subject, device: str) -> Memory:
    subject.clear_gradients()
    torch.accelerator.synchronize(device)
    before = _held(device)
    torch.accelerator.reset_peak_memory_stats(device)
    output = subject.forward()
    torch.accelerator.synchronize(device)
    after_forward, peak_forward = _held(device) - before, _held(device, "peak") - before
    torch.accelerator.reset_peak_memory_stats(device)
    if _differentiable(subject):
        subject.backward(output)
    torch.accelerator.synchronize(device)
    peak_backward, reserved = _held(device, "peak") - before, torch.accelerator.max_memory_reserved(device)
    outputs = new_bytes(subject, output)
    del output
    subject.clear_gradients()
    return Memory(live_bytes(subject), max(0, after_forward - outputs), peak_forward, peak_backward, reserved)


def _held(device: str, when: str = "current") -> int:
    """Bytes that were asked for; where the allocator does not tell, those it gave, which are multiples of 512."""
    stats = torch.accelerator.memory_stats(device)
    return int(stats.get(f"requested_bytes.all.{when}", stats[f"allocated_bytes.all.{when}"]))


def _differentiable(subject: Subject) -> bool:
    return any(cotangent is not None for cotangent in subject.cotangents)


def live_bytes(subject: Subject) -> int:
    return sum(storages([*subject.inputs, *subject.module.parameters(), *subject.module.buffers()]).values())


def new_bytes(subject: Subject, output: object) -> int:
    """Bytes of the outputs' own storages: an output that is a view of an input costs nothing."""
    known = storages([*subject.inputs, *subject.module.parameters(), *subject.module.buffers()])
    made = storages(list(tensors(output).values()))
    return sum(nbytes for pointer, nbytes in made.items() if pointer not in known)


def storages(held: list[Tensor]) -> dict[int, int]:
    """Of every storage its bytes; a sparse tensor has some for its places and one for its numbers."""
    parts = [part for tensor in held for part in _parts(tensor)]
    return {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)
