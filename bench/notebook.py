"""`compare`: two modules against each other in this very process, for a notebook or a prompt, without a layer file.

Not a run: no worker that may die instead of you, no page, one size.  The result says itself what was not looked at.
"""

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .analysis import sanity
from .cell.cell import Cell
from .data.record import Measured, Memory, Outcome, Point
from .declare.fields import shown
from .declare.inputs import Draw
from .declare.layer import NOISE_FLOOR, Layer
from .declare.mistake import Mistake
from .declare.variant import Variant
from .equivalence import repeatable
from .machine import environment
from .stats import estimates
from .stats.estimates import Interval
from .subject import torch_settings
from .text.ratio import ratio
from .timing.choice import clock_for
from .timing.measure import Limit

REFERENCE, OTHER = "reference", "other"
STEPS = ("forward", "backward")
UNSEEN = (
    "Not checked: other sizes, dtypes and layouts, ways of use as eval() or autocast, whether the times can be true, "
    "and what else ran on this machine beside other work on its cores. A layer file and `layerbench run` do."
)


@dataclass(frozen=True)
class Step:
    """One step, timed.  seconds: medians; ratio: how many times faster the other one is; floor: the noise floor; verdict: as in a run."""

    name: str
    reference_seconds: float
    seconds: float
    ratio: Interval
    floor: float
    verdict: str  # faster | slower | same | unclear


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.  why: in what they differ, or why nothing was timed.  memory: of the reference and the other, in bytes."""

    same: bool
    why: str
    checked: str
    steps: tuple[Step, ...] = ()
    memory: tuple[Memory, Memory] | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join([self._verdict(), *("  ".join(row) for row in _aligned(self._rows())), *self.notes, UNSEEN])

    def _repr_html_(self) -> str:
        """For notebooks."""
        head, *rows = self._rows() or [()]
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        table = f"<tr>{cells}</tr>" + "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        notes = "".join(f"<p>{escape(note)}</p>" for note in (*self.notes, UNSEEN))
        return f"<p><b>{escape(self._verdict())}</b></p>" + (f"<table>{table}</table>" if rows else "") + notes

    def _verdict(self) -> str:
        return f"The same layer, {self.checked}." if self.same else f"Not the same layer: {self.why}"

    def _rows(self) -> list[tuple[str, ...]]:
        if not self.steps:
            return []
        rows: list[tuple[str, ...]] = [("step", "reference", "other", "times faster", "95 % interval", "noise floor", "verdict")]
        for each in self.steps:
            interval = f"{ratio(each.ratio.low)} to {ratio(each.ratio.high)}"
            times = (_microseconds(each.reference_seconds), _microseconds(each.seconds), ratio(each.ratio.ratio))
            rows.append((each.name, *times, interval, f"{each.floor:.0%}", each.verdict))
        if self.memory:
            stock, other = self.memory
            peaks = [max(each.peak_forward_bytes, each.peak_backward_bytes) for each in self.memory]
            rows.append(("held for backward", _kilobytes(stock.saved_bytes), _kilobytes(other.saved_bytes), "", "", "", ""))
            rows.append(("peak memory", *map(_kilobytes, peaks), "", "", "", ""))
        return rows


def compare(
    reference: Callable[..., object],
    other: Callable[..., object],
    inputs: tuple[object, ...],
    kwargs: Mapping[str, object],
    seconds: float,
    state: Any,
    law: Any,
) -> Comparison:
    """See `layerbench.bench.compare`."""
    arguments = tuple(_drawn(each) for each in inputs), {name: _drawn(each) for name, each in kwargs.items()}
    for name, each in (("reference", reference), ("other", other)):
        if not callable(each) or isinstance(each, type):
            raise Mistake(f"compare: {name} is {shown(each)}; give a module that is made, as nn.RMSNorm(512), or a function")
    if not seconds > 0:
        raise Mistake(f"compare: seconds is {shown(seconds)}; give how long may be timed, as 4")
    variants = {REFERENCE: Variant(partial(_copied, reference)), OTHER: Variant(partial(_copied, other), _is_compiled(other), state=state)}
    layer = Layer("compared", {"call": (1,)}, arguments[0], lambda maker, _: maker(), variants, law=law, kwargs=arguments[1])
    tensors = [*_tensors((inputs, kwargs)), *(reference.parameters() if isinstance(reference, nn.Module) else ())]
    dtype = next((each.dtype for each in tensors if each.is_floating_point()), torch.float32)
    point = Point("compared", {"call": 1}, str(dtype).removeprefix("torch."), tensors[0].device.type if tensors else "cpu", "")
    devices = [] if point.device in ("cpu", "mps") else [point.device]
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler says at every pass that it was there
    with torch.random.fork_rng(devices, device_type=devices[0] if devices else "cuda"), torch.inference_mode(False), torch.enable_grad():
        return _compared(layer, point, seconds)


def _compared(layer: Layer, point: Point, seconds: float) -> Comparison:
    """Raises Mistake where the reference fails, or proves nothing."""
    cell = Cell(layer, point, tuple(layer.variants), {}, lambda stage, variant: None, cold=False)
    _raise_for(cell.out.get(REFERENCE))
    with torch_settings.untouched():
        repeatable.check_not_random(layer, cell.truth)
    checked = "on these inputs and on their numbers in another order"
    if OTHER in cell.out:
        return Comparison(False, _reason(cell.out[OTHER]), checked)
    wanted = STEPS if cell.differentiable else STEPS[:1]
    clock, machine = clock_for(point.device), environment.look(Path.cwd())
    steps: list[Step] = []
    notes, memory = [f"Weak check: {each}." for each in cell.accuracy[OTHER].warnings], None
    for step in wanted:
        found = cell.measure(step, clock, Limit(seconds / len(wanted)), None)
        stock, mine, again = (found.get(name) for name in (REFERENCE, OTHER, NOISE_FLOOR))
        _raise_for(stock)
        if not isinstance(mine, Measured):
            return Comparison(False, _reason(mine), checked, tuple(steps))
        assert isinstance(stock, Measured)
        disturbed = sanity.contended(mine, machine)
        steps.append(_step(step, stock, mine, again, estimates.smallest_floor(point.device), bool(disturbed)))
        notes += [f"{step}: {disturbed}, so the ratio is unclear."] if disturbed else []
        memory = stock.memory, mine.memory
    return Comparison(True, "", checked, tuple(steps), memory, tuple(notes))


def _step(name: str, stock: Measured, mine: Measured, again: Outcome | None, least: float, disturbed: bool) -> Step:
    reference, seconds = stock.timing.seconds, mine.timing.seconds
    interval = estimates.speedup(reference, seconds)
    floor = estimates.noise_floor(estimates.speedup(reference, again.timing.seconds), least) if isinstance(again, Measured) else least
    verdict = "unclear" if disturbed or not isinstance(again, Measured) else estimates.verdict(interval, floor)
    return Step(name, _median(reference), _median(seconds), interval, floor, verdict)


def _raise_for(outcome: Outcome | None) -> None:
    if outcome is not None and not isinstance(outcome, Measured):
        raise Mistake(f"compare: the reference: {_reason(outcome)}")


def _reason(outcome: Outcome | None) -> str:
    return str(getattr(outcome, "reason", "it was not measured"))


def _drawn(argument: object) -> object:
    """An argument with draws in the places of its tensors."""
    if isinstance(argument, Tensor):
        return Draw((), "drawn", function=partial(_numbers, argument))
    if isinstance(argument, list | tuple):
        return getattr(argument, "_make", type(argument))([_drawn(each) for each in argument])
    return {key: _drawn(each) for key, each in argument.items()} if isinstance(argument, Mapping) else argument


def _numbers(given: Tensor, size: object, generator: torch.Generator) -> Tensor:
    """Those given for the seed that is timed, and in another order for others.  Whole numbers may mean something, and stay."""
    if generator.initial_seed() == 0 or not given.is_floating_point() or not given.isfinite().all():
        return given
    return given.flatten()[torch.randperm(given.numel(), generator=generator).to(given.device)].view(given.shape)


def _tensors(argument: object) -> list[Tensor]:
    if isinstance(argument, Tensor):
        return [argument]
    held = argument.values() if isinstance(argument, Mapping) else argument if isinstance(argument, list | tuple) else ()
    return [tensor for each in held for tensor in _tensors(each)]


def _copied(given: Callable[..., object]) -> Any:
    plain = getattr(given, "_orig_mod", given)
    return copy.deepcopy(plain) if isinstance(plain, nn.Module) else plain


def _is_compiled(given: object) -> bool:
    return getattr(given, "_orig_mod", None) is not None


def _aligned(rows: list[tuple[str, ...]]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def _median(seconds: tuple[float, ...]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def _kilobytes(count: int) -> str:
    return f"{count / 1e3:.3g} kB" if count < 1e6 else f"{count / 1e6:.3g} MB"
