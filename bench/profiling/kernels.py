"""The kernels of a profiled step, and whether the profiler has all of them: only then does their sum check the clock's seconds.

A profiler drops kernels at the start of a session and after the device was idle.  So each launch is looked up by the number that it shares
with its kernel, and the calls of the pass, which all do the same, are held against one another.
"""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.profiled import Kernels
from .kineto import Events, Kernel, Span

LAUNCH = re.compile(r"(cuda|cu|hip)\w*(Launch\w*Kernel|Memcpy|Memset)")  # of the runtime or the driver; hip: ROCm
GRAPH = re.compile(r"(cuda|cu|hip)GraphLaunch")
OVERLAP = 0.01  # of the sum that may lie beside other kernels: the end of one and the begin of the next, where one may start early


@dataclass(frozen=True)
class Ran:
    """One call of the step."""

    kernels: tuple[Kernel, ...]  # by start
    launches: int
    graphs: int
    lost: int  # launches without a kernel

    @property
    def work(self) -> tuple[object, ...]:
        """What must be alike in all calls."""
        return tuple(kernel.name for kernel in self.kernels), self.launches, self.graphs


def count(events: Events, steps: Sequence[Span], mhz: int = 0) -> Kernels:
    """Of one call: what most calls of the pass did.  mhz: clock of the device at the end of the pass."""
    calls = _calls(events, steps)
    whole = [ran for ran in calls if not ran.lost]
    work, alike = Counter(ran.work for ran in whole).most_common(1)[0] if whole else ((), 0)
    chosen = [ran for ran in whole if ran.work == work] or calls
    one = chosen[0]
    return Kernels(
        count=len(one.kernels),
        seconds=statistics.median(sum(kernel.duration_ns for kernel in ran.kernels) for ran in chosen) / 1e9 if chosen else 0.0,
        launches=one.launches,
        graphs=one.graphs,
        overlap=any(_overlap(ran.kernels) for ran in chosen),
        mhz=mhz,
        incomplete=_incomplete(calls, one, alike),
    )


def _incomplete(calls: Sequence[Ran], one: Ran, alike: int) -> str:
    """Why the kernels check nothing; "" where more than half of the calls, and two at least, have the same and none was lost."""
    if not any(ran.kernels for ran in calls):
        return "the profiler saw no kernel"
    if not one.launches and not one.graphs:
        return "the profiler saw no launch"
    if alike >= 2 and alike > len(calls) / 2:
        return ""
    if lost := sum(ran.lost for ran in calls):
        return f"the profiler lost the kernels of {lost} of {sum(ran.launches + ran.graphs for ran in calls)} launches"
    return f"the calls of the pass differ: {alike} of {len(calls)} ran the same kernels"


def _calls(events: Events, steps: Sequence[Span]) -> list[Ran]:
    by_launch: dict[int, list[Kernel]] = {}
    for kernel in events.kernels:
        by_launch.setdefault(kernel.launch, []).append(kernel)
    launches = [span for span in events.spans if LAUNCH.match(span.name) or GRAPH.match(span.name)]
    calls = []
    for step in steps:
        inside = [span for span in launches if step.start_ns <= span.start_ns < step.end_ns]
        numbers = {span.correlation: bool(GRAPH.match(span.name)) for span in inside}
        kernels = sorted((k for number in numbers for k in by_launch.get(number, ())), key=lambda kernel: kernel.start_ns)
        graphs, lost = sum(numbers.values()), sum(number not in by_launch for number in numbers)
        calls.append(Ran(tuple(kernels), len(numbers) - graphs, graphs, lost))
    return calls


def _overlap(kernels: Sequence[Kernel]) -> bool:
    """Whether kernels ran at the same time, or could have."""
    if len({kernel.stream for kernel in kernels}) > 1:
        return True
    end = shared = 0
    for kernel in kernels:
        shared += max(0, min(end, kernel.start_ns + kernel.duration_ns) - kernel.start_ns)
        end = max(end, kernel.start_ns + kernel.duration_ns)
    return shared > OVERLAP * sum(kernel.duration_ns for kernel in kernels)
