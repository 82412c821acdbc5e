"""What each command does, from plain arguments to an exit code.  Parsing is cli's; measuring is run's; words and tables are terminal's."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from . import compare, frame, plan, store, terminal
from .budget import Budget
from .plan import Selection, Task
from .protocol import Described
from .record import SCHEMA, Failed, Record, Run
from .remote import Worker, workers
from .run import Answerer, run
from .terminal import Watch

INTERRUPTED = "interrupted: the points after this were not measured"


def list_layers(suite: str) -> None:
    worker = Worker(suite, 0, {})
    try:
        terminal.print_layers(_console(), worker.describe().layers)
    finally:
        worker.close()


def run_suite(suite: str, selection: Selection, threads: int, seconds: float, out: Path, dry_run: bool, command: str) -> int:
    """Measure a suite and write its run file and page.  Returns the exit code."""
    started, budget = datetime.now(UTC), Budget(seconds)
    with workers(suite, threads) as (worker, prover):
        described = worker.describe()
        tasks = plan.plan(described.layers, described.environment.devices, selection)
        if dry_run:
            _print_plan(tasks)
            return 0
        name = _free_name(out, started)
        header = Run(
            SCHEMA, name, started.isoformat(timespec="seconds"), 0.0, command, suite, True, described.environment, described.layers, ()
        )
        journal = store.Journal(out / "results" / f"{name}.journal", header)
        with terminal.watching(Console(stderr=True), len(tasks)) as watch:
            worker.on_wait = prover.on_wait = watch.waiting
            records, notes = measure(tasks, described, worker, prover, budget, journal, watch, str(out / "results" / name))
    took = (datetime.now(UTC) - started).total_seconds()
    whole = store.finish(header, took, records, notes, out / "results" / f"{name}.json", journal)
    _show(whole, out)
    return exit_code(whole)


def measure(
    tasks: Sequence[Task],
    described: Described,
    worker: Answerer,
    prover: Answerer,
    budget: Budget,
    journal: store.Journal,
    watch: Watch,
    traces: str,
) -> tuple[list[Record], tuple[str, ...]]:
    """All records, journalled as they come; on Ctrl-C those that were finished, with a note."""
    records: list[Record] = []
    watch.begin(tasks[0].point.id)
    try:
        for number, found in enumerate(run(tasks, described.layers, worker, prover, budget.seconds, traces)):
            journal.append(found)
            records += found
            watch.done()
            if number + 1 < len(tasks):
                watch.begin(tasks[number + 1].point.id)
    except KeyboardInterrupt:
        return records, (INTERRUPTED,)
    return records, ()


def exit_code(run: Run) -> int:
    """0 fine, 1 a variant failed or nothing was measured, 2 a layer is declared wrongly, 130 interrupted."""
    if INTERRUPTED in run.notes:
        return 130
    failed = [record.outcome for record in run.records if isinstance(record.outcome, Failed)]
    if any(outcome.stage == "declare" for outcome in failed):
        return 2
    return 1 if failed or not frame.measured(run) else 0


def write_reports(files: Sequence[Path], out: Path) -> None:
    """A page per run file; the newest of results/ where none is named."""
    from . import report

    for file in files or [store.newest(out / "results")]:
        run = store.read(file)
        print(store.guarded(partial(report.write, run, out / "reports" / run.name / "index.html"), out))


def compare_runs(old: Path, new: Path, out: Path) -> int:
    """Print what changed and write the new run's page with it.  Returns 1 where something got worse, else 0."""
    from . import report

    before, after = store.read(old), store.read(new)
    changes = compare.compare(before, after)
    terminal.print_changes(_console(), changes, compare.differences(before, after))
    page = out / "reports" / f"{after.name}-against-{before.name}" / "index.html"
    print(store.guarded(partial(report.write, after, page, changes), out))
    return 1 if compare.failures(changes) else 0


def _show(run: Run, out: Path) -> None:
    from . import report

    terminal.print_run(_console(), run, frame.tidy(run))
    print(f"results: {out / 'results' / run.name}.json")
    page = store.guarded(partial(report.write, run, out / "reports" / run.name / "index.html"), out)
    print(f"page:    {page}")


def _print_plan(tasks: Sequence[Task]) -> None:
    for task in tasks:
        print(f"{task.point.id}  [{' '.join(task.variants)}]")
    print(f"{len(tasks)} points", file=sys.stderr)


def _free_name(out: Path, started: datetime) -> str:
    """The time of day, and a number where two runs began in one second."""
    name = stem = started.strftime("%Y%m%d-%H%M%S")
    number = 1
    while (out / "results" / f"{name}.json").exists() or (out / "results" / f"{name}.journal").exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def _console() -> Console:
    """Standard output; wide where it is no terminal, so that a log keeps whole rows."""
    return Console(width=None if sys.stdout.isatty() else 160)
