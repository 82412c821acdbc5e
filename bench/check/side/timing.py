"""Times base against head in this process: a whole unit if both are here, single blocks if the other side has its own process."""

import os
import random
from collections.abc import Callable, Mapping

from ...data.record import Point
from ...declare.layer import Layer
from ...equivalence.prove import Enter
from ...process.check_messages import MeasuredUnit, MeasureUnit, Prepare, Prepared, TimedBlock
from ...subject import dynamo, make
from ...subject.fault import in_words
from ...timing import collector
from ...timing.choice import clock_for
from ...timing.clock import Clock
from .. import unit
from ..unit import Block, Timed, Until
from .pair import Draws, Instance, instance

HELD = 0.9  # of a block's time the process must have held a core, else other work is in it
TRIES = 4  # then it is taken as it is: the layer may be waiting by itself


class CompiledAgain(Exception):
    """A block held a compilation."""


class Timing:
    """Holds the draws, the lengths of the blocks, and the instance that was prepared last.  layers: side -> name -> layer."""

    def __init__(self, layers: Mapping[str, Mapping[str, Layer]], enter: Enter) -> None:
        self._layers, self._enter = layers, enter
        self._draws = Draws()
        self._calls: dict[tuple[str, str], int] = {}  # of a block, of a variant at a point: the same in every unit
        self._clocks: dict[str, Clock] = {}
        self._prepared: Block | None = None
        self._step = ""  # of what was prepared

    def unit(self, request: MeasureUnit) -> MeasuredUnit:
        """Both instances, made in an order that alternates; then blocks in turns.  A fault falls on the side in hand."""
        with make.mode(request.point.step):
            return self._unit(request)

    def _unit(self, request: MeasureUnit) -> MeasuredUnit:
        point, variant, roles = request.point, request.variant, dict(zip(("base", "head"), request.sides, strict=True))
        dice = random.Random(f"{point.id} {variant} {request.number}")
        made: dict[str, Instance] = {}
        blocks: dict[str, Block] = {}
        self._role = "base"
        try:
            for role in sorted(roles, reverse=bool(request.number % 2)):
                made[role] = self._make(role, roles[role], point, variant, dice)
                blocks[role] = self._block(role, variant, point, made[role])
            self._clock(point.device).warm(each.call for each in made.values())
            calls = self._block_calls(point, variant, made["base"])
            with collector.paused():
                now = self._clock(point.device).now
                measured = unit.measure(
                    blocks["base"], blocks["head"], calls, Until(request.seconds, request.error), now, dice, os.getpid()
                )
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            return MeasuredUnit(None, self._role, in_words(error))
        return MeasuredUnit(measured)

    def prepare(self, request: Prepare) -> Prepared:
        """One side's instance, for `block`."""
        self._step = request.point.step
        with make.mode(self._step):
            return self._prepare(request)

    def _prepare(self, request: Prepare) -> Prepared:
        dice = random.Random(f"{request.point.id} {request.variant} {request.number}")
        self._prepared = None
        try:
            made = self._make(request.side, request.side, request.point, request.variant, dice)
            self._clock(request.point.device).warm([made.call])
            calls = self._block_calls(request.point, request.variant, made)
        except Exception as error:  # noqa: BLE001  as above
            return Prepared(0, in_words(error))
        self._prepared = self._block(request.side, request.variant, request.point, made)
        return Prepared(calls)

    def block(self, calls: int) -> TimedBlock:
        """One block of what was prepared last."""
        assert self._prepared
        try:
            with make.mode(self._step), collector.paused():
                return TimedBlock(*self._prepared(calls))
        except Exception as error:  # noqa: BLE001  as above
            return TimedBlock(0.0, reason=in_words(error))

    def _make(self, role: str, side: str, point: Point, variant: str, dice: random.Random) -> Instance:
        self._role = role
        self._enter(f"make {role}", variant)
        layer = self._layers[side][point.layer]
        return instance(layer, variant, point, self._draws.of(side, layer, point), dice)

    def _block_calls(self, point: Point, variant: str, made: Instance) -> int:
        key = (point.id, variant)
        if key not in self._calls:
            self._calls[key] = self._clock(point.device).block(made.call)
        return self._calls[key]

    def _block(self, role: str, variant: str, point: Point, made: Instance) -> Block:
        clock, stage = self._clock(point.device), f"time {role}"

        def timed(calls: int) -> Timed:
            self._role = role
            self._enter(stage, variant)
            graphs = dynamo.graphs()
            made.call.once()
            taken = undisturbed(lambda: clock.time(made.call, calls) / calls, clock)
            if dynamo.graphs() > graphs:
                raise CompiledAgain("torch.compile compiled again while it was timed")
            return taken

        return timed

    def _clock(self, device: str) -> Clock:
        return self._clocks.setdefault(device, clock_for(device))


def undisturbed(take: Callable[[], float], clock: Clock) -> Timed:
    """A block, taken again where other work had the core meanwhile.

    That depends on the scheduler and not on how long the block took, so no side is favoured; and a machine with more to do than cores
    would else put half a time slice of somebody else's into many blocks.
    """
    seconds = 0.0
    for again in range(TRIES):
        now, held = clock.now(), clock.held()
        seconds = take()
        if clock.held() - held >= HELD * (clock.now() - now):
            return Timed(seconds, again)
    return Timed(seconds, TRIES - 1)
