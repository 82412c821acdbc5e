"""A/A: one operation against itself, the same time for every tool, all tools in one run.  The true ratio is 1; what do they report?"""

import contextlib
import io
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import study
import torch
from torch.utils.benchmark import Timer

from layerbench.bench.stats import estimates
from layerbench.bench.timing.clock import Call, HostClock
from layerbench.bench.timing.measure import Limit, measure

Operation = Callable[[], object]
SECONDS = (0.25, 0.5, 1.0, 2.0)  # for a pair, both sides together
TESTS = "def test_a(benchmark, a): benchmark(a)\ndef test_b(benchmark, b): benchmark(b)\n"


def layerbench(a: Operation, b: Operation, seconds: float) -> float:
    calls = {name: Call(name, None, lambda _, operation=operation: operation()) for name, operation in (("a", a), ("b", b))}
    timings = measure(calls, "a", HostClock(), Limit(seconds, precision=0.0), seed=random.randrange(2**31))
    return estimates.speedup(timings["a"].seconds, timings["b"].seconds).ratio


def plain_loop(a: Operation, b: Operation, seconds: float) -> float:
    """The median of single calls, one side after the other."""
    medians = []
    for operation in (a, b):
        operation()
        samples, end = [], time.perf_counter() + seconds / 2
        while time.perf_counter() < end:
            start = time.perf_counter()
            operation()
            samples.append(time.perf_counter() - start)
        medians.append(statistics.median(samples))
    return medians[0] / medians[1]


def torch_blocked(a: Operation, b: Operation, seconds: float) -> float:
    medians = [
        Timer("f()", globals={"f": f}, num_threads=torch.get_num_threads()).blocked_autorange(min_run_time=seconds / 2).median
        for f in (a, b)
    ]
    return medians[0] / medians[1]


def torch_adaptive(a: Operation, b: Operation, seconds: float) -> float:
    timers = [Timer("f()", globals={"f": f}, num_threads=torch.get_num_threads()) for f in (a, b)]
    medians = [timer.adaptive_autorange(min_run_time=seconds / 4, max_run_time=seconds / 2).median for timer in timers]
    return medians[0] / medians[1]


def pytest_benchmark(a: Operation, b: Operation, seconds: float) -> float:
    class Pair:
        @pytest.fixture(name="a")
        def first(self) -> Operation:
            return a

        @pytest.fixture(name="b")
        def second(self) -> Operation:
            return b

    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder) / "test_pair.py"
        test.write_text(TESTS)
        out = Path(folder) / "out.json"
        arguments = [
            "-q",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            "--rootdir",
            folder,
            f"--benchmark-max-time={seconds / 2}",
            f"--benchmark-json={out}",
            str(test),
        ]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pytest.main(arguments, plugins=[Pair()])
        medians = [each["stats"]["median"] for each in json.loads(out.read_text())["benchmarks"]]
    return medians[0] / medians[1]


TOOLS = {tool.__name__: tool for tool in (layerbench, torch_blocked, torch_adaptive, pytest_benchmark, plain_loop)}


def one(trial: dict[str, Any]) -> dict[str, Any]:
    """Every tool once, in a fresh order, on one instance: two would differ by themselves."""
    operation = study.operations()[trial["operation"]]()
    ratios = {}
    for name in random.sample(list(TOOLS), len(TOOLS)):
        ratios[name] = TOOLS[name](operation, operation, trial["seconds"])
    return ratios


def main() -> None:
    chosen = study.options()
    repeats = 2 if chosen.quick else 12
    names = list(study.operations())
    seconds = SECONDS[:2] if chosen.quick else SECONDS
    todo = [{"repeat": r, "operation": n, "seconds": s} for r in range(repeats) for n in names for s in seconds]
    found = study.trials("aa", todo, one, chosen)
    seconds = [s for s in seconds if any(each["seconds"] == s for each in found)]  # --only leaves some out
    rows = []
    for tool in TOOLS:
        cells = []
        for s in seconds:
            logs = [math.log(each[tool]) for each in found if each["seconds"] == s]
            cells += [f"{100 * statistics.pstdev(logs, 0.0):.1f} %", f"{100 * sorted(map(abs, logs))[int(0.95 * (len(logs) - 1))]:.1f} %"]
        rows.append([tool, *cells])
    columns = ["tool", *(f"{what}, {s} s" for s in seconds for what in ("std", "p95"))]
    text = [
        f"One operation ({', '.join(names)}) against itself; {len(names) * repeats} pairs for a cell of the table.",
        "Every tool gets the same time for a pair, in one run, in random order.",
        "std: root mean square of log(ratio), the truth being 0; p95: its absolute value at 95 %.",
    ]
    study.publish("aa", "A/A: the error of a ratio", columns, rows, text, chosen)


if __name__ == "__main__":
    main()
