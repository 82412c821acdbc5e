"""The options of the commands: what their help says, and how a word of one is read.  And what several of them mean together."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..declare.mistake import Mistake
from ..plan.planning import Selection


def _above_zero(seconds: float) -> float:
    if not seconds > 0:
        raise Mistake(f"--hang-limit {seconds:g}: give seconds above 0, as --hang-limit 300")
    return seconds


Suite = Annotated[
    str, typer.Option(metavar="PATH", help="A folder of layer files, or one file.  Default: the layers that come with layerbench.")
]
Words = Annotated[
    str,
    typer.Option(
        "-k", metavar="EXPR", help="Only points whose id matches, as in pytest: 'rmsnorm and not compile'; '^rmsnorm': it begins so."
    ),
]
Devices = Annotated[
    list[str] | None, typer.Option("--device", metavar="NAME", help="cpu, gpu (whichever there is), cuda, ...  Default: all present.")
]
Dtypes = Annotated[
    list[str] | None,
    typer.Option("--dtype", metavar="NAME", help="float32, bfloat16, float16.  Default: float32; on a GPU bfloat16 too."),
]
Steps = Annotated[
    list[str] | None, typer.Option("--step", metavar="NAME", help="forward, backward, training, update.  Default: forward and backward.")
]
Optimizers = Annotated[
    list[str] | None, typer.Option("--optimizer", metavar="NAME", help="Of the step update: sgd, adam, adamw, rmsprop.  Default: sgd.")
]
Sizes = Annotated[
    list[str] | None, typer.Option("--set", metavar="DIM=N,N", help="Other values for a dimension of the sweep: batch=1,8,64.")
]
MOST_THREADS = 64  # or four for a core, on a larger machine


def _threads(number: int) -> int:
    """Raises Mistake for more than a machine can start: each takes memory of its own, and more than the cores only wait for each other."""
    cores = os.cpu_count() or 1
    if number < 0:
        raise Mistake(f"--threads {number}: give 1 or more")
    if number > (most := max(MOST_THREADS, 4 * cores)):
        raise Mistake(f"--threads {number}: at most {most} are started here; this machine has {cores} cores: write  --threads {cores}")
    return number


Threads = Annotated[int, typer.Option(metavar="N", help="CPU threads of torch.  Default: torch's own choice.", callback=_threads)]
CheckThreads = Annotated[int, typer.Option(metavar="N", help="CPU threads of torch; 0: torch's own choice.", callback=_threads)]
Budget = Annotated[str, typer.Option(metavar="TIME", help="About how long the whole run may take: 90s, 5m, 1h.")]
HangLimit = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="A variant that shows no sign of life for so long has failed.  To import a suite, or start the compiler, may take a minute.",
        show_default=True,
        callback=_above_zero,
    ),
]
Tip = Annotated[bool, typer.Option("--tip", help="Of a branch take the newest commit, not the one that HEAD left it at.")]
Tolerance = Annotated[
    str, typer.Option(metavar="PERCENT", help="A slow-down up to this is no failure.  Default: a tenth of the threshold.")
]
AllowDifferent = Annotated[
    bool, typer.Option("--allow-different", help="A reference that computes something else than at REF is no failure.")
]
Everything = Annotated[bool, typer.Option("--all", help="All layers of the suite, also those that are measured on request only.")]
Sequential = Annotated[
    bool, typer.Option("--sequential", help="Time variants one after the other, not in turns: drift of the machine is not cancelled.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Finish a run that was cut short: of JOURNAL, or the newest one.  No other option but --out.")
]
First = Annotated[
    str,
    typer.Argument(
        metavar="[JOURNAL | MODULE:NAME]", help="With --resume: results/NAME.journal.  With --against: the reference, as torch.nn:SiLU."
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against", metavar="MODULE:NAME", help="Without a layer file: a class or function to hold against the first, as 'mine:Fast(512)'."
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="SHAPE", help="With --against, for each input: 8x512, or 8x128:50257 for whole numbers below 50257."),
]
Files = Annotated[list[Path] | None, typer.Argument(metavar="[RUN.json]...", help="Run files.  Default: the newest in results/.")]
RunFile = Annotated[
    Path | None, typer.Option("--run", metavar="RUN.json", help="Take it from this run file.  Default: measure the point now.")
]
Counters = Annotated[
    bool,
    typer.Option(
        "--counters",
        help="On an NVIDIA GPU, also its hardware counters, kernel by kernel: bytes of DRAM and L2, cache hits, occupancy, tensor cores.  "
        "Needs Nsight Compute (ncu) on PATH, and takes about half a minute more.",
    ),
]
Tf32 = Annotated[
    bool, typer.Option("--tf32", help="On a GPU, let float32 products and convolutions use TF32, in every variant and the reference.")
]
Energy = Annotated[
    bool, typer.Option("--energy", help="On a GPU, measure the energy of a call and its time under load too: 1.5 s per variant and point.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No line per finished point where there is no terminal.")]


def _clock(word: str) -> str:
    if word not in CLOCKS:
        raise Mistake(f"--clock {word}: give device or called")
    return word


CLOCKS = ("device", "called")
Clock = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="What ranks on a GPU: device, its own seconds, or called, what a caller sees in a loop.", callback=_clock
    ),
]


def _graph(word: str) -> str:
    if word not in GRAPHS:
        raise Mistake(f"--graph {word}: give auto, always or never")
    return word


GRAPHS = ("auto", "always", "never")
Graph = Annotated[
    str,
    typer.Option(
        metavar="WORD",
        help="On a GPU, time steps in a CUDA graph: auto, those under 20 us; always, or never.",
        callback=_graph,
    ),
]
Cache = Annotated[
    Path | None, typer.Option("--cache", metavar="DIR", help="Keep there what is known of a base, and what is compiled; no times.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where results/ and reports/ are made.")]


def share(option: str, text: str) -> float:
    """`5%` or `5` -> 0.05.  Raises Mistake."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0.001 <= share <= 100:
        raise Mistake(f"{option} {text}: give a percentage from 0.1% to 10000%, as {option} 5%")
    return share


def size_values(words: list[str]) -> dict[str, tuple[int, ...]]:
    """`batch=1,8,64` -> {"batch": (1, 8, 64)}.  Raises Mistake."""
    sizes: dict[str, tuple[int, ...]] = {}
    for word in words:
        dimension, _, values = word.partition("=")
        try:
            sizes[dimension.strip()] = sizes.get(dimension.strip(), ()) + tuple(int(value) for value in values.split(","))
        except ValueError:
            raise Mistake(f"--set {word}: write a dimension and its values, as --set batch=1,8,64") from None
    return sizes


def nothing_else(context: typer.Context) -> None:
    """Raises Mistake where an option stands beside --resume that would be taken from the journal."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in ("resume", "first", "out", "open_page"):
            raise Mistake(f"--resume takes everything from the journal: remove {parameter.opts[0]}, or remove --resume to start a new run")


def selection(
    expression: str,
    device: list[str] | None,
    dtype: list[str] | None,
    step: list[str] | None,
    optimizer: list[str] | None,
    sizes: list[str] | None,
    everything: bool,
) -> Selection:
    devices, dtypes, steps, optimizers = (tuple(each or ()) for each in (device, dtype, step, optimizer))
    return Selection(expression, devices, dtypes, steps, size_values(sizes or []), everything, optimizers)
