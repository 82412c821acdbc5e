"""A step under sustained load: joules, watts and seconds of a loop between two ticks of the device's counter of energy.  Nothing is ranked.

A clock's samples are short bursts with pauses between them.  A power limit holds a device down only after 0.1 to 0.2 s of work without
a pause, so the loop runs for longer than that before the first tick, and for a second from there.
The counter stands still between its ticks, which are up to 0.1 s apart, and a look at it takes some milliseconds.  So both ends of the
interval are ticks, looked for while the device works: from any other moment on, the joules would be those of another interval.
"""

from dataclasses import dataclass

from ..data.record import Energy
from ..machine.nvml import Health
from . import collector
from .accelerator import Accelerator, Mark
from .clock import Call

LEAD_SECONDS = 0.3  # under load before the first tick
SECONDS = 1.0  # between the ticks at least: from 0.25 s figures were 10 to 80 % wrong
CHUNK_SECONDS = 0.02  # of calls that are issued without waiting for the device
LOOK_SECONDS = 0.008  # of such calls while a tick is looked for: longer than a look, so that the device has work meanwhile
STILL_SECONDS = 1.0  # a counter that does not move for so long is none
WITH_FORWARD = "a backward needs a forward before it, and the counter cannot tell them apart: --step training has both"
STILL = f"the counter of energy did not move for {STILL_SECONDS:g} s"


@dataclass(frozen=True)
class Tick:
    """The counter right after it moved, and the device then."""

    joules: float
    at: float  # seconds, late by less than two looks
    health: Health


def sustained(call: Call, device: Accelerator) -> Energy | str:
    """What a call takes of the device under load, or why that cannot be told.  About one and a half seconds.

    The joules of a call are watts times seconds: the device does nothing else between the ticks.
    """
    if call.setup != call.clear:
        return WITH_FORWARD
    if isinstance(counter := device.joules(), str):
        return counter
    with collector.paused():
        seconds = _lead(call, device)
        few, many = (max(1, round(each / max(seconds, 1e-9))) for each in (LOOK_SECONDS, CHUNK_SECONDS))
        first = _tick(call, device, few)
        if first is None:
            return STILL
        began, calls = device.now(), 0
        while device.now() - first.at < SECONDS:
            _issue(call, many)
            device.wait()
            calls += many
        seconds = (device.now() - began) / calls
        last = _tick(call, device, few)
    if last is None:
        return STILL
    watts = (last.joules - first.joules) / (last.at - first.at)
    return Energy(watts * seconds, watts, seconds, calls, last.health.mhz, last.health.power_limited)


def _issue(call: Call, calls: int) -> None:
    """Without waiting; one output alive at a time."""
    held = None
    for _ in range(calls):
        if call.clear:
            call.clear()
        held = call.step(None)
    del held


def _lead(call: Call, device: Accelerator) -> float:
    """Seconds per call at the end of LEAD_SECONDS under load."""
    began, calls = device.now(), 1
    while True:
        since = device.now()
        _issue(call, calls)
        device.wait()
        seconds = (device.now() - since) / calls
        if device.now() - began >= LEAD_SECONDS:
            return seconds
        calls = max(1, round(CHUNK_SECONDS / max(seconds, 1e-9)))


def _tick(call: Call, device: Accelerator, calls: int) -> Tick | None:
    """The next tick of the counter; the device always has a chunk of calls before it meanwhile.  None: the counter stands still."""
    seen: float | str | None = None
    running: Mark | None = None
    began = device.now()
    while device.now() - began < STILL_SECONDS:
        _issue(call, calls)
        issued = device.mark()
        issued.record()
        while True:
            joules, at = device.joules(), device.now()
            if seen is not None and joules != seen and not isinstance(joules, str):
                found = Tick(joules, at, device.look())
                device.wait()
                return found
            seen = joules
            if running is None or running.query():  # else the chunk before this one is not done yet
                break
        running = issued
    device.wait()
    return None
