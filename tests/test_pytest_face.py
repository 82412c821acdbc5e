"""The suite's points as pytest-benchmark tests, run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerbench.bench.profiling import compiling

pytestmark = pytest.mark.usefixtures("forked_processes")

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

class Raises(nn.Softmax):
    def forward(self, x):
        raise KeyError('mine')

class Flat(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(y := x.softmax(-1))
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        g = g.as_strided(y.shape, y.stride())
        return y * (g - (g * y).sum(-1, keepdim=True))

class InUse(nn.Softmax):
    def forward(self, x):
        return Flat.apply(x)

class Overflows(nn.Softmax):
    def forward(self, x):
        return x.exp() / x.exp().sum(-1, keepdim=True)

class Zero(nn.Module):
    def forward(self, x):
        return x * 0

zero = Layer("zero", {"batch": (4,)}, (randn("batch", 8),), lambda module, size: module(), {"stock": Variant(Zero)})
norm = Layer("norm", {"batch": (4,)}, (randn("batch", 8),), lambda module, size: module(8),
    {"stock": Variant(nn.BatchNorm1d), "compile": Variant(nn.BatchNorm1d, compile=True)})
softmax = Layer("softmax", {"batch": (1, 10), "width": (64,)}, (randn("batch", "width"),), lambda module, size: module(-1),
    {"stock": Variant(nn.Softmax), "manual": Variant(Manual), "wrong": Variant(Wrong), "raises": Variant(Raises),
     "flat": Variant(InUse), "overflows": Variant(Overflows),
     "gpu": Variant(Manual, devices=GPU)})
"""


TESTS = """
from layerbench.bench.pytest_face import points

test_point = points("my_layers.py")
"""


def face(folder: Path, *arguments: str, tests: str = TESTS, where: str = "") -> subprocess.CompletedProcess[str]:
    """Layers and tests in a folder of their own, and pytest called above it, unless told otherwise."""
    (folder / "mine").mkdir()
    (folder / "mine" / "my_layers.py").write_text(LAYERS)
    (folder / "mine" / "test_mine.py").write_text(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--benchmark-only",
        str(folder / "mine" / "test_mine.py"),
        *arguments,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}  # its own process times
    return subprocess.run(command, cwd=folder / where, env=environment, capture_output=True, text=True, check=False)


def section(printed: str, title: str) -> list[str]:
    """The lines under a title of pytest's, without the headings of single tests."""
    lines = printed.partition(f"= {title} =")[2].splitlines()[1:]
    until = next(number for number, line in enumerate(lines) if line.startswith("==="))
    return [line for line in lines[:until] if line.strip() and not line.startswith("___")]


def test_k_selects_points_by_id_and_the_run_is_a_pytest_benchmark_file(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "batch10 and (stock or manual or gpu)", "--benchmark-json", "out.json", "-rs")
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


def test_a_wrong_variant_fails_its_test_in_one_line_and_is_not_timed(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "forward and batch10 and wrong", "--benchmark-json", "out.json")
    assert done.returncode == 1
    (told,) = section(done.stdout, "FAILURES")
    assert told.startswith("wrong is not the same layer: output: off by ")
    assert not (tmp_path / "out.json").exists()  # pytest-benchmark writes none where nothing was timed


def test_a_variant_that_is_wrong_in_use_fails_its_tests_with_the_sentence_of_a_run(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "batch10 and flat and (forward or backward)")
    assert "2 failed" in done.stdout
    told = section(done.stdout, "FAILURES")
    assert len(set(told)) == 1 and told[0].startswith("flat is not the same layer: transposed gradients: input 0 grad: off by "), told


def test_a_variant_that_is_the_same_for_ordinary_values_only_is_timed_with_that_mark(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "batch10 and overflows and forward", "--benchmark-json", "out.json")
    assert done.returncode == 0, done.stdout
    (found,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert found["extra_info"]["weak checks"][0].startswith("same for ordinary values only: with inputs times 100, output: ")
    assert found["extra_info"]["limits"] == {}
    assert "WeakCheck: softmax: same for ordinary values only: with inputs times 100, output: " in done.stdout


def test_what_a_variant_itself_raises_is_shown_from_its_own_code_on(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "forward and batch10 and raises")
    assert done.returncode == 1
    told = "\n".join(section(done.stdout, "FAILURES"))
    assert ("raise KeyError('mine')" in told, "KeyError: 'mine'" in told) == (True, True)
    assert [name for name in ("verify.py", "make.py", "pytest_face.py", "torch/nn") if name in told] == []


def test_a_weak_check_is_a_warning_and_stands_in_the_file(tmp_path: Path) -> None:
    done = face(tmp_path, "-k", "zero and forward", "--benchmark-json", "out.json")
    assert done.returncode == 0, done.stdout
    assert "WeakCheck: zero: output: zeros would pass" in done.stdout
    (found,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert found["extra_info"]["weak checks"][0] == "output: zeros would pass"


def test_a_suite_is_found_in_the_working_directory_too_and_where_it_is_not_one_sentence_says_so(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.py").write_text(LAYERS)
    tests = TESTS.replace("my_layers", "other")
    done = face(tmp_path, "-k", "zero and forward", tests=tests, where="elsewhere")
    assert done.returncode == 0, done.stdout
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "mine/test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    told = f"points('other.py'): there is no such file or folder beside {tmp_path}/mine/test_mine.py, nor in {tmp_path}; fix the path"
    assert section(done.stdout, "ERRORS") == [told]
