"""What a worker knows in a regression check: the mounted sides.  Answers requests in the process it lives in."""

import os
import sys
from pathlib import Path

import torch
from msgspec import structs

from ...cell.cell import Cell
from ...cell.once import Once
from ...data.record import LayerFacts
from ...declare.layer import Layer
from ...declare.mistake import Mistake
from ...equivalence.prove import Enter
from ...machine import environment
from ...process.check_messages import (
    DescribedSides,
    DescribeSides,
    Examine,
    Examined,
    MeasureUnit,
    Prepare,
    Sketched,
    SketchReference,
    TimeBlock,
)
from ...process.protocol import Answer, Request
from ...subject import torch_settings
from ...subject.fault import in_words
from ...suite import mount
from .redirect import Moved, by_plain_name
from .sketch import sketch
from .timing import Timing


class Sides:
    """One or both sides of a check."""

    def __init__(self, enter: Enter) -> None:
        self._enter = enter
        self._layers: dict[str, dict[str, Layer]] = {}
        self._timing = Timing(self._layers, enter)
        self._once = {side: Once(enter) for side in ("base", "head")}

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
        torch_settings.use_tf32(allowed=False)
        if request.moved:
            sys.meta_path.insert(0, Moved(*map(Path, request.moved)))
        if request.here:
            os.chdir(request.here)
        facts: dict[str, tuple[LayerFacts, ...]] = {}
        broken: dict[str, dict[str, str]] = {}
        apart = ""
        for side, suite in request.suites.items():
            before, settings, operators = torch_settings.look(), _settings(), _operators()
            torn: dict[Path, str] = {}
            declared = mount.mount(suite, torn)
            root = Path(request.roots[side])
            broken[side] = {str(file.relative_to(root)): why.replace(f"{root}/", "").partition("; fix it")[0] for file, why in torn.items()}
            self._layers[side] = {each.layer.name: each.layer for each in declared}
            if side == "base":
                self._layers[side] |= {new: self._layers[side][old] for new, old in request.renamed.items() if old in self._layers[side]}
            facts[side] = tuple(structs.replace(each.facts, file=str(each.file)) for each in declared)
            if len(request.suites) > 1:  # alone, a side keeps the settings that it makes, as it does in use
                apart = apart or _in_common(side, before, settings, operators)
        strangers = by_plain_name(request.moved[:1] if request.moved else request.roots.values(), request.suites.values())
        if strangers and request.moved:
            raise Mistake(f"base: {strangers[0]} came from the working tree, so base and head are the same code; import it relatively")
        if strangers and len(request.suites) > 1:
            apart = f"{strangers[0]} is imported by its plain name, and a process can hold only one module of that name"
        root = Path(request.roots.get("head", request.roots.get("base", "")))
        return DescribedSides(facts, broken, environment.look(root), apart)

    def _examine(self, request: Examine) -> Examined:
        """The head is proved at its verify_at sizes too; of the base it is enough that it agrees with its reference here."""
        layer, point = self._layers[request.side][request.point.layer], request.point
        names = tuple(dict.fromkeys((next(iter(layer.variants)), *request.variants)))
        is_head = request.side == "head"
        known = self._once[request.side]
        proofs = known.proofs(layer, names, point) if is_head else {}
        sweeps = known.sweeps(layer, names, point.device)
        return Examined(Cell(layer, point, names, proofs, self._enter, sweeps, cold=False).facts(leaks=is_head))

    def _sketch(self, request: SketchReference) -> Sketched:
        layer = self._layers[request.side][request.point.layer]
        self._enter("compare the references", next(iter(layer.variants)))
        try:
            return sketch(layer, request.point)
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            return Sketched("", {}, in_words(error))


def _in_common(side: str, before: torch_settings.State, settings: dict[str, object], operators: dict[str, object]) -> str:
    """What importing a side changed for the other, in words; "" where nothing."""
    if changes := torch_settings.put_back(before):
        return f"importing {side} {changes}"
    now = _settings()
    if names := sorted(name for name in {*settings, *now} if settings.get(name) != now.get(name)):
        return f"importing {side} changes {names[0]}"
    taken = sorted(name for name, made in _operators().items() if operators.get(name, made) is not made)
    return f"importing {side} registers the operator {taken[0]}, which the other side has registered too" if taken else ""


def _settings() -> dict[str, object]:
    """What a suite may set for the whole process, beside what `torch_settings` looks after."""
    return {f"the environment variable {name}": value for name, value in os.environ.items()}


def _operators() -> dict[str, object]:
    """The custom operators by name: a second one of a name takes the place of the first in silence."""
    return dict(torch._library.custom_ops.OPDEFS)
