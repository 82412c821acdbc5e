"""What a user types next: layerbench as it can be called from where the sentence is read, and how a newer one is got."""

import os
import shutil
import sys
from pathlib import Path

NEWER = "bring your clone of layerbench up to date with  git pull  and try again"  # it is on no package index


def command() -> str:
    """`layerbench` where the shell finds it; else the path of the program that runs, as under nox; else this Python's module."""
    if shutil.which("layerbench"):
        return "layerbench"
    program = Path(sys.argv[0])
    if program.name == "layerbench" and program.is_file():
        return _short(program)
    return f"{_short(Path(sys.executable))} -m layerbench.bench"


def _short(path: Path) -> str:
    """From the current folder where it lies below that."""
    here = os.getcwd()  # noqa: PTH109  as the shell has it
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
