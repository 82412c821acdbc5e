"""What a worker knows: the mounted suite, the layers' proofs, and the cell in hand.  Answers requests in the process it lives in."""

import gc
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ..data.record import Outcome, Point, Record, Roof
from ..declare.layer import Layer
from ..equivalence.prove import Enter, under_interpreter
from ..machine import environment
from ..process.protocol import Answer, Describe, Described, FindRoof, Finished, FoundRoof, Measure, Prove, Request, StartCompiler
from ..process.stages import Stages
from ..profiling import compiling
from ..subject import torch_settings
from ..suite import identity, mount
from ..timing import choice, roofs
from ..timing.choice import clock_for
from ..timing.clock import Clock
from ..timing.measure import Limit
from .cell import Cell
from .once import Once


class Session:
    """Answers one request after the other.  `clock` makes the clock for a device, `roof` measures with it; tests give fake ones."""

    def __init__(
        self, enter: Enter, clock: Callable[[str], Clock] = clock_for, roof: Callable[[str, str, Clock], Roof] = roofs.measure
    ) -> None:
        self._enter = Stages(enter)
        self._clock = clock
        self._roof = roof
        self._layers: dict[str, Layer] = {}
        self._once = Once(self._enter)
        self._cell: tuple[str, tuple[str, ...], Cell] | None = None
        self._started: set[str] = set()  # devices that the compiler was started for
        self._cold_once: set[tuple[str, str, str]] = set()  # layer, dtype, device
        self._compiled: tempfile.TemporaryDirectory[str] | None = None  # where this process compiles; gone with it

    def close(self) -> None:
        """Nothing is asked any more."""
        if self._compiled:
            self._compiled.cleanup()

    def answer(self, request: Request) -> Answer:
        if isinstance(request, Describe):
            return self._describe(request)
        if isinstance(request, FindRoof):
            self._enter("measure the roof", "")
            return FoundRoof(self._roof(request.device, request.dtype, self._clock(request.device)))
        if isinstance(request, StartCompiler):
            self._start_compiler(request.device)
            return Finished((), self._enter.take())
        if isinstance(request, Prove) and request.device:
            point = Point(request.layer, {}, request.dtype, request.device, "")
            self._once.proofs(self._layers[request.layer], request.variants, point)
            return Finished(())
        if isinstance(request, Prove):
            self._enter.take()
            outcomes = under_interpreter(self._layers[request.layer], request.variants, request.dtype, self._enter)
            point = Point(request.layer, {}, request.dtype, "cpu", "")
            return self._finished(point, outcomes)
        assert isinstance(request, Measure)
        return self._measure(request)

    def _describe(self, request: Describe) -> Described:
        self._enter("import", "")
        environment.set_threads(request.threads)
        torch_settings.use_tf32(request.tf32)
        declared = mount.mount(request.suite)
        self._layers = {each.layer.name: each.layer for each in declared}
        seen = environment.look(mount.locate(request.suite).parent)
        _nothing_of_this_is_garbage()
        return Described(identity.identified((each.file, each.facts) for each in declared), seen)

    def _measure(self, request: Measure) -> Finished:
        point = request.point
        self._enter.take()
        cell = self._cell_of(request)
        traces = Path(request.traces) / point.id if request.traces else None
        clock = self._clock(point.device)
        metered = choice.accelerator_of(clock) if request.energy else None
        how = request.interleaved, request.graph, metered
        outcomes = cell.measure(point.step, clock, Limit(request.seconds), traces, *how)
        return self._finished(point, outcomes)

    def _finished(self, point: Point, outcomes: Mapping[str, Outcome]) -> Finished:
        return Finished(tuple(Record(point, variant, outcome) for variant, outcome in outcomes.items()), self._enter.take())

    def _start_compiler(self, device: str) -> None:
        if device in self._started:
            return
        self._enter("start the compiler", "")
        if not compiling.missing_compiler(device):
            self._compiled = self._compiled or tempfile.TemporaryDirectory(prefix="layerbench-")
            compiling.start_compiler(self._compiled.name, device)
            _nothing_of_this_is_garbage()
        self._started.add(device)

    def _cold(self, point: Point) -> bool:
        """Whether compiling begins with empty caches: at every cell on the CPU, on an accelerator at the first of a layer and dtype.

        There it takes ten seconds and more.
        """
        known = (point.layer, point.dtype, point.device)
        cold = point.device == "cpu" or known not in self._cold_once
        self._cold_once.add(known)
        return cold

    def _cell_of(self, request: Measure) -> Cell:
        """The cell of the point: made anew unless the last point had the same but for its step."""
        point = request.point
        if self._cell and self._cell[:2] == (point.cell, request.variants):
            return self._cell[2]
        self._cell = None  # its memory goes before the next one's comes
        layer = self._layers[point.layer]
        if any(layer.variants[name].compile for name in request.variants):
            self._start_compiler(point.device)
        sweeps = self._once.sweeps(layer, request.variants, point.device)
        proofs = self._once.proofs(layer, request.variants, point)
        cell = Cell(layer, point, request.variants, proofs, self._enter, sweeps, self._cold(point))
        self._cell = (point.cell, request.variants, cell)
        return cell


def _nothing_of_this_is_garbage() -> None:
    """What is imported stays: the collection before each point need not visit it, which takes a quarter of a second."""
    gc.collect()
    gc.freeze()
