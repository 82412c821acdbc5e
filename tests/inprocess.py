"""The whole of `layerbench run` in this process under a fake clock: real layers, real verification, invented times."""

import gc
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from layerbench.bench.cell.session import Session
from layerbench.bench.cli import commands, main
from layerbench.bench.data.record import Roof
from layerbench.bench.machine import contention
from layerbench.bench.process.protocol import Answer, Describe, Described, Request
from layerbench.bench.timing.clock import Clock, FakeClock

Cost = Callable[[str, int], float]  # (variant, number of the call) -> seconds


class InProcess:
    """Stands where a worker stands; it has a session of its own and a clock that a test winds."""

    def __init__(self, suite: str, threads: int, cost: Cost, tf32: bool = False) -> None:
        self._describe = Describe(suite, threads, tf32)
        self._session = Session(lambda stage, variant: None, lambda device: FakeClock(cost), no_roof)
        self.on_wait: Callable[[str, str], None] = lambda stage, variant: None

    def describe(self) -> Described:
        answer = self._session.answer(self._describe)
        assert isinstance(answer, Described)
        return answer

    def answer(self, request: Request) -> Answer:
        return self._session.answer(request)

    def close(self) -> None:
        self._session.close()


def no_roof(device: str, dtype: str, clock: Clock) -> Roof:
    """Times are invented here, so nothing is too fast."""
    return Roof(device, dtype, 1e30, 1e30, 1e30, 0.0)


def same_cost(variant: str, number: int) -> float:
    return 1e-3


@cache
def _freeze() -> None:
    """Before each timing garbage is collected, which takes as long as there is much: what is imported by now never becomes any."""
    import torch._dynamo  # noqa: F401  as the first run does

    gc.collect()
    gc.freeze()


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, cost: Cost = same_cost) -> None:
    """Let the commands work in this process, standing in the folder.  Times are invented, so what others did meanwhile is not told."""
    _freeze()
    monkeypatch.setattr(contention, "SHORTEST", math.inf)

    @contextmanager
    def workers(suite: str, threads: int, hang_seconds: float, tf32: bool = False) -> Iterator[tuple[InProcess, InProcess]]:
        worker, prover = (InProcess(suite, threads, cost, tf32) for _ in range(2))
        prover.describe()
        try:
            yield worker, prover
        finally:
            worker.close()
            prover.close()

    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))  # locks of its own: a run beside the tests is not theirs to note
    monkeypatch.setattr(commands, "workers", workers)
    monkeypatch.setattr(commands, "Worker", lambda first, environment: InProcess(first.suite, first.threads, cost))


def layerbench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command with these arguments; its exit code."""
    monkeypatch.setattr("sys.argv", ["layerbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return int(ended.value.code or 0)
