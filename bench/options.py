"""The options that several commands share, with what their help says.  Nothing is parsed here."""

from pathlib import Path
from typing import Annotated

import typer

Suite = Annotated[
    str, typer.Option(metavar="PATH", help="A folder of layer files, or one file.  Default: the layers that come with layerbench.")
]
Words = Annotated[str, typer.Option("-k", metavar="EXPR", help="Only points whose id matches, as in pytest: 'rmsnorm and not compile'.")]
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
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where results/ and reports/ are made.")]
