"""What all studies share: a log of trials that can be resumed, the operations that are timed, the table at the end.  No study itself."""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    quick: bool
    fresh: bool
    minutes: float
    only: str


def options() -> Options:
    """Of the command line that every study takes."""
    torch.set_num_threads(1)  # the tools' error is asked for, not the thread pool's
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few trials; writes no table")
    parser.add_argument("--fresh", action="store_true", help="forget the trials of an earlier start")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial after so long; what is done is shown")
    parser.add_argument("--only", default="", help="begin no trial but those that have this text")
    return Options(**vars(parser.parse_args()))


def trials(
    name: str, todo: Sequence[dict[str, Any]], measure: Callable[[dict[str, Any]], dict[str, Any]], chosen: Options, kept: bool = False
) -> list[dict[str, Any]]:
    """Measure every trial that the log does not have yet; those that are done with their results, in the order of `todo`.

    kept: the log is one that git tracks.
    """
    folder = ROOT / "validation" / "logs" if kept and not chosen.quick else ROOT / "results" / "validation"
    log = folder / f"{name}{'-quick' if chosen.quick else ''}.jsonl"
    end = time.monotonic() + 60 * chosen.minutes
    log.parent.mkdir(parents=True, exist_ok=True)
    if chosen.fresh or chosen.quick:
        log.unlink(missing_ok=True)
    done = {json.dumps(entry["trial"]): entry for entry in read(log)}
    with log.open("a", encoding="utf-8") as file:
        for trial in todo:
            key = json.dumps(trial)
            if key not in done and time.monotonic() < end and chosen.only in key:
                done[key] = {"trial": trial, "result": measure(trial)}
                file.write(json.dumps(done[key]) + "\n")
                file.flush()
    return [entry["trial"] | entry["result"] for entry in (done[key] for key in map(json.dumps, todo) if key in done)]


def read(log: Path) -> Iterator[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    for line in lines:
        if line.endswith("}"):  # the last one may be torn
            yield json.loads(line)


def operations() -> dict[str, Callable[[], Callable[[], object]]]:
    """Name -> a function that makes a fresh instance of the operation: own weights and own input, as two variants have."""

    def linear() -> Callable[[], object]:
        module, x = torch.nn.Linear(512, 512), torch.randn(64, 512)
        return lambda: module(x)

    def layer_norm() -> Callable[[], object]:
        module, x = torch.nn.LayerNorm(1024), torch.randn(64, 1024)
        return lambda: module(x)

    def softmax() -> Callable[[], object]:
        x = torch.randn(64, 1024)
        return lambda: torch.softmax(x, -1)

    return {"linear": linear, "layer_norm": layer_norm, "softmax": softmax}


Part = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # of a page: heading, columns, rows


def publish(
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    text: Sequence[str],
    chosen: Options,
    threads: str = "1 thread",
    more: Sequence[Part] = (),
) -> None:
    """Print the table; write it to docs/validation/ unless the study was quick.

    threads: of torch, in what was measured.  more: tables that follow it, of words.
    """
    console = Console(width=None if sys.stdout.isatty() else 160)
    for heading, names, lines_of_it in ((title, columns, rows), *more):
        table = Table(title=heading, box=None, title_justify="left")
        for number, column in enumerate(names):
            table.add_column(column, justify="right" if number and heading == title else "left")
        for row in lines_of_it:
            table.add_row(*row)
        console.print(table)
    for line in text:
        console.print(line)
    if chosen.quick:
        return
    path = ROOT / "docs" / "validation" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", "", *text, "", "| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    for heading, names, lines_of_it in more:
        lines += ["", f"## {heading}", "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in lines_of_it]
    lines += ["", f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}, {threads}. Made by `nox -s validate -- {name}`."]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _machine() -> str:
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ""
    )
    return f"{cpu or platform.machine()}, shared virtual machine, torch {torch.__version__}"
