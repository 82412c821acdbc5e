"""What a user types next: layerbench as it can be called from where the sentence is read.  And what is said to one who typed wrongly."""

import os
import shlex
import shutil
import sys
from pathlib import Path

NEWER = "bring your clone of layerbench up to date with  git pull  and try again"  # it is on no package index


def command() -> str:
    """`layerbench` where the shell finds this very one; else the path of the program that runs, as under nox; else this Python's module."""
    program = Path(sys.argv[0])
    runs = program.name == "layerbench" and program.is_file()
    ours, found = program if runs else Path(sys.executable).with_name("layerbench"), shutil.which("layerbench")
    if found and ours.is_file() and ours.samefile(found):
        return "layerbench"
    return _short(program) if runs else f"{_short(Path(sys.executable))} -m layerbench.bench"


def complain(sentence: str) -> None:
    """Say what is wrong on standard error, and where GitHub runs it beside the change as well."""
    print(f"layerbench: {sentence}", file=sys.stderr)
    annotate(sentence)


def annotate(sentence: str) -> None:
    """https://docs.github.com/actions/reference/workflow-commands-for-github-actions"""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        line = sentence.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        print(f"::error title=layerbench::{line}", file=sys.stderr)


def _short(path: Path) -> str:
    """From the current folder where it lies below that."""
    here = os.getcwd()  # noqa: PTH109  as the shell has it
    shown = os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
    return shlex.quote(shown if os.sep in shown else f".{os.sep}{shown}")
