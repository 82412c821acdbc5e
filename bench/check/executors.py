"""Has units timed: by one worker that holds both sides, or by one worker for each side.  This is the parent's part; it decides nothing."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..data.check_record import Unit
from ..data.record import Point
from ..process.check_messages import (
    Examine,
    Examined,
    MeasuredUnit,
    MeasureUnit,
    Prepare,
    Prepared,
    Sketched,
    SketchReference,
    TimeBlock,
    TimedBlock,
)
from ..process.handle import Worker, WorkerBroke, WorkerDied
from ..process.protocol import Answer, Request
from . import unit
from .unit import Block, Timed, Until

PER_PROCESS = 4  # units of a benchmark; the last of them begins a fresh process, so that the first look has seen two


class Fault(NamedTuple):
    """A side could not be asked, or raised."""

    side: str  # base | head
    reason: str
    variant: str = ""  # that was in hand when the worker died


class Executor(Protocol):
    def examine(self, request: Examine) -> Examined | Fault:
        """Verify one side at a point, and what is the same at every measurement."""

    def sketch(self, request: SketchReference) -> Sketched | Fault:
        """What the reference of one side computes."""

    def unit(self, point: Point, variant: str, sides: tuple[str, str], number: int, until: Until) -> Unit | Fault:
        """A fresh pair of instances, timed in turns."""

    def renew(self, number: int) -> None:
        """To be called before all units of a number: starts fresh processes where that number wants them."""

    def restart(self) -> None:
        """Fresh processes."""

    @property
    def per_confirmation(self) -> int:
        """Units of a benchmark that a fresh process gives to the confirmation of a flag."""


class Together:
    """Both sides in one process: what disturbs the one disturbs the other."""

    per_confirmation = 2

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def examine(self, request: Examine) -> Examined | Fault:
        answer = _asked(self._worker, request, request.side)
        assert isinstance(answer, Examined | Fault)
        return answer

    def sketch(self, request: SketchReference) -> Sketched | Fault:
        answer = _asked(self._worker, request, request.side)
        assert isinstance(answer, Sketched | Fault)
        return answer

    def unit(self, point: Point, variant: str, sides: tuple[str, str], number: int, until: Until) -> Unit | Fault:
        answer = _asked(self._worker, MeasureUnit(point, variant, sides, number, *until), "head")
        if isinstance(answer, Fault):
            return answer
        assert isinstance(answer, MeasuredUnit)
        return answer.unit or Fault(answer.failed_side, answer.reason)

    def renew(self, number: int) -> None:
        if number % PER_PROCESS == PER_PROCESS - 1:
            self.restart()

    def restart(self) -> None:
        self._worker.restart()


class Apart:
    """A process for each side, and one for the second base of the control.  Two launches differ, so every unit gets fresh ones."""

    per_confirmation = 1

    def __init__(self, make: Callable[[str], Worker]) -> None:
        """make: side -> a worker that has that side."""
        self.workers = {"base": make("base"), "head": make("head"), "again": make("base")}
        self._launch = 0

    def examine(self, request: Examine) -> Examined | Fault:
        answer = _asked(self.workers[request.side], request, request.side)
        assert isinstance(answer, Examined | Fault)
        return answer

    def sketch(self, request: SketchReference) -> Sketched | Fault:
        answer = _asked(self.workers[request.side], request, request.side)
        assert isinstance(answer, Sketched | Fault)
        return answer

    def unit(self, point: Point, variant: str, sides: tuple[str, str], number: int, until: Until) -> Unit | Fault:
        pair = {"base": self.workers["base"], "head": self.workers["again" if sides == ("base", "base") else "head"]}
        dice, calls = random.Random(f"{point.id} {variant} {number}"), 0
        for role in sorted(pair, reverse=bool(number % 2)):
            prepared = _asked(pair[role], Prepare(sides[("base", "head").index(role)], point, variant, number), role)
            if isinstance(prepared, Fault):
                return prepared
            assert isinstance(prepared, Prepared)
            if prepared.reason:
                return Fault(role, prepared.reason)
            calls = prepared.calls if role == "base" else calls
        try:
            blocks = [_block(worker, role) for role, worker in pair.items()]
            return unit.measure(blocks[0], blocks[1], calls, until, time.monotonic, dice, self._launch)
        except _BlockFailed as failed:
            return failed.fault

    def renew(self, number: int) -> None:
        if number:
            self.restart()

    def restart(self) -> None:
        """All at once: they import side by side."""
        self._launch += 1
        for worker in self.workers.values():
            worker.launch()
        for worker in self.workers.values():
            worker.greet()


class _BlockFailed(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


def _block(worker: Worker, role: str) -> Block:
    def timed(calls: int) -> Timed:
        answer = _asked(worker, TimeBlock(calls), role)
        if isinstance(answer, Fault):
            raise _BlockFailed(answer)
        assert isinstance(answer, TimedBlock)
        if answer.reason:
            raise _BlockFailed(Fault(role, answer.reason))
        return Timed(answer.seconds, answer.again)

    return timed


def _asked(worker: Worker, request: Request, side: str) -> Answer | Fault:
    """A death falls on the side that the worker says it was at, else on `side`; the next request starts a new worker.

    With no variant in hand it is asked once more before it falls on anyone, as a run does: machines kill processes for their own reasons.
    """
    tries = 1 if isinstance(request, TimeBlock) else 2  # a block is of what was prepared, which is gone
    while True:
        try:
            return worker.answer(request)
        except WorkerBroke:  # nobody's side: there is no verdict
            raise
        except WorkerDied as death:
            tries -= 1
            if death.variant or not tries:
                words = death.stage.split()
                return Fault(words[-1] if words and words[-1] in ("base", "head") else side, death.reason, death.variant)
