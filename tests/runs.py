"""Runs small enough to know every figure in advance: four samples per variant, so that intervals can be worked out by hand."""

import math

from fixture_run import environment, facts

from layerbench.bench.data.profiled import Profile
from layerbench.bench.data.record import (
    SCHEMA,
    Accuracy,
    Checked,
    Compiled,
    Failed,
    LayerFacts,
    Measured,
    Memory,
    Outcome,
    Point,
    Record,
    Run,
    Skipped,
    TensorError,
    Timing,
)

FOUR_ROUNDS = 4.302652730 * math.sqrt(0.5)  # half width of the log of a ratio, of samples that wobble by 1: see test_stats
ACCURATE = Accuracy((TensorError("output", 1e-7, 4e-7),))
CHECKED = Checked(ACCURATE, "Triton needs a GPU")
SKIPPED = Skipped("time", "no output has a gradient")
FAILED = Failed("verify", "output: off by 0.01, allowed 1e-6")


def took(
    seconds: float,
    wobble: float = 0.0,
    compiled: Compiled | None = None,
    memory: tuple[int, int, int, int] = (4096, 1024, 2048, 3072),
    accuracy: Accuracy = ACCURATE,
    others: float | None = None,
) -> Measured:
    """Measured at `seconds`, `others` cores busy with other work; its four samples are up, down, down and up by `wobble`, in logarithms."""
    samples = tuple(seconds * math.exp(sign * wobble) for sign in (1, -1, -1, 1))
    timing = Timing(samples, 10, (0, 2, 4, 6), "precision", "host", others)
    return Measured(timing, Memory(*memory), accuracy, Profile(1, seconds, (), ""), compiled)


def layer(name: str = "softmax", variants: tuple[str, ...] = ("stock", "triton", "compile"), **absent: str) -> LayerFacts:
    return facts(name, {"batch": (1, 8, 64)}, variants, absent=absent)


def at(batch: int = 8, layer: str = "softmax", step: str = "forward", device: str = "cpu", **outcomes: Outcome) -> list[Record]:
    """The records of one point."""
    return [Record(Point(layer, {"batch": batch}, "float32", device, step), name, outcome) for name, outcome in outcomes.items()]


def run(*points: list[Record], layers: tuple[LayerFacts, ...] = (layer(),), **changes: object) -> Run:
    values = {
        "schema": SCHEMA,
        "name": "20261124-020000",
        "started": "2026-11-24T02:00:00+00:00",
        "seconds": 12.5,
        "command": "layerbench run",
        "suite": "layerbench.layers",
        "interleaved": True,
        "environment": environment(),
        "layers": layers,
        "records": tuple(record for point in points for record in point),
        "notes": (),
    }
    return Run(**(values | changes))
