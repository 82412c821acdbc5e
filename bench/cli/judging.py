"""`layerbench judge`: words in, the verdicts as a table or as JSON, and the exit code out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..declare.mistake import Mistake
from . import options

Problem = Annotated[Path, typer.Argument(metavar="PROBLEM", help="A file with Model, get_inputs() and get_init_inputs(), as KernelBench has.")]
Candidates = Annotated[
    list[Path] | None, typer.Argument(metavar="[CANDIDATE]...", help="Files with ModelNew.  None: torch.compile of the reference.")
]
Sizes = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another number in place of one at the top of the problem's file.")
]


def judge(
    problem: Problem,
    candidates: Candidates = None,
    sizes: Sizes = None,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", help="How long each candidate is timed.")] = 8.0,
    quick: Annotated[bool, typer.Option("--quick", help="Is it right?  Nothing is timed.")] = False,
    threads: Annotated[int, typer.Option(metavar="N", help="Cores that a candidate may use.")] = 1,
    memory: Annotated[float, typer.Option(metavar="GIB", help="Memory that a candidate may use; 0: no limit.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Are these candidates, which nobody has read, right, and are they faster than the reference?

    Each runs in a process of its own, on numbers that it has never seen.  Exit codes: 0 right, 1 wrong or refused, 2 usage, 4 undecided.
    """
    from ..data.judge_record import exit_code
    from ..judge import command
    from ..judge import problem as problems
    from ..terminal import judged
    from . import commands

    if seconds <= 0 or threads < 1:
        raise Mistake(f"--seconds {seconds:g} --threads {threads}: both must be above 0; --quick times nothing")
    chosen = options.size_values(sizes or [])
    if many := [name for name, values in chosen.items() if len(values) > 1]:
        raise Mistake(f"--set {many[0]}: give one value; a problem is judged at one size")
    found, note = problems.fitting(problem, {name: values[0] for name, values in chosen.items()})
    if note:
        print(f"layerbench: {note}", file=sys.stderr)
    order = command.Order(0.0 if quick else seconds, threads, int(memory * 2**30))
    judgement = command.judge(found, command.candidates(found, candidates or []), order)
    if as_json:
        print(judged.as_json(judgement))
    else:
        judged.print_judgement(commands.console(), judgement)
    raise typer.Exit(exit_code(judgement))
