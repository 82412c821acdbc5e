"""The generic law of a random layer, law="moments": many draws of a variant look like as many of the reference, as far as moments tell.

Each draw of a tensor becomes a few numbers: its mean, mean square, share of zeros, sums under random signs, and mean products of sizes, of
neighbours, of one draw and the next, and of an output and a gradient of its shape, which tell whether chance is shared where it should not
be.  The means of these over the draws are compared as of two samples: Welch's t, Biometrika 34, 1947.
"""

import torch
from torch import Tensor

from ..law import Deviations
from ..subject.make import Subject
from .observe import Values, observe

DRAWS = 24
SIGMAS = 8.0  # of Student's t with 23 degrees of freedom: beyond it by luck once in 20 million times
ULPS = 16  # of the tensor's largest value: what the order of a sum changes
PROJECTIONS = 4
WIDER = 4.0  # times the reference's variance: what spreads more is not forgiven for it

Features = dict[str, list[float]]  # name -> a number of each draw


def features(subject: Subject, seed: int, calls: int) -> Features:
    """The numbers of DRAWS draws.  The seed is set once, as a user does: a layer that seeds itself repeats its draw."""
    found: Features = {}
    last: dict[str, Tensor] = {}
    for draw in range(DRAWS):
        seen = observe(subject, seed if draw == 0 else None, calls)
        tensors = {name: each.double().cpu() for name, each in (seen.outputs | seen.gradients).items() if each.numel()}
        for name, value in _of_draw(tensors, seen).items():
            found.setdefault(name, []).append(value)
        for name, tensor in tensors.items():
            if name in last and last[name].shape == tensor.shape:
                found.setdefault(f"{name} and that of the next call", []).append(_sizes(tensor, last[name]))
        last = tensors
    return found


def deviations(variant: Features, reference: Features) -> Deviations:
    """Name -> how far the means of the two samples are apart, and how far they may be."""
    found: Deviations = {}
    for name, values in reference.items():
        if name.endswith(": mean square") and len(set(values)) > DRAWS // 2:  # of few numbers two draws may be equal by chance
            repeated = len(set(variant.get(name, values))) == 1
            found[name.replace("mean square", "draws that are all the same")] = float(repeated), 0.0
    for name in reference:
        ours, theirs = (torch.tensor(each.get(name, [float("inf")] * 2), dtype=torch.float64) for each in (variant, reference))
        spread = ours.var()
        if len(set(reference[name])) > DRAWS // 2:  # of few numbers the reference's own spread may be 0 by chance
            spread = spread.clamp(max=WIDER * theirs.var())
        error = float((spread / len(ours) + theirs.var() / len(theirs)).sqrt())
        rounding = ULPS * torch.finfo(torch.float32).eps * float(theirs.abs().max())
        found[name] = abs(float(ours.mean() - theirs.mean())), SIGMAS * error + rounding
    return found


def _of_draw(tensors: dict[str, Tensor], seen: Values) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, tensor in tensors.items():
        flat = tensor.flatten()
        found[f"{name}: mean"] = float(flat.mean())
        found[f"{name}: mean square"] = float(flat.square().mean())
        found[f"{name}: share of zeros"] = float((flat == 0).double().mean())
        dice = torch.Generator().manual_seed(0)
        for place in range(PROJECTIONS):
            signs = 2 * torch.randint(0, 2, flat.shape, generator=dice, dtype=torch.int8) - 1
            found[f"{name}: sum under random signs {place}"] = float((flat * signs).sum()) / flat.numel() ** 0.5
        for dimension in {0, tensor.dim() - 1} if tensor.dim() else ():
            if (size := tensor.shape[dimension]) > 1:
                pair = tensor.narrow(dimension, 1, size - 1), tensor.narrow(dimension, 0, size - 1)
                found[f"{name}: neighbours along dimension {dimension}"] = _sizes(*pair)
    for name in seen.outputs:
        for other in seen.gradients:
            if name in tensors and other in tensors and tensors[name].shape == tensors[other].shape:
                found[f"{name} and {other}"] = _sizes(tensors[name], tensors[other])
    return found


def _sizes(a: Tensor, b: Tensor) -> float:
    """The mean product of sizes: where both are zero at once more often, it is larger."""
    return float((a.abs() * b.abs()).mean())
