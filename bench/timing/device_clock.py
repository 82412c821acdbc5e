"""The clock of an accelerator: the device's seconds with the launches hidden, what the host needs to issue them, and the time as called.

A step is issued behind a kernel that spins, so that the device finds all of the step's work in its queue when it begins, and works without
a gap.  Whether the host really was ahead is read off the first event, call by call: it must not have been reached when the last kernel was
issued.  Else the block is discarded, and the next one spins for longer.
Method: events on one stream around the step, the cache overwritten before, as in Triton's do_bench; the hidden launches as in NVIDIA's
nvbench.  What the figures include, and what they cannot resolve, is in docs/measuring.md.
"""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from ..machine.nvml import Health
from .accelerator import Accelerator
from .clock import Call, Sample

BLOCK_SECONDS = 0.003  # of the host's time, for one block with everything around it
MOST_CALLS = 64  # of a block
MARGIN = 60e-6  # seconds that the spin outlasts twice the host's time for issuing
LONGEST_SPIN = 0.1  # seconds
TRIES = 4  # of a block: its spin doubles at least each time; then its launches are taken to be exposed
WARM_SECONDS, WARM_MOST = 0.15, 1.0  # a device raises its clock under load within this; longer it is not waited for
IDLE = 0.1  # seconds without work, after which it is warmed up for WARM_SECONDS again
LOOK_SECONDS, LOOK_CALLS, STEADY = 0.05, 8, 0.02  # two looks so long after one another that differ by no more are one speed
RESOLUTION = 0.1e-6  # seconds, of a mean of LOOK_CALLS: one call of a few microseconds differs from the next by some tenths
LOOP_SECONDS, LOOP_CALLS = 0.002, (8, 64)  # of the loop that never waits: about so long, between so many calls
LOOP_SHARE = 4  # of the device's free memory, a fraction, that setups made ahead may take
HOST_LATE, THROTTLED = "the host was late", "the device was slowed down"  # why blocks are discarded
WAITS = "the step waits for the device, or launches more than its queue holds"


@dataclass(frozen=True)
class Block:
    """Totals over the calls of one block, in seconds."""

    seconds: float
    issuing: float
    ahead: bool


class DeviceClock:
    """Times calls on one accelerator."""

    name = "device"

    def __init__(self, device: Accelerator) -> None:
        self.device = device
        self._spins: WeakKeyDictionary[Call, float] = WeakKeyDictionary()  # seconds
        self._exposed: WeakKeyDictionary[Call, str] = WeakKeyDictionary()
        self._worked = -math.inf  # when the last block ended

    def now(self) -> float:
        return self.device.now()

    def held(self) -> float:
        return self.now()  # the work is the device's: nobody takes it away

    def warm(self, calls: Iterable[Call]) -> None:
        """All calls in turn, for WARM_SECONDS at least where the device was idle, then until two looks at the first of them agree."""
        calls, began = list(calls), self.now()
        look, last = began + (WARM_SECONDS if began - self._worked > IDLE else 0.0), 0.0
        while self.now() - began < WARM_MOST:
            for call in calls:
                call.once()
            self.device.wait()
            if self.now() < look:
                continue
            seconds = self._block(calls[0], LOOK_CALLS).seconds / LOOK_CALLS
            if abs(seconds - last) <= STEADY * seconds + RESOLUTION:
                return
            look, last = self.now() + LOOK_SECONDS, seconds

    def block(self, call: Call) -> int:
        """Calls that fill BLOCK_SECONDS of the host's time, set-up, spinning and flushing included."""
        self._block(call, 1)
        began = self.now()
        self._block(call, 1)
        return max(1, min(MOST_CALLS, round(BLOCK_SECONDS / max(self.now() - began, 1e-9))))

    def time(self, call: Call, calls: int) -> float:
        """Seconds that the device works on `calls` steps."""
        discarded: list[str] = []
        return self._undisturbed(call, calls, discarded)[0].seconds

    def sample(self, call: Call, calls: int) -> Sample:
        discarded: list[str] = []
        block, health = self._undisturbed(call, calls, discarded)
        called, exposed = self._loop(call, block.issuing / calls), self._exposed.get(call, "")
        seconds, issuing = block.seconds / calls, block.issuing / calls
        return Sample(seconds, issuing, called, tuple(discarded), exposed, health.mhz, health.power_limited)

    # --- one block -----------------------------------------------------------------------------------------------------------------

    def _undisturbed(self, call: Call, calls: int, discarded: list[str]) -> tuple[Block, Health]:
        """A block during which the device was not slowed down, and its state after it; after TRIES whatever there is."""
        for again in range(TRIES):
            before = self.device.look()
            block = self._hidden(call, calls, discarded)
            after = self.device.look()
            if not (before.throttled or after.throttled) or again == TRIES - 1:
                break
            discarded.append(THROTTLED)
        return block, after

    def _hidden(self, call: Call, calls: int, discarded: list[str]) -> Block:
        """A block whose launches were hidden, unless that cannot be."""
        block = self._block(call, calls)
        for _ in range(TRIES - 1):
            if block.ahead or call in self._exposed:
                return block
            discarded.append(HOST_LATE)
            self._spins[call] = min(LONGEST_SPIN, max(2 * self._spins[call], _long_enough(block.issuing / calls)))
            block = self._block(call, calls)
        if not block.ahead:
            self._exposed[call] = WAITS
            self._spins[call] = MARGIN
        return block

    def _block(self, call: Call, calls: int) -> Block:
        spin = self._spin(call)
        seconds = issuing = 0.0
        ahead = True
        held = None  # one output alive at a time, for every variant alike
        for _ in range(calls):
            held = None
            held = call.setup() if call.setup else None
            self.device.flush()
            self.device.spin(spin)
            start, end = self.device.mark(), self.device.mark()
            start.record()
            began = self.now()
            held = call.step(held)
            issuing += self.now() - began
            end.record()
            ahead = ahead and not start.query()
            self.device.wait()  # so that no queue fills, and setups meet an idle device
            seconds += start.elapsed_time(end) / 1e3
        self._worked = self.now()
        return Block(seconds, issuing, ahead)

    def _spin(self, call: Call) -> float:
        """Seconds; at first from what the host needs where nothing is in its way."""
        if call not in self._spins:
            self._spins[call] = self._first_spin(call.step, call.setup)
        return self._spins[call]

    def _first_spin(self, issue: Callable[[object], object], setup: Callable[[], object] | None = None) -> float:
        issuing = []
        for _ in range(3):
            held = setup() if setup else None
            self.device.wait()
            began = self.now()
            held = issue(held)
            issuing.append(self.now() - began)
            self.device.wait()
            del held
        return min(LONGEST_SPIN, _long_enough(statistics.median(issuing)))

    # --- as called -----------------------------------------------------------------------------------------------------------------

    def _loop(self, call: Call, issuing: float) -> float:
        """Seconds per call of a loop that waits for the device at its end alone.  What can be set up ahead is."""
        fewest, most = LOOP_CALLS
        calls = max(fewest, min(most, round(LOOP_SECONDS / max(issuing, 1e-9))))
        made: list[object] = []
        if call.setup:
            before = self.device.allocated()
            made.append(call.setup())
            if (grown := self.device.allocated() - before) > 0:
                calls = max(1, min(fewest, self.device.free() // (LOOP_SHARE * grown)))
            made += [call.setup() for _ in range(calls - 1)]
        self.device.wait()
        held = None
        began = self.now()
        for _ in range(calls):
            if call.clear:
                call.clear()
            held = call.step(made.pop() if made else None)
        self.device.wait()
        seconds = (self.now() - began) / calls
        del held
        return seconds


def _long_enough(issuing: float) -> float:
    """Seconds to spin for a step that the host needs so long to issue."""
    return 2 * issuing + MARGIN
