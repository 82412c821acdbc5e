"""The command line: arguments in, exit code out.  The rest is done elsewhere and imported when it is needed, so that --help is quick.

Exit codes: 0 fine · 1 something failed or got slower · 2 usage or declaration · 130 interrupted.
"""

import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from .mistake import Mistake
from .options import Devices, Dtypes, Optimizers, Out, Sizes, Steps, Suite, Threads, Words
from .plan import Selection

DEFAULT_SUITE = "layerbench.layers"
DEFAULT_BUDGET = "4m"
DEFAULT_HANG_SECONDS = 300.0
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
def list_(suite: Suite = DEFAULT_SUITE) -> None:
    """The layers of a suite, their variants and sizes."""
    from . import commands

    commands.list_layers(suite)


@app.command()
def run(
    context: typer.Context,
    suite: Suite = DEFAULT_SUITE,
    expression: Words = "",
    device: Devices = None,
    dtype: Dtypes = None,
    step: Steps = None,
    optimizer: Optimizers = None,
    sizes: Sizes = None,
    threads: Threads = 0,
    budget: Annotated[str, typer.Option(metavar="TIME", help="About how long the whole run may take: 90s, 5m, 1h.")] = DEFAULT_BUDGET,
    out: Out = Path(),
    everything: Annotated[
        bool, typer.Option("--all", help="All layers of the suite, also those that are measured on request only.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the points and stop.")] = False,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Time variants one after the other, not in turns: drift of the machine is not cancelled.")
    ] = False,
    hang_limit: Annotated[
        float, typer.Option(metavar="SECONDS", help="A variant that shows no sign of life for so long has failed.", show_default=True)
    ] = DEFAULT_HANG_SECONDS,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish a run that was cut short: of JOURNAL, or the newest one.  No other option but --out.")
    ] = False,
    journal: Annotated[Path | None, typer.Argument(metavar="[JOURNAL]", help="With --resume: results/NAME.journal.")] = None,
) -> None:
    """Verify and measure every variant at every point, then write results/NAME.json and reports/NAME/index.html."""
    from . import budget as durations
    from . import commands

    if resume:
        _nothing_else(context)
        raise typer.Exit(commands.resume_run(journal, out))
    if journal:
        raise Mistake(f"{journal}: a journal is given with --resume; type  layerbench run --resume {journal}")
    if hang_limit <= 0:
        raise Mistake(f"--hang-limit {hang_limit:g}: give seconds above 0, as --hang-limit 300")
    chosen = _selection(expression, device, dtype, step, optimizer, sizes, everything)
    command = "layerbench " + shlex.join(sys.argv[1:])
    raise typer.Exit(commands.run_suite(suite, chosen, threads, durations.parse(budget), out, dry_run, command, not sequential, hang_limit))


@app.command()
def report(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN.json]...", help="Run files.  Default: the newest in results/.")
    ] = None,
    out: Out = Path(),
) -> None:
    """Write the HTML page of stored runs."""
    from . import commands

    commands.write_reports(files or [], out)


@app.command()
def explain(
    layer: Annotated[str, typer.Argument(metavar="LAYER")],
    variants: Annotated[
        str, typer.Option(metavar="A,B", help="The two variants: stock,compile.  One alone is held against the reference.")
    ],
    run_file: Annotated[
        Path | None, typer.Option("--run", metavar="RUN.json", help="Take it from this run file.  Default: measure the point now.")
    ] = None,
    suite: Suite = DEFAULT_SUITE,
    expression: Words = "",
    device: Devices = None,
    dtype: Dtypes = None,
    step: Steps = None,
    optimizer: Optimizers = None,
    sizes: Sizes = None,
    threads: Threads = 0,
    out: Out = Path(),
) -> None:
    """What two variants do differently at one point, operator by operator: calls, time and bytes per step.

    The options must leave one point.  It is measured now, and stored like any run, unless --run names a file that has it.
    """
    from . import commands

    chosen = _selection(expression, device, dtype, step, optimizer, sizes, everything=True)
    command = "layerbench " + shlex.join(sys.argv[1:])
    raise typer.Exit(commands.explain_point(suite, layer, chosen, variants, run_file, threads, out, command))


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD.json")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json")],
    out: Out = Path(),
) -> None:
    """What changed between two stored runs; exit 1 if anything got slower, larger, wrong or lost."""
    from . import commands

    raise typer.Exit(commands.compare_runs(old, new, out))


@app.command()
def check(
    against: Annotated[str, typer.Option(metavar="REF", help="The commit, branch or tag to check the working tree against.")],
    suite: Suite = DEFAULT_SUITE,
    expression: Words = "",
    device: Devices = None,
    dtype: Dtypes = None,
    step: Steps = None,
    optimizer: Optimizers = None,
    sizes: Sizes = None,
    threads: Annotated[int, typer.Option(metavar="N", help="CPU threads of torch; 0: torch's own choice.")] = 1,
    budget: Annotated[str, typer.Option(metavar="TIME", help="When to stop looking: 90s, 5m.  A flag is still confirmed.")] = CHECK_BUDGET,
    threshold: Annotated[str, typer.Option(metavar="PERCENT", help="A slow-down of so much must not be missed.")] = "5%",
    tolerance: Annotated[
        str,
        typer.Option(metavar="PERCENT", help="A slow-down up to this is no failure.  Default: a tenth of the threshold."),
    ] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 where a benchmark stays inconclusive.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Measure unchanged layers too.")] = False,
    isolate: Annotated[bool, typer.Option("--isolate", help="A process for each side.  By itself where they cannot share one.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="A benchmark that only REF has is no failure.")] = False,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="A reference that computes something else than at REF is no failure.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
    hang_limit: Annotated[float, typer.Option(metavar="SECONDS", help="As for run.", show_default=True)] = DEFAULT_HANG_SECONDS,
    out: Out = Path(),
) -> None:
    """Did the working tree, against REF, make any layer slower, larger or wrong?

    Exit codes: 0 no, 1 yes, 2 usage, 3 inconclusive under --strict, 4 an unreliable machine or nothing to compare.
    """
    from . import budget as durations
    from . import commands
    from .check.command import Order

    chosen = _selection(expression, device, dtype, step, optimizer, sizes, everything=True)
    slow = _share("--threshold", threshold)
    if tolerance and not _share("--tolerance", tolerance) < slow:
        raise Mistake(f"--tolerance {tolerance}: it must be below the threshold, which is {threshold}")
    order = Order(
        against=against,
        suite=suite,
        selection=chosen,
        threads=threads,
        budget_seconds=durations.parse(budget),
        threshold=slow,
        tolerance=_share("--tolerance", tolerance) if tolerance else min(slow / 2, max(LEAST_TOLERANCE, slow / 10)),
        strict=strict,
        everything=everything,
        isolate=isolate,
        allow_missing=allow_missing,
        allow_different=allow_different,
        hang_seconds=hang_limit,
        command="layerbench " + shlex.join(sys.argv[1:]),
    )
    raise typer.Exit(commands.check_suite(order, as_json, out))


def _share(option: str, text: str) -> float:
    """`5%` or `5` -> 0.05.  Raises Mistake."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0.001 <= share <= 100:
        raise Mistake(f"{option} {text}: give a percentage from 0.1% to 10000%, as {option} 5%")
    return share


def _nothing_else(context: typer.Context) -> None:
    """Raises Mistake where an option stands beside --resume that would be taken from the journal."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in ("resume", "journal", "out"):
            raise Mistake(f"--resume takes everything from the journal: leave {parameter.opts[0]} away, or --resume to begin anew")


def _selection(
    expression: str, device: Devices, dtype: Dtypes, step: Steps, optimizer: Optimizers, sizes: Sizes, everything: bool
) -> Selection:
    devices, dtypes, steps, optimizers = (tuple(each or ()) for each in (device, dtype, step, optimizer))
    return Selection(expression, devices, dtypes, steps, _sizes(sizes or []), everything, optimizers)


def _sizes(words: list[str]) -> dict[str, tuple[int, ...]]:
    """`batch=1,8,64` -> {"batch": (1, 8, 64)}.  Raises Mistake."""
    sizes: dict[str, tuple[int, ...]] = {}
    for word in words:
        dimension, _, values = word.partition("=")
        try:
            sizes[dimension.strip()] = sizes.get(dimension.strip(), ()) + tuple(int(value) for value in values.split(","))
        except ValueError:
            raise Mistake(f"--set {word}: write a dimension and its values, as --set batch=1,8,64") from None
    return sizes


def main() -> None:
    """The `layerbench` command."""
    try:
        app(prog_name="layerbench")
    except Mistake as mistake:
        print(f"layerbench: {mistake}", file=sys.stderr)
        sys.exit(2)
