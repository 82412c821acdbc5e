"""The referee: holds the truth, the numbers and the clock, and lets candidate and reference take turns on numbers that both see once.

A round is a block of the reference, one of its copy, one of a candidate that does nothing, and one of the candidate, in random order, each
of as many calls.  Which outputs are looked at is drawn after the block.
"""

import copy
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..declare.mistake import Mistake
from ..equivalence.moved import Moved, nudged
from ..equivalence.tolerance import Mismatch, allowed, distance
from ..stats import estimates
from ..stats.estimates import Interval
from ..subject.building import in_dtype
from ..subject.outputs import tensors
from .problem import Problem
from .stand import LOAD_SECONDS, Out, Refused, Stand, Turn

BLOCK_SECONDS = 0.02  # of a block of the reference
MOST_CALLS = 64  # in a block
NUMBERS_BYTES = 2**27  # of the inputs of a block
FEWEST_ROUNDS = 8
LOOKED_AT = 2  # outputs of a block, beside the first block's, which are all looked at
TURNS = 3.0  # times the turn's own cost a block must last to be ranked
MORE_CORES = 0.5  # cores beyond those granted, on average over a block
SPREAD = 1_000_003


@dataclass(frozen=True)
class Truth:
    """What the reference computes from some inputs: in float64, and in its own dtype as far from that as it is, and as on moved numbers."""

    exact: Mapping[str, Tensor]
    own: Mapping[str, Tensor]
    moved: Moved


@dataclass
class Times:
    """Seconds of a call, block by block, by whose turn it was."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, turn: Turn, calls: int) -> None:
        self.seconds.setdefault(name, []).append(turn.seconds / calls)


@dataclass(frozen=True)
class Timed:
    """ratio: how many times faster than the reference.  floor: what the copy of the reference shows.  turn: seconds of an empty call."""

    ratio: Interval
    floor: float
    verdict: str
    seconds: float
    reference_seconds: float
    turn_seconds: float
    rounds: int
    calls: int
    looked_at: int


class Numbers:
    """Inputs that come once."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem, self._next = problem, seed

    def some(self, calls: int) -> list[list[object]]:
        self._next += calls
        return [self._problem.inputs(SPREAD * (self._next - place)) for place in range(calls)]


class Referee:
    """Knows the truth of one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.weights = problem.module()
        self._exact = in_dtype(copy.deepcopy(self.weights), torch.float64, "cpu")

    def truth(self, inputs: Sequence[object]) -> Truth:
        """Raises Mistake where the reference cannot be taken to float64."""
        exact = _called(copy.deepcopy(self._exact), [_double(each) for each in inputs])
        own = _called(copy.deepcopy(self.weights), inputs)
        return Truth(exact, own, Moved(lambda draw: self._moved(inputs, draw), 1, exact, own))

    def _moved(self, inputs: Sequence[object], seed: int) -> dict[str, Tensor]:
        generator, module = torch.Generator().manual_seed(seed), copy.deepcopy(self.weights)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(nudged(parameter, generator))
        return _called(module, [nudged(each, generator) if isinstance(each, Tensor) else each for each in inputs])

    def check(self, stand: Stand, inputs: Sequence[object], outputs: Sequence[Out]) -> float:
        """The share of what is allowed that the worst of a call's outputs is off.  Raises Refused."""
        truth = self.truth(inputs)
        if len(outputs) != len(truth.own):
            raise Refused("wrong-outputs", f"it returns {len(outputs)} tensors, the reference {len(truth.own)}")
        worst = 0.0
        for (name, own), out in zip(truth.own.items(), outputs, strict=True):
            if out.shape != tuple(own.shape):
                raise Refused("wrong-shape", f"{name}: its shape is {out.shape}, the reference's {tuple(own.shape)}")
            if out.dtype != own.dtype:
                raise Refused("wrong-dtype", f"{name}: its dtype is {out.dtype}, the reference's {own.dtype}")
            worst = max(worst, _held(name, stand.read(out), truth))
        return worst


def _held(name: str, found: Tensor, truth: Truth) -> float:
    """Raises Refused with the place that is furthest off."""
    exact, own = truth.exact[name], truth.own[name]
    eps = torch.finfo(own.dtype).eps if own.is_floating_point() else 0.0
    try:
        off = distance(name, found, exact)
    except Mismatch as error:
        raise Refused("wrong", str(error)) from None
    while True:
        first, *moved = truth.moved.offs[name]
        limit = allowed(exact, own.dtype, eps, first, moved)
        if off.within(limit):
            return off.largest / limit.largest if limit.largest else 0.0
        if not truth.moved.more():
            break
    place = (
        int((found.to(exact.dtype) - exact).abs().nan_to_num(0.0).argmax())
        if found.is_floating_point()
        else int((found != exact).flatten().int().argmax())
    )
    index = tuple(int(each) for each in torch.unravel_index(torch.tensor(place), exact.shape))
    expected, got = float(exact.flatten()[place]), float(found.flatten()[place])
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    raise Refused("wrong", f"{where}: expected {expected:.6g}, got {got:.6g}; off by {off.largest:.2g}, allowed {limit.largest:.2g}")


def _called(module: nn.Module, inputs: Sequence[object]) -> dict[str, Tensor]:
    with torch.no_grad():
        output = module(*(each.clone() if isinstance(each, Tensor) else each for each in inputs))
    return tensors(output)


def _double(each: object) -> object:
    return each.double() if isinstance(each, Tensor) and each.is_floating_point() else each


# --- a candidate ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """Those who take turns, each in its own process."""

    reference: Stand
    again: Stand
    empty: Stand


def prove(referee: Referee, stand: Stand, numbers: Numbers, calls: int) -> float:
    """A block of which every output is looked at.  Raises Refused."""
    given = numbers.some(calls)
    turn = stand.turn(given, LOAD_SECONDS)  # what is compiled is compiled now
    check_block(stand, turn)
    return max(referee.check(stand, inputs, outputs) for inputs, outputs in zip(given, turn.outputs, strict=True))


def check_block(stand: Stand, turn: Turn, cores: float = 1.0) -> None:
    """What must hold of every block.  Raises Refused."""
    spans = sorted((out.address, out.address + out.nbytes) for call in turn.outputs for out in call if out.nbytes)
    for (_, end), (begin, _) in zip(spans, spans[1:], strict=False):
        if begin < end:
            raise Refused("shared-output", "the outputs of two calls lie in one memory; return a tensor of its own at every call")
    if turn.cores > cores + MORE_CORES:
        raise Refused("more-cores", f"{turn.cores:.1f} cores were at work, {cores:.0f} granted")
    if helpers := stand.helpers():
        raise Refused(
            "helper-process", f"{len(helpers)} other process{'es' if len(helpers) > 1 else ''} of it were there while it was timed"
        )


def time_it(
    referee: Referee, candidate: Stand, others: Field, numbers: Numbers, calls: int, seconds: float, cores: float, dice: random.Random
) -> Timed:
    """Rounds until the time is up.  Raises Refused for the candidate, Mistake for the reference."""
    stands = {"reference": others.reference, "again": others.again, "empty": others.empty, "candidate": candidate}
    times, looked = Times(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times.seconds.get("candidate", ())) < FEWEST_ROUNDS:
        given = numbers.some(calls)
        for name in dice.sample(list(stands), len(stands)):
            try:
                turn = stands[name].turn(given)
                if name != "empty":
                    check_block(stands[name], turn, cores)
                if name in ("candidate", "reference"):
                    for place in dice.sample(range(calls), min(LOOKED_AT, calls)):
                        referee.check(stands[name], given[place], turn.outputs[place])
                        looked += name == "candidate"
            except Refused as refused:
                if name == "candidate":
                    raise
                raise Mistake(f"the {name}: {refused}") from refused
            times.add(name, turn, calls)
    return _timed(times, calls, looked)


def _timed(times: Times, calls: int, looked: int) -> Timed:
    mine, reference, empty = (times.seconds[name] for name in ("candidate", "reference", "empty"))
    turn, seconds = _median(empty), _median(mine)
    if seconds < TURNS * turn:
        raise Refused("too-short", f"a call takes {seconds * 1e6:.0f} us, and a turn by itself {turn * 1e6:.0f}; make the problem larger")
    interval = estimates.speedup(reference, mine)
    floor = estimates.noise_floor(estimates.speedup(reference, times.seconds["again"]))
    return Timed(interval, floor, estimates.verdict(interval, floor), seconds, _median(reference), turn, len(mine), calls, looked)


def calls_of(stand: Stand, numbers: Numbers) -> int:
    """How many calls make a block, by what one of the reference takes."""
    stand.turn(numbers.some(2))
    seconds = min(stand.turn(numbers.some(1)).seconds for _ in range(3))
    nbytes = max(1, sum(each.nbytes for each in numbers.some(1)[0] if isinstance(each, Tensor)))
    return max(1, min(MOST_CALLS, int(BLOCK_SECONDS / seconds), NUMBERS_BYTES // nbytes))


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
