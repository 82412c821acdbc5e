"""Records traces of the gate's suite, block by block, in many launches; `judges` holds the rules of the check and of others against them.

A launch is a fresh process.  In it, of each of twelve benchmarks: four units of equal code, as the check takes them; one unit whose head
runs every twentieth call twice; and two seconds of one side alone, which is what a tool has that measures one commit after the other.
"""

import json
import math
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import gate_suite
import study
import torch
from neighbour import QUIET, THREE, TWO, beside
from torch import nn

from layerbench.bench.check import unit
from layerbench.bench.check.side import timing
from layerbench.bench.check.side.pair import Drawn, Draws, Instance, instance
from layerbench.bench.data.record import Point
from layerbench.bench.declare.layer import Layer, Size
from layerbench.bench.timing import collector
from layerbench.bench.timing.clock import HostClock
from layerbench.bench.timing.measure import block

UNITS = 4  # of equal code, in a launch: as many as the check takes from one process
ALONE_SECONDS = 2.0
EVERY = 20
LAUNCHES = {QUIET: 10, TWO: 14, THREE: 10}


def planted(layer: Layer) -> Layer:
    """The layer with every twentieth call run twice."""
    build = layer.build

    def slower(module: Callable[..., nn.Module], size: Size) -> nn.Module:
        return gate_suite.Planted(build(module, size).module, EVERY)

    return replace(layer, build=slower)


def benchmarks() -> Iterator[tuple[Layer, str, Point]]:
    for layer in (gate_suite.norm, gate_suite.softmax, gate_suite.linear):
        for batch in gate_suite.SWEEP["batch"]:
            for variant in layer.variants:
                yield layer, variant, Point(layer.name, {"batch": batch, "width": 256}, "float32", "cpu", "forward")


def launch(number: int) -> dict[str, Any]:
    """In a process of its own."""
    torch.set_num_threads(1)
    dice = random.Random(number)
    draws = Draws()
    with collector.paused():
        return {
            f"{layer.name} {variant} {point.size['batch']}": _record(layer, variant, point, draws.of("base", layer, point), dice)
            for layer, variant, point in benchmarks()
        }


def _record(layer: Layer, variant: str, point: Point, drawn: Drawn, dice: random.Random) -> dict[str, Any]:
    clock = HostClock()
    base = instance(layer, variant, point, drawn, dice)
    calls = block(base.call, clock)
    equal = [_cycles(layer, layer, variant, point, drawn, calls, dice) for _ in range(UNITS)]
    slower = _cycles(layer, planted(layer), variant, point, drawn, calls, dice)
    return {"equal": equal, "slower": slower, "alone": _alone(base, calls)}


def _cycles(base: Layer, head: Layer, variant: str, point: Point, drawn: Drawn, calls: int, dice: random.Random) -> list[float]:
    """The differences of the super-cycles of one unit, by the check's own code."""
    sides = {name: instance(layer, variant, point, drawn, dice) for name, layer in (("A", base), ("B", head))}
    clock, found = HostClock(), _Blocks()

    def timed(side: str) -> unit.Block:
        def once(calls: int) -> unit.Timed:
            call = sides[side].call
            call.once()
            return found.add(side, timing.undisturbed(lambda: clock.time(call, calls) / calls, clock))

        return once

    unit.measure(timed("A"), timed("B"), calls, unit.Until(unit.SECONDS), clock.now, dice)
    return found.differences()


class _Blocks:
    """The blocks of a unit in their order."""

    def __init__(self) -> None:
        self._taken: list[tuple[str, float]] = []

    def add(self, side: str, block: unit.Timed) -> unit.Timed:
        self._taken.append((side, block.seconds))
        return block

    def differences(self) -> list[float]:
        """Of each super-cycle of eight blocks: the mean log of B's less that of A's."""
        cycles = [self._taken[i : i + 8] for i in range(0, len(self._taken), 8)]
        return [round(sum(math.log(seconds) * (1 if side == "B" else -1) for side, seconds in cycle) / 4, 6) for cycle in cycles]


def _alone(made: Instance, calls: int) -> dict[str, list[float]]:
    """Of every block its mean, median and least seconds per call, each call timed by itself."""
    found: dict[str, list[float]] = {"mean": [], "median": [], "min": []}
    step, end = made.call.step, time.perf_counter() + ALONE_SECONDS
    assert made.call.setup is None  # forward only
    while time.perf_counter() < end:
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            step(None)
            seconds.append(time.perf_counter() - start)
        for name, value in (("mean", statistics.fmean(seconds)), ("median", statistics.median(seconds)), ("min", min(seconds))):
            found[name].append(float(f"{value:.5g}"))
    return found


def one(trial: dict[str, Any]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with beside(trial["condition"], 60), ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(launch, trial["launch"]).result()


def main() -> None:
    chosen = study.options()
    launches = {QUIET: 2} if chosen.quick else LAUNCHES
    todo = [{"condition": condition, "launch": number} for condition, count in launches.items() for number in range(count)]
    found = study.trials("traces", todo, one, chosen)
    size = len(json.dumps(found)) / 1e6
    print(f"{len(found)} of {len(todo)} launches recorded, {size:.1f} MB. `judges` reads them.")


if __name__ == "__main__":
    main()
