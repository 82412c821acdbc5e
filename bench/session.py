"""What a worker knows: the mounted suite, the layers' proofs, and the cell in hand.  Answers requests in the process it lives in."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from . import compiling, environment, identity, mount, roofs
from .cell import Cell
from .clock import Clock, clock_for
from .declare import Layer
from .measure import Limit
from .protocol import Answer, Describe, Described, FindRoof, Finished, FoundRoof, Measure, Prove, Request
from .prove import Enter, prove, under_interpreter
from .record import Failed, Outcome, Point, Record, Roof, SweepGraphs, TensorError
from .stages import Stages


class Session:
    """Answers one request after the other.  `clock` makes the clock for a device, `roof` measures with it; tests give fake ones."""

    def __init__(
        self, enter: Enter, clock: Callable[[str], Clock] = clock_for, roof: Callable[[str, str, Clock], Roof] = roofs.measure
    ) -> None:
        self._enter = Stages(enter)
        self._clock = clock
        self._roof = roof
        self._layers: dict[str, Layer] = {}
        self._proofs: dict[tuple[str, str, str], dict[str, list[TensorError] | Failed]] = {}
        self._sweeps: dict[tuple[str, str], SweepGraphs | None] = {}
        self._cell: tuple[str, tuple[str, ...], Cell] | None = None
        self._compiler_is_warm = False
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
        declared = mount.mount(request.suite)
        self._layers = {each.layer.name: each.layer for each in declared}
        seen = environment.look(mount.locate(request.suite).parent)
        return Described(identity.identified((each.file, each.facts) for each in declared), seen)

    def _measure(self, request: Measure) -> Finished:
        point = request.point
        self._enter.take()
        cell = self._cell_of(request)
        traces = Path(request.traces) / point.id if request.traces else None
        outcomes = cell.measure(point.step, self._clock(point.device), Limit(request.seconds), traces, request.interleaved)
        return self._finished(point, outcomes)

    def _finished(self, point: Point, outcomes: Mapping[str, Outcome]) -> Finished:
        return Finished(tuple(Record(point, variant, outcome) for variant, outcome in outcomes.items()), self._enter.take())

    def _cell_of(self, request: Measure) -> Cell:
        """The cell of the point: made anew unless the last point had the same but for its step."""
        point = request.point
        if self._cell and self._cell[:2] == (point.cell, request.variants):
            return self._cell[2]
        self._cell = None  # its memory goes before the next one's comes
        layer = self._layers[point.layer]
        if any(layer.variants[name].compile for name in request.variants) and not self._compiler_is_warm:
            self._enter("start the compiler", "")
            if not compiling.missing_compiler():
                self._compiled = tempfile.TemporaryDirectory(prefix="layerbench-")
                compiling.start_compiler(self._compiled.name)
            self._compiler_is_warm = True
        sweeps = self._sweeps_of(layer, request)
        cell = Cell(layer, point, request.variants, self._proofs_of(layer, request), self._enter, sweeps)
        self._cell = (point.cell, request.variants, cell)
        return cell

    def _proofs_of(self, layer: Layer, request: Measure) -> dict[str, list[TensorError] | Failed]:
        key = (layer.name, request.point.dtype, request.point.device)
        known = self._proofs.setdefault(key, {})
        if new := tuple(name for name in request.variants if name not in known):
            known |= prove(layer, new, request.point.dtype, request.point.device, self._enter)
        return {name: known[name] for name in request.variants}

    def _sweeps_of(self, layer: Layer, request: Measure) -> dict[str, SweepGraphs | None]:
        """What every compiled variant of the request would compile over the layer's whole sweep; counted once per layer."""
        found = {}
        for name in request.variants:
            if layer.variants[name].compile:
                self._enter("compile", name)
                if (layer.name, name) not in self._sweeps:
                    self._sweeps[layer.name, name] = compiling.over_sweep(layer, name)
                found[name] = self._sweeps[layer.name, name]
        return found
