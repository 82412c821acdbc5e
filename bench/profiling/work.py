"""What one step must do at least, counted on the reference: floating-point operations, and bytes in and out.  Nothing is timed."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..data.record import Work
from ..subject.make import Subject
from .memory import live_bytes, new_bytes, storages


def _convolution_backward(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *settings: Any, out_shape: object = None, **named: object
) -> int:
    """Each gradient that is asked for takes as many operations as forward.  torch's own formula counts groups as if they were one."""
    transposed, mask = settings[4], settings[-1]
    positions = math.prod((x if transposed else grad)[2:])
    return 2 * x[0] * positions * math.prod(weight) * (mask[0] + mask[1])


FORMULAS = {torch.ops.aten.convolution_backward: _convolution_backward}


def count(subject: Subject, differentiable: bool) -> dict[str, Work]:
    """Step -> its work.

    flops: those of matrix products, convolutions and attention, by torch's own formulas (torch.utils.flop_counter); element by element
    work is not counted.  Forward reads inputs, parameters and buffers and writes the outputs that are no views of them.  Backward reads
    the gradients of the outputs and writes those of inputs and parameters; what else it reads, as a tensor saved in forward, an
    equivalent variant may not need.  Training is both; inference is forward.
    """
    subject.clear_gradients()
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        output = subject.forward()
        forward_flops = counter.get_total_flops()
        if differentiable:
            subject.backward(output)
    forward = Work(forward_flops, live_bytes(subject), new_bytes(subject, output))
    gradients = storages([leaf.grad for _, leaf in subject.leaves() if leaf.grad is not None])
    given = storages([cotangent for cotangent in subject.cotangents if cotangent is not None])
    subject.clear_gradients()
    backward = Work(counter.get_total_flops() - forward_flops, sum(given.values()), sum(gradients.values()))
    return {"forward": forward, "inference": forward, "backward": backward, "training": _both(forward, backward)}


def _both(a: Work, b: Work) -> Work:
    return Work(a.flops + b.flops, a.read_bytes + b.read_bytes, a.written_bytes + b.written_bytes)
