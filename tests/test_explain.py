"""The operator diff to the digit from synthetic profiles, what it prints, and `layerbench explain` on stored and fresh runs."""

import io
from pathlib import Path

import inprocess
import msgspec
import pytest
from rich.console import Console
from runs import SKIPPED, at, layer, run, took

from layerbench.bench.analysis import explain
from layerbench.bench.analysis.explain import OUTSIDE
from layerbench.bench.data.profiled import Operator, Profile
from layerbench.bench.data.record import Measured, Run
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.plan.planning import Selection
from layerbench.bench.storage import run_file
from layerbench.bench.terminal import side_by_side

# two steps of 5 us: addmm 6 us in all, t 1 us, so 3 us lie outside; and one step of 5 us: addmm 2 us, mul 0.8 us, 2.2 us outside
STOCK = Profile(2, 10e-6, (Operator("aten::addmm", 2, 6e-6, 0.0, 4096), Operator("aten::t", 2, 1e-6, 0.0, 0)), "")
FUSED = Profile(1, 5e-6, (Operator("aten::addmm", 1, 2e-6, 0.0, 2048), Operator("aten::mul", 3, 0.8e-6, 0.0, 64)), "")


def profiled(seconds: float, profile: Profile) -> Measured:
    return msgspec.structs.replace(took(seconds), profile=profile)


def stored() -> Run:
    outcomes = {"stock": profiled(4e-6, STOCK), "noise_floor": took(4e-6), "triton": SKIPPED, "compile": profiled(4.5e-6, FUSED)}
    return run(at(8, **outcomes), at(64, **outcomes), at(8, step="backward", **outcomes))


def test_operators_are_per_step_and_the_largest_difference_comes_first() -> None:
    rows = explain.diff(STOCK, FUSED)
    assert [row.operator for row in rows] == ["aten::addmm", "aten::mul", "aten::t", OUTSIDE]
    assert [row.calls for row in rows] == [(1, 1), (0, 3), (1, 0), (0, 0)]
    assert [row.seconds for row in rows] == [pytest.approx(pair) for pair in ((3e-6, 2e-6), (0, 0.8e-6), (0.5e-6, 0), (1.5e-6, 2.2e-6))]
    assert [row.allocated_bytes for row in rows] == [(2048, 2048), (0, 64), (0, 0), (0, 0)]
    assert [row.difference for row in rows] == pytest.approx([-1e-6, 0.8e-6, -0.5e-6, 0.7e-6])


def test_the_total_is_the_profiled_step() -> None:
    total = explain.add("total", explain.diff(STOCK, FUSED))
    assert total.seconds == pytest.approx((5e-6, 5e-6))
    assert (total.calls, total.allocated_bytes) == ((2, 4), (2048, 2112))


def test_device_time_counts_and_operators_on_several_threads_leave_nothing_outside() -> None:
    kernel = Profile(1, 4e-6, (Operator("gemm", 1, 0.0, 7e-6, 0), Operator("aten::mm", 1, 6e-6, 0.0, 0)), "")
    rows = explain.diff(kernel, kernel)
    assert {row.operator: row.seconds for row in rows} == {"gemm": (7e-6, 7e-6), "aten::mm": (6e-6, 6e-6), OUTSIDE: (0.0, 0.0)}


def test_a_point_of_a_run() -> None:
    whole = stored()
    point = explain.choose(explain.tasks(whole), "softmax", Selection("batch8", steps=("forward",)))
    found = explain.explain(whole, point, ("stock", "compile"))
    assert (found.point.id, found.unprofiled, found.profiled) == (
        "softmax-forward-cpu-float32-batch8",
        pytest.approx((4e-6, 4.5e-6)),
        pytest.approx((5e-6, 5e-6)),
    )


def test_what_is_printed() -> None:
    whole = stored()
    console = Console(file=io.StringIO(), width=150, color_system=None, legacy_windows=False)
    side_by_side.print_explanation(console, explain.explain(whole, whole.records[0].point, ("stock", "compile")))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[0] == ["softmax-forward-cpu-float32-batch8:", "stock", "and", "compile"]
    assert lines[3] == ["aten::addmm", "1", "1", "2.40", "1.80", "-0.60", "2,048", "2,048"]  # scaled to the unprofiled 4 and 4.5 us
    assert lines[4] == ["aten::t", "1", "-", "0.40", "-", "-0.40", "-", "-"]
    assert lines[6] == ["total", "2", "4", "4.00", "4.50", "+0.50", "2,048", "2,112"]
    assert " ".join(lines[-2]) == "stock: 4.00 µs per step unprofiled, 5.00 with the profiler on: it cost 1.00 µs"
    assert " ".join(lines[-1]) == "compile: 4.50 µs per step unprofiled, 5.00 with the profiler on: it cost 0.50 µs"


def test_a_profile_that_contradicts_the_times_is_scaled_and_the_first_line_says_so() -> None:
    fast, slow = profiled(3e-4, Profile(1, 9e-4, (Operator("aten::add", 40, 9e-4, 0.0, 0),), "")), profiled(5e-4, Profile(1, 7e-4, (), ""))
    whole = run(at(8, stock=fast, compile=slow))
    found = explain.explain(whole, whole.records[0].point, ("stock", "compile"))
    assert found.contradicted
    assert found.total.difference == pytest.approx(2e-4)
    console = Console(file=io.StringIO(), width=150, color_system=None, legacy_windows=False)
    side_by_side.print_explanation(console, found)
    first = console.file.getvalue().splitlines()[0]
    assert first.startswith("the profiler contradicts the times: compile takes longer, and looks faster in its profile")
    same = explain.explain(stored(), stored().records[0].point, ("stock", "compile"))
    assert not same.contradicted


def test_host_and_device_together_may_contradict_the_times_too() -> None:
    """The step waits for neither: 1 ms of kernels beside 1 ms of launches is a step of 1 ms, and 2 ms in the rows."""
    both = Profile(1, 1e-3, (Operator("launch", 1, 1e-3, 0.0, 0), Operator("kernel", 1, 0.0, 1e-3, 0)), "")
    host = Profile(1, 1.2e-3, (Operator("launch", 1, 1.2e-3, 0.0, 0),), "")
    whole = run(at(8, stock=profiled(1e-3, both), compile=profiled(1.2e-3, host)))
    assert explain.explain(whole, whole.records[0].point, ("stock", "compile")).contradicted


def test_more_operators_than_are_shown_are_one_row_so_that_the_total_adds_up() -> None:
    many = Profile(1, 1e-3, tuple(Operator(f"op{i}", 1, 1e-6 * i, 0.0, 0) for i in range(1, 31)), "")
    none = Profile(1, 1e-3, (), "")
    whole = run(at(8, stock=profiled(1e-3, many), compile=profiled(1e-3, none)))
    console = Console(file=io.StringIO(), width=150, color_system=None, legacy_windows=False)
    side_by_side.print_explanation(console, explain.explain(whole, whole.records[0].point, ("stock", "compile")))
    lines = console.file.getvalue().splitlines()
    assert lines[2].split()[:2] == ["op30", "1"]
    assert lines[22].split() == ["10", "more", "operators", "10", "-", "55.00", "-", "-55.00", "-", "-"]


BAD = {
    "layer": (
        ["sotfmax", "--variants", "stock,compile"],
        "explain: no layer is called 'sotfmax' (did you mean 'softmax'?); layers: softmax",
    ),
    "variant": (
        ["softmax", "--variants", "stock,compiel"],
        "--variants: softmax has no 'compiel' (did you mean 'compile'?); variants: stock, triton, compile",
    ),
    "one name twice": (
        ["softmax", "--variants", "stock,stock"],
        "--variants stock,stock: name two different ones of stock, triton, compile, as --variants stock,triton",
    ),
    "no such point": (
        ["softmax", "--variants", "stock,compile", "--set", "batch=2"],
        "explain: no such point of softmax; there are softmax-forward-cpu-float32-batch8, softmax-forward-cpu-float32-batch64, "
        "softmax-backward-cpu-float32-batch8",
    ),
    "several points": (
        ["softmax", "--variants", "compile"],
        "explain: 3 points of softmax match, one is needed; add for example  -k softmax-forward-cpu-float32-batch8",
    ),
    "not measured": (
        ["softmax", "--variants", "triton", "-k", "backward"],
        "explain: there is no profile of triton at softmax-backward-cpu-float32-batch8; it is skipped: no output has a gradient",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_explained_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, told = BAD[name]
    run_file.write(stored(), tmp_path / "run.json")
    assert inprocess.layerbench(monkeypatch, "explain", *arguments, "--run", str(tmp_path / "run.json")) == 2
    assert capsys.readouterr().err == f"layerbench: {told}\n"


def test_one_variant_alone_is_held_against_the_reference() -> None:
    assert explain.pair([layer()], "softmax", "compile") == ("stock", "compile")
    with pytest.raises(Mistake, match="name two different ones"):
        explain.pair([layer()], "softmax", "stock,triton,compile")


SUITE = """
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Twice(nn.ReLU):
    def forward(self, x):
        return super().forward(super().forward(x))

relu = Layer("relu", {"batch": (2, 4)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(nn.ReLU), "twice": Variant(Twice), "other": Variant(nn.ReLU)})
"""


def test_without_a_run_file_the_point_is_measured_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "relus.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    arguments = ("--suite", "relus.py", "-k", "forward and batch4", "--variants", "twice")
    assert inprocess.layerbench(monkeypatch, "explain", "relu", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("relu-forward-cpu-float32-batch4: stock and twice")
    (row,) = [line.split() for line in lines[start:] if line.startswith("aten::relu ")]
    assert (row[1:3], row[-2:]) == (["1", "2"], ["-", "-"])  # called twice; what it allocates is allocated by clamp_min inside
    (made,) = (tmp_path / "results").glob("*.json")
    assert {(record.point.id, record.variant) for record in run_file.read(made).records} == {
        ("relu-forward-cpu-float32-batch4", name) for name in ("stock", "twice", "noise_floor")
    }
