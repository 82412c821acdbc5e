"""A device on virtual time, for tests: a queue that runs behind the host, events, a cache, a kernel that spins, a clock that falls.

The host's time moves where the test says that it does: at every launch, and where it waits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from layerbench.bench.machine.nvml import Health
from layerbench.bench.timing.clock import Call

EVENT = 0.5e-6  # what an event takes on the device
COMMAND = 2e-6  # what it takes the host to put anything into the queue
FLUSH = 80e-6
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
    _ends: list[float] = field(default_factory=list)

    def put(self, seconds: float) -> float:
        """Into the queue; when it will be done."""
        if self.broken:
            raise Broken("an illegal memory access was encountered")
        self.time += COMMAND
        self._ends = [end for end in self._ends if end > self.time]
        if len(self._ends) >= self.queue:  # the host waits for room
            self.time = self._ends[-self.queue]
        self.idle_at = max(self.idle_at, self.time) + seconds
        self._ends.append(self.idle_at)
        return self.idle_at

    def kernel(self, seconds: float, host: float) -> None:
        """What a layer launches: it costs the host so long, and then the device."""
        self.time += host
        self.put(seconds * (1.0 if self.cold else WARM_CACHE) * self.slow(self.time)[0])
        self.cold = False

    # --- as the clock sees it ---

    def now(self) -> float:
        return self.time

    def mark(self) -> Mark:
        return Mark(self)

    def flush(self) -> None:
        self.put(FLUSH)
        self.cold = True

    def spin(self, seconds: float) -> None:
        self.put(seconds)

    def wait(self) -> None:
        if self.broken:
            raise Broken("an illegal memory access was encountered")
        self.time = max(self.time, self.idle_at)

    def allocated(self) -> int:
        return self.bytes

    def free(self) -> int:
        return self.bytes_free

    def look(self) -> Health:
        factor, why = self.slow(self.time)
        return Health(round(1980 / factor), why)


def step(device: Device, name: str, seconds: float, host: float, kernels: int = 1, waits: bool = False) -> Call:
    """A call whose step launches kernels: `seconds` of the device and `host` seconds of the host in all."""

    def run(_: object) -> None:
        for number in range(kernels):
            device.kernel(seconds / kernels, host / kernels)
            device.cold = number + 1 < kernels  # every kernel of the step reads other memory
        if waits:
            device.wait()

    return Call(name, None, run)
