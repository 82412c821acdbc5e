"""The clock of short steps: the device's seconds of a step inside a CUDA graph, several calls in one, what is around them taken off.

Events around a step read more than a microsecond of nothing, and a kernel that the host launches begins late.  Inside a graph the device
goes from one kernel to the next by itself.  Two graphs are captured: so many calls, each after its set-up and a flush of the cache; and
the same without the steps.  They are replayed in turn, behind a kernel that spins; the difference is the steps'.
What the figure includes is in docs/measuring.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .accelerator import Accelerator, Graph
from .clock import Call, Sample
from .device_clock import BLOCK_SECONDS, LOOK_CALLS, Block, DeviceClock

BELOW = 20e-6  # seconds of the device, from which on nobody needs a graph: an empty pair of events is a tenth of it
CALLS = 8  # in a graph: one alone would carry what a replay costs
LEAST, LEAST_PAIRS = 0.5e-6, 3  # seconds of a step that so many replays of both graphs tell from none
MOST_PAIRS = 16  # replays of both graphs in a block


@dataclass(frozen=True)
class Pair:
    """Two graphs: `calls` calls, and all that is around them."""

    full: Graph
    empty: Graph


class GraphClock(DeviceClock):
    """Times calls that were captured."""

    name = "graph"

    def __init__(self, device: Accelerator, plain: DeviceClock, graphs: Mapping[Call, Pair]) -> None:
        super().__init__(device)
        self._plain, self._graphs = plain, graphs

    def block(self, call: Call) -> int:
        """Calls of so many replays of both graphs as fill BLOCK_SECONDS of the host's time."""
        self._block(call, CALLS)
        began = self.now()
        self._block(call, CALLS)
        return CALLS * max(1, min(MOST_PAIRS, round(BLOCK_SECONDS / max(self.now() - began, 1e-9))))

    def sample(self, call: Call, calls: int) -> Sample:
        """The seconds are the graph's.  Issuing, and as called, are of steps that the host launches, as for every other point."""
        by_host = self._plain.sample(call, 1)
        discarded: list[str] = []
        block, health = self._undisturbed(call, calls, discarded)
        seen = replace(by_host, mhz=health.mhz, power_limited=health.power_limited)
        return replace(seen, seconds=block.seconds / calls, discarded=tuple(discarded), exposed=self._exposed.get(call, ""))

    def _block(self, call: Call, calls: int) -> Block:
        """Its `issuing` is that of a replay, for every call: so long must the spinning last."""
        spin, pair = self._spin(call), self._graphs[call]
        seconds = issuing = 0.0
        ahead = True
        replays = calls // CALLS
        for number in range(replays):
            for graph, sign in ((pair.full, 1), (pair.empty, -1))[:: -1 if number % 2 else 1]:
                self.device.flush()
                self.device.spin(spin)
                start, end = self.device.mark(), self.device.mark()
                start.record()
                began = self.now()
                graph.replay()
                issuing += (self.now() - began) / 2
                end.record()
                ahead = ahead and not start.query()
                self.device.wait()
                seconds += sign * start.elapsed_time(end) / 1e3
        self._worked = self.now()
        return Block(seconds, issuing / replays * calls, ahead)

    def _spin(self, call: Call) -> float:
        if call not in self._spins:
            self._spins[call] = self._first_spin(lambda _: self._graphs[call].full.replay())
        return self._spins[call]


def finer(clock: DeviceClock, calls: Mapping[str, Call], always: bool, enter: Callable[[str], None]) -> tuple[DeviceClock, str]:
    """A graph's clock for calls that are short on the device, or where it is wanted always; else the same clock, and why.

    One clock for all: where one step cannot be captured, all are timed the other way.
    """
    device = clock.device
    clock.warm(calls.values())
    if not always and min(clock.time(call, LOOK_CALLS) / LOOK_CALLS for call in calls.values()) >= BELOW:
        return clock, ""
    graphs: dict[Call, Pair] = {}
    for name, call in calls.items():
        enter(name)
        try:
            graphs[call] = Pair(device.capture(_calls(device, call, call.step)), device.capture(_calls(device, call, None)))
        except Exception as error:  # noqa: BLE001  the code is the user's: what a graph cannot hold is no fault of the layer
            device.wait()  # unless it broke the device: then this raises
            first = str(error).partition("\n")[0]
            return clock, f"{name!r} cannot be captured in a CUDA graph: {type(error).__name__}: {first}"
        finally:
            if call.clear:
                call.clear()
    made = GraphClock(device, clock, graphs)
    for name, call in calls.items():
        if made.time(call, LEAST_PAIRS * CALLS) < LEAST * LEAST_PAIRS * CALLS:
            return clock, f"{name!r} does nothing on the device that a CUDA graph of it would show"
    return made, ""


def _calls(device: Accelerator, call: Call, step: Callable[[object], object] | None) -> Callable[[], None]:
    """CALLS calls, each on a cold cache; without a step what is around it.  A set-up meets a cold one, too: in both graphs the same."""

    def body() -> None:
        held = None  # one output alive at a time, for every variant alike
        for _ in range(CALLS):
            held = None
            if call.setup:
                device.flush()
                held = call.setup()
            device.flush()
            held = step(held) if step else held

    return body
