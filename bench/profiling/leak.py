"""Does a variant keep tensors from call to call?  Counted in bytes over a few forward and backward calls; nothing is timed.

A layer may keep something once, as a cache does.  A leak grows at every call.
"""

import gc
import itertools

import torch
from torch.profiler import record_function

from ..declare.mistake import Finding
from ..subject.make import Subject
from . import kineto

CALLS = 4  # the first may fill a cache; every one after it must hold more than the one before


class Leak(Finding):
    """A variant holds more tensors after every call."""


def check(subject: Subject, device: str) -> None:
    """Raises Leak with the bytes per call where they grow at every call, garbage collected."""
    if _growth(subject, device, collect=False) and (grown := _growth(subject, device, collect=True)):
        raise Leak(f"leaks {grown} bytes a call")


def _growth(subject: Subject, device: str, collect: bool) -> int:
    """Bytes that every further call leaves behind, the least over the calls; 0 where one left nothing."""
    held = _on_host(subject, collect) if device == "cpu" else _on_accelerator(subject, device, collect)
    return max(0, min(after - before for before, after in itertools.pairwise(held)))


def _on_host(subject: Subject, collect: bool) -> list[int]:
    """Tensor bytes held after each call, from the profiler's allocation events."""
    with kineto.session("cpu") as profiler:
        for _ in range(CALLS):
            with record_function(kineto.STEP):
                _call(subject, collect)
    events = kineto.read(profiler)
    ends = [span.end_ns for span in kineto.ranges(events, kineto.STEP)]
    return [sum(each.nbytes for each in events.allocations if each.at_ns <= end) for end in ends]


def _on_accelerator(subject: Subject, device: str, collect: bool) -> list[int]:
    held = []
    for _ in range(CALLS):
        _call(subject, collect)
        torch.accelerator.synchronize(device)
        held.append(torch.accelerator.memory_allocated(device))
    return held


def _call(subject: Subject, collect: bool) -> None:
    """One forward and backward that leave nothing of ours."""
    output = subject.forward()
    if any(cotangent is not None for cotangent in subject.cotangents):
        subject.backward(output)
    del output
    subject.clear_gradients()
    if collect:
        gc.collect()
