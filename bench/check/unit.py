"""One unit: blocks of base and head in mirrored order until its time is up.  It does not know the layer, or where the blocks are timed."""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..data.check_record import Unit


class Timed(NamedTuple):
    """seconds: per call.  again: how often the block was taken again, since other work had the core for part of it."""

    seconds: float
    again: int = 0


Block = Callable[[int], Timed]  # times so many calls, after an untimed one

SECONDS, DEVICE_SECONDS = 0.5, 0.2  # on the CPU, and on an accelerator, where blocks differ less than places in memory do
FEWEST = 3  # super-cycles, however long they take
TRIM = 0.2  # of the super-cycles on each side stay out of a unit's mean
ORDERS = ("ABBABAAB", "BAABABBA")  # a drift that is straight or bent falls on both alike


def measure(base: Block, head: Block, calls: int, seconds: float, now: Callable[[], float], dice: random.Random, process: int = 0) -> Unit:
    """Super-cycles of eight blocks, four of each side, for so many seconds."""
    blocks = {"A": base, "B": head}
    taken: dict[str, list[float]] = {"A": [], "B": []}
    differences: list[float] = []
    again = 0
    start = now()
    while len(differences) < FEWEST or now() - start < seconds:
        logs = dict.fromkeys("AB", 0.0)
        for side in dice.choice(ORDERS):
            block = blocks[side](calls)
            again += block.again
            taken[side].append(block.seconds)
            logs[side] += math.log(taken[side][-1]) / 4
        differences.append(logs["B"] - logs["A"])
    base_seconds, head_seconds = (float(np.median(taken[side])) for side in "AB")
    return Unit(trimmed(differences), base_seconds, head_seconds, len(differences), calls, process, again)


def seconds(device: str) -> float:
    """How long a unit is timed."""
    return SECONDS if device == "cpu" else DEVICE_SECONDS


def trimmed(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest TRIM of them."""
    cut = int(TRIM * len(values))
    return float(np.mean(sorted(values)[cut : len(values) - cut]))
