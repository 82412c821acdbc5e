"""Ways of use in which torch traces the layer: a network around it that is compiled, and an exported program.

Both make another program of the layer than its author's: writes in place become copies, backward is traced beforehand, sizes may become
symbols.  The compiled network goes through Dynamo, AOTAutograd, and the decompositions and the partition of Inductor, not through its code
generator, which takes ten times as long.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..subject import dynamo, randomness
from .kinds import Found, Way, Words
from .use import NotHere, Use, back, batched, outputs, state

BACKEND = "aot_eager_decomp_partition"
ROWS = 2, 3  # draws whose rows make the batch that a program is exported with, and the batch that it is then given


class Network(nn.Module):
    """The layer as a part: its inputs are results, and its outputs are used again.  All numbers stay as they are."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *tensors: Tensor) -> object:
        return _used(self.layer(*map(_used, tensors)))


def _used(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value * 1.0 if value.is_floating_point() or value.is_complex() else value
    if type(value) in (tuple, list):
        return type(value)([_used(each) for each in value])
    return {key: _used(each) for key, each in value.items()} if type(value) is dict else value


def compiled(use: Use) -> tuple[Found, Words]:
    """Forward and backward of a network that is compiled as a whole."""
    subject = use.subject()
    network = Network(subject.module)
    randomness.seed(use.seed)
    if use.plain:
        output = network(*subject.inputs)
        return outputs(output) | back(subject, output) | state(subject.module), {}
    with dynamo.by_itself():
        output = torch.compile(network, backend=BACKEND)(*subject.inputs)
        found = outputs(output) | back(subject, output) | state(subject.module)
        graphs, broken = dynamo.graphs(), list(dynamo.breaks())
    if not graphs:
        raise NotHere("nothing was compiled")
    pieces = f"{graphs} graphs" if graphs > 1 else "1 graph"
    return found, {"graph breaks": f"{pieces} and eager code between ({dynamo.in_short(broken[0])})"} if broken else {}


def exported(use: Use) -> Found:
    """The outputs of the program that torch.export makes of it, for inference."""
    with torch.no_grad():
        return outputs(_program(use, use.inputs(), None, use.inputs()))


def exported_and_trained(use: Use) -> Found:
    """The gradients of that program."""
    use.needs_gradients()
    subject = use.subject()
    return back(subject, _program(use, subject.inputs, None, subject.inputs, subject.module))


def exported_for_any_batch(use: Use) -> Found:
    """Exported with one batch, and given a larger one, for inference."""
    places = list(batched(use))

    def rows(draws: int) -> tuple[Tensor, ...]:
        many = [use.inputs(draw) for draw in range(draws)]
        return tuple(
            first if place is None else torch.cat([each[index].detach() for each in many], place).requires_grad_(first.requires_grad)
            for index, (first, place) in enumerate(zip(many[0], places, strict=True))
        )

    few, more = (rows(draws) for draws in ROWS)
    sizes = tuple(None if place is None else {place: torch.export.Dim.AUTO} for place in places)
    with torch.no_grad():
        return outputs(_program(use, few, sizes, more))


def _program(use: Use, given: tuple[Tensor, ...], sizes: object, then: tuple[Tensor, ...], module: nn.Module | None = None) -> object:
    """What the program answers to `then` that is exported on `given`."""
    network = Network(module or use.module())
    randomness.seed(use.seed)
    if use.plain:
        return network(*then)
    with dynamo.by_itself():
        program = torch.export.export(network, given, dynamic_shapes={"tensors": sizes} if sizes else None, strict=False)
        return program.module()(*then)


WAYS = (
    Way("under torch.export", exported, traced=True),
    Way("under torch.export, any batch", exported_for_any_batch, traced=True),
    Way("gradients after torch.export", exported_and_trained, traced=True, fault=False),
    Way("inside torch.compile", compiled, traced=True),
)
