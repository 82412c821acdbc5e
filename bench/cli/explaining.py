"""What `layerbench explain` does: two variants of a point beside each other, and on request what the GPU counted of them."""

import sys
from dataclasses import replace
from pathlib import Path

from ..analysis import counters, explain
from ..data.record import Measured, Point, Run
from ..declare.mistake import NoCounters
from ..plan import planning
from ..plan.budget import LONGEST
from ..plan.planning import Selection
from ..process import ncu
from ..process.handle import HANG_SECONDS
from ..process.protocol import Described
from ..run.journal import Order
from ..storage import run_file
from ..terminal import counters as shown
from ..terminal import overview, side_by_side
from . import commands


def explain_point(
    suite: str,
    layer: str,
    selection: Selection,
    variants: str,
    file: Path | None,
    threads: int,
    out: Path,
    command: str,
    counted: bool = False,
) -> int:
    """Print what two variants of a point do differently: from a run file, or measured now where none is given.  Returns the exit code.

    counted: also what the GPU's counters say of both, which are read now in any case.
    """
    if file is None:

        def narrowed(described: Described) -> Selection:
            names = explain.pair(described.layers, layer, variants)
            candidates = planning.plan(described.layers, described.environment.devices, replace(selection, expression=""))
            return explain.only(selection, explain.choose(candidates, layer, selection), names)

        order = Order(suite, selection, threads, LONGEST, HANG_SECONDS)
        measured = commands.measure(order, out, command, narrowed=narrowed)
        assert measured
        stored, code = measured, commands.show(measured, out, False)
        selection = Selection()  # it has no other point
    else:
        stored, code = run_file.read(file), 0
    names = explain.pair(stored.layers, layer, variants)
    point = explain.choose(explain.tasks(stored), layer, selection)
    side_by_side.print_explanation(commands.console(), explain.explain(stored, point, names))
    overview.print_weak(commands.console(), (record for record in stored.records if record.point.id == point.id))
    if counted:
        try:
            print_counters(stored, point, names)
        except NoCounters as reason:
            print(f"no counters: {reason}")
    return code


def print_counters(stored: Run, point: Point, variants: tuple[str, str]) -> None:
    """Have the step of both variants counted, and print it.  Raises NoCounters with the reason where that is not to be had."""
    if point.device != "cuda":
        raise NoCounters(
            f"this point is on {point.device}, and Nsight Compute counts on NVIDIA's GPUs alone; choose one with  --device cuda"
        )
    print(f"layerbench: Nsight Compute counts; that may take up to {ncu.SECONDS:g} s", file=sys.stderr)
    facts = next(each for each in stored.layers if each.name == point.layer)
    tf32 = stored.environment.flags.get("TF32") == "true"
    found = ncu.count(ncu.Count(commands.from_anywhere(stored.suite), facts, point, variants, stored.environment.threads, tf32))
    kernels = counters.by_variant(found.table, found.counted.profiled)
    whole = {name: rows for name, rows in kernels.items() if name not in found.counted.failed}
    if whole:
        works = [record.outcome.work for record in stored.records if record.point.id == point.id and isinstance(record.outcome, Measured)]
        shown.print_counters(commands.console(), whole, next(iter(works), None))
    for name, reason in found.counted.failed.items():
        print(f"no counters of {name}: {reason}")
