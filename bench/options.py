"""The options of the commands, with what their help says.  What several of them mean together is cli's."""

from pathlib import Path
from typing import Annotated

import typer

from .mistake import Mistake


def _above_zero(seconds: float) -> float:
    if seconds <= 0:
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
Dtypes = Annotated[list[str] | None, typer.Option("--dtype", metavar="NAME", help="float32, bfloat16, float16.  Default: float32.")]
Steps = Annotated[
    list[str] | None, typer.Option("--step", metavar="NAME", help="forward, backward, training, update.  Default: forward and backward.")
]
Optimizers = Annotated[
    list[str] | None, typer.Option("--optimizer", metavar="NAME", help="Of the step update: sgd, adam, adamw, rmsprop.  Default: sgd.")
]
Sizes = Annotated[
    list[str] | None, typer.Option("--set", metavar="DIM=N,N", help="Other values for a dimension of the sweep: batch=1,8,64.")
]
Threads = Annotated[int, typer.Option(metavar="N", help="CPU threads of torch.  Default: torch's own choice.")]
Budget = Annotated[str, typer.Option(metavar="TIME", help="About how long the whole run may take: 90s, 5m, 1h.")]
HangLimit = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", help="A variant that shows no sign of life for so long has failed.", show_default=True, callback=_above_zero
    ),
]
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
Files = Annotated[list[Path] | None, typer.Argument(metavar="[RUN.json]...", help="Run files.  Default: the newest in results/.")]
RunFile = Annotated[
    Path | None, typer.Option("--run", metavar="RUN.json", help="Take it from this run file.  Default: measure the point now.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where results/ and reports/ are made.")]
