"""torch.compile accounted for: what it captured, where it broke, what it gave up on."""

import os
from pathlib import Path

import pytest
import torch
import upstream
from torch import nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.data.record import SweepGraphs
from layerbench.bench.equivalence import verify
from layerbench.bench.profiling import compiling
from layerbench.bench.subject import dynamo, make
from layerbench.bench.subject.make import Subject

pytestmark = pytest.mark.skipif(bool(compiling.missing_compiler()), reason=compiling.missing_compiler())


class Broken(nn.Linear):
    """Prints in the middle: one graph break, two graphs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        print("graph break")
        return y.relu()


def subject(module: type[nn.Module], *arguments: object) -> Subject:
    dynamo.forget()
    layer = Layer("layer", {"batch": (4,)}, (randn("batch", 8),), lambda m, size: m(*arguments), {"stock": Variant(module)})
    truth = verify.truth(layer, {"batch": 4}, torch.float32, "cpu", 0)
    return make.subject("stock", truth.weights, truth.inputs, truth.cotangents)


def test_a_whole_module_is_one_graph_without_breaks() -> None:
    made = subject(nn.Linear, 8, 8)
    compiled = compiling.compile_cold(made, differentiable=True)
    assert (compiled.graphs, compiled.breaks, compiled.recompiles) == (1, (), 0)
    assert compiled.cold_seconds > 0
    graphs = dynamo.graphs()
    make.call(made, "backward").once()
    assert dynamo.graphs() == graphs


@pytest.mark.filterwarnings(*(["ignore:The .grad attribute:UserWarning"] if upstream.GRAD_WARNING.holds() else []))
def test_a_graph_break_is_counted_with_its_reason() -> None:
    compiled = compiling.compile_cold(subject(Broken, 8, 8), differentiable=True)
    assert compiled.graphs == 2
    (reason,) = compiled.breaks
    assert reason.startswith("Failed to trace builtin operator: Dynamo does not know how to trace builtin operator `print`")


def test_lstm_is_eager_under_another_name_and_says_so() -> None:
    with pytest.raises(compiling.CompiledNothing, match=r"^torch\.compile compiled nothing and fell back to eager"):
        compiling.compile_cold(subject(nn.LSTM, 8, 8), differentiable=True)


def test_without_a_compiler_the_reason_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert compiling.missing_compiler() == "torch.compile needs a C++ compiler and none is on PATH; install g++ (as: apt-get install g++)"


def test_without_pythons_headers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: "nowhere")
    assert compiling.missing_compiler() == "torch.compile needs Python's C headers; install them (as: apt-get install python3-dev)"


LARGE = {"batch": (64, 2**40)}


def counted(module: object, build: object, sizes: tuple[int, ...] = (1, 8, 64)) -> SweepGraphs | None:
    layer = Layer("layer", {"batch": sizes, "width": (16, 8)}, (randn("batch", "width"),), build, {"stock": Variant(module)})
    return compiling.over_sweep(layer, "stock", "cpu")


def test_one_module_over_the_sweep_is_compiled_again_once_for_a_size_that_changes() -> None:
    build = lambda module, size: module(size["width"], 4)  # noqa: E731
    assert counted(nn.Linear, build) == SweepGraphs("batch", (1, 8, 64), 2)  # batch 1, then any batch
    assert counted(nn.Linear, build, (8,)) == SweepGraphs("batch", (8,), 1)

    layer = Layer("layer", {"batch": (1, 8)}, (randn("batch", 16),), lambda m, _: m(16, 4), {"stock": Variant(nn.Linear)}, gpu_sweep=LARGE)
    assert compiling.over_sweep(layer, "stock", "cpu") == SweepGraphs("batch", (1, 8), 2)
    assert compiling.over_sweep(layer, "stock", "cuda") == SweepGraphs("batch", (64, 2**40), 2)  # 64 TiB: without a number


def test_a_sweep_is_not_counted_where_the_module_depends_on_it_or_nothing_is_compiled() -> None:
    assert counted(nn.Linear, lambda module, size: module(size["batch"], 4)) is None
    assert counted(nn.LSTM, lambda module, size: module(size["width"], 4)) is None


def test_a_torn_cache_is_gone_without_and_the_users_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "theirs"))
    seen: list[str] = []

    def compile_something(device: str) -> None:
        seen.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        if len(seen) == 1:
            raise ImportError("main.so: file too short")

    monkeypatch.setattr(compiling, "_compile_something", compile_something)
    compiling.start_compiler(str(tmp_path / "ours"))
    assert seen == [str(tmp_path / "theirs"), str(tmp_path / "ours")]
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "ours")
