"""Time the variants of one point against each other: interleaved blocks in random order, until the ratios are precise or the time is up.

`measure_in_turn` does it one variant after the other, where interleaving would disturb.  Raw samples come out; ratios and
intervals are stats' work.  What is called, and whether it is right, was settled before.
"""

import gc
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec import structs

from ..data.record import OnDevice, Timing
from ..stats import estimates
from . import collector
from .clock import Call, Clock, Sample

WARM_CALLS, WARM_SHARE = 64, 8  # untimed calls before a block: an eighth of its own, not over 64.  What the neighbour left in caches, and
# in what Python has specialised for a class, would else help the class that is there twice, as the reference is with its copy
PICOSECONDS = 12  # digits behind the point: beyond them a clock of nanoseconds says nothing, and files grow
MINIMUM_ROUNDS = 6  # fewer give no interval worth printing
FIRST_LOOK = 12  # rounds; then half as many again each time
MORE = 4  # times the rounds of the look that was content: a look is content by luck too, and what comes after it has no part in that luck


@dataclass(frozen=True)
class Limit:
    """When to stop: at about this relative half width of every ratio's interval, or after so many seconds."""

    seconds: float
    precision: float = 0.01


def measure(
    calls: Mapping[str, Call], reference: str, clock: Clock, limit: Limit, enter: Callable[[str], None] = lambda _: None, seed: int = 0
) -> dict[str, Timing]:
    """Samples of every variant.  One round times one block of each variant in a fresh random order, after an untimed call.

    Sample i of all variants belongs to round i.  Returns a Timing per variant, in seconds per call.
    The intervals are looked at now and then.  Stopping at the first that is narrow enough would pick those that are narrow by luck:
    so a look asks for twice the width, and four times its rounds, which halve the width, are then taken whatever they bring.
    enter(variant) is called before each block, outside the clock, so that a fault can be laid at the right door.
    """
    rng = random.Random(seed)
    gc.collect()  # before the time begins: where much was compiled it takes a third of a second
    start = clock.now()
    clock.warm(calls.values())
    blocks = {}
    for name in rng.sample(list(calls), len(calls)):
        enter(name)
        blocks[name] = clock.block(calls[name])
    samples: dict[str, list[Sample]] = {name: [] for name in calls}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order: dict[str, list[int]] = {name: [] for name in calls}
    taken, stopped, look, last = 0, "", FIRST_LOOK, 0
    with collector.paused():  # a collection inside a block would land on whichever variant comes next
        while not stopped:
            for name in rng.sample(list(calls), len(calls)):
                enter(name)
                for _ in range(max(1, min(WARM_CALLS, blocks[name] // WARM_SHARE))):
                    calls[name].once()
                samples[name].append(clock.sample(calls[name], blocks[name]))
                seconds[name].append(round(samples[name][-1].seconds, PICOSECONDS))
                order[name].append(taken)
                taken += 1
            rounds = len(seconds[reference])
            if rounds == look and not last:
                look = look * 3 // 2
                last = MORE * rounds if _precise(seconds, reference, limit.precision * math.sqrt(MORE)) else 0
            stopped = "precision" if rounds == last else ""
            if not stopped and rounds >= MINIMUM_ROUNDS and clock.now() - start >= limit.seconds:
                stopped = "budget"
    return {
        name: Timing(tuple(seconds[name]), blocks[name], tuple(order[name]), stopped, clock.name, device=_on_device(samples[name], clock))
        for name in calls
    }


def measure_in_turn(
    calls: Mapping[str, Call], clock: Clock, limit: Limit, enter: Callable[[str], None] = lambda _: None
) -> dict[str, Timing]:
    """One variant after the other, each for an equal share of the time.  Samples of different variants share no rounds.

    For what cannot bear a neighbour between its calls.  Drift of the machine falls on whoever is running, and nothing cancels it.
    """
    timings: dict[str, Timing] = {}
    taken = 0
    for name, call in calls.items():
        alone = measure({name: call}, name, clock, Limit(limit.seconds / len(calls), limit.precision), enter)[name]
        timings[name] = structs.replace(alone, order=tuple(taken + place for place in alone.order))
        taken += len(alone.order)
    return timings


def _on_device(samples: list[Sample], clock: Clock) -> OnDevice | None:
    """What a device's clock tells beside its seconds."""
    if clock.name == "host":
        return None
    return OnDevice(
        issuing=tuple(round(each.issuing, PICOSECONDS) for each in samples),
        called=tuple(round(each.called, PICOSECONDS) for each in samples),
        exposed=samples[-1].exposed,
        discarded=dict(Counter(word for each in samples for word in each.discarded)),
        mhz=tuple(each.mhz for each in samples),
        power_limited=sum(each.power_limited for each in samples),
    )


def _precise(seconds: Mapping[str, list[float]], reference: str, precision: float) -> bool:
    others = [name for name in seconds if name != reference]
    return bool(others) and all(estimates.speedup(seconds[reference], seconds[name]).half_width <= precision for name in others)
