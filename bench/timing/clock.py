"""Clocks: how long a number of calls takes, on the host, on an accelerator, or as a test says.  They time and decide nothing.

HostClock is here, for devices that compute where they are called.  DeviceClock, for accelerators, is in device_clock.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

BLOCK_SECONDS = 0.002  # host noise moves more slowly than this, so blocks of one round see the same machine


@dataclass(frozen=True)
class Call:
    """One repeatable step of one variant.

    setup  what must happen before every step, outside the clock; its result is handed to step.  None: nothing to do.
    step   what is timed.
    clear  the part of setup that must happen right before a step even where setups were made ahead, on the host alone.
    """

    variant: str
    setup: Callable[[], object] | None
    step: Callable[[object], object]
    clear: Callable[[], object] | None = None

    def once(self) -> object:
        """Untimed."""
        return self.step(self.setup() if self.setup else None)


@dataclass(frozen=True)
class Sample:
    """One block of calls.  Seconds per call, set-up not counted; what a clock does not tell is NaN.

    seconds   by the clock's own measure, which is what its name says.
    issuing   that the host needs to issue a step, where a device computes it.
    called    of a loop that never waits: what a caller sees.
    discarded  why blocks were taken again before this one, a word each.
    exposed   why the launches could not be hidden, so that seconds hold the host's time too; "" where they were.
    mhz       clock of the device after the block; 0: not known.
    power_limited  whether its power limit held that clock down.
    """

    seconds: float
    issuing: float = math.nan
    called: float = math.nan
    discarded: tuple[str, ...] = ()
    exposed: str = ""
    mhz: int = 0
    power_limited: bool = False


class Clock(Protocol):
    name: str  # host | device

    def now(self) -> float:
        """Seconds on a monotonic clock of the host, for budgets."""
        ...

    def held(self) -> float:
        """Seconds for which this process has held the host's cores; over a stretch of work less than `now` where others had them."""
        ...

    def warm(self, calls: Iterable[Call]) -> None:
        """Bring the device to the state in which it is timed."""
        ...

    def block(self, call: Call) -> int:
        """Calls of a block that is short beside the noise, and long beside the clock's ticks."""
        ...

    def time(self, call: Call, calls: int) -> float:
        """Seconds that `calls` steps take together, set-up not counted."""
        ...

    def sample(self, call: Call, calls: int) -> Sample:
        """All that the clock can tell of a block of `calls` steps."""
        ...


class HostClock:
    """Wall time on the host, for devices that compute where they are called."""

    name = "host"

    def now(self) -> float:
        return time.perf_counter()

    def held(self) -> float:
        return time.process_time()

    def warm(self, calls: Iterable[Call]) -> None:
        """The calls before every block are enough."""

    def block(self, call: Call) -> int:
        return doubled(self, call)

    def sample(self, call: Call, calls: int) -> Sample:
        return Sample(self.time(call, calls) / calls)

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

    def warm(self, calls: Iterable[Call]) -> None:
        """Nothing is cold."""

    def block(self, call: Call) -> int:
        return doubled(self, call)

    def sample(self, call: Call, calls: int) -> Sample:
        return Sample(self.time(call, calls) / calls)

    def time(self, call: Call, calls: int) -> float:
        seconds = 0.0
        for _ in range(calls):
            call.once()
            number = self._made.get(call.variant, 0)
            self._made[call.variant] = number + 1
            seconds += self._cost(call.variant, number)
        self._now += seconds
        return seconds


def doubled(clock: Clock, call: Call) -> int:
    """Calls that take about BLOCK_SECONDS, found by doubling."""
    calls = 1
    while True:
        call.once()
        spent = clock.time(call, calls)
        if spent >= BLOCK_SECONDS / 2:
            return max(1, round(calls * BLOCK_SECONDS / spent))
        calls *= 2
