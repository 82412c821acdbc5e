"""Builds synthetic runs for tests: deterministic, any size, every kind of outcome.  It is not a measurement and says so in its notes."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping

from layerbench.bench.data.change import Change
from layerbench.bench.data.profiled import Operator, Profile
from layerbench.bench.data.record import (
    SCHEMA,
    Accuracy,
    Checked,
    Compiled,
    Device,
    Environment,
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
    VariantFacts,
)
from layerbench.bench.declare.layer import NOISE_FLOOR

SPEED = {"stock": 1.0, NOISE_FLOOR: 1.0, "function": 0.93, "triton": 1.9, "compile": 1.45}
SPIN = "Triton needs a GPU; here its values were proved under Triton's interpreter, which says nothing about time"
VARIANTS = ("stock", "function", "triton", "compile")
STEPS = ("forward", "backward", "training")


def environment(**changes: object) -> Environment:
    values = {
        "machine": "amd-epyc-2c-6f1c",
        "cpu": "AMD EPYC 7B13",
        "cores": 2,
        "memory_bytes": 8_323_653_632,
        "system": "Linux 6.1.0",
        "python": "3.11.7",
        "versions": {"layerbench": "0.1.0", "torch": "2.13.0", "triton": "3.7.0"},
        "devices": (Device("cpu", "AMD EPYC 7B13", 8_323_653_632, ("float32", "bfloat16")),),
        "threads": 1,
        "flags": {"matmul_precision": "highest", "governor": "performance"},
        "load": 0.21,
        "commit": "3f9c2b1d5e8a7764",
        "branch": "main",
        "dirty": False,
    }
    return Environment(**(values | changes))


def facts(name: str, sweep: Mapping[str, tuple[int, ...]], variants: tuple[str, ...] = VARIANTS, **changes: object) -> LayerFacts:
    values = {
        "name": name,
        "about": f"{name.capitalize()} over the last axis: a synthetic layer.",
        "file": f"layers/{name}.py",
        "line": 12,
        "sweep": dict(sweep),
        "variants": tuple(VariantFacts(v, v == "compile", "gpu" if v == "triton" else "any") for v in variants),
        "absent": {},
    }
    return LayerFacts(**(values | changes))


def timing(dice: random.Random, seconds: float, samples: int, place: int = 0, of: int = 1, noise: float = 0.04) -> Timing:
    """Samples around `seconds`; variant number `place` of `of` is sampled in every round."""
    return Timing(
        seconds=tuple(seconds * dice.lognormvariate(0, noise) for _ in range(samples)),
        calls_per_sample=max(1, round(2e-3 / seconds)),
        order=tuple(i * of + (place + i) % of for i in range(samples)),
        stopped="precision",
        clock="host",
    )


def measured(time: Timing, elements: int, variant: str, operators: int = 4) -> Measured:
    share = {"stock": 1.0, NOISE_FLOOR: 1.0, "compile": 0.75}.get(variant, 0.5)
    seconds = time.seconds[0]
    names = ("aten::native_layer_norm", "aten::mul", "aten::add", "aten::sum", "aten::empty", "aten::copy_", "aten::div", "aten::mm")
    table = [Operator(name, 10, seconds * 4 / (i + 1), 0.0, 40 * elements) for i, name in enumerate(names[:operators])]
    return Measured(
        timing=time,
        memory=Memory(4 * elements, int(4 * elements * share), int(8 * elements * share), int(16 * elements * share)),
        accuracy=Accuracy((TensorError("output", 1.2e-7, 4.8e-7), TensorError("input 0 grad", 3.1e-7, 9.5e-7))),
        profile=Profile(10, 13 * seconds, tuple(table), ""),
        compiled=Compiled(3.2, 2, (), 0) if variant == "compile" else None,
    )


def points(layer: LayerFacts, steps: tuple[str, ...], devices: tuple[str, ...], dtypes: tuple[str, ...]) -> Iterator[Point]:
    for device, dtype in itertools.product(devices, dtypes):
        for values in itertools.product(*layer.sweep.values()):
            for step in steps:
                yield Point(layer.name, dict(zip(layer.sweep, values, strict=True)), dtype, device, step)


def outcome(dice: random.Random, point: Point, variant: str, place: int, of: int, samples: int, operators: int) -> Outcome:
    if variant == "triton" and point.device == "cpu":
        return Checked(Accuracy((TensorError("output", 2.4e-7, 4.8e-7),)), SPIN)
    elements = 1
    for value in point.size.values():
        elements *= value
    batch = next(iter(point.size.values()))
    work = {"forward": 1.0, "backward": 1.9}.get(point.step, 3.0)
    gain = SPEED.get(variant, 1.1) * (1 + 0.35 * (batch / (batch + 40) - 0.4) * (variant in ("compile", "triton")))
    return measured(timing(dice, (4e-6 + elements * 9e-10) * work / gain, samples, place, of), elements, variant, operators)


def make(
    layers: tuple[LayerFacts, ...],
    *,
    steps: tuple[str, ...] = STEPS,
    devices: tuple[str, ...] = ("cpu",),
    dtypes: tuple[str, ...] = ("float32",),
    samples: int = 24,
    operators: int = 4,
    special: Mapping[tuple[str, str], Outcome] | None = None,
    **changes: object,
) -> Run:
    """A run over every point of the layers; `special` maps (point id, variant) to an outcome put in its place."""
    dice = random.Random(7)
    records = []
    for layer in layers:
        names = (layer.reference, NOISE_FLOOR, *(v.name for v in layer.variants[1:]))
        for point in points(layer, steps, devices, dtypes):
            for place, name in enumerate(names):
                result = (special or {}).get((point.id, name)) or outcome(dice, point, name, place, len(names), samples, operators)
                records.append(Record(point, name, result))
    values = {
        "schema": SCHEMA,
        "name": "synthetic",
        "started": "2026-11-24T02:00:00Z",
        "seconds": 312.0,
        "command": "layerbench run",
        "suite": "layerbench.layers",
        "interleaved": True,
        "environment": environment(),
        "layers": layers,
        "records": tuple(records),
        "notes": (),
    }
    return Run(**(values | changes))


def small() -> Run:
    """Two layers, 24 points, every kind of outcome, one absent variant."""
    batches = (1, 8, 64, 512)
    softmax = facts("softmax", {"batch": batches, "width": (1024,)})
    gelu = facts(
        "gelu", {"batch": batches, "width": (1024,)}, ("stock", "function", "compile"), absent={"triton": "pointwise: compile writes it"}
    )
    special = {
        ("gelu-forward-cpu-float32-batch512-width1024", "compile"): Failed("verify", "weight grad is off by 3.1e-3, allowed 4.8e-7"),
        ("softmax-training-cpu-float32-batch512-width1024", "function"): Skipped("time", "out of memory at batch 64"),
    }
    return make((softmax, gelu), special=special)


def large(records: int) -> Run:
    """About `records` records: layers of 5 variants and 5 batches, as many as are needed."""
    names = ("stock", "function", "triton", "compile")
    per_layer = 5 * 5 * 3 * 2 * 2  # variants and noise floor, batches, steps, dtypes, widths
    sweep = {"batch": (1, 8, 64, 256, 1024), "width": (256, 1024)}
    layers = tuple(facts(f"layer_{chr(97 + i // 26)}{chr(97 + i % 26)}", sweep, names) for i in range(-(-records // per_layer)))
    return make(layers, devices=("cuda",), dtypes=("float32", "bfloat16"), samples=24, operators=8)


def hundred_curves() -> Run:
    """Nine layers, three steps, four variants: 108 curves over eight batches, on a GPU."""
    sweep = {"batch": (1, 2, 4, 8, 16, 64, 256, 1024), "width": (1024,)}
    return make(tuple(facts(f"layer_{letter}", sweep) for letter in "abcdefghi"), devices=("cuda",), samples=48, operators=12)


def rich() -> Run:
    """Two devices, two dtypes, two widths, a doubtful machine: what makes a page crowded."""
    sweep = {"batch": (1, 8, 64, 512), "width": (256, 1024)}
    layers = tuple(facts(name, sweep) for name in ("linear", "softmax", "rms_norm", "dropout_residual"))
    gpu = Device("cuda", "NVIDIA H100 80GB HBM3", 85_899_345_920, ("float32", "bfloat16"))
    machine = environment(dirty=True, load=1.9, threads=2, devices=(*environment().devices, gpu))
    notes = ("interrupted after 300 s: the points of dropout_residual are missing in part",)
    return make(layers, steps=STEPS[:2], devices=("cpu", "cuda"), dtypes=("float32", "bfloat16"), environment=machine, notes=notes)


def changes(run: Run) -> tuple[Change, ...]:
    """This run against an invented baseline: one slower, one larger, one faster, one missing, the rest the same."""
    made = []
    for place, record in enumerate(r for r in run.records if isinstance(r.outcome, Measured) and r.variant != NOISE_FLOOR):
        ratio, verdict = {0: (1.083, "slower"), 5: (0.81, "faster")}.get(place, (1.002, "same"))
        seconds = record.outcome.timing.seconds[0]
        made.append(Change(record.point, record.variant, "seconds", seconds / ratio, seconds, ratio, ratio - 0.012, ratio + 0.012, verdict))
    first = run.records[0]
    made.append(Change(first.point, first.variant, "peak_bytes", 4096.0, 8192.0, 2.0, 2.0, 2.0, "larger"))
    made.append(Change(first.point, "triton", "outcome", math.nan, math.nan, math.nan, math.nan, math.nan, "missing"))
    return tuple(made)
