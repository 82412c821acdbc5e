"""Where output goes: names that only one run gets, folders, and files that are written in one step.  What is in them is not known here."""

import contextlib
import itertools
import os
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..declare.mistake import Mistake

CHECK_SUFFIX = ".check.json"  # of what `layerbench check` writes: no run file, though it lies beside them

T = TypeVar("T")


def folder(path: Path) -> Path:
    """The folder, made where it is not there; git is told to leave one that we make alone.  In somebody's repository it is output."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        (path / ".gitignore").write_text("*\n", encoding="utf-8")
    return path


def claim(out: Path, started: datetime) -> str:
    """A name for what is about to be written below results/ and reports/: the time of day, and a number where two begin in one second.

    It is taken by making reports/NAME/, which only one of them can.  Raises Mistake where nothing can be written.
    """
    for name in ("results", "reports"):
        guarded(partial(folder, out / name), out / name)
    return guarded(lambda: _claim(out, started.strftime("%Y%m%d-%H%M%S")), out / "reports")


def _claim(out: Path, stem: str) -> str:
    results, reports = out / "results", out / "reports"
    for number in itertools.count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        if any((results / f"{name}{suffix}").exists() for suffix in (".json", ".journal", CHECK_SUFFIX)):
            continue
        with contextlib.suppress(FileExistsError):
            (reports / name).mkdir()
            return name
    raise AssertionError("numbers do not end")


def replace(text: str, path: Path) -> None:
    """Write a whole file in the place of what was there, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")  # another may be writing the same file
    try:
        with new.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def guarded(write: Callable[[], T], folder: Path, option: str = "--out") -> T:
    """Do what writes below a folder.  Raises Mistake with the system's reason where it cannot."""
    try:
        return write()
    except OSError as error:
        raise Mistake(f"cannot write in {folder}/: {error.strerror}; fix that, or give another folder with {option}") from error
