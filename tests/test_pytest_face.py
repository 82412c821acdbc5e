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
from layerbench.bench.pytest_face import points

test_point = points("my_layers.py")  # beside this file, wherever pytest was started
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
    failures = done.stdout.partition("FAILURES")[2].partition("short test summary")[0]
    assert "softmax-forward-cpu-float32-batch10-width64: wrong is not the same layer: output: off by" in failures
    assert "verify.py" not in failures  # no page of our own code
    assert len(failures.splitlines()) < 8
    assert not (tmp_path / "out.json").exists()  # pytest-benchmark writes none where nothing was timed


def test_a_suite_is_found_beside_its_test_file_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "my_layers.py").write_text(LAYERS)
    (tmp_path / "inner" / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-only", "--collect-only", "-q", "inner/test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "softmax-forward-cpu-float32-batch10-width64-manual" in done.stdout


def test_a_weak_check_is_a_warning(tmp_path: Path) -> None:
    weak = LAYERS.replace('{"batch": (1, 10), "width": (64,)}', '{"batch": (10,), "width": (1,)}')
    (tmp_path / "my_layers.py").write_text(weak)  # a softmax over one number is 1, and its gradient 0
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-only", "test_mine.py", "-k", "forward and manual"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "weak check: output: a constant mean would pass" in done.stdout
    assert "weak check: input 0 grad: zeros would pass" in done.stdout
