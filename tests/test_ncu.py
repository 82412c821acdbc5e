"""Nsight Compute as the parent sees it, with a program of the same name in its place, and the target that it profiles, on the CPU."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import inprocess
import msgspec
import ncu_table
import psutil
import pytest
import torch
from ncu_table import BACKWARD, FORWARD, MARK, NORM, NORM_BACKWARD, recorded, table
from runs import at, layer, run, took

from layerbench.bench import target
from layerbench.bench.cell import passes
from layerbench.bench.data.record import LayerFacts, Point, Run, Work
from layerbench.bench.declare.mistake import Mistake, NoCounters
from layerbench.bench.equivalence import verify
from layerbench.bench.process import ncu
from layerbench.bench.process.ncu import Count, Counted
from layerbench.bench.storage import run_file
from layerbench.bench.suite import identity, mount

SUITE = '''"""A product by a weight, and what goes wrong with it."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

try:
    from watching import happened
except ImportError:
    happened = []

class Watched(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        happened.append(("forward", x.detach().clone()))
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        happened.append(("backward", gradient.clone()))
        return gradient

class Seen(nn.Linear):
    def forward(self, x):
        return Watched.apply(super().forward(x))

class Broken(nn.Linear):
    def forward(self, x):
        raise RuntimeError("no such kernel")

products = Layer("products", {"batch": (2, 4)}, (randn("batch", 8),), lambda module, size: module(8, 8),
    {"stock": Variant(nn.Linear), "seen": Variant(Seen), "broken": Variant(Broken), "compiled": Variant(nn.Linear, compile=True)})
'''
STEP = table(MARK, NORM, NORM_BACKWARD, MARK, FORWARD, BACKWARD)


def suite(folder: Path, text: str = SUITE) -> tuple[str, LayerFacts]:
    (folder / "products.py").write_text(text)
    path = str(folder / "products.py")
    (facts,) = identity.identified((each.file, each.facts) for each in mount.mount(path))
    return path, facts


def order(folder: Path, *variants: str, step: str = "training") -> Count:
    path, facts = suite(folder)
    return Count(path, facts, Point("products", {"batch": 4}, "float32", "cpu", step), variants or ("stock", "seen"), 1)


# --- the target --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, object]]]:
    """What the variant `seen` does, and when ncu begins and ends to look."""
    events: list[tuple[str, object]] = []
    threads = torch.get_num_threads()
    monkeypatch.setitem(sys.modules, "watching", types.SimpleNamespace(happened=events))
    monkeypatch.setattr(target, "begin", lambda device: events.append(("begin", device)))
    monkeypatch.setattr(target, "end", lambda device: events.append(("end", device)))
    yield events
    torch.set_num_threads(threads)


TRAINING = ["forward", "backward"]
LOOKED_AT = {
    "forward": ["forward"] * 3 + ["begin", "forward", "end"],
    "backward": TRAINING * 3 + ["forward", "begin", "backward", "end"],
    "training": TRAINING * 3 + ["begin", *TRAINING, "end"],
    "update_sgd": TRAINING * 3 + ["begin", *TRAINING, "end"],
}


@pytest.mark.parametrize("step", LOOKED_AT)
def test_ncu_sees_one_step_of_each_variant_after_three_that_it_does_not(
    step: str, tmp_path: Path, happened: list[tuple[str, object]]
) -> None:
    assert target.count(order(tmp_path, "stock", "seen", step=step)) == Counted(("stock", "seen"))
    assert [what for what, _ in happened] == ["begin", "end", *LOOKED_AT[step]]


def test_the_numbers_are_those_that_a_run_times(tmp_path: Path, happened: list[tuple[str, object]]) -> None:
    wanted = order(tmp_path, "seen")
    target.count(wanted)
    (declared,) = mount.mount(wanted.suite)
    truth = verify.truth(declared.layer, {"batch": 4}, torch.float32, "cpu", passes.SEEDS[-1])
    output, gradient = (next(value for what, value in happened if what == each) for each in ("forward", "backward"))
    assert torch.equal(output, truth.weights(*truth.inputs))
    assert torch.equal(gradient, truth.cotangents[0])


def test_a_variant_that_raises_is_told_and_the_others_are_counted(tmp_path: Path, happened: list[tuple[str, object]]) -> None:
    found = target.count(order(tmp_path, "broken", "seen"))
    assert found == Counted(("seen",), {"broken": "RuntimeError: no such kernel"})


def test_a_variant_that_raises_while_ncu_looks_leaves_the_range_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: list[tuple[str, object]]
) -> None:
    def begin(device: str) -> None:
        happened.append(("begin", device))
        monkeypatch.setattr(torch.autograd, "backward", refuse)

    def refuse(*arguments: object) -> None:
        raise RuntimeError("too late")

    monkeypatch.setattr(target, "begin", begin)
    assert target.count(order(tmp_path, "seen")) == Counted(("seen",), {"seen": "RuntimeError: too late"})
    assert [what for what, _ in happened][-3:] == ["begin", "forward", "end"]


def test_a_compiled_variant_is_compiled_before_ncu_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: list[tuple[str, object]]
) -> None:
    compiled = []
    monkeypatch.setattr(
        target.compiling, "compile_cold", lambda subject, differentiable, cold: compiled.append((subject, cold, [*happened]))
    )
    assert target.count(order(tmp_path, "seen", "compiled")).profiled == ("seen", "compiled")
    ((subject, cold, before),) = compiled
    assert (subject.variant, cold) == ("compiled", False)
    assert [what for what, _ in before].count("begin") == 1  # the other variant's


def test_a_layer_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    wanted = order(tmp_path)
    (tmp_path / "products.py").write_text(SUITE.replace("x * 1", "x * 2"))
    with pytest.raises(Mistake, match=r"the code of layer 'products' has changed.*; measure the point again, without --run"):
        target.count(wanted)


def test_a_gpu_that_is_not_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    wanted = order(tmp_path)
    with pytest.raises(Mistake, match="torch finds no GPU here, and the point is one of cuda"):
        target.count(msgspec.structs.replace(wanted, point=msgspec.structs.replace(wanted.point, device="cuda")))


def test_why_it_refuses_goes_back_to_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: list[tuple[str, object]]
) -> None:
    wanted = msgspec.structs.replace(order(tmp_path), suite=str(tmp_path / "gone.py"))
    (tmp_path / ncu.ORDER).write_bytes(msgspec.json.encode(wanted))
    monkeypatch.setattr(sys, "argv", ["target", str(tmp_path)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    target.main()
    counted = msgspec.json.decode((tmp_path / ncu.COUNTED).read_bytes(), type=Counted)
    assert counted.refused == f"--suite {wanted.suite}: there is no such file or folder; give a folder of layer files, or one file"


def test_the_marker_is_the_first_that_ncu_sees_and_nothing_runs_on_after_it_looks_away(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: done.append("wait"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("free"))
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: done.append("start"))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: done.append("stop"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: done.append(("mark", cycles)), raising=False)
    target.begin("cuda")
    done.append("step")
    target.end("cuda")
    assert done == ["wait", "free", "start", ("mark", 1), "step", "wait", "stop"]
    target.begin("cpu")
    target.end("cpu")
    assert len(done) == 7


# --- its parent --------------------------------------------------------------------------------------------------------------------

RUN_IT = "subprocess.run(target, check=False)\n"


def test_the_target_runs_under_ncu_as_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "said.txt"
    script = f"Path({str(said)!r}).write_text(chr(10).join(sys.argv[1:]))\n{RUN_IT}log.write_text({STEP!r})\n"
    ncu_table.install(monkeypatch, tmp_path, script)
    found = ncu.count(order(tmp_path, "stock", "broken", "seen"))
    assert found == (Counted(("stock", "seen"), {"broken": "RuntimeError: no such kernel"}), STEP)
    words = said.read_text().splitlines()
    assert words[words.index("--profile-from-start") + 1] == "off"
    assert words[words.index("--clock-control") + 1] == "none"
    assert {"gpu__time_duration.sum", "dram__bytes_read.sum"} <= set(words[words.index("--metrics") + 1].split(","))
    assert not Path(words[-1]).exists()  # the folder of the order is gone


PERMISSION = """==PROF== Connected to process 655
==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the target device 0.
"""
SANDBOX = "==ERROR== Failed to initialize the profiler: LibraryNotLoaded\n"
BUSY = "==ERROR== Profiling failed because a driver resource was unavailable.\n"
BOTH = Counted(("stock", "seen"))
REFUSED = {
    "no permission": (recorded(PERMISSION, BOTH), "this user may not read the GPU's counters (ERR_NVGPUCTRPERM); try as root, or"),
    "a sandbox": (f"log.write_text({SANDBOX!r})\nsys.exit(255)\n", "Nsight Compute cannot load its library here (LibraryNotLoaded)"),
    "a sandbox, on the terminal": (
        f"print({SANDBOX!r})\nsys.exit(255)\n",
        "Nsight Compute cannot load its library here (LibraryNotLoaded)",
    ),
    "another error": (recorded(BUSY, BOTH), "Nsight Compute says: Profiling failed because a driver resource was unavailable."),
    "no kernel": (
        recorded("==WARNING== No kernels were profiled.\n", BOTH),
        "Nsight Compute saw no kernel; it may be too old for this GPU",
    ),
    "the target is refused": (recorded("", Counted(refused="the layer has gone")), "the layer has gone"),
    "the target ends": (
        "print('Traceback:\\nMemoryError: too much')\n"
        "log.write_text('==ERROR== The application returned an error code (1).')\nsys.exit(1)\n",
        "Nsight Compute ended with exit code 1 before the steps were run: MemoryError: too much",
    ),
    "a word of ncu's is unknown": (
        "log.write_text('==ERROR== Failed to find metric dram__bytes.')\nsys.exit(9)\n",
        "Nsight Compute ended with exit code 9 before the steps were run: Failed to find metric dram__bytes.",
    ),
    "silence": ("sys.exit(3)\n", "Nsight Compute ended with exit code 3 before the steps were run: it said nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_why_there_are_no_counters_is_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, told = REFUSED[name]
    ncu_table.install(monkeypatch, tmp_path, script)
    with pytest.raises(NoCounters) as raised:
        ncu.count(order(tmp_path))
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


def test_a_word_in_what_a_layer_prints_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ncu_table.install(monkeypatch, tmp_path, f"print('my log: ERR_NVGPUCTRPERM')\n{recorded(STEP, BOTH)}")
    assert ncu.count(order(tmp_path)).table == STEP


def test_without_ncu_it_is_said_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCounters, match=r"ncu, NVIDIA's Nsight Compute, is not on PATH; it comes with the CUDA toolkit: add"):
        ncu.count(order(tmp_path))


def test_at_the_time_limit_ncu_ends_and_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell script ncu is the parent of what works; so here: a child, and a child of that."""
    told = tmp_path / "pids"
    again = f"import os, signal; open({str(told)!r}, 'a').write(str(os.getpid()) + ' '); signal.pause()"
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {again!r}]); exec({again!r})"
    ncu_table.install(monkeypatch, tmp_path, f"subprocess.run([sys.executable, '-c', {child!r}])\n")
    waits = []

    def wait(process: ncu.subprocess.Popen[bytes], timeout: float | None = None) -> int:
        waits.append(timeout)
        if timeout is None:
            return whole(process)
        while not told.exists() or len(told.read_text().split()) < 2:
            assert process.poll() is None
        raise ncu.subprocess.TimeoutExpired("ncu", timeout)

    whole = ncu.subprocess.Popen.wait
    monkeypatch.setattr(ncu.subprocess.Popen, "wait", wait)
    with pytest.raises(NoCounters, match=r"Nsight Compute was ended after 90 s, before it was done; choose a smaller size"):
        ncu.count(order(tmp_path), 90)
    alive = [pid for pid in map(int, told.read_text().split()) if psutil.pid_exists(pid)]
    assert [pid for pid in alive if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE] == []
    assert waits == [90, None]


# --- the command -------------------------------------------------------------------------------------------------------------------


def stored(tmp_path: Path, device: str = "cuda", flags: dict[str, str] | None = None) -> Path:
    measured = msgspec.structs.replace(took(1e-3), work=Work(0, 402_653_184, 268_435_456))
    whole: Run = run(at(8, device=device, step="training", stock=measured, triton=measured), layers=(layer(),), suite="layers.py")
    whole = msgspec.structs.replace(whole, environment=msgspec.structs.replace(whole.environment, flags=flags or {}, threads=3))
    run_file.write(whole, tmp_path / "run.json")
    return tmp_path / "run.json"


def explain(monkeypatch: pytest.MonkeyPatch, file: Path) -> int:
    monkeypatch.chdir(file.parent)
    return inprocess.layerbench(monkeypatch, "explain", "softmax", "--variants", "triton", "--run", str(file), "--counters")


def test_the_counters_follow_what_explain_prints_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "order.json"
    keep = f"Path({str(kept)!r}).write_bytes((Path(target[-1]) / {ncu.ORDER!r}).read_bytes())\n"
    ncu_table.install(monkeypatch, tmp_path, keep + recorded(STEP, Counted(("stock", "triton"))))
    assert explain(monkeypatch, stored(tmp_path, flags={"TF32": "true"})) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "softmax-training-cuda-float32-batch8: stock and triton"
    begin = lines.index("stock: 2 kernels in a step")
    assert lines.index("triton: 2 kernels in a step") > begin > 4
    assert {"The step must move 671.1 MB at least.", "triton: moved 0.95 times that"} <= set(lines)
    assert told.err == "layerbench: Nsight Compute counts; that may take up to 300 s\n"
    point = Point("softmax", {"batch": 8}, "float32", "cuda", "training")
    assert msgspec.json.decode(kept.read_bytes(), type=Count) == Count("layers.py", layer(), point, ("stock", "triton"), 3, tf32=True)


def test_a_variant_that_failed_is_named_and_its_kernels_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ncu_table.install(monkeypatch, tmp_path, recorded(STEP, Counted(("stock", "triton"), {"triton": "RuntimeError: too late"})))
    assert explain(monkeypatch, stored(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "no counters of triton: RuntimeError: too late"
    assert "stock: 2 kernels in a step" in lines
    assert "triton: 2 kernels in a step" not in lines


ON_CPU = "no counters: this point is on cpu, and Nsight Compute counts on NVIDIA's GPUs alone; choose one with  --device cuda"
NO_PERMISSION = f"no counters: {ncu.REFUSALS['ERR_NVGPUCTRPERM']}"


@pytest.mark.parametrize(("device", "last"), [("cpu", ON_CPU), ("cuda", NO_PERMISSION)])
def test_without_counters_the_usual_explanation_stands_and_the_last_line_says_why(
    device: str, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ncu_table.install(monkeypatch, tmp_path, recorded(PERMISSION, Counted(("stock", "triton"))))
    assert explain(monkeypatch, stored(tmp_path, device)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"softmax-training-{device}-float32-batch8: stock and triton"
    assert lines[-1] == last


def test_nothing_is_counted_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ncu_table.install(monkeypatch, tmp_path, f"Path({str(tmp_path / 'called')!r}).touch()\n")
    file = stored(tmp_path)
    assert inprocess.layerbench(monkeypatch, "explain", "softmax", "--variants", "triton", "--run", str(file)) == 0
    assert not (tmp_path / "called").exists()
    assert "counters" not in capsys.readouterr().out
