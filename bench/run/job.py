"""One run from its plan to its run file: a new one, or one that goes on from the journal of an interrupted run.  No torch here."""

import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from msgspec import structs

from ..analysis import compare
from ..data.record import Record, Run
from ..declare.layer import NOISE_FLOOR
from ..declare.mistake import Mistake
from ..machine import lock
from ..plan import forecast
from ..plan.budget import Budget
from ..plan.planning import Task
from ..process.protocol import Described
from ..storage import output, run_file
from ..suite import identity
from ..terminal.overview import Watch
from ..text import invocation
from . import journal
from .journal import Begun, Entry, Journal
from .loop import Answerer, roofs, run

BEFORE = "is from before layerbench wrote down the code of layers: that it is the same could be told by variants, sizes, file and line only"
INTERRUPTED = "interrupted: the points after this were not measured"


@dataclass(frozen=True)
class Job:
    """What is to be measured, what of it is finished already, and where it is written."""

    begun: Begun
    tasks: tuple[Task, ...]
    entries: tuple[Entry, ...]
    journal: Journal

    @property
    def left(self) -> list[Task]:
        finished = {entry.records[0].point.id for entry in self.entries}
        return [task for task in self.tasks if task.point.id not in finished]


def begin(begun: Begun, tasks: Sequence[Task], folder: Path) -> Job:
    """Give the run its name, and begin its journal.  Raises Mistake where the folder cannot be written."""
    name = output.claim(folder.parent, datetime.fromisoformat(begun.run.started))
    begun = structs.replace(begun, run=structs.replace(begun.run, name=name), tasks=tuple(map(_line, tasks)))
    return Job(begun, tuple(tasks), (), Journal(folder / f"{begun.run.name}.journal", begun))


def take_up(path: Path, described: Described, tasks: Sequence[Task]) -> Job:
    """Go on where a journal ends.  Raises Mistake where points or machine are no longer those that the run was begun with."""
    held = Journal(path, None, journal.read(path)[2])
    try:
        begun, entries, _ = journal.read(path)
        _check(path, begun, described, tasks)
    except Mistake:
        held.close()
        raise
    return Job(begun, tuple(tasks), tuple(entries), held)


def begin_again(old: Run, untold: Collection[str], begun: Begun, folder: Path) -> Job:
    """All points of an old run, those that are not `untold` with their old records.  Raises Mistake where anything else has changed."""
    records: dict[str, list[Record]] = {}
    for record in old.records:
        records.setdefault(record.point.id, []).append(record)
    tasks = tuple(Task(found[0].point, tuple(r.variant for r in found if r.variant != NOISE_FLOOR)) for found in records.values())
    names = {task.point.layer for task in tasks}
    if words := identity.edited(old.layers, begun.run.layers, names):
        raise Mistake(f"{old.name} cannot be measured again: {words}; {_undo()}")
    differences, known = compare.differences(old, begun.run), identity.known(old.layers, names)
    if (was := old.environment.commit) != (now := begun.run.environment.commit) and not known:
        differences.append(f"commit: {was[:8] or 'none'} before, {now[:8] or 'none'} now")
    if differences:
        raise Mistake(
            f"{old.name} was measured under other conditions: {differences[0]}; type  {invocation.command()} run  to start a new run"
        )
    kept = tuple(Entry(0.0, tuple(found)) for id_, found in records.items() if id_ not in untold)
    note = f"{len(kept)} of its {len(tasks)} points are those of run {old.name}; at the others no verdict was possible there"
    notes = (note,) if known else (note, f"run {old.name} {BEFORE}")
    work = begin(structs.replace(begun, run=structs.replace(begun.run, notes=notes), again=tasks), tasks, folder)
    for entry in kept:
        work.journal.append(entry)
    return replace(work, entries=kept)


def _line(task: Task) -> str:
    return f"{task.point.id} [{' '.join(task.variants)}]"


def _check(path: Path, begun: Begun, described: Described, tasks: Sequence[Task]) -> None:
    now, then = [_line(task) for task in tasks], list(begun.tasks)
    if now != then:
        odd = [f"{line} is gone" for line in then if line not in now] + [f"{line} is new" for line in now if line not in then]
        what = odd[0] if odd else "their order is another"
        raise Mistake(f"{path}: the points of {begun.order.suite} are no longer those that the run was begun with: {what}; {_undo()}")
    names = {task.point.layer for task in tasks}
    if words := identity.edited(begun.run.layers, described.layers, names):
        raise Mistake(f"{path} cannot be resumed: {words}; {_undo()}")
    if not identity.known(begun.run.layers, names):
        print(f"layerbench: {path} {BEFORE}", file=sys.stderr)
    seen = structs.replace(begun.run, environment=described.environment, layers=described.layers)
    if differences := compare.differences(begun.run, seen):
        raise Mistake(
            f"{path}: its run was begun under other conditions: {differences[0]}; type  {invocation.command()} run  to start a new run"
        )


def carry_out(job: Job, described: Described, worker: Answerer, prover: Answerer, watch: Watch) -> Run:
    """Measure what is left and write the run file.  On Ctrl-C, what was finished; the journal stays, and how to go on is said."""
    started, earlier = time.monotonic(), job.entries[-1].seconds if job.entries else 0.0
    header, entries, folder = job.begun.run, list(job.entries), job.journal.path.parent
    notes = list(header.notes)  # of one that measures again
    if entries and not notes:
        notes = [f"resumed: {len(entries)} of its {len(job.tasks)} points were measured before it was cut short"]
    order = job.begun.order
    budget = Budget(max(1.0, order.budget_seconds - earlier), guess=forecast.beside(job.left, described.layers, order.energy))
    with lock.held(dict.fromkeys(task.point.device for task in job.tasks)) as held:
        busy = held.busy()
        if busy:
            print(f"layerbench: {lock.in_words(busy)}", file=sys.stderr)
        try:
            header = structs.replace(header, roofs=roofs(job.tasks, worker))
            known = [record for entry in entries for record in entry.records]
            traces = str(folder / header.name)
            points = iter(task.point.id for task in job.left)
            watch.begin(next(points, ""))
            how = header.interleaved, known, header.graph, order.energy
            for found in run(job.left, described.layers, worker, prover, budget, traces, *how):
                entries.append(Entry(round(earlier + time.monotonic() - started, 3), found.records, found.seconds))
                job.journal.append(entries[-1])
                watch.done()
                watch.begin(next(points, ""))
        except KeyboardInterrupt:
            notes.append(INTERRUPTED)
        except Mistake as mistake:
            job.journal.close()
            raise Mistake(f"{mistake}; what was measured is kept: {_how_to_go_on(job.journal.path)}") from mistake
        if busy := busy or held.busy():
            notes.append(lock.in_words(busy))
    seconds = earlier + time.monotonic() - started
    records, stages = _in_order(job.tasks, entries), _stages(entries)
    whole = structs.replace(header, seconds=round(seconds, 3), records=records, notes=tuple(notes), stages=stages)
    return finish(whole, folder / f"{header.name}.json", job.journal, keep=INTERRUPTED in notes)


def finish(run: Run, path: Path, journal: Journal, keep: bool) -> Run:
    """Write the run file, then remove the journal unless it is to be kept.  Raises Mistake if it cannot; then the journal has it all."""
    try:
        run_file.write(run, path)
    except Mistake as mistake:
        journal.close()
        raise Mistake(f"{mistake}; what was measured is kept: {_how_to_go_on(journal.path)}") from mistake
    if keep:
        journal.close()
        print(f"layerbench: interrupted; {_how_to_go_on(journal.path)}", file=sys.stderr)
    else:
        journal.remove()
    return run


def _undo() -> str:
    return f"undo that change, or type  {invocation.command()} run  to start a new run"


def _how_to_go_on(path: Path) -> str:
    return f"to go on type  {invocation.command()} run --resume {path}"


def _stages(entries: Sequence[Entry]) -> dict[str, float]:
    """Seconds by stage over all points, in the order in which stages first came."""
    total: dict[str, float] = {}
    for entry in entries:
        for stage, seconds in entry.stages.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return {stage: round(seconds, 3) for stage, seconds in total.items()}


def _in_order(tasks: Sequence[Task], entries: Sequence[Entry]) -> tuple[Record, ...]:
    """Records in the order of the plan, whichever process measured them."""
    finished = {entry.records[0].point.id: entry.records for entry in entries}
    return tuple(record for task in tasks for record in finished.get(task.point.id, ()))
