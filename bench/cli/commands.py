"""What each command does, from plain arguments to an exit code.  Parsing is cli's; measuring is run's; words and tables are terminal's."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import structs
from rich.console import Console

from ..analysis import compare, frame, summary
from ..check import command as check_command
from ..check.command import Order as CheckOrder
from ..check.show import annotations, screen
from ..check.show import files as check_files
from ..check.sources import Edited
from ..data.check_record import exit_code as exit_code_of_check
from ..data.record import SCHEMA, Failed, Run
from ..declare.mistake import Mistake
from ..plan import forecast, planning
from ..plan.planning import Selection, Task
from ..process.handle import HANG_SECONDS, Worker, workers
from ..process.protocol import Describe, Described
from ..report import publish
from ..run import ahead, job, journal
from ..run.job import Job
from ..run.journal import Begun, Order
from ..storage import output, run_file
from ..terminal import overview, side_by_side
from ..text import invocation


def list_layers(suite: str) -> None:
    worker = Worker(Describe(suite, 0), {})
    try:
        overview.print_layers(console(), worker.describe().layers)
    finally:
        worker.close()


def run_suite(
    order: Order, out: Path, command: str, dry_run: bool = False, quiet: bool = False, open_page: bool = False, clock: str = "device"
) -> int:
    """Measure a suite and write its run file and page.  Returns the exit code.  clock: what ranks, as in `frame.by_clock`."""
    whole = measure(order, out, command, dry_run, quiet)
    return show(whole, out, open_page, clock) if whole else 0


def measure(
    order: Order,
    out: Path,
    command: str,
    dry_run: bool = False,
    quiet: bool = False,
    narrowed: Callable[[Described], Selection] | None = None,
) -> Run | None:
    """The run, which is written; None where its points were only to be printed.

    The order names the suite as it was typed.  narrowed: what to measure of the order's selection, once it is known what there is.
    """
    started = datetime.now(UTC)
    with workers(order.suite, order.threads, order.hang_seconds, order.tf32) as (worker, prover):
        described = worker.describe()
        selection = narrowed(described) if narrowed else order.selection
        order = structs.replace(order, selection=selection)
        tasks = planning.plan(described.layers, described.environment.devices, selection)
        if left := len(described.layers) - len(planning.wanted(described.layers, selection)):
            print(f"{left} of {len(described.layers)} layers are measured on request only: --all, or -k NAME", file=sys.stderr)
        for words in forecast.warnings(tasks, described.layers, order.budget_seconds, order.energy):
            print(f"layerbench: {words}", file=sys.stderr)
        if dry_run:
            _print_plan(tasks)
            return None
        begun = started.isoformat(timespec="seconds")
        facts = described.environment, described.layers
        header = Run(SCHEMA, "", begun, 0.0, command, order.suite, order.interleaved, *facts, (), graph=order.graph)
        findable = structs.replace(order, suite=from_anywhere(order.suite))
        work = job.begin(Begun(header, findable, ()), tasks, out / "results")
        ahead.prepare(tasks, described.layers, worker, lambda: Worker(Describe(order.suite, order.threads, order.tf32), {}))
        return _carry_out(work, described, worker, prover, quiet)


def resume_run(path: Path | None, out: Path, open_page: bool = False) -> int:
    """Measure what a run that was cut short has not measured yet, and write its run file and page.  Returns the exit code."""
    path = path or journal.newest(out / "results")
    order = journal.read(path)[0].order
    with workers(order.suite, order.threads, order.hang_seconds, order.tf32) as (worker, prover):
        described = worker.describe()
        tasks = journal.read(path)[0].again or planning.plan(described.layers, described.environment.devices, order.selection)
        work = job.take_up(path, described, tasks)
        whole = _carry_out(work, described, worker, prover)
    return show(whole, path.parent.parent, open_page)


def run_again(file: Path, seconds: float, out: Path, command: str, hang_seconds: float = HANG_SECONDS, open_page: bool = False) -> int:
    """Measure the points of a run at which nothing could be told, and write a run of these and the others.  Returns the exit code."""
    started, old = datetime.now(UTC), run_file.read(file)
    untold = set().union(*summary.disturbed(frame.tidy(old)))
    if not untold:
        print(f"{file}: no point was too noisy or disturbed, so there is nothing to measure again")
        return 0
    threads = old.environment.threads
    with workers(old.suite, threads, hang_seconds, tf32=old.environment.flags.get("TF32") == "true") as (worker, prover):
        described = worker.describe()
        run = structs.replace(
            old,
            name="",
            started=started.isoformat(timespec="seconds"),
            command=command,
            environment=described.environment,
            layers=described.layers,
            records=(),
        )
        metered = any(getattr(record.outcome, "energy", None) is not None for record in old.records)
        order = Order(from_anywhere(old.suite), Selection(), threads, seconds, hang_seconds, energy=metered)
        work = job.begin_again(old, untold, Begun(run, order, ()), out / "results")
        whole = _carry_out(work, described, worker, prover)
    return show(whole, out, open_page)


def _carry_out(work: Job, described: Described, worker: Worker, prover: Worker, quiet: bool = False) -> Run:
    with overview.watching(Console(stderr=True), len(work.left), quiet) as watch:
        worker.on_wait = prover.on_wait = watch.waiting
        return job.carry_out(work, described, worker, prover, watch)


def from_anywhere(suite: str) -> str:
    """A suite's path as it can be found from another folder too; the name of an installed suite as it is."""
    return str(Path(suite).resolve()) if Path(suite).exists() else suite


def exit_code(run: Run) -> int:
    """0 fine, 1 a variant failed, a time cannot be true or nothing was measured, 2 a layer is declared wrongly, 130 interrupted."""
    if job.INTERRUPTED in run.notes:
        return 130
    failed = [record.outcome for record in run.records if isinstance(record.outcome, Failed)]
    if any(outcome.stage == "declare" for outcome in failed):
        return 2
    invalid = (frame.tidy(run).outcome == "invalid").any()
    return 1 if failed or invalid or not frame.measured(run) else 0


def write_reports(files: Sequence[Path], out: Path, open_page: bool = False, clock: str = "device") -> None:
    """A page per run file, or file of a check; the newest run of results/ where none is named."""
    for file in files or [run_file.newest(out / "results")]:
        if file.name.endswith(output.CHECK_SUFFIX):
            page = check_files.write(check_files.read(file), out)["page"]
        else:
            page = publish.write(frame.by_clock(run_file.read(file), clock), out)
        print(publish.address(page))
        if open_page:
            publish.show(page)


def check_suite(order: CheckOrder, as_json: bool, out: Path) -> int:
    """Check the working tree against a commit, print the verdict and write its files.  Returns the exit code."""
    try:
        with overview.telling(Console(stderr=True)) as say:
            found = check_command.check(order, say)
    except KeyboardInterrupt:
        print("layerbench: interrupted before there was a verdict; nothing was written", file=sys.stderr)
        return 130
    except Edited as edited:
        invocation.complain(f"{edited}; there is no verdict")
        return 4
    except Mistake:
        raise
    except Exception:  # noqa: BLE001  a fault of ours must not read as a regression, which Python's own exit code 1 would be
        traceback.print_exc()
        invocation.complain("a fault of layerbench itself, please report it; there is no verdict")
        return 5
    paths: dict[str, Path] = {}
    try:  # a verdict that took minutes is not lost with its files
        found = structs.replace(found, name=output.claim(out, datetime.fromisoformat(found.started)))
        paths = check_files.write(found, out)
        check_files.add_to_summary(found)
    except Mistake as mistake:
        print(f"layerbench: warning: {mistake}", file=sys.stderr)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(*annotations.lines(found), sep="\n", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return exit_code_of_check(found)
    screen.print_check(console(), found)
    for what, path in paths.items():
        print(f"{what + ':':<9}{publish.address(path) if what == 'page' else path}")
    return exit_code_of_check(found)


def compare_runs(old: Path, new: Path, out: Path) -> int:
    """Print what changed and write the new run's page with it.  Returns 1 where something got worse, else 0."""
    before, after = run_file.read(old), run_file.read(new)
    changes = compare.compare(before, after)
    side_by_side.print_changes(console(), changes, compare.differences(before, after))
    overview.print_weak(console(), (*before.records, *after.records))
    print(publish.address(publish.write(after, out, changes, f"{after.name}-against-{before.name}")))
    return 1 if compare.failures(changes) else 0


def show(run: Run, out: Path, open_page: bool, clock: str = "device") -> int:
    """Print a run, write its page, and return the exit code.  clock: what ranks; the run file has both."""
    seen = frame.by_clock(run, clock)
    overview.print_run(console(), seen, frame.tidy(seen))
    print(f"results: {out / 'results' / run.name}.json")
    page = publish.write(seen, out)
    print(f"page:    {publish.address(page)}")
    if untold := sum(map(len, summary.disturbed(frame.tidy(run)))):
        points = "1 point" if untold == 1 else f"{untold} points"
        print(f"again:   {points}, on a quieter machine:  {invocation.command()} again {out / 'results' / run.name}.json")
    if open_page:
        publish.show(page)
    return exit_code(run)


def _print_plan(tasks: Sequence[Task]) -> None:
    for task in tasks:
        print(f"{task.point.id}  [{' '.join(task.variants)}]")
    print(f"{len(tasks)} point{'' if len(tasks) == 1 else 's'}", file=sys.stderr)


def console() -> Console:
    """Standard output; wide where it is no terminal, so that a log keeps whole rows."""
    return Console(width=None if sys.stdout.isatty() else 160)
