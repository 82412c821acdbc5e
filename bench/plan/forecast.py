"""How long a run takes at least, told before it begins.  Figures are of runs on two CPU cores and on one H200: docs/gpu.md.

It is a lower bound for usual layers, not a promise: a large layer, or a slow compilation, takes longer.
"""

import math
from collections.abc import Iterator, Sequence

from ..data.record import LayerFacts
from ..text import invocation
from .budget import FIRST_GUESS, SHORTEST
from .planning import Task

START, COMPILER = 8.0, 10.0  # seconds to import and measure the roofs; to start the compiler where a variant is compiled
LAYER = 1.0  # to prove a layer in one dtype
CELL, COMPILED = 0.5, 1.5  # to make and verify the variants of a cell; to compile one of them
POINT = 0.4  # to warm up, check again, weigh and profile, beside the shortest timing
ENERGY = 1.5  # of a variant, its second copy too: under load, and between two ticks of the counter
OVER = 1.2  # times the budget: what is over it is said


def least_seconds(tasks: Sequence[Task], layers: Sequence[LayerFacts], energy: bool = False) -> float:
    compiled = {layer.name: {variant.name for variant in layer.variants if variant.compile} for layer in layers}
    cells = {task.point.cell: len(compiled[task.point.layer] & set(task.variants)) for task in tasks}
    proofs = {(task.point.layer, task.point.dtype, task.point.device) for task in tasks}
    start = START + COMPILER * any(cells.values()) + LAYER * len(proofs)
    return start + CELL * len(cells) + COMPILED * sum(cells.values()) + len(tasks) * (POINT + SHORTEST) + _energy(tasks, layers, energy)


def beside(tasks: Sequence[Task], layers: Sequence[LayerFacts], energy: bool) -> float:
    """Seconds that a point costs beside its timing, before any was seen."""
    return FIRST_GUESS + _energy(tasks, layers, energy) / max(1, len(tasks))


def warnings(tasks: Sequence[Task], layers: Sequence[LayerFacts], budget_seconds: float, energy: bool = False) -> Iterator[str]:
    """What to type where the budget cannot be kept, and where no energy will be measured though it was asked for."""
    if energy and not any(map(_metered, tasks)):
        on_gpu = any(task.point.device != "cpu" for task in tasks)
        yield (
            "--energy: no energy is measured of a backward alone: add  --step training"
            if on_gpu
            else "--energy: no point of this run is on a GPU, and only a GPU's energy is measured: leave it out, or add  --device gpu"
        )
    least = least_seconds(tasks, layers, energy)
    if least > OVER * budget_seconds:
        many = f"{len(tasks)} points take" if len(tasks) > 1 else "1 point takes"
        yield (
            f"{many} about {math.ceil(least)} s at least, however short each is timed: more than --budget {budget_seconds:g}s.  "
            f"Write  --budget {10 * math.ceil(least / 10)}s,  or choose fewer points:  {invocation.command()} run --dry-run  lists them"
        )


def _metered(task: Task) -> bool:
    """A backward needs a forward before it, and a counter of energy cannot tell them apart."""
    return task.point.device != "cpu" and task.point.step != "backward"


def _energy(tasks: Sequence[Task], layers: Sequence[LayerFacts], wanted: bool) -> float:
    able = {layer.name: {variant.name for variant in layer.variants if variant.devices != "cpu"} for layer in layers}
    return ENERGY * sum(1 + len(able[task.point.layer] & set(task.variants)) for task in tasks if wanted and _metered(task))
