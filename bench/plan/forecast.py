"""How long a run takes at least, told before it begins.  Figures are of runs on two CPU cores and on one H200: docs/gpu.md.

It is a lower bound for usual layers, not a promise: a large layer, or a slow compilation, takes longer.
"""

import math
from collections.abc import Sequence

from ..data.record import LayerFacts
from ..text import invocation
from .budget import SHORTEST
from .planning import Task

START, COMPILER = 8.0, 10.0  # seconds to import and measure the roofs; to start the compiler where a variant is compiled
LAYER = 1.0  # to prove a layer in one dtype
CELL, COMPILED = 0.5, 1.5  # to make and verify the variants of a cell; to compile one of them
POINT = 0.4  # to warm up, check again, weigh and profile, beside the shortest timing
OVER = 1.2  # times the budget: what is over it is said


def least_seconds(tasks: Sequence[Task], layers: Sequence[LayerFacts]) -> float:
    compiled = {layer.name: {variant.name for variant in layer.variants if variant.compile} for layer in layers}
    cells = {task.point.cell: len(compiled[task.point.layer] & set(task.variants)) for task in tasks}
    proofs = {(task.point.layer, task.point.dtype, task.point.device) for task in tasks}
    start = START + COMPILER * any(cells.values())
    return start + LAYER * len(proofs) + CELL * len(cells) + COMPILED * sum(cells.values()) + len(tasks) * (POINT + SHORTEST)


def warning(tasks: Sequence[Task], layers: Sequence[LayerFacts], budget_seconds: float) -> str:
    """What to type where the budget cannot be kept; "" where it can."""
    least = least_seconds(tasks, layers)
    if least <= OVER * budget_seconds:
        return ""
    many = f"{len(tasks)} points take" if len(tasks) > 1 else "1 point takes"
    return (
        f"{many} about {math.ceil(least)} s at least, however short each is timed: more than --budget {budget_seconds:g}s.  "
        f"Write  --budget {10 * math.ceil(least / 10)}s,  or choose fewer points:  {invocation.command()} run --dry-run  lists them"
    )
