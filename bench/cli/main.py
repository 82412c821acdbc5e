"""The command line: arguments in, exit code out.  The rest is done elsewhere and imported when it is needed, so that --help is quick.

Exit codes: 0 fine · 1 something failed or got slower · 2 usage or declaration · 130 interrupted.
"""

import shlex
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ..declare.mistake import Mistake
from ..text import invocation
from . import judging, options

DEFAULT_SUITE = "layerbench.layers"
DEFAULT_BUDGET = "4m"
DEFAULT_HANG_SECONDS = 300.0
DEFAULT_CLOCK = "device"
CHECK_BUDGET = "5m"
LEAST_TOLERANCE = 0.005

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def _root(show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    """Benchmark equivalent implementations of a PyTorch layer: are they the same, which is faster, at what memory price."""
    if show_version:
        typer.echo(f"layerbench {version('layerbench')}")
        raise typer.Exit


@app.command("list")
def list_(suite: options.Suite = DEFAULT_SUITE) -> None:
    """The layers of a suite, their variants and sizes."""
    from . import commands

    commands.list_layers(suite)


@app.command()
def run(
    context: typer.Context,
    suite: options.Suite = DEFAULT_SUITE,
    expression: options.Words = "",
    device: options.Devices = None,
    dtype: options.Dtypes = None,
    step: options.Steps = None,
    optimizer: options.Optimizers = None,
    sizes: options.Sizes = None,
    threads: options.Threads = 0,
    budget: options.Budget = DEFAULT_BUDGET,
    out: options.Out = Path(),
    open_page: options.Open = False,
    everything: options.Everything = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the points and stop.")] = False,
    sequential: options.Sequential = False,
    hang_limit: options.HangLimit = DEFAULT_HANG_SECONDS,
    tf32: options.Tf32 = False,
    clock: options.Clock = DEFAULT_CLOCK,
    graph: options.Graph = "auto",
    energy: options.Energy = False,
    quiet: options.Quiet = False,
    resume: options.Resume = False,
    against: options.Against = None,
    inputs: options.Inputs = None,
    first: options.First = "",
) -> None:
    """Verify and measure every variant at every point, then write results/NAME.json and reports/NAME/index.html."""
    from ..plan import budget as durations
    from ..run.journal import Order
    from . import commands, first_file

    if resume:
        options.nothing_else(context)
        raise typer.Exit(commands.resume_run(Path(first) if first else None, out, open_page))
    if against or inputs:
        suite = first_file.write(first, against or [], inputs or [], out / "results", "" if suite == DEFAULT_SUITE else suite)
    elif first:
        if not first.endswith(".journal"):
            raise Mistake(f"{first}: say what to hold it against, as  --against mine:Fast --input 8x512;  a journal goes with --resume")
        raise Mistake(f"{first}: a journal is given with --resume; type  {invocation.command()} run --resume {first}")
    chosen = options.selection(expression, device, dtype, step, optimizer, sizes, everything)
    command = "layerbench " + shlex.join(sys.argv[1:])
    seconds = durations.parse(budget)
    order = Order(suite, chosen, threads, seconds, hang_limit, tf32, not sequential, graph, energy)
    raise typer.Exit(commands.run_suite(order, out, command, dry_run, quiet, open_page, clock))


@app.command()
def again(
    file: Annotated[Path, typer.Argument(metavar="RUN.json")],
    budget: options.Budget = DEFAULT_BUDGET,
    hang_limit: options.HangLimit = DEFAULT_HANG_SECONDS,
    out: options.Out = Path(),
    open_page: options.Open = False,
) -> None:
    """Measure the points of a run again at which nothing could be told, and write a run that has the others as they were.

    These are the points with a noise floor above 10 %, and those at which other work wanted the same cores.
    """
    from ..plan import budget as durations
    from . import commands

    command = "layerbench " + shlex.join(sys.argv[1:])
    raise typer.Exit(commands.run_again(file, durations.parse(budget), out, command, hang_limit, open_page))


@app.command()
def report(
    files: options.Files = None,
    out: options.Out = Path(),
    open_page: options.Open = False,
    clock: options.Clock = DEFAULT_CLOCK,
) -> None:
    """Write the HTML page of stored runs."""
    from . import commands

    commands.write_reports(files or [], out, open_page, clock)


@app.command()
def explain(
    layer: Annotated[str, typer.Argument(metavar="LAYER")],
    variants: Annotated[
        str, typer.Option(metavar="A,B", help="The two variants: stock,compile.  One alone is held against the reference.")
    ],
    run_file: options.RunFile = None,
    suite: options.Suite = DEFAULT_SUITE,
    expression: options.Words = "",
    device: options.Devices = None,
    dtype: options.Dtypes = None,
    step: options.Steps = None,
    optimizer: options.Optimizers = None,
    sizes: options.Sizes = None,
    threads: options.Threads = 0,
    counters: options.Counters = False,
    out: options.Out = Path(),
) -> None:
    """What two variants do differently at one point, operator by operator: calls, time and bytes per step.

    The options must leave one point.  It is measured now, and stored like any run, unless --run names a file that has it.
    """
    from . import explaining

    chosen = options.selection(expression, device, dtype, step, optimizer, sizes, everything=True)
    command = "layerbench " + shlex.join(sys.argv[1:])
    raise typer.Exit(explaining.explain_point(suite, layer, chosen, variants, run_file, threads, out, command, counters))


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD.json")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json")],
    out: options.Out = Path(),
) -> None:
    """What changed between two stored runs; exit 1 if anything got slower, larger, wrong or lost."""
    from . import commands

    raise typer.Exit(commands.compare_runs(old, new, out))


@app.command()
def check(
    against: Annotated[str, typer.Option(metavar="REF", help="The commit, branch or tag to check the working tree against.")],
    tip: options.Tip = False,
    suite: options.Suite = DEFAULT_SUITE,
    expression: options.Words = "",
    device: options.Devices = None,
    dtype: options.Dtypes = None,
    step: options.Steps = None,
    optimizer: options.Optimizers = None,
    sizes: options.Sizes = None,
    threads: options.CheckThreads = 1,
    budget: Annotated[str, typer.Option(metavar="TIME", help="When to stop looking: 90s, 5m.  A flag is still confirmed.")] = CHECK_BUDGET,
    threshold: Annotated[str, typer.Option(metavar="PERCENT", help="A slow-down of so much must not be missed.")] = "5%",
    tolerance: options.Tolerance = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 where a benchmark stays inconclusive.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Measure unchanged layers too.")] = False,
    no_control: Annotated[bool, typer.Option("--no-control", help="Do not time the base against itself.")] = False,
    cache: options.Cache = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="A process for each side.  By itself where they cannot share one.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="A benchmark that only REF has is no failure.")] = False,
    allow_different: options.AllowDifferent = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
    hang_limit: options.HangLimit = DEFAULT_HANG_SECONDS,
    out: options.Out = Path(),
) -> None:
    """Did the working tree, against REF, make any layer slower, larger or wrong?

    Exit codes: 0 no, 1 yes, 2 usage, 3 inconclusive under --strict, 4 an unreliable machine, or nothing compared or decided.
    """
    from ..check.command import Order
    from ..plan import budget as durations
    from . import commands

    chosen = options.selection(expression, device, dtype, step, optimizer, sizes, everything=True)
    slow = options.share("--threshold", threshold)
    if tolerance and not options.share("--tolerance", tolerance) < slow:
        raise Mistake(f"--tolerance {tolerance}: it must be below the threshold, which is {threshold}")
    order = Order(
        against=against,
        tip=tip,
        suite=suite,
        selection=chosen,
        threads=threads,
        budget_seconds=durations.parse(budget),
        threshold=slow,
        tolerance=options.share("--tolerance", tolerance) if tolerance else min(slow / 2, max(LEAST_TOLERANCE, slow / 10)),
        strict=strict,
        everything=everything,
        control=not no_control,
        cache=cache and cache.absolute(),
        isolate=isolate,
        allow_missing=allow_missing,
        allow_different=allow_different,
        hang_seconds=hang_limit,
        command="layerbench " + shlex.join(sys.argv[1:]),
    )
    raise typer.Exit(commands.check_suite(order, as_json, out))


app.command()(judging.judge)


def main() -> None:
    """The `layerbench` command.  A signal that ends it is taken as Ctrl-C, so that nothing is left behind, and told by the exit code."""
    ended: list[int] = []

    def end(number: int, _: object) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    for each in (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, end)
    try:
        app(prog_name="layerbench")
    except Mistake as mistake:
        invocation.complain(str(mistake))
        sys.exit(2)
    except SystemExit as ending:
        if ended:
            sys.exit(128 + ended[0])
        if ending.code == 2:
            invocation.annotate("layerbench was called wrongly: the log says how")
        raise
