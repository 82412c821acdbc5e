"""The suite's points as pytest-benchmark tests, run as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from layerbench.bench import compiling

LAYERS = """
import torch
from torch import nn
from layerbench.bench import GPU, Layer, Variant, randn

class Manual(nn.Softmax):
    def forward(self, x):
        e = (x - x.amax(-1, keepdim=True)).exp()
        return e / e.sum(-1, keepdim=True)

class Wrong(nn.Softmax):
    def forward(self, x):
        return super().forward(x) * 1.01

norm = Layer("norm", {"batch": (4,)}, (randn("batch", 8),), lambda module, size: module(8),
    {"stock": Variant(nn.BatchNorm1d), "compile": Variant(nn.BatchNorm1d, compile=True)})
softmax = Layer("softmax", {"batch": (1, 10), "width": (64,)}, (randn("batch", "width"),), lambda module, size: module(-1),
    {"stock": Variant(nn.Softmax), "manual": Variant(Manual), "wrong": Variant(Wrong), "gpu": Variant(Manual, devices=GPU)})
"""


TESTS = """
from pathlib import Path
from layerbench.bench.pytest_face import points

test_point = points(str(Path(__file__).with_name("my_layers.py")))
"""


def face(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "my_layers.py").write_text(LAYERS)
    (folder / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-only", "test_mine.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_k_selects_points_by_id_and_the_run_is_a_pytest_benchmark_file(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "batch10 and not wrong", "--benchmark-json", "out.json", "-rs")
    assert done.returncode == 0, done.stdout
    names = [each["param"] for each in json.loads((tmp_path / "out.json").read_text())["benchmarks"]]
    point = "cpu-float32-batch10-width64"
    assert sorted(names) == sorted(
        f"softmax-{step}-{point}-{variant}" for step in ("forward", "backward") for variant in ("stock", "manual")
    )
    assert "gpu is declared for devices='gpu', and this point is on cpu" in done.stdout


def test_a_compiled_variant_with_running_statistics_is_verified_as_drawn(tmp_path: Path) -> None:
    if missing := compiling.missing_compiler():
        pytest.skip(missing)
    done = face(tmp_path, "-k", "norm and forward and compile")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_wrong_variant_fails_its_test_and_is_not_timed(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "forward and batch10 and wrong", "--benchmark-json", "out.json")
    assert done.returncode == 1
    assert "Mismatch: output: off by" in done.stdout
    assert not (tmp_path / "out.json").exists()  # pytest-benchmark writes none where nothing was timed
