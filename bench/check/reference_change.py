"""Whether the references of base and head compute the same, judged by the sketches of both sides.  No torch: there may be two processes."""

import math

from ..process.check_messages import Sketch, Sketched

ROUNDING = 2.0**-30  # of a tensor's largest value: float64 written in another order is off by far less, another formula by far more


def difference(base: Sketched, head: Sketched) -> str:
    """What differs, in one clause; "" where nothing does."""
    if base.inputs != head.inputs:
        return "its inputs are declared differently on the base"
    if names := sorted(base.tensors.keys() ^ head.tensors.keys()):
        return f"only the {'base' if names[0] in base.tensors else 'head'} has {names[0]}"
    for name, then in base.tensors.items():
        now = head.tensors[name]
        if now.shape != then.shape:
            return f"{name} has shape {now.shape}, and {then.shape} on the base"
        if not _same(then, now):
            return f"its reference computes something else than the base's: {name} differs"
    return ""


def _same(then: Sketch, now: Sketch) -> bool:
    """NaN and infinity are equal to themselves."""
    allowed = ROUNDING * max(then.largest, now.largest) if math.isfinite(then.largest) else 0.0
    pairs = zip(then.projections, now.projections, strict=True)
    return all(abs(a - b) <= allowed or a == b or (a != a and b != b) for a, b in pairs)
