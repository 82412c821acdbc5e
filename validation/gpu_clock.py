"""The part of gpu_proof that looks at the clock of a GPU: two copies of one module, then both times of some layers from small to large."""

import statistics
import time
from pathlib import Path
from typing import Any

from gpu_proof import say, write

CLOCK_POINTS = (  # layer, size: from a few microseconds to some milliseconds
    ("rmsnorm", {"batch": 1, "tokens": 64, "width": 1024}),
    ("rmsnorm", {"batch": 16, "tokens": 1024, "width": 4096}),
    ("softmax", {"batch": 256, "width": 4096}),
    ("softmax", {"batch": 8192, "width": 8192}),
    ("linear", {"batch": 256, "in_features": 512, "out_features": 512}),
    ("linear", {"batch": 8192, "in_features": 4096, "out_features": 4096}),
)


def layers() -> dict[str, Any]:
    from layerbench.bench.suite import mount

    return {each.layer.name: each.layer for each in mount.mount("layerbench.layers")}


def _calls(name: str, size: dict[str, int], dtype: str, device: str, step: str, twice: bool) -> dict[str, Any]:
    """Calls of a layer's variants on one set of numbers; twice: the reference and a second copy of it."""
    import torch

    from layerbench.bench.subject import make

    layer = layers()[name]
    weights = make.reference(layer, size, getattr(torch, dtype), device, 0)
    inputs = make.draw(layer.draws, size, getattr(torch, dtype), device, 0)
    cotangents = make.cotangents(make.probe(weights, inputs), 0)
    able = ("any", "cpu" if device == "cpu" else "gpu")
    first = next(iter(layer.variants))
    names = {each: each for each, variant in layer.variants.items() if not variant.compile and variant.devices in able}
    if twice:
        names = {"a": first, "b": first}
    return {
        label: make.call(make.subject(label, make.variant_module(layer, source, size, weights), inputs, cotangents), step)
        for label, source in names.items()
    }


def clock(out: Path, dry: bool) -> None:
    """Is the device's clock right, and do its intervals hold what they say?  A/A of two copies, then the table of both times."""
    from layerbench.bench.stats import estimates
    from layerbench.bench.timing.choice import clock_for
    from layerbench.bench.timing.device_clock import DeviceClock
    from layerbench.bench.timing.measure import Limit, measure

    rows: list[dict[str, Any]] = []
    if dry:
        from emulated import Device, step

        device = Device()
        watch: Any = DeviceClock(device)
        made = {name: step(device, name, 20e-6, 30e-6) for name in "ab"}
        pairs = [("emulated", "20 us", "forward", lambda: made)]
    else:
        watch = clock_for("cuda")
        pairs = [
            (name, str(size), step_, lambda name=name, size=size, step_=step_: _calls(name, size, "bfloat16", "cuda", step_, twice=True))
            for name, size in CLOCK_POINTS
            for step_ in ("forward", "training")
        ]
    inside: list[bool] = []
    worst: dict[str, float] = {"above": 0.0, "below": 0.0}
    end = time.monotonic() + 45
    for name, size, step_, make_calls in pairs:
        calls = make_calls()
        for seed in range(6):
            if time.monotonic() > end:
                break
            timings = measure(calls, "a", watch, Limit(0.6), seed=seed)
            a, b = timings["a"], timings["b"]
            found = estimates.speedup(a.seconds, b.seconds)
            inside.append(found.low <= 1 <= found.high)
            median = statistics.median(a.seconds)
            kind = "above" if median > 20e-6 else "below"
            worst[kind] = max(worst[kind], abs(found.ratio - 1))
            assert a.device
            rows.append(
                {"layer": name, "size": size, "step": step_, "seconds": median, "ratio": found, "samples": len(a.seconds)}
                | {"issuing": statistics.median(a.device.issuing), "called": statistics.median(a.device.called)}
                | {"discarded": a.device.discarded, "exposed": a.device.exposed, "mhz": [min(a.device.mhz), max(a.device.mhz)]}
            )
            write(out, "clock.jsonl", rows)
    floor = 1 + estimates.DEVICE_FLOOR
    wrong = sum(row["ratio"].low > floor or row["ratio"].high < 1 / floor for row in rows)
    say(out, "clock", "A/A: verdicts of faster or slower, with the smallest noise floor", f"{wrong} of {len(rows)}", not wrong)
    say(out, "clock", "A/A: intervals that hold 1 (two copies lie at other places in memory)", f"{sum(inside)} of {len(inside)}", None)
    say(out, "clock", "A/A: largest error above 20 us", f"{100 * worst['above']:.2f} %", worst["above"] < estimates.DEVICE_FLOOR)
    say(out, "clock", "A/A: largest error below 20 us", f"{100 * worst['below']:.2f} %", None)
    if dry:
        return
    for name, size in CLOCK_POINTS:
        for step_ in ("forward", "training"):
            calls = _calls(name, size, "bfloat16", "cuda", step_, twice=False)
            for call in calls.values():
                for _ in range(3):
                    call.once()
            timings = measure(calls, next(iter(calls)), watch, Limit(0.8))
            for variant, timing in timings.items():
                assert timing.device
                device_, issuing, called = (
                    statistics.median(x) * 1e6 for x in (timing.seconds, timing.device.issuing, timing.device.called)
                )
                spread = (statistics.quantiles(timing.seconds, n=4)[2] - statistics.quantiles(timing.seconds, n=4)[0]) * 1e6 / device_
                words = f"device {device_:.1f} us (spread {100 * spread:.1f} %), issuing {issuing:.0f} us, as called {called:.0f} us"
                words += f", kernels {_kernels(calls[variant]):.1f} us" + (f", {timing.device.exposed}" if timing.device.exposed else "")
                words += f", discarded {timing.device.discarded}" if timing.device.discarded else ""
                say(out, "clock", f"{name} {' '.join(map(str, size.values()))} {step_} {variant}", words, None)


def _kernels(call: Any) -> float:
    """Sum of the durations of a step's kernels under the profiler, in microseconds."""
    from layerbench.bench.profiling.profile import profile

    made = profile(call, "cuda", None)
    return sum(row.device_seconds for row in made.operators) / made.calls * 1e6
