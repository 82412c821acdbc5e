"""The layers of both sides -> which benchmarks are measured, and the verdict on those that need no measuring.  No torch, no git."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ..data.check_record import Row
from ..data.record import Device, LayerFacts, Point
from ..plan import planning
from ..plan.planning import Selection, Task


@dataclass(frozen=True)
class Benchmark:
    """A variant at a point, and where its layer is declared."""

    point: Point
    variant: str
    file: str  # relative to the repository
    line: int

    @property
    def id(self) -> str:
        return f"{self.point.id}-{self.variant}"

    def row(self, verdict: str, reason: str = "") -> Row:
        return Row(self.point, self.variant, self.file, self.line, verdict, reason)


@dataclass(frozen=True)
class Plan:
    measured: tuple[Benchmark, ...]
    proved: tuple[Benchmark, ...]  # need a GPU that is not here: the values of the head are checked
    settled: tuple[Row, ...]  # unchanged, new, missing, skipped
    control: tuple[Benchmark, ...]  # the base against itself


def pair(
    head: Sequence[LayerFacts],
    base: Sequence[LayerFacts],
    devices: Sequence[Device],
    selection: Selection,
    places: Mapping[str, str],
    changed: Collection[str],
    allow_missing: bool,
) -> Plan:
    """Raises Mistake where the selection matches nothing on either side.

    places   layer -> its file relative to the repository, on the side that has it.
    changed  the layers whose code differs between the sides, or all of them.
    """
    planning.check_sizes((*head, *base), selection.sizes)
    now, then = (_benchmarks(side, devices, selection, places) for side in (head, base))
    chosen = _select({**then, **now}, selection.expression)
    facts = {(layer.name, variant.name): variant for layer in (*base, *head) for variant in layer.variants}
    measured, proved, settled, control = [], [], [], []
    for id_, each in chosen.items():
        variant, is_cpu = facts[each.point.layer, each.variant], each.point.device == "cpu"
        wanted, compiled = variant.devices, variant.compile
        runs_here = wanted in ("any", "cpu" if is_cpu else "gpu")
        if id_ not in now:
            why = "only the base has it"
            settled.append(each.row("skipped", f"{why}; --allow-missing") if allow_missing else each.row("missing", why))
        elif id_ not in then:
            settled.append(each.row("new", "only the head has it"))
        elif each.point.layer not in changed:
            settled.append(each.row("unchanged"))
            control += [each] if runs_here and not compiled else []
        elif runs_here:
            measured.append(each)
        elif is_cpu:
            proved.append(each)
        else:
            settled.append(each.row("skipped", f"declared for devices={wanted!r}, and this point is on {each.point.device}"))
    eager = [each for each in measured if not facts[each.point.layer, each.variant].compile]
    return Plan(tuple(measured), tuple(proved), tuple(settled), _few(control or eager or measured))


def _benchmarks(
    layers: Sequence[LayerFacts], devices: Sequence[Device], selection: Selection, places: Mapping[str, str]
) -> dict[str, Benchmark]:
    lines = {layer.name: layer.line for layer in layers}
    found = {}
    known = {dimension for layer in layers for dimension in layer.sweep}
    sizes = {dimension: values for dimension, values in selection.sizes.items() if dimension in known}
    for task in planning.plan(layers, devices, replace(selection, expression="", sizes=sizes, everything=True)):
        for variant in task.variants:
            each = Benchmark(task.point, variant, places[task.point.layer], lines[task.point.layer])
            found[each.id] = each
    return found


def _select(benchmarks: Mapping[str, Benchmark], expression: str) -> dict[str, Benchmark]:
    tasks: dict[str, Task] = {}
    for each in benchmarks.values():
        known = tasks.get(each.point.id, Task(each.point, ()))
        tasks[each.point.id] = replace(known, variants=(*known.variants, each.variant))
    kept = planning.select(list(tasks.values()), expression, with_reference=False)
    ids = {f"{task.point.id}-{variant}" for task in kept for variant in task.variants}
    return {id_: each for id_, each in benchmarks.items() if id_ in ids}


def _few(benchmarks: Sequence[Benchmark]) -> tuple[Benchmark, ...]:
    """Two of them, of different layers where there are such; forward where there is such, since not every layer has a backward."""
    if not benchmarks:
        return ()
    benchmarks = [each for each in benchmarks if each.point.step == "forward"] or benchmarks
    first = benchmarks[0]
    others = [each for each in benchmarks if each.point.layer != first.point.layer] or list(benchmarks[1:])
    return (first, *others[-1:])
