"""Kill a real run, or its worker, at some instant, then resume it: what the kill test and validation/kills.py share."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

SUITE = """
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Other(nn.ReLU):
    pass

relu = Layer("relu", {"batch": (2, 4, 8, 16, 32, 64)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(nn.ReLU), "other": Variant(Other)})
"""
OPTIONS = ("--suite", "relu.py", "--device", "cpu", "--step", "forward", "--threads", "1", "--budget", "1s")
STARTUP = 4.0  # seconds that a run takes before its journal exists; one kill in four falls somewhere in there
ENOUGH = 60.0  # seconds after which a process that should have ended has not


class Outcome(NamedTuple):
    """What a kill left, and what resuming it made of that."""

    who: str  # parent | worker
    after_seconds: float
    finished: int  # points in the journal after the kill
    left_seconds: float  # until the worker of a killed parent was gone
    wrong: str  # "" where nothing was lost, doubled or misshapen


class Undisturbed(NamedTuple):
    """A run that nobody killed: the form of its file, and how long it measured."""

    form: list[Any]
    seconds: float


def prepare(folder: Path) -> Undisturbed:
    """A folder with the suite, and what a run of it is like."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "relu.py").write_text(SUITE)
    assert _start(folder, *OPTIONS).wait(ENOUGH) == 0
    (file,) = (folder / "results").glob("*.json")
    document = json.loads(file.read_text())
    _clear(folder)
    return Undisturbed(_form(document), document["layerbench"]["seconds"])


def kill_once(folder: Path, seed: int, undisturbed: Undisturbed) -> Outcome:
    """One cycle: start, kill -9 at a random instant, look at the journal, resume until there is a run file, compare."""
    rng = random.Random(seed)
    who, early, share = rng.choice(("parent", "worker")), rng.random() < 0.25, rng.random()
    process = _start(folder, *OPTIONS)
    started = time.monotonic()
    while not early and _journal(folder) is None and process.poll() is None:
        time.sleep(0.01)
    time.sleep(share * (STARTUP if early else undisturbed.seconds))
    after = time.monotonic() - started
    workers = _workers(process.pid)
    victims = [process.pid] if who == "parent" else workers[:1]
    for victim in victims:
        _kill(victim)
    before = _journal(folder)
    code = process.wait(ENOUGH)
    killed = time.monotonic()
    while any(psutil.pid_exists(worker) and psutil.Process(worker).status() != "zombie" for worker in workers):
        if time.monotonic() - killed > ENOUGH:
            break
        time.sleep(0.01)
    left = time.monotonic() - killed
    wrong = "" if left < ENOUGH else "a worker was left behind"
    if code == -signal.SIGKILL and who == "parent" and not list((folder / "results").glob("*.journal")):
        code = 0  # all of it was written by then: the page was being made
    if list((folder / "results").glob("*.journal")) and _journal(folder) is not None:
        code = _start(folder, "--resume").wait(ENOUGH)
    wrong = wrong or _compare(folder, before, undisturbed.form, code, who)
    _clear(folder)
    return Outcome(who, round(after, 3), len(before or []), round(left, 3), wrong)


def _start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    temporary = folder / "temporary"  # not beside the suite's file: what torch leaves there for a moment may look like its data
    temporary.mkdir(exist_ok=True)
    with (folder / "stderr").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "layerbench.bench", "run", *words],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it had ended by itself
        os.kill(pid, signal.SIGKILL)


def _workers(parent: int) -> list[int]:
    try:
        children = psutil.Process(parent).children()
    except psutil.NoSuchProcess:
        return []
    return [child.pid for child in children]


def _journal(folder: Path) -> list[list[str]] | None:
    """The record lines of the finished points, as text; None where there is no journal or nothing of it was written."""
    found = list((folder / "results").glob("*.journal"))
    try:
        text = found[0].read_bytes() if found else b""
    except FileNotFoundError:  # its run has ended just now
        text = b""
    if b"\n" not in text:
        return None
    return [json.loads(line)["records"] for line in text[: text.rfind(b"\n")].split(b"\n")[1:]]


def _compare(folder: Path, before: list[Any] | None, form: list[Any], code: int, who: str) -> str:
    files = list((folder / "results").glob("*.json"))
    if not files:
        return "" if before is None else f"no run file; exit code {code}: {(folder / 'stderr').read_text()[-300:]}"
    document = json.loads(files[0].read_text())
    if _form(document) != form:
        return f"another form: {_ids(document)}"
    records = document["layerbench"]["records"]
    kept = [record for entry in before or [] for record in entry]
    for record in records:  # as the journal has them
        if timing := record["outcome"].get("timing"):
            timing["seconds"] = document["benchmarks"][timing.pop("benchmark")]["stats"]["data"]
    if [record for record in kept if record not in records]:
        return "a finished record was lost"
    failed = sum(record["outcome"]["type"] == "failed" for record in records)
    if failed > (who == "worker") or (code != 0) != bool(failed) or list((folder / "results").glob("*.journal")):
        return f"{failed} failed, exit code {code}"
    return ""


def _form(document: dict[str, Any]) -> list[Any]:
    return [sorted(document), sorted(document["layerbench"]), _ids(document)]


def _ids(document: dict[str, Any]) -> list[str]:
    return [f"{json.dumps(record['point'])} {record['variant']}" for record in document["layerbench"]["records"]]


def _clear(folder: Path) -> None:
    for file in [*(folder / "results").glob("*.json*"), *(folder / "results").glob("*.journal"), folder / "stderr"]:
        file.unlink(missing_ok=True)
