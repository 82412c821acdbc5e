"""Numbers and commands as a person reads them.  Formatting only: no statistics, no layout.

What was not measured is None or NaN and becomes the empty string here; a zero is always a measured zero.
"""

import math
import re
import shlex
from collections.abc import Sequence

from ..analysis import summary
from ..data.profiled import Kernels
from ..data.record import Measured, OnDevice, Point, Record, Roof, Run, Timing, Work
from ..stats.estimates import Interval
from ..text.ratio import ratio as ratio
from ..text.units import joules as joules
from ..text.units import known as known
from ..text.units import scaled
from ..text.units import seconds as seconds
from ..text.units import three as three

DEFAULT_SUITE = "layerbench.layers"
TIMES = "\u00d7"
ARROWS = {"faster": "▲", "slower": "▼", "mixed": "↕", "same": "=", "unclear": "?"}
PRECISION = f"{100 * summary.PRECISION:.0f}\u00a0%"
GOOD = frozenset({"faster", "smaller"})
BAD = frozenset({"slower", "larger", "missing", "failed"})

_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))


def count_bytes(value: float | None) -> str:
    """Decimal units: 1 kB is 1000 B.  Below 1 kB the exact count."""
    if not known(value):
        return ""
    return f"{value:.0f} B" if abs(value) < 1000 else scaled(value, _BYTES)


def times(value: float | None) -> str:
    return ratio(value) + TIMES if known(value) else ""


def share(value: float) -> str:
    """Bytes as a multiple of other bytes: 0.50, 1/1024; none at all where it is 0."""
    if value == 0:
        return "0 B"
    return f"1/{1 / value:.0f}{TIMES}" if value < 0.0995 else times(value)


def whole_tick(text: str) -> str:
    """A round place on an axis without its trailing zeros: 30 ms for 30.0 ms."""
    return re.sub(r"\.0+(?=\D)|(?<=\.\d)0+(?=\D)", "", text)


def span(low: float | None, high: float | None) -> str:
    """An interval: 1.31-1.55 with a dash; said to be unknown where one sample cannot give one."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"{ratio(low)}–{ratio(high)}" if low > 0 and math.isfinite(high) else "unknown"


def interval(value: Interval) -> str:
    return span(value.low, value.high)


def percent(value: float | None) -> str:
    if not known(value):
        return ""
    return f"{100 * value:.1f}\u00a0%" if abs(value) < 0.0995 else f"{whole(100 * value)}\u00a0%"


def whole(value: float | None) -> str:
    """A count, with a thin space between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f") if known(value) else ""


def calls(value: float) -> str:
    """Calls until something has paid for itself: two significant digits, or never."""
    if math.isinf(value):
        return "never"
    return whole(round(value, -max(0, math.floor(math.log10(value)) - 1))) if value >= 1 else "1"


def rates(work: Work | None, taken: float) -> str:
    """What a step of so many seconds did at least per second; "" where it was not counted."""
    if work is None or not taken > 0:
        return ""
    bytes_ = f"{three((work.read_bytes + work.written_bytes) / taken / 1e9)} GB/s"
    return f"{three(work.flops / taken / 1e9)} GFLOP/s, {bytes_}" if work.flops else bytes_


def roof(value: Roof) -> str:
    """The fastest that a device showed."""
    rate, memory, cached = (three(each / 1e9) for each in (value.flops_per_second, value.bytes_per_second, value.cached_bytes_per_second))
    return f"{rate} GFLOP/s, copies at {memory} GB/s from memory and {cached} GB/s from cache, {seconds(value.call_seconds)} per empty call"


def error(value: float | None) -> str:
    """An absolute error: two significant digits are all that it has."""
    if not known(value):
        return ""
    return "0" if value == 0 else re.sub(r"e(-?)\+?0*(?=\d)", r"e\1", f"{value:.1e}")


def stages(run: Run) -> str:
    """The seconds of a run by stage, the longest first."""
    left = run.seconds - sum(run.stages.values())
    parts = sorted({**run.stages, "starting, roofs and storing": max(0.0, left)}.items(), key=lambda item: -item[1])
    return ", ".join(f"{stage} {seconds(taken)}" for stage, taken in parts) + f"; {duration(run.seconds)} in all"


def duration(value: float) -> str:
    """The length of a run: 42 s, 5 min 12 s, 2 h 5 min."""
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(point_size: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in point_size.items())


def sentence(text: str) -> str:
    """What summary says, with numbers that do not break across lines."""
    text = re.sub(r"(?<=\d) (?=\d{3}\b)", "\u202f", text)
    return re.sub(r"(?<=\d)-(?=\d)", "\u2060–\u2060", text)


def ended(records: Sequence[Record]) -> str:
    """Why a point was measured no longer, and what fixes it; "" where it is precise, or has no time."""
    timed = [record.outcome.timing for record in records if isinstance(record.outcome, Measured)]
    if all(timing.stopped == "precision" for timing in timed):
        return ""
    rounds = plural(min(len(timing.seconds) for timing in timed), "round")
    few = f"only {rounds}, which say little," if min(len(timing.seconds) for timing in timed) < summary.FEW else rounds
    told = f"The time budget ended this point after {few} before every ratio was known to {PRECISION}"
    return f"{told}. A longer --budget narrows the intervals."


CLOCKS = {
    "host": "",
    "device": "; the device's own seconds, from events around each step",
    "graph": "; the device's own seconds in a CUDA graph of several steps",
    "called": "; as called, in a loop that never waits",
}


def sampling(timing: Timing) -> str:
    """How many samples, and why no more."""
    known = f"every ratio of the point was known to {PRECISION}"
    why = f"until {known}" if timing.stopped == "precision" else f"then the time budget was used up, before {known}"
    clock = CLOCKS.get(timing.clock, f"; {timing.clock} clock")
    if timing.device and timing.device.uncaptured:
        clock += f", and not in a graph, since {timing.device.uncaptured}"
    return f"{plural(len(timing.seconds), 'sample')} of {plural(timing.calls_per_sample, 'call')}, {why}{clock}"


def clock(device: OnDevice | None) -> str:
    """Of the device after its samples; "" where it is not known."""
    seen = sorted(mhz for mhz in device.mhz if mhz) if device else []
    if not seen:
        return ""
    assert device
    span = f"{seen[0]}" if seen[0] == seen[-1] else f"{seen[0]}\u2013{seen[-1]}"
    held = f", after {device.power_limited} of {len(device.mhz)} samples under its power limit" if device.power_limited else ""
    return f"The device ran at {span} MHz{held}."


def kernels(found: Kernels | None, taken: float) -> str:
    """The kernels of a step that takes so many seconds on the device, and how much of them it is busy; "" where they were not counted."""
    if found is None:
        return ""
    if found.incomplete:
        return f"Kernels: no check of the time, {found.incomplete}."
    launches = [plural(found.launches, "launch", "launches")] if found.launches or not found.graphs else []
    launches += [plural(found.graphs, "graph")] if found.graphs else []
    ran = f"{plural(found.count, 'kernel')} in {' and '.join(launches)}, {seconds(found.seconds)} together under the profiler"
    if found.overlap:
        return f"A call runs {ran}, some of them at the same time, so the sum checks nothing."
    return f"A call runs {ran}: busy {percent(min(1.0, found.seconds / taken))} of its time on the device."


def plural(number: int, noun: str, several: str = "") -> str:
    return f"{whole(number)} {noun if number == 1 else several or noun + 's'}"


def command(run: Run, point: Point) -> str:
    """What to type to measure one point again and no other, as this run measured it, whatever the sweep in the file says."""
    words = ["layerbench", "run"]
    if run.suite and run.suite != DEFAULT_SUITE:
        words += ["--suite", run.suite]
    words += ["-k", f"^{point.id}"]
    for name, value in point.size.items():
        words += ["--set", f"{name}={value}"]
    words += ["--dtype", point.dtype, "--device", point.device, "--step", point.step, "--threads", str(run.environment.threads)]
    if budget := re.search(r"--budget[ =](\d[\w.]*)", run.command):
        words += ["--budget", budget[1] if budget[1][-1] in "smh" else f"{budget[1]}s"]  # a number alone was seconds once
    words += [] if run.graph == "auto" else ["--graph", run.graph]
    words += ["--energy"] * bool(re.search(r"--energy\b", run.command))
    return shlex.join(words if run.interleaved else [*words, "--sequential"])
