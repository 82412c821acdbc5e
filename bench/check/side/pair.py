"""The instances of a unit: a variant that is built anew with the numbers of its point, at a new place in memory, and warmed up.

Base and head draw from the same seed, so they hold the same weights and inputs where they are the same layer.
"""

import random
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from ...data.record import Point
from ...declare.layer import Layer
from ...subject import make
from ...subject.make import Drawn
from ...timing.clock import Call

SEED = 0
KEPT_BYTES = 2**28  # of draws, for the next unit of the same cell; the one in hand is kept however large
MANY = 10_000
PADDING_BYTES = 2**20  # at most, of one of the tensors that move an instance to another place


@dataclass(frozen=True)
class Instance:
    """What is timed.  padding lies around it, and is held as long."""

    call: Call
    padding: tuple[Tensor, ...]


class Draws:
    """The draws of the last few cells: to build a large reference anew for every unit would take longer than to time it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Drawn] = OrderedDict()

    def of(self, side: str, layer: Layer, point: Point) -> Drawn:
        key = (side, point.cell)
        if key not in self._kept:
            self._kept[key] = make.drawn(layer, point.size, getattr(torch, point.dtype), point.device, SEED)
            while len(self._kept) > 1 and sum(map(_nbytes, self._kept.values())) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _nbytes(drawn: Drawn) -> int:
    tensors = [*drawn.weights.state_dict().values(), *drawn.inputs, *(each for each in drawn.cotangents if each is not None)]
    return sum(tensor.nbytes for tensor in tensors)


def instance(layer: Layer, variant: str, point: Point, drawn: Drawn, dice: random.Random) -> Instance:
    """A fresh instance, called twice, in the mode of its step.  Whatever the variant raises comes through."""
    padding = tuple(torch.empty(dice.randrange(64, PADDING_BYTES), dtype=torch.uint8, device=point.device) for _ in range(4))
    module = make.variant_module(layer, variant, point.size, drawn.weights)
    subject = make.subject(variant, module, drawn.inputs, drawn.cotangents)
    if layer.variants[variant].compile:
        torch._dynamo.config.recompile_limit = MANY  # one process meets every size of a class; none may fall back to eager for that
        subject.compiled = torch.compile(module, dynamic=False)  # as the first compilation of a size is
    call = make.call(subject, point.step)
    call.once()
    call.once()
    return Instance(call, padding[::2])  # the holes between are for what is allocated next
