"""The errors of several rounds as one: per tensor the one that comes nearest to its limit."""

import math
from collections.abc import Sequence

from ..data.record import Accuracy, TensorError


def worst(rounds: Sequence[Sequence[TensorError]], warnings: Sequence[str] = ()) -> Accuracy:
    """Per tensor the round with the least slack left."""
    by_name: dict[str, TensorError] = {}
    for error in (error for errors in rounds for error in errors):
        held = by_name.get(error.tensor)
        if held is None or _share(error) > _share(held):
            by_name[error.tensor] = error
    return Accuracy(tuple(by_name.values()), tuple(dict.fromkeys(warnings)))


def _share(error: TensorError) -> float:
    return error.error / error.allowed if error.allowed else (math.inf if error.error else 0.0)
