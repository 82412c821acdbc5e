"""Which clock a device is timed by, and the one instance of it in this process."""

import functools

from .accelerator import TorchAccelerator
from .clock import Clock, HostClock
from .device_clock import DeviceClock


@functools.cache  # an accelerator's holds memory, and has measured how long it must spin
def clock_for(device: str) -> Clock:
    return HostClock() if device == "cpu" else DeviceClock(TorchAccelerator(device))
