"""Clocks: how long a number of calls takes, on the host, on an accelerator, or as a test says.  They time and decide nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Call:
    """One repeatable step of one variant.

    setup  what must happen before every step, outside the clock; its result is handed to step.  None: nothing to do.
    step   what is timed.
    """

    variant: str
    setup: Callable[[], object] | None
    step: Callable[[object], object]

    def once(self) -> object:
        """Untimed."""
        return self.step(self.setup() if self.setup else None)


class Clock(Protocol):
    name: str  # host | device

    def now(self) -> float:
        """Seconds on a monotonic clock of the host, for budgets."""
        ...

    def held(self) -> float:
        """Seconds for which this process has held the host's cores; over a stretch of work less than `now` where others had them."""
        ...

    def time(self, call: Call, calls: int) -> float:
        """Seconds that `calls` steps take together, set-up not counted."""
        ...


class HostClock:
    """Wall time on the host, for devices that compute where they are called."""

    name = "host"

    def now(self) -> float:
        return time.perf_counter()

    def held(self) -> float:
        return time.process_time()

    def time(self, call: Call, calls: int) -> float:
        held = None  # one output alive at a time, for every variant alike
        if call.setup is None:
            step = call.step
            start = time.perf_counter()
            for _ in range(calls):
                held = step(None)
            return time.perf_counter() - start
        total = 0.0
        for _ in range(calls):
            held = None
            held = call.setup()
            start = time.perf_counter()
            held = call.step(held)
            total += time.perf_counter() - start
        return total


class AcceleratorClock:
    """Time between two events on the current stream.  The cache is overwritten before every call, and nothing waits between.

    Written against torch.accelerator and torch.Event; not yet run on a GPU (see docs/gpu.md).
    """

    name = "device"

    def __init__(self, device: str, cache_bytes: int = 256 * 2**20) -> None:
        self._device = device
        self._flush = torch.empty(cache_bytes // 4, dtype=torch.int32, device=device)

    def now(self) -> float:
        return time.perf_counter()

    def held(self) -> float:
        return self.now()  # the work is the device's: nobody takes it away

    def time(self, call: Call, calls: int) -> float:
        spans = []
        held = None  # as on the host
        for _ in range(calls):
            held = call.setup() if call.setup else None
            self._flush.zero_()
            start, end = (torch.Event(self._device, enable_timing=True) for _ in range(2))
            start.record()
            held = call.step(held)
            end.record()
            spans.append((start, end))
        torch.accelerator.synchronize(self._device)
        del held
        return sum(start.elapsed_time(end) for start, end in spans) / 1e3


class FakeClock:
    """For tests: every call is really made, and takes the seconds that `cost` says of its variant and its number.

    cost(variant, n) is the time of the n-th timed call of that variant, from 0.
    """

    name = "host"

    def __init__(self, cost: Callable[[str, int], float]) -> None:
        self._cost = cost
        self._made: dict[str, int] = {}
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def held(self) -> float:
        return self._now

    def time(self, call: Call, calls: int) -> float:
        seconds = 0.0
        for _ in range(calls):
            call.once()
            number = self._made.get(call.variant, 0)
            self._made[call.variant] = number + 1
            seconds += self._cost(call.variant, number)
        self._now += seconds
        return seconds


def clock_for(device: str) -> Clock:
    return HostClock() if device == "cpu" else AcceleratorClock(device)
