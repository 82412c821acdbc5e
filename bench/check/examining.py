"""Examines the benchmarks before anything is timed: are they right, how much memory do they hold, is the reference still the same layer?"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from ..data.check_record import Row
from ..data.record import Checked, Failed, LayerFacts, Outcome, Point
from ..plan import planning
from ..plan.planning import Selection
from ..process.check_messages import Examine, Sketched, SketchReference
from ..process.handle import INTERPRETER, Worker, WorkerBroke, WorkerDied
from ..process.protocol import Describe, Finished, Prove
from . import reference_change
from .executors import Executor, Fault
from .mounting import Opened
from .pairing import Benchmark
from .renaming import Renamed
from .verdicts import Known

Say = Callable[[str], None]


def facts(benchmarks: Sequence[Benchmark], executor: Executor, say: Say) -> dict[str, tuple[Known | Fault, Known | Fault]]:
    """Benchmark -> what is known of base and of head.  The steps of one cell share it."""
    cells: dict[str, dict[str, Benchmark]] = {}
    for each in benchmarks:
        cells.setdefault(each.point.cell, {}).setdefault(each.variant, each)
    known: dict[tuple[str, str, str], Known | Fault] = {}
    for cell, variants in cells.items():
        point = next(iter(variants.values())).point
        for side in ("head", "base"):
            say(f"verifying {side}: {cell}")
            for variant, what in _examine(executor, side, point, tuple(variants)).items():
                known[side, cell, variant] = what
    return {each.id: (known["base", each.point.cell, each.variant], known["head", each.point.cell, each.variant]) for each in benchmarks}


def _examine(executor: Executor, side: str, point: Point, variants: tuple[str, ...]) -> dict[str, Known | Fault]:
    """A variant that kills the worker is out, and the others are asked for again without it."""
    known: dict[str, Known | Fault] = {}
    left = list(variants)
    while left:
        answer = executor.examine(Examine(side, point, tuple(left)))
        if not isinstance(answer, Fault):
            return known | {variant: answer.facts[variant] for variant in left}
        if answer.variant not in left:  # the reference, or nobody: then nothing can be judged
            return known | dict.fromkeys(left, answer)
        known[answer.variant] = answer
        left.remove(answer.variant)
    return known


Kind = tuple[str, str, str]  # layer, dtype, device


def kind(point: Point) -> Kind:
    return point.layer, point.dtype, point.device


def differences(benchmarks: Sequence[Benchmark], executor: Executor, say: Say) -> dict[Kind, str]:
    """Where the reference of the head computes something else than the base's, and what.  At the first point of each layer."""
    found: dict[Kind, str] = {}
    for each in benchmarks:
        if (key := kind(each.point)) not in found:
            say(f"comparing the references of {each.point.layer}")
            base, head = (executor.sketch(SketchReference(side, each.point)) for side in ("base", "head"))
            if isinstance(base, Sketched) and isinstance(head, Sketched) and not base.reason and not head.reason:
                found[key] = reference_change.difference(base, head)  # where one cannot run, the layer's next point is tried
    return found


def renamed(ready: Opened, likely: Sequence[Renamed], selection: Selection) -> tuple[Opened, list[Renamed]]:
    """The base's layers by their names at the head, and which were renamed: those whose references compute the same."""
    head, base = ({layer.name: layer for layer in ready.layers[side]} for side in ("head", "base"))
    found = []
    for each in likely:
        if each.new in head and each.old in base and _same(ready, head[each.new], selection):
            base[each.old] = structs.replace(base[each.old], name=each.new)
            found.append(each)
    return replace(ready, layers={**ready.layers, "base": tuple(base.values())}), found


def _same(ready: Opened, layer: LayerFacts, selection: Selection) -> bool:
    tasks = planning.plan([layer], ready.environment.devices, replace(selection, expression="", sizes={}, everything=True))
    base, head = (ready.executor.sketch(SketchReference(side, tasks[0].point)) for side in ("base", "head"))
    if not isinstance(base, Sketched) or not isinstance(head, Sketched) or base.reason or head.reason:
        return False
    return not reference_change.difference(base, head)


def proved(benchmarks: Sequence[Benchmark], root: Path, threads: int, hang_seconds: float, say: Say) -> list[Row]:
    """Variants that need a GPU where there is none: the values of the head under Triton's interpreter.

    A worker for each file, since another file of the suite may not import.
    """
    outcomes: dict[tuple[Kind, str], Outcome] = {}
    for file in dict.fromkeys(each.file for each in benchmarks):
        worker = Worker(Describe(str(root / file), threads), INTERPRETER, hang_seconds)
        try:
            for each in benchmarks:
                if each.file == file and (key := (kind(each.point), each.variant)) not in outcomes:
                    say(f"proving {each.point.layer} {each.variant}")
                    outcomes[key] = _prove(worker, each)
        finally:
            worker.close()
    return [_proved_row(each, outcomes[kind(each.point), each.variant]) for each in benchmarks]


def _prove(worker: Worker, benchmark: Benchmark) -> Outcome:
    try:
        answer = worker.answer(Prove(benchmark.point.layer, benchmark.point.dtype, (benchmark.variant,)))
    except WorkerBroke:
        raise
    except WorkerDied as death:
        return Failed(death.stage, death.reason)
    assert isinstance(answer, Finished)
    return answer.records[0].outcome


def _proved_row(benchmark: Benchmark, outcome: Outcome) -> Row:
    if isinstance(outcome, Failed):
        return benchmark.row("wrong", f"head failed at {outcome.stage}: {outcome.reason}")
    if isinstance(outcome, Checked):
        return benchmark.row("proved", "; ".join((outcome.reason, *(outcome.accuracy.uses.mark if outcome.accuracy.uses else ()))))
    return benchmark.row("skipped", getattr(outcome, "reason", ""))
