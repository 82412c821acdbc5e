"""Each known fault of torch and triton is seen in the versions that are said to have it, and in no other."""

import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import test_layers
import torch
import upstream
from test_compiling import Broken, subject
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from upstream import Fault

from layerbench.bench.data.record import Failed
from layerbench.bench.equivalence.prove import prove
from layerbench.bench.profiling import compiling

TRITON = importlib.util.find_spec("triton") is not None

TRUNCATES = """
import torch, triton, triton.language as tl

@triton.jit
def store(x_ptr, y_ptr):
    tl.store(y_ptr, tl.load(x_ptr).to(tl.bfloat16))

x, y = torch.tensor([1 + 2**-8 + 2**-9]), torch.zeros(1, dtype=torch.bfloat16)
store[(1,)](x, y)
assert y.item() in (1.0, x.bfloat16().item())
print("truncates" if y.item() == 1.0 else "rounds")
"""


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


def python(text: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, text]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def fused_sgd() -> bool:
    layer = test_layers.DECLARED["sgd"].layer
    found = [prove(layer, ("fused",), dtype, "cpu", lambda *_: None)["fused"] for dtype in ("bfloat16", "float16")]
    failed = [isinstance(each, Failed) for each in found]
    assert len(set(failed)) == 1, "one half type agrees and the other does not: two entries now"
    return failed[0]


def jit_warning() -> bool:
    done = python("import torch.utils.mkldnn", "-W", "error:`torch.jit:DeprecationWarning", "-c")
    assert done.returncode == 0 or "DeprecationWarning: `torch.jit" in done.stderr, done.stderr
    return done.returncode != 0


def tf32_warning() -> bool:
    done = python("import torch; torch.get_float32_matmul_precision()", "-c")
    assert done.returncode == 0, done.stderr
    return "Please use the new API settings to control TF32" in done.stderr


def grad_warning() -> bool:
    from torch._dynamo.exc import InternalTorchDynamoError  # here, since dynamo takes as long to import as torch

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The .grad attribute", UserWarning)
        try:
            compiling.compile_cold(subject(Broken, 8, 8), differentiable=True)
        except InternalTorchDynamoError as error:
            assert "UserWarning: The .grad attribute" in str(error)
            return True
    return False


def eager_rnn() -> bool:
    eager = []
    for kind in (nn.LSTM, nn.GRU):
        try:
            compiling.compile_cold(subject(kind, 8, 8), differentiable=True)
        except compiling.CompiledNothing:
            eager.append(kind)
    assert eager in ([], [nn.LSTM, nn.GRU]), f"of both only {eager} is left to eager: two entries now"
    return bool(eager)


def once_differentiable() -> bool:
    x = torch.tensor([3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Square.apply(x).sum(), x, create_graph=True)
    assert gradient.item() == 6.0
    return not gradient.requires_grad


def grouped_flops() -> bool:
    x, weight = torch.ones(1, 4, 5, 5, requires_grad=True), torch.ones(4, 1, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        y = torch.conv2d(x, weight, groups=4)
        forward = counter.get_total_flops()
        y.sum().backward()
    assert forward == 2 * 4 * 9 * 9  # channels, positions, taps
    return counter.get_total_flops() != 3 * forward


def interpreted_bfloat16(folder: Path) -> bool:
    (folder / "store.py").write_text(TRUNCATES)  # triton reads a kernel's source from its file
    done = python(str(folder / "store.py"), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    return done.stdout == "truncates\n"


needs_compiler = pytest.mark.skipif(bool(compiling.missing_compiler()), reason=compiling.missing_compiler())
PROBES = {
    "FUSED_SGD": (fused_sgd, ()),
    "JIT_WARNING": (jit_warning, ()),
    "TF32_WARNING": (tf32_warning, ()),
    "GRAD_WARNING": (grad_warning, needs_compiler),
    "EAGER_RNN": (eager_rnn, needs_compiler),
    "ONCE_DIFFERENTIABLE": (once_differentiable, ()),
    "GROUPED_FLOPS": (grouped_flops, ()),
}
FAULTS = {name: fault for name, fault in vars(upstream).items() if isinstance(fault, Fault)}


def test_every_fault_is_looked_for() -> None:
    assert set(FAULTS) == {*PROBES, "INTERPRETED_BFLOAT16", "INTERPRETED_LOOP"}


@pytest.mark.parametrize(("name", "seen"), [pytest.param(name, seen, marks=marks) for name, (seen, marks) in PROBES.items()])
def test_a_fault_is_seen_in_its_versions_and_in_no_others(name: str, seen: Callable[[], bool]) -> None:
    assert seen() == FAULTS[name].holds(), f"correct the versions of {name} in tests/upstream.py"


@pytest.mark.skipif(not TRITON, reason="Triton is not installed: pip install triton")
def test_the_interpreters_bfloat16_is_no_number_to_judge_by(tmp_path: Path) -> None:
    assert interpreted_bfloat16(tmp_path) == upstream.INTERPRETED_BFLOAT16.holds()


@pytest.mark.skipif(not TRITON, reason="Triton is not installed: pip install triton")
def test_an_interpreter_that_does_not_work_is_said_to_be_missing_and_no_layer_is_blamed() -> None:
    text = "from layerbench.bench.equivalence import interpreter; print(interpreter.missing())"
    done = python(text, "-c", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    broken = "does not work with numpy" in done.stdout
    assert broken == upstream.INTERPRETED_LOOP.holds(), "correct the versions of INTERPRETED_LOOP in tests/upstream.py"
    assert broken or done.stdout == "\n"


@pytest.mark.parametrize(
    ("versions", "installed", "holds"),
    [
        (">=2.9,<2.14", "2.9.0", True),
        (">=2.9,<2.14", "2.13.0+cpu", True),
        (">=2.9,<2.14", "2.13.9", True),
        (">=2.9,<2.14", "2.14.0+cu130", False),
        (">=2.9,<2.14", "2.14.1", False),
        (">=2.9,<2.14", "2.8.0", False),
        (">=2.9,<2.14", "3.0", False),
        (">=2.9", "2.15.0.dev20261126+cpu", True),
        ("==2.13.0", "2.13.0+cpu", True),
    ],
)
def test_a_fault_holds_in_its_versions(versions: str, installed: str, holds: bool) -> None:
    assert Fault("torch", versions, "").holds(installed) == holds


def test_the_installed_version_is_asked_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("torch", "<2.14", "")
    for installed, holds in (("2.13.0+cpu", True), ("2.14.1", False)):
        monkeypatch.setattr("importlib.metadata.version", {"torch": installed}.__getitem__)
        assert fault.holds() == holds


def test_outside_of_its_versions_agreement_is_expected_and_inside_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict on the very same numbers turns with the version."""
    test_layers.test_variants_agree_at_odd_sizes("sgd", "fused", "float16")
    turned = {True: ("2.14.1", "output"), False: ("2.13.0", "correct the versions")}
    installed, words = turned[upstream.FUSED_SGD.holds()]
    monkeypatch.setattr("importlib.metadata.version", {"torch": installed}.__getitem__)
    with pytest.raises(AssertionError, match=words):
        test_layers.test_variants_agree_at_odd_sizes("sgd", "fused", "float16")
