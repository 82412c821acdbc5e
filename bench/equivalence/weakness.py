"""The check's own test: which wrong values it would let pass, tensor by tensor.  Such a check proves little, and the record says so."""

import torch
from torch import Tensor

from ..law import Law, Observation
from . import moments
from .tolerance import ROUNDING, comparable, distance
from .verify import Truth

PERTURBATION_ULPS = 64  # an output this far off must be rejected, else the check says that it is weak


def weaknesses(truth: Truth) -> list[str]:
    """The check's own test: a tensor for which zeros, a constant mean, or values a little off would pass is named."""
    if truth.moments is not None:
        return [f'only moments over {moments.DRAWS} draws are compared, as law="moments" says: small errors would pass']
    if callable(truth.law):
        return _weaknesses_of_law(truth, truth.law)
    if not truth.moved.draws:
        truth.moved.more()  # the first few show whether moved numbers widen a limit; all of them would cost more than they tell
    words = []
    own = truth.own.all()
    for name, exact in ((name, tensor) for name, tensor in truth.exact.all().items() if name in own):
        seen = comparable(exact, own[name].dtype)
        right, places = exact[seen], exact.numel()
        if not places:
            words.append(f"{name}: empty, so anything would pass")
            continue
        if right.numel() < places:
            words.append(f"{name}: NaN, infinite or out of range in some places, and only the others are compared")
        eps = torch.finfo(own[name].dtype).eps if exact.is_floating_point() else 0.0
        limit, wrong = truth.allowed(name, eps), _wrong(right, eps, truth.calls).items()
        words += [f"{name}: {what} would pass" for what, value in wrong if distance(name, value, right).within(limit)]
    return words


def _weaknesses_of_law(truth: Truth, law: Law) -> list[str]:
    (name, right), *_ = truth.own.outputs.items()

    def broken(output: Tensor) -> set[str]:
        seen = Observation(truth.inputs, truth.cotangents, truth.own.outputs | {name: output}, truth.own.gradients)
        return {each for each, (error, allowed) in law(seen, seen).items() if not error <= allowed}

    always = broken(right)  # two calls that are one
    wrong = _wrong(right, torch.finfo(right.dtype).eps, 1)
    return [f"{name}: {what} would pass" for what, output in wrong.items() if broken(output) <= always]


def _wrong(right: Tensor, eps: float, calls: int) -> dict[str, Tensor]:
    """What no check should take for `right`: of one number there is no other constant, and whole numbers are never a little off."""
    wrong = {"zeros": torch.zeros_like(right)}
    if right.numel() > 1:
        wrong["a constant mean"] = torch.full_like(right, right.double().mean().item())
    if right.is_floating_point():
        ulps = max(PERTURBATION_ULPS, round(2 * calls * ROUNDING / eps)) if eps else PERTURBATION_ULPS
        wrong[f"values off by {ulps} ulp"] = right * (1 + ulps * eps)
    return wrong
