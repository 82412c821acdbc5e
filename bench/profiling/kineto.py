"""The events of one torch.profiler session, read straight from Kineto: spans with their self time, and allocations in order.

`key_averages()` builds a tree of Python objects, which takes seconds for a long trace; this needs one sort and one stack.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile

STEP = "layerbench.step"  # the range around what is profiled; set-up lies outside
BACKWARD = "layerbench.backward"  # begins where forward has ended


# Named tuples, not dataclasses: a long trace has hundreds of thousands, and they are made in half the time.


class Span(NamedTuple):
    name: str
    start_ns: int
    end_ns: int
    thread: int
    correlation: int


class Kernel(NamedTuple):
    name: str
    duration_ns: int
    launched_by: int  # correlation of the operator on the host
    start_ns: int = 0
    stream: int = 0
    launch: int = 0  # correlation of the call of the driver that launched it


class Allocation(NamedTuple):
    at_ns: int
    nbytes: int  # negative: freed
    thread: int


@dataclass(frozen=True)
class Events:
    spans: list[Span]  # by start; an enclosing span before those inside
    kernels: list[Kernel]
    allocations: list[Allocation]  # in order of time


def session(device: str) -> profile:
    """A profiler for the host and the given device, with memory events."""
    activities = [ProfilerActivity.CPU]
    named = {"cuda": ProfilerActivity.CUDA, "xpu": ProfilerActivity.XPU}
    if device in named:
        activities.append(named[device])
    return profile(activities=activities, profile_memory=True, acc_events=True)


def read(profiler: profile) -> Events:
    """All events of a profiler that has stopped."""
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    spans, kernels, allocations = [], [], []
    host_only = set(profiler.activities) == {ProfilerActivity.CPU}  # asking every event for its device takes longer than all else
    for event in profiler.profiler.kineto_results.events():
        name, start = event.name(), event.start_ns()
        if name == "[memory]":
            allocations.append(Allocation(start, event.nbytes(), event.start_thread_id()))  # type: ignore[attr-defined]  # torch's stub lacks it
        elif not host_only and "CPU" not in str(event.device_type()):
            if not _annotates(event):
                launched_by, launch = event.linked_correlation_id(), event.correlation_id()
                kernels.append(Kernel(name, event.duration_ns(), launched_by, start, event.device_resource_id(), launch))
        elif (duration := event.duration_ns()) > 0:
            spans.append(Span(name, start, start + duration, event.start_thread_id(), event.correlation_id()))
    spans.sort(key=lambda span: (span.start_ns, -span.end_ns))
    allocations.sort(key=lambda allocation: allocation.at_ns)
    return Events(spans, kernels, allocations)


def _annotates(event: Any) -> bool:
    """Whether it is a range of the host's, drawn on the device around the kernels inside; a torch that does not tell draws none."""
    return "annotation" in getattr(event, "activity_type", str)()


def ranges(events: Events, name: str) -> list[Span]:
    """The spans marked with a name of ours, in order."""
    return [span for span in events.spans if span.name == name]


def within(events: Events, outer: Sequence[Span]) -> list[Span]:
    """The spans on any thread that begin inside one of the outer ranges, those ranges themselves left out."""
    inside, index = [], 0
    for span in events.spans:
        while index < len(outer) and outer[index].end_ns <= span.start_ns:
            index += 1
        if index < len(outer) and outer[index].start_ns <= span.start_ns and span.name not in (STEP, BACKWARD):
            inside.append(span)
    return inside


def self_ns(spans: Iterable[Span]) -> list[tuple[Span, int]]:
    """Each span's duration less that of the spans directly inside it on its thread."""
    rows: list[tuple[Span, int]] = []
    stacks: dict[int, list[int]] = defaultdict(list)  # thread -> rows that are still open
    for span in spans:
        stack = stacks[span.thread]
        while stack and rows[stack[-1]][0].end_ns <= span.start_ns:
            stack.pop()
        duration = span.end_ns - span.start_ns
        if stack:
            outer, left = rows[stack[-1]]
            rows[stack[-1]] = (outer, left - duration)
        stack.append(len(rows))
        rows.append((span, duration))
    return [(span, max(0, left)) for span, left in rows]


def allocated_by(spans: Sequence[Span], allocations: Iterable[Allocation]) -> dict[int, int]:
    """Bytes allocated (frees not counted) by the innermost of the spans around each allocation: index of the span -> bytes."""
    found: dict[int, int] = defaultdict(int)
    stacks: dict[int, list[int]] = defaultdict(list)
    index = 0
    for allocation in allocations:
        while index < len(spans) and spans[index].start_ns <= allocation.at_ns:
            stacks[spans[index].thread].append(index)
            index += 1
        stack = stacks[allocation.thread]
        while stack and spans[stack[-1]].end_ns < allocation.at_ns:
            stack.pop()
        if stack and allocation.nbytes > 0:
            found[stack[-1]] += allocation.nbytes
    return found
