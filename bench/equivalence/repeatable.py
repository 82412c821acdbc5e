"""Does a reference without a law compute the same at every call?"""

import math

from torch import Tensor

from ..declare.layer import Layer
from ..declare.mistake import Mistake
from ..subject import make
from .observe import observe
from .rounding import SAME
from .tolerance import largest
from .verify import Truth

DRAWS = 3  # with other seeds, to find a reference that is random


def check_not_random(layer: Layer, truth: Truth) -> None:
    """Raises Mistake where the reference of a layer without a law computes something else at every call."""
    subject = make.in_float64(truth.weights, truth.inputs, truth.cotangents, layer, truth.size)
    for again in range(1, 0 if layer.law else 1 + DRAWS):
        seen = observe(subject, truth.seed + again, layer.calls).all()
        for name, exact in truth.exact.all().items():
            off = _apart(exact.double(), seen.get(name, exact).double())
            if off > SAME * largest(exact):
                raise Mistake(
                    f"{name}: it looks random: two calls with the same numbers are {off:.2g} apart; "
                    'write law="seed" where its variants draw the same numbers after one seed, else law="moments", '
                    "or what holds of every draw, as law=law.dropout(0.1); or make it repeatable"
                )


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference where both are finite; of two shapes, without limit."""
    if a.shape != b.shape:
        return math.inf
    off = (a - b).abs()[a.isfinite() & b.isfinite()]
    return float(off.max()) if off.numel() else 0.0
