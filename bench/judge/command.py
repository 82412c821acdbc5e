"""`layerbench judge`: from a problem and its candidates to a verdict on each.  It knows the order of things; each is done elsewhere."""

import random
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data.judge_record import SCHEMA, Judgement, Speed, Verdict, outcome
from ..declare.mistake import Mistake
from . import apart, referee
from .problem import INIT_SEED, Problem
from .referee import Field, Numbers, Referee, Timed
from .stand import Refused, Stand

PROVED_CALLS = 4  # of the first block
COMPILED = "torch.compile"
EMPTY = """import torch


class ModelNew(torch.nn.Module):
    def __init__(self, *arguments, **named):
        super().__init__()

    def forward(self, *inputs):
        return next((each for each in inputs if isinstance(each, torch.Tensor)), None)
"""


@dataclass(frozen=True)
class Order:
    """seconds: of timing, for each candidate; 0: none is timed.  memory_bytes: of a candidate; 0: no limit."""

    seconds: float
    threads: int
    memory_bytes: int = 0


@dataclass(frozen=True)
class Candidate:
    name: str
    file: Path
    names: tuple[str, ...]
    compiled: bool = False


def candidates(problem: Problem, files: Sequence[Path]) -> list[Candidate]:
    """torch.compile of the reference where none is given.  Raises Mistake."""
    for file in files:
        if not file.is_file():
            raise Mistake(f"{file}: there is no such file; give a candidate's")
    found = [Candidate(str(file), file.absolute(), problem.names) for file in files]
    return found or [Candidate(COMPILED, problem.file, ("Model",), True)]


def judge(problem: Problem, chosen: Sequence[Candidate], order: Order) -> Judgement:
    """Every candidate, one after the other.  Raises Mistake where the reference fails."""
    begun = time.monotonic()
    torch.set_num_threads(order.threads)
    with tempfile.TemporaryDirectory(prefix="layerbench-judge-") as folder, ExitStack() as stack:
        stands = _Stands(problem, Path(folder), order, stack)
        first = stands.start(chosen[0])  # all import torch side by side
        field = stands.field() if order.seconds else None
        truth = Referee(problem)
        verdicts = []
        for place, each in enumerate(chosen):
            stand = first if place == 0 else stands.start(each)
            verdicts.append(_judged(truth, each, stand, field, order))
            stand.close()
    seconds = round(time.monotonic() - begun, 3)
    return Judgement(SCHEMA, str(problem.file), dict(problem.sizes), apart.words(), seconds, tuple(verdicts))


class _Stands:
    """Makes processes, and ends them all."""

    def __init__(self, problem: Problem, folder: Path, order: Order, stack: ExitStack) -> None:
        self._problem, self._folder, self._order, self._stack = problem, folder, order, stack
        self._state = problem.module().state_dict()
        self._number = 0

    def start(self, candidate: Candidate) -> Stand:
        """Begins to load it; `loaded` waits."""
        self._number += 1
        place = self._folder / str(self._number)
        place.mkdir()
        stand = Stand(place, apart.wrapper(), self._order.memory_bytes)
        self._stack.callback(stand.close)
        names, threads = candidate.names, self._order.threads
        stand.load(candidate.file, names, self._problem.packed(), INIT_SEED, threads, self._state, candidate.compiled)
        return stand

    def field(self) -> Field:
        empty = self._folder / "empty.py"
        empty.write_text(EMPTY, encoding="utf-8")
        own = Candidate("reference", self._problem.file, ("Model",))
        found = Field(self.start(own), self.start(own), self.start(Candidate("empty", empty, ("ModelNew",))))
        for each in (found.reference, found.again, found.empty):
            with _of_the_reference():
                each.loaded()
        return found


@contextmanager
def _of_the_reference() -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise Mistake(f"the reference: {refused}") from refused


def _judged(truth: Referee, candidate: Candidate, stand: Stand, field: Field | None, order: Order) -> Verdict:
    numbers = Numbers(truth.problem, secrets.randbits(40))
    accuracy, timed = 0.0, None
    try:
        stand.loaded()
        accuracy = referee.prove(truth, stand, numbers, PROVED_CALLS)
        if field:
            with _of_the_reference():
                calls = referee.calls_of(field.reference, numbers)
            timed = referee.time_it(truth, stand, field, numbers, calls, order.seconds, order.threads, random.Random(secrets.randbits(64)))
    except Refused as refused:
        return Verdict(candidate.name, outcome(refused.code), refused.code, str(refused), accuracy)
    return _right(candidate, accuracy, timed)


def _right(candidate: Candidate, accuracy: float, timed: Timed | None) -> Verdict:
    if timed is None:
        return Verdict(candidate.name, "right", accuracy=accuracy)
    ratio = timed.ratio
    speed = Speed("the reference", ratio.ratio, ratio.low, ratio.high, timed.floor, timed.verdict)
    return Verdict(
        candidate.name,
        "right",
        accuracy=accuracy,
        speeds=(speed,),
        seconds=timed.seconds,
        reference_seconds=timed.reference_seconds,
        turn_seconds=timed.turn_seconds,
        rounds=timed.rounds,
        calls=timed.calls,
        looked_at=timed.looked_at,
    )
