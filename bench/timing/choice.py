"""Which clock a device is timed by, the one instance of it in this process, and where a finer one is taken."""

import functools
from collections.abc import Callable, Mapping

from . import graph_clock
from .accelerator import Accelerator, TorchAccelerator
from .clock import Call, Clock, HostClock
from .device_clock import DeviceClock


@functools.cache  # an accelerator's holds memory, and has measured how long it must spin
def clock_for(device: str) -> Clock:
    return HostClock() if device == "cpu" else DeviceClock(TorchAccelerator(device))


def accelerator_of(clock: Clock) -> Accelerator | None:
    """What a clock times; None where the host computes."""
    return clock.device if isinstance(clock, DeviceClock) else None


def finer(clock: Clock, calls: Mapping[str, Call], graph: str, enter: Callable[[str], None]) -> tuple[Clock, str]:
    """The clock for these calls of a point, and why it is none of a CUDA graph where that was tried.

    graph: always; never; or auto, where a step is so short on the device that events around it blur it.
    """
    if graph == "never" or not isinstance(clock, DeviceClock):
        return clock, ""
    return graph_clock.finer(clock, calls, graph == "always", enter)
