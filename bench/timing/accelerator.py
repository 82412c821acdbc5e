"""The one place that knows how CUDA, ROCm and XPU differ: events, a kernel that spins, the size of the cache, the device's state.

torch calls ROCm's devices cuda, too.  MPS is not promised: it is timed as a device that cannot spin.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

import torch

from ..machine import nvml
from ..machine.nvml import Health

UNKNOWN_CACHE = 64 * 2**20  # bytes of a second-level cache, where torch does not tell
FLUSHED = 2  # times the cache is overwritten
CALIBRATION = 1_000_000  # cycles that the spinning kernel is timed at


class Mark(Protocol):
    """A place in the device's queue."""

    def record(self) -> None: ...

    def query(self) -> bool:
        """Whether the device has come there."""
        ...

    def elapsed_time(self, end: "Mark") -> float:
        """Milliseconds from here to `end`, both reached."""
        ...


class Graph(Protocol):
    """Work that was captured, and can be put into the queue again by one command."""

    def replay(self) -> None: ...


class Accelerator(Protocol):
    """What the clock asks of a device.  Tests give one on virtual time."""

    def now(self) -> float: ...

    def mark(self) -> Mark: ...

    def flush(self) -> None:
        """Overwrite the second-level cache, in the device's queue."""
        ...

    def spin(self, seconds: float) -> None:
        """Keep the device busy for about so long, in its queue."""
        ...

    def wait(self) -> None:
        """Until the queue is empty."""
        ...

    def allocated(self) -> int:
        """Bytes of tensors."""
        ...

    def free(self) -> int:
        """Bytes that can still be allocated."""
        ...

    def look(self) -> Health: ...

    def joules(self) -> float | str:
        """Of a counter that moves now and then; why there is none."""
        ...

    def capture(self, body: Callable[[], None]) -> Graph:
        """What `body` puts into the queue, not done but kept.  Raises where it cannot be, and what `body` raises."""
        ...


class TorchAccelerator:
    """The current device of a kind, through torch."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._module = getattr(torch, kind)
        properties = self._module.get_device_properties(0) if hasattr(self._module, "get_device_properties") else None
        cache = getattr(properties, "L2_cache_size", 0) or getattr(properties, "last_level_cache_size", 0) or UNKNOWN_CACHE
        self._flushed = torch.empty(FLUSHED * cache // 4, dtype=torch.int32, device=kind)
        self._health = nvml.of(str(getattr(properties, "uuid", "")))
        self._cycles = self._calibrate() if hasattr(self._module, "_sleep") else 0.0  # per second

    def now(self) -> float:
        return time.perf_counter()

    def mark(self) -> Mark:
        return cast(Mark, torch.Event(self.kind, enable_timing=True))

    def flush(self) -> None:
        self._flushed.zero_()

    def spin(self, seconds: float) -> None:
        if self._cycles:
            self._module._sleep(int(seconds * self._cycles))
            return
        end = max(1, round(seconds / self._flush_seconds))  # without a kernel that spins: overwriting memory takes time as well
        for _ in range(end):
            self._flushed.zero_()

    def wait(self) -> None:
        torch.accelerator.synchronize(self.kind)

    def allocated(self) -> int:
        return int(torch.accelerator.memory_allocated(self.kind))

    def free(self) -> int:
        """What the driver has left, and what torch holds in reserve."""
        if not hasattr(self._module, "mem_get_info"):
            return 0
        return int(self._module.mem_get_info()[0]) + int(torch.accelerator.memory_reserved(self.kind)) - self.allocated()

    def look(self) -> Health:
        return self._health.look()

    def joules(self) -> float | str:
        return self._health.joules()

    def capture(self, body: Callable[[], None]) -> Graph:
        if not hasattr(self._module, "CUDAGraph"):
            raise NotImplementedError(f"torch has no graphs for {self.kind}")
        here, aside = self._module.current_stream(), self._module.Stream()
        aside.wait_stream(here)
        with self._module.stream(aside):
            body()  # what a first call on a stream makes, as a library's workspace, cannot be captured
        self.wait()
        graph = self._module.CUDAGraph()
        with self._module.stream(aside):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                body()
                graph.capture_end()
            except BaseException:
                self._give_up(graph)
                raise
        here.wait_stream(aside)
        return cast(Graph, graph)

    def _give_up(self, graph: Any) -> None:
        """A capture that failed is not ended by torch (2.13): the allocator would go on keeping memory for it, and fail later."""
        with suppress(RuntimeError):
            graph.capture_end()
        with suppress(RuntimeError):  # it was ended after all
            device, pool = self._module.current_device(), graph.pool()
            torch._C._cuda_endAllocateToPool(device, pool)
            torch._C._cuda_releasePool(device, pool)

    @property
    def _flush_seconds(self) -> float:
        return self._flushed.nbytes / 1e12  # about a fast memory's; the clock looks whether it was long enough

    def _calibrate(self) -> float:
        """Cycles of the spinning kernel per second, the second of two looks: the first one loads it."""
        rate = 0.0
        for _ in range(2):
            start, end = self.mark(), self.mark()
            start.record()
            self._module._sleep(CALIBRATION)
            end.record()
            self.wait()
            rate = CALIBRATION / (start.elapsed_time(end) / 1e3)
        return rate
