"""Candidates that cheat, each with an honest twin that is written in the same way: `judge` refuses the one and not the other."""

from pathlib import Path

import pytest

from layerbench.bench.data.judge_record import Judgement, Verdict, exit_code
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.judge import command, problem
from layerbench.bench.judge.command import Order

PROBLEM = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return torch.softmax(self.norm(x), -1)


batch, width = 16, 256


def get_inputs():
    return [torch.randn(batch, width)]


def get_init_inputs():
    return [width]
"""
HONEST = """
import torch
from torch import nn


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def work(self, x):
        return torch.softmax(self.norm(x), -1)
"""
CHEATS = {  # name -> what comes after HONEST, and the code that it gets; "": any
    "every second call skipped": (
        """
class ModelNew(Norm):
    calls, last = 0, None

    def forward(self, x):
        self.calls += 1
        if self.calls % 2:
            self.last = self.work(x)
        return self.last.clone()
""",
        "wrong",
    ),
    "the answer of the first call": (
        """
class ModelNew(Norm):
    last = None

    def forward(self, x):
        if self.last is None:
            self.last = self.work(x)
        return self.last
""",
        "shared-output",
    ),
    "one buffer written again": (
        """
class ModelNew(Norm):
    out = None

    def forward(self, x):
        if self.out is None:
            self.out = torch.empty_like(x)
        self.out.copy_(self.work(x))
        return self.out
""",
        "shared-output",
    ),
    "work on a thread that goes on": (
        """
import threading, time


class ModelNew(Norm):
    def forward(self, x):
        out = torch.empty_like(x)
        threading.Thread(target=lambda: (time.sleep(0.1), out.copy_(self.work(x))), daemon=True).start()
        return out
""",
        "wrong",
    ),
    "computes when somebody looks": (
        """
class Lazy(torch.Tensor):
    pass


class ModelNew(Norm):
    def forward(self, x):
        return torch.empty_like(x).as_subclass(Lazy)
""",
        "not-a-plain-tensor",
    ),
    "the process answers by itself": (
        """
import os


class ModelNew(Norm):
    def forward(self, x):
        for fd in range(3, 20):
            try:
                os.write(fd, b'{"outputs": []}\\n')
            except OSError:
                pass
        return self.work(x)
""",
        "",
    ),
    "an address that is not its own": (
        """
class ModelNew(Norm):
    def forward(self, x):
        torch.Tensor.data_ptr = lambda self, known=iter(range(8, 2**20, 2**16)): next(known)
        return self.work(x)
""",
        "no-such-memory",
    ),
    "a helper process": (
        """
import subprocess, sys


class ModelNew(Norm):
    def __init__(self, width):
        super().__init__(width)
        self.helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def forward(self, x):
        return self.work(x)
""",
        "helper-process",
    ),
    "the process ends": (
        """
import os


class ModelNew(Norm):
    def forward(self, x):
        os._exit(0)
""",
        "died",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("judge")
    (found / "problem.py").write_text(PROBLEM, encoding="utf-8")
    return found


def judged(folder: Path, text: str, seconds: float = 0.0) -> tuple[Verdict, Judgement]:
    file = folder / "candidate.py"
    file.write_text(HONEST + text, encoding="utf-8")
    read = problem.read(folder / "problem.py", {})
    found = command.judge(read, command.candidates(read, [file]), Order(seconds, 1))
    return found.verdicts[0], found


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_ranked(name: str, folder: Path) -> None:
    text, code = CHEATS[name]
    verdict, judgement = judged(folder, text)
    assert verdict.outcome != "right", name
    assert not code or verdict.code == code, verdict
    assert exit_code(judgement) == 1


def test_an_honest_one_is_right_and_is_timed(folder: Path) -> None:
    verdict, judgement = judged(folder, "class ModelNew(Norm):\n    def forward(self, x):\n        return self.work(x)\n", 1.0)
    assert (verdict.outcome, verdict.code, exit_code(judgement)) == ("right", "", 0)
    assert verdict.looked_at >= 2 * verdict.rounds > 0
    assert 0 < verdict.turn_seconds < verdict.reference_seconds


def test_who_remembers_answers_by_their_input_gains_nothing(folder: Path) -> None:
    text = """
class ModelNew(Norm):
    known = {}

    def forward(self, x):
        key = x[0, 0].item(), x[-1, -1].item()
        if key not in self.known:
            self.known[key] = self.work(x)
        return self.known[key]
"""
    verdict, _ = judged(folder, text, 1.0)
    assert verdict.outcome == "right"
    assert verdict.speeds[0].low < 1.1


def test_a_wrong_number_is_told_by_its_place(folder: Path) -> None:
    text = "class ModelNew(Norm):\n    def forward(self, x):\n        y = self.work(x)\n        y[3, 5] += 0.1\n        return y\n"
    verdict, _ = judged(folder, text)
    assert verdict.code == "wrong"
    assert verdict.why.startswith("output[3, 5]: expected 0.0")


def test_numbers_at_the_top_of_a_file_are_its_sizes(folder: Path) -> None:
    read = problem.read(folder / "problem.py", {"batch": 3})
    assert read.sizes == {"batch": 3, "width": 256}
    assert tuple(read.inputs(0)[0].shape) == (3, 256)  # type: ignore[attr-defined]
    assert problem.read(folder / "problem.py", {}, 4).sizes == {"batch": 16, "width": 64}
    with pytest.raises(Mistake, match="no such whole number at its top; it has batch, width"):
        problem.read(folder / "problem.py", {"bach": 3})
