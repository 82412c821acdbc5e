"""The profiler's pass over one variant: a table of operators and a trace file.  It explains; no time from here is ranked."""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import record_function

from ..data.profiled import Operator, Profile
from ..timing import collector
from ..timing.clock import Call
from . import kernels, kineto

SECONDS = 0.1  # profile about this long
CALLS = 10  # and no more steps than this
FEWEST = 3  # on an accelerator at least, so that the kernels of one call can be held against those of others


def profile(call: Call, device: str, trace_folder: Path | None, mhz: Callable[[], int] = lambda: 0) -> Profile:
    """Profile some steps of a call that has been warmed up.  Only what lies inside the step is counted, never its set-up.

    mhz: asked for the device's clock right after the last step.

    The trace is written as <variant>.<milliseconds>.pt.trace.json.gz, the form of name that TensorBoard's plugin looks for.
    """
    calls = _calls(call, 1 if device == "cpu" else FEWEST)
    with kineto.session(device) as profiler:
        for _ in range(calls):
            held = call.setup() if call.setup else None
            with record_function(kineto.STEP):
                held = call.step(held)
                _synchronize(device)
        clock = mhz()
        del held
    with collector.paused():  # half the time of reading a long trace
        events = kineto.read(profiler)
        steps = kineto.ranges(events, kineto.STEP)
        operators = table(events, steps)
        found = None if device == "cpu" else kernels.count(events, steps, clock)
    wall = sum(step.end_ns - step.start_ns for step in steps) / 1e9
    trace = ""
    if trace_folder is not None:
        trace_folder.mkdir(parents=True, exist_ok=True)
        path = trace_folder / f"{call.variant}.{time.time_ns() // 1_000_000}.pt.trace.json.gz"
        profiler.export_chrome_trace(str(path))
        trace = f"{trace_folder.parent.name}/{trace_folder.name}/{path.name}"
    return Profile(calls, wall, operators, trace, found)


def _calls(call: Call, fewest: int) -> int:
    call.once()
    start = time.perf_counter()
    call.once()
    return max(fewest, min(CALLS, int(SECONDS / max(time.perf_counter() - start, 1e-9))))


def table(events: kineto.Events, steps: list[kineto.Span]) -> tuple[Operator, ...]:
    """One row per operator and kernel that ran inside the steps, most self time first."""
    spans = kineto.within(events, steps)
    calls: dict[str, int] = defaultdict(int)
    cpu: dict[str, int] = defaultdict(int)
    device: dict[str, int] = defaultdict(int)
    nbytes: dict[str, int] = defaultdict(int)
    for span, left in kineto.self_ns(spans):
        calls[span.name] += 1
        cpu[span.name] += left
    for index, allocated in kineto.allocated_by(spans, events.allocations).items():
        nbytes[spans[index].name] += allocated
    launchers = {span.correlation for span in spans}
    for kernel in events.kernels:
        if kernel.launched_by in launchers:
            calls[kernel.name] += 1
            device[kernel.name] += kernel.duration_ns
    rows = (Operator(name, calls[name], cpu[name] / 1e9, device[name] / 1e9, nbytes[name]) for name in calls)
    return tuple(sorted(rows, key=lambda row: -(row.cpu_seconds + row.device_seconds)))


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)
