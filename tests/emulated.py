"""A device on virtual time, for tests: a queue that runs behind the host, events, a cache, a kernel that spins, a clock that falls, energy.

The host's time moves where the test says that it does: at every launch, and where it waits.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field

from layerbench.bench.machine.nvml import Health
from layerbench.bench.timing.clock import Call

EVENT = 0.5e-6  # what an event takes on the device
NODE = 0.8e-6  # what a kernel of a graph begins after the one before it
REPLAY = 100e-6  # what it takes the host to put a graph into the queue
COMMAND = 2e-6  # what it takes the host to put anything into the queue
FLUSH = 80e-6
TICK, READ = 0.1, 4e-3  # the counter of energy moves once in so many seconds; a look at it takes the host so long
IDLE_WATTS, BUSY_WATTS = 80.0, 680.0
POWER_LIMIT = "the power limit"  # why it is slow, where that is no accident
WARM_CACHE = 0.5  # of a kernel's time, where what it reads is in the cache


class Broken(RuntimeError):
    """The sticky error of a device: everything after it fails as well."""


@dataclass
class Mark:
    device: "Device"
    at: float = -1.0  # when the device comes there

    def record(self) -> None:
        self.at = self.device.put(EVENT)

    def query(self) -> bool:
        return self.at <= self.device.time

    def elapsed_time(self, end: "Mark") -> float:
        assert max(self.at, end.at) <= self.device.time, "an event was read before the device came there"
        return (end.at - self.at) * 1e3


@dataclass
class Graph:
    """What was captured: kernels and flushes by their seconds."""

    device: "Device"
    kept: list[tuple[str, float]]

    def replay(self) -> None:
        self.device.time += REPLAY
        self.device.put(0.0)
        for kind, seconds in self.kept:
            self.device.work(kind, seconds, NODE)


@dataclass
class Device:
    """An accelerator.  `slow` says by how much kernels are slowed down at a moment, and why."""

    slow: Callable[[float], tuple[float, str]] = lambda now: (1.0, "")
    queue: int = 1000  # commands that the host may be ahead
    time: float = 0.0  # the host's
    idle_at: float = 0.0  # the device's queue is empty then
    cold: bool = False
    broken: bool = False
    bytes: int = 0
    bytes_free: int = 2**30
    tick: float = TICK
    _ends: list[float] = field(default_factory=list)
    _kept: list[tuple[str, float]] | None = None  # while a graph is captured
    _done: list[tuple[float, float]] = field(default_factory=list)  # when a command ended, and how long the device had worked by then

    def put(self, seconds: float) -> float:
        """Into the queue; when it will be done."""
        if self.broken:
            raise Broken("an illegal memory access was encountered")
        self.time += COMMAND
        return self._queue(seconds)

    def _queue(self, seconds: float) -> float:
        if self.broken:
            raise Broken("an illegal memory access was encountered")
        self._ends = [end for end in self._ends if end > self.time]
        if len(self._ends) >= self.queue:  # the host waits for room
            self.time = self._ends[-self.queue]
        self.idle_at = max(self.idle_at, self.time) + seconds
        self._ends.append(self.idle_at)
        self._done.append((self.idle_at, seconds + (self._done[-1][1] if self._done else 0.0)))
        return self.idle_at

    def kernel(self, seconds: float, host: float) -> None:
        """What a layer launches: it costs the host so long, and then the device."""
        self.time += host
        if self._kept is not None:
            self._kept.append(("kernel", seconds))
            return
        self.time += COMMAND
        self.work("kernel", seconds, 0.0)

    def work(self, kind: str, seconds: float, later: float) -> None:
        """A command without what it costs the host.  later: seconds that it begins after the one before it."""
        if kind != "kernel":
            self.cold = True
            self._queue(seconds)
            return
        self._queue(later + seconds * (1.0 if self.cold else WARM_CACHE) * self.slow(self.time)[0])
        self.cold = False

    def other_memory(self) -> None:
        """What the next kernel reads is not in the cache."""
        if self._kept is not None:
            self._kept.append(("other memory", 0.0))
        else:
            self.cold = True

    def capture(self, body: Callable[[], None]) -> Graph:
        body()
        self.wait()
        self._kept = []
        try:
            body()
            return Graph(self, self._kept)
        finally:
            self._kept = None

    # --- as the clock sees it ---

    def now(self) -> float:
        return self.time

    def mark(self) -> Mark:
        return Mark(self)

    def flush(self) -> None:
        if self._kept is not None:
            self._kept.append(("flush", FLUSH))
            return
        self.time += COMMAND
        self.work("flush", FLUSH, 0.0)

    def spin(self, seconds: float) -> None:
        self.put(seconds)

    def wait(self) -> None:
        if self._kept is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        if self.broken:
            raise Broken("an illegal memory access was encountered")
        self.time = max(self.time, self.idle_at)

    def allocated(self) -> int:
        return self.bytes

    def free(self) -> int:
        return self.bytes_free

    def look(self) -> Health:
        factor, why = self.slow(self.time)
        return Health(round(1980 / factor), "" if why == POWER_LIMIT else why, why == POWER_LIMIT)

    def joules(self) -> float | str:
        self.time += READ
        ticked = self.time // self.tick * self.tick
        return IDLE_WATTS * ticked + (BUSY_WATTS - IDLE_WATTS) * self._worked(ticked)

    def _worked(self, until: float) -> float:
        """Seconds that the device was busy until then."""
        place = bisect.bisect_right(self._done, (until, float("inf")))
        before = self._done[place - 1][1] if place else 0.0
        if place == len(self._done):
            return before
        end, after = self._done[place]
        return before + max(0.0, after - before - (end - until))


def step(device: Device, name: str, seconds: float, host: float, kernels: int = 1, waits: bool = False) -> Call:
    """A call whose step launches kernels: `seconds` of the device and `host` seconds of the host in all."""

    def run(_: object) -> None:
        for number in range(kernels):
            device.kernel(seconds / kernels, host / kernels)
            if number + 1 < kernels:
                device.other_memory()
        if waits:
            device.wait()

    return Call(name, None, run)
