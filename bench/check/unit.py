"""One unit: blocks of base and head in mirrored order until its time is up.  It does not know the layer, or where the blocks are timed."""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..data.check_record import Unit


class Until(NamedTuple):
    """When a unit ends: after so many seconds, or as soon as the standard error of its difference is so small."""

    seconds: float
    error: float = 0.0


class Timed(NamedTuple):
    """seconds: per call.  again: how often the block was taken again, since other work had the core for part of it."""

    seconds: float
    again: int = 0


Block = Callable[[int], Timed]  # times so many calls, after an untimed one

SECONDS, DEVICE_SECONDS = 0.5, 0.2  # on the CPU, and on an accelerator, where blocks differ less than places in memory do
FEWEST = 3  # super-cycles, however long they take
QUICK = 8  # super-cycles after which it may end earlier
EXACT = 0.1  # of the threshold: where its error is so small, the luck of the places is what matters, and more blocks say nothing of it
TRIM = 0.2  # of the super-cycles on each side stay out of a unit's mean
ORDERS = ("ABBABAAB", "BAABABBA")  # a drift that is straight or bent falls on both alike


def measure(base: Block, head: Block, calls: int, until: Until, now: Callable[[], float], dice: random.Random, process: int = 0) -> Unit:
    """Super-cycles of eight blocks, four of each side, until it is long or exact enough."""
    blocks = {"A": base, "B": head}
    taken: dict[str, list[float]] = {"A": [], "B": []}
    differences: list[float] = []
    again = 0
    start = now()
    while not _enough(differences, now() - start, until):
        logs = dict.fromkeys("AB", 0.0)
        for side in dice.choice(ORDERS):
            block = blocks[side](calls)
            again += block.again
            taken[side].append(block.seconds)
            logs[side] += math.log(taken[side][-1]) / 4
        differences.append(logs["B"] - logs["A"])
    base_seconds, head_seconds = (float(np.median(taken[side])) for side in "AB")
    return Unit(trimmed(differences), base_seconds, head_seconds, len(differences), calls, process, again)


def _enough(differences: Sequence[float], seconds: float, until: Until) -> bool:
    """Whether the error is small says nothing of which side is faster, so to end by it favours neither."""
    if len(differences) < FEWEST:
        return False
    return seconds >= until.seconds or (len(differences) >= QUICK and error(differences) <= until.error)


def until(device: str, threshold: float) -> Until:
    """When a unit ends that is to find a slow-down of the threshold."""
    return Until(SECONDS if device == "cpu" else DEVICE_SECONDS, EXACT * threshold)


def trimmed(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest TRIM of them."""
    cut = int(TRIM * len(values))
    return float(np.mean(sorted(values)[cut : len(values) - cut]))


def error(values: Sequence[float]) -> float:
    """Standard error of that mean, by the winsorised variance (Tukey and McLaughlin, Sankhya A 25, 1963)."""
    cut, ordered = int(TRIM * len(values)), sorted(values)
    kept = np.clip(ordered, ordered[cut], ordered[len(values) - 1 - cut])
    return float(np.std(kept, ddof=1)) / (1 - 2 * cut / len(values)) / math.sqrt(len(values))
