"""Laws of random layers: what must hold of any draw, since two variants cannot be asked for the same one.  Plain tensor arithmetic.

A law is a function of two observations of a variant, from two seeds.  It returns name -> (error, allowed): what is off, and how far it may.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .declare.mistake import Mistake

SIGMAS = 6.0  # of a binomial count: right layers are outside once in 500 million times
ULPS = 4  # of the largest value, as of other layers


@dataclass(frozen=True)
class Observation:
    """What one forward and one backward left: tensors by name, as `output` and `input 0 grad`."""

    inputs: tuple[Tensor, ...]
    cotangents: tuple[Tensor | None, ...]
    outputs: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]


Deviations = dict[str, tuple[float, float]]
Law = Callable[[Observation, Observation], Deviations]


def dropout(probability: float, residual: bool = False) -> Law:
    """y = x m / (1 - p), m = 0 with the probability p and else 1, everywhere by itself and anew in every call.

    residual: plus a second input.  Raises Mistake for what is no probability.

    The mask is read off the output.  values: y is that of the mask; keep rate: how often m = 1; neighbours: how often two that lie side
    by side are equal; calls: how often two calls agree in a place; input 0 grad: g m / (1 - p), of the same mask.
    Source: Srivastava et al., Journal of Machine Learning Research 15, 2014; nn.Dropout.
    """
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability < 1:
        raise Mistake(f"law.dropout: probability is {probability!r}; write the share that is dropped, at least 0 and below 1, as 0.1")
    kept_share = 1 - probability
    agreement = probability**2 + kept_share**2  # of two independent masks

    def law(seen: Observation, again: Observation) -> Deviations:
        kept, found = _mask(seen, kept_share, residual)
        other, _ = _mask(again, kept_share, residual)
        scaled, g = seen.inputs[0].detach().double() / kept_share, seen.cotangents[0]
        eps = torch.finfo(seen.inputs[0].dtype).eps
        allowed = _ulps(eps, found, scaled, *_added(seen, residual))
        clear = scaled.abs() > 4 * allowed  # elsewhere rounding hides whether it was kept
        both = clear.flatten()[1:] & clear.flatten()[:-1]
        deviations = {
            "values": (_largest(found - kept * scaled), allowed),
            "keep rate": _share(kept[clear], kept_share),
            "neighbours": _share((kept.flatten()[1:] == kept.flatten()[:-1])[both], agreement),
            "calls": _share((kept == other)[clear], agreement),
        }
        if g is not None:
            expected = g.double() * kept / kept_share
            off = (seen.gradients["input 0 grad"].double() - expected)[clear]
            deviations["input 0 grad"] = (_largest(off), _ulps(eps, expected))
            if residual:
                deviations["input 1 grad"] = (_largest(seen.gradients["input 1 grad"].double() - g.double()), _ulps(eps, g))
        return deviations

    return law


def _added(seen: Observation, residual: bool) -> tuple[Tensor, ...]:
    return (seen.inputs[1].detach().double(),) if residual else ()


def _mask(seen: Observation, kept_share: float, residual: bool) -> tuple[Tensor, Tensor]:
    """Where the output is nearer to x / (1 - p) than to 0; and the output without the residual."""
    found = next(iter(seen.outputs.values())).double()
    for added in _added(seen, residual):
        found = found - added
    return found.abs() > seen.inputs[0].detach().double().abs() / kept_share / 2, found


def _share(hits: Tensor, expected: float) -> tuple[float, float]:
    n = max(1, hits.numel())
    return abs(float(hits.double().mean()) - expected) if hits.numel() else 0.0, SIGMAS * math.sqrt(expected * (1 - expected) / n) + 1 / n


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0


def _ulps(eps: float, *tensors: Tensor) -> float:
    return ULPS * eps * max((_largest(each.double()) for each in tensors), default=0.0)
