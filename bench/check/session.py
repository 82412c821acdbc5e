"""What a worker knows in a regression check: the mounted sides.  Answers requests in the process it lives in."""

import os
import sys
from pathlib import Path

from .. import compiling, environment, mount, state
from ..cell import Cell
from ..declare import Layer
from ..fault import in_words
from ..mistake import Mistake
from ..protocol import Answer, Request
from ..prove import Enter, prove
from ..record import LayerFacts, SweepGraphs
from .messages import DescribedSides, DescribeSides, Examine, Examined, MeasureUnit, Prepare, Sketched, SketchReference, TimeBlock
from .moved import Moved, by_plain_name
from .references import sketch
from .timing import Timing


class Sides:
    """One or both sides of a check."""

    def __init__(self, enter: Enter) -> None:
        self._enter = enter
        self._layers: dict[str, dict[str, Layer]] = {}
        self._timing = Timing(self._layers, enter)

    def close(self) -> None:
        """Nothing is held beyond this process."""

    def answer(self, request: Request) -> Answer:
        if isinstance(request, DescribeSides):
            return self._describe(request)
        if isinstance(request, Examine):
            return self._examine(request)
        if isinstance(request, SketchReference):
            return self._sketch(request)
        if isinstance(request, Prepare):
            return self._timing.prepare(request)
        if isinstance(request, TimeBlock):
            return self._timing.block(request.calls)
        assert isinstance(request, MeasureUnit)
        return self._timing.unit(request)

    def _describe(self, request: DescribeSides) -> DescribedSides:
        """Mount the sides and see whether they can live together."""
        self._enter("import", "")
        if request.core >= 0:
            os.sched_setaffinity(0, {request.core})
        environment.set_threads(request.threads)
        if request.moved:
            sys.meta_path.insert(0, Moved(*map(Path, request.moved)))
        facts: dict[str, tuple[LayerFacts, ...]] = {}
        broken: dict[str, dict[str, str]] = {}
        apart = ""
        for side, suite in request.suites.items():
            before, variables = state.look(), dict(os.environ)
            torn: dict[Path, str] = {}
            declared = mount.mount(suite, torn)
            root = Path(request.roots[side])
            broken[side] = {
                str(file.relative_to(root)): why.replace(f"{root}/", "").partition("; mend it")[0] for file, why in torn.items()
            }
            self._layers[side] = {each.layer.name: each.layer for each in declared}
            facts[side] = tuple(each.facts for each in declared)
            apart = apart or _changed_settings(side, before, variables)
        strangers = by_plain_name(request.moved[:1] if request.moved else request.roots.values(), request.suites.values())
        if strangers and request.moved:
            raise Mistake(f"base: {strangers[0]} came from the working tree, so base and head cannot be told apart; import it relatively")
        if strangers and len(request.suites) > 1:
            apart = f"{strangers[0]} is imported by its plain name, of which a process has but one"
        return DescribedSides(facts, broken, environment.look(Path(next(iter(request.roots.values())))), apart)

    def _examine(self, request: Examine) -> Examined:
        """The head is proved at its verify_at sizes too; of the base it is enough that it agrees with its reference here."""
        layer, point = self._layers[request.side][request.point.layer], request.point
        names = tuple(dict.fromkeys((next(iter(layer.variants)), *request.variants)))
        proofs = prove(layer, names, point.dtype, point.device, self._enter) if request.side == "head" else {}
        sweeps: dict[str, SweepGraphs | None] = {}
        for name in names:
            if layer.variants[name].compile and not compiling.missing_compiler():
                self._enter("compile", name)
                sweeps[name] = compiling.over_sweep(layer, name)
        return Examined(Cell(layer, point, names, proofs, self._enter, sweeps, cold=False).facts())

    def _sketch(self, request: SketchReference) -> Sketched:
        layer = self._layers[request.side][request.point.layer]
        self._enter("compare the references", next(iter(layer.variants)))
        try:
            return sketch(layer, request.point)
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            return Sketched("", {}, in_words(error))


def _changed_settings(side: str, before: state.State, variables: dict[str, str]) -> str:
    """What importing a side changed for the other, in words; "" where nothing."""
    if changes := state.put_back(before):
        return f"importing {side} {changes}"
    names = sorted(name for name in {*variables, *os.environ} if variables.get(name) != os.environ.get(name))
    return f"importing {side} changes the environment variable {names[0]}" if names else ""
