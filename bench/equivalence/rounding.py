"""Is a variant off by rounding alone?  Its own code on float64 numbers gives the exact ones then: the formula is right.

A layer that is written otherwise may lose more digits than the reference, as where terms cancel that the reference never adds.  One that
computes in fewer digits than it is given does so on float64 numbers, too, and is not let off.
"""

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..subject.arguments import cast
from ..subject.building import in_dtype
from ..subject.make import Subject
from .kinds import Way
from .observe import Values, observe

if TYPE_CHECKING:
    from .use import Use

TIMES = 4  # what is allowed, of one that is off by rounding alone
SAME = 1e-9  # of the largest value: in float64 the order of a sum changes far less, and what is drawn anew far more


def alone(subject: Subject, name: str, exact: Values, seed: int, calls: int) -> bool:
    """Whether a tensor of its answer in float64 is the exact one.  Not where the code takes no such numbers."""
    device = next((tensor.device for tensor in subject.inputs), torch.device("cpu"))
    if device.type == "mps":  # it has no float64
        return False
    inputs = tuple(cast(tensor.detach().clone(), torch.float64).requires_grad_(tensor.requires_grad) for tensor in subject.inputs)
    cotangents = tuple(None if each is None else each.double() for each in subject.cotangents)
    try:
        module = in_dtype(copy.deepcopy(subject.module), torch.float64, device)
        found = observe(replace(subject, module=module, inputs=inputs, cotangents=cotangents, compiled=None), seed, calls).all().get(name)
    except Exception:  # noqa: BLE001  the code is the user's, and was not written for float64
        return False
    return _same(found, exact.all()[name])


def in_way(way: Way, use: "Use", name: str, right: Tensor) -> bool:
    """The same of a tensor of what a variant does in a way of use."""
    device = next((tensor.device for tensor in use.drawn[0]), torch.device("cpu"))
    if device.type == "mps" or way.traced:
        return False
    wide = replace(use, exact=True, built=lambda: in_dtype(use.built(), torch.float64, device))
    try:
        made = way.run(wide)
    except Exception:  # noqa: BLE001  the code is the user's, and was not written for float64
        return False
    return _same((made[0] if isinstance(made, tuple) else made).get(name), right)


def _same(found: Tensor | None, right: Tensor) -> bool:
    if found is None or found.dtype != right.dtype or found.shape != right.shape:
        return False
    return float((found.to(right.device) - right).abs().max()) <= SAME * float(right.abs().max())
