"""A sketch of what the reference of one side computes: a few numbers to compare with the other side's.  In float64, not timed.

Every variant is judged against the reference of its own side; a change of the reference itself would go unseen without this.
"""

import zlib

import torch
from torch import Tensor, nn

from ...data.record import Point
from ...declare.layer import Layer
from ...equivalence.observe import observe
from ...process.check_messages import Sketch, Sketched
from ...subject import make, randomness
from ...subject.building import in_dtype
from ...subject.torch_settings import untouched

PROJECTIONS = 8
SEED = 0


def sketch(layer: Layer, point: Point) -> Sketched:
    """Every output, gradient and buffer as a few projections.  Whatever the reference raises comes through."""
    with untouched():
        randomness.seed(SEED)
        module = in_dtype(make.build(layer, next(iter(layer.variants.values())), point.size), torch.float64, point.device)
        _fill(module)
        inputs = make.draw(layer.draws, point.size, torch.float64, point.device, SEED)
        cotangents = make.cotangents(make.probe(module, inputs), SEED)
        seen = observe(make.subject("reference", module, inputs, cotangents), SEED, layer.calls).all()
    return Sketched(
        repr((tuple(layer.inputs), layer.kwargs, layer.parameters) if layer.kwargs or layer.parameters else tuple(layer.inputs)),
        {name: _project(tensor) for name, tensor in {**dict(module.state_dict()), **seen}.items()},
    )


def _fill(module: nn.Module) -> None:
    """Numbers that depend on a tensor's name and shape alone, so that another initialisation is not taken for another layer."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())), dtype=torch.float64)
                tensor.copy_(drawn if tensor.dim() > 1 else drawn.abs() + 0.5)  # what a layer divides by is positive


def _project(tensor: Tensor) -> Sketch:
    """The tensor's sum under random signs, by the square root of its length: no larger for a long tensor than for a short one."""
    flat = tensor.detach().double().cpu().flatten()
    dice, projections = torch.Generator().manual_seed(SEED), []
    for _ in range(PROJECTIONS):  # one after the other: the signs of a large tensor fill memory
        signs = torch.randint(0, 2, flat.shape, generator=dice, dtype=torch.int8)
        projections.append(float(flat[signs == 1].sum() - flat[signs == 0].sum()) / max(1, flat.numel()) ** 0.5)
    largest = float(flat.abs().max()) if flat.numel() else 0.0
    return Sketch(tuple(tensor.shape), largest, tuple(projections))
