"""The step update: training and one step of an optimizer that leaves the weights where they are."""

from collections.abc import Mapping
from pathlib import Path

import inprocess
import pytest
import torch
from torch import nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.data.record import Measured, Skipped
from layerbench.bench.plan import steps
from layerbench.bench.storage import run_file
from layerbench.bench.subject import make, optimizers
from layerbench.bench.subject.make import Subject

SUITE = '''
"""One layer that learns, and one that has nothing to learn."""
from torch import nn
from layerbench.bench import Layer, Variant, randn

def build(module, size):
    return module(size["width"], 3)

inputs = (randn("batch", "width"),)
linear = Layer("linear", {"batch": (4,), "width": (8,)}, inputs, build, {"stock": Variant(nn.Linear)})
silu = Layer("silu", {"batch": (4,), "width": (8,)}, inputs, lambda module, size: module(), {"stock": Variant(nn.SiLU)})
'''


ALONE, PAIR = (f"{{{names}}}" for names in ('"stock": Variant(nn.Linear)', '"stock": Variant(nn.Linear), "again": Variant(nn.Linear)'))


def _linear() -> Subject:
    layer = Layer(
        "linear",
        {"n": (4,)},
        (randn("n", 8),),
        lambda module, size: module(8, 3),
        {"stock": Variant(nn.Linear), "again": Variant(nn.Linear)},
    )
    weights = make.reference(layer, {"n": 4}, torch.float32, "cpu", 0)
    inputs = make.draw(layer.draws, {"n": 4}, torch.float32, "cpu", 0)
    return make.subject("again", weights, inputs, make.cotangents(make.probe(weights, inputs), 0))


def _state(module: nn.Module) -> Mapping[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", steps.OPTIMIZERS)
def test_an_optimizer_works_and_the_weights_stay_as_they_were(name: str, dtype: torch.dtype) -> None:
    subject = _linear()
    subject.module.to(dtype)
    before = _state(subject.module)
    optimizer = optimizers.of(name, subject.module)
    for _ in range(3):
        for parameter in subject.module.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)  # the square of a smaller one is 0 in float16
        optimizer.step()
    assert len(optimizer.state) == 2  # weight and bias
    for kept in optimizer.state.values():
        assert any(tensor.numel() > 1 and bool((tensor != 0).any()) for tensor in kept.values() if isinstance(tensor, torch.Tensor))
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.module.state_dict().items())


def test_the_names_are_those_that_can_be_made() -> None:
    assert tuple(optimizers.KINDS) == steps.OPTIMIZERS


def test_an_update_steps_on_the_gradients_of_this_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(optimizers.KINDS, "sgd", lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    subject = _linear()
    before = _state(subject.module)
    make.call(subject, "training").once()
    gradient = {name: parameter.grad.clone() for name, parameter in subject.module.named_parameters() if parameter.grad is not None}
    assert set(gradient) == {"weight", "bias"}
    call = make.call(subject, "update_sgd")
    call.once()
    call.once()  # of a linear layer the gradient does not depend on the weights
    for name, parameter in subject.module.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 2 * gradient[name])


def test_a_run_measures_it_and_says_where_there_is_nothing_to_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    arguments = ("--suite", "mine.py", "--device", "cpu", "--step", "training", "--step", "update", "--optimizer", "adam")
    assert inprocess.layerbench(monkeypatch, "run", *arguments, "--optimizer", "sgd") == 0
    run = run_file.read(run_file.newest(tmp_path / "results"))
    found = {record.point.id: record.outcome for record in run.records if record.variant == "stock"}
    assert list(found) == [
        f"{layer}-{step}-cpu-float32-batch4-width8" for layer in ("linear", "silu") for step in ("training", "update_adam", "update_sgd")
    ]
    reasons = [outcome.reason if isinstance(outcome, Skipped) else type(outcome) for outcome in found.values()]
    nothing = "this layer has no parameters, so an optimizer has nothing to update"
    assert reasons == [Measured, Measured, Measured, Measured, nothing, nothing]
    page = (tmp_path / "reports" / run.name / "index.html").read_text()
    assert "update_adam" in page


def test_explain_takes_an_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(SUITE.replace(ALONE, PAIR))
    inprocess.install(monkeypatch, tmp_path)
    arguments = ("--suite", "mine.py", "--step", "update", "--optimizer", "adam")
    assert inprocess.layerbench(monkeypatch, "explain", "linear", "--variants", "stock,again", *arguments) == 0
    assert "linear-update_adam-cpu-float32-batch4-width8" in capsys.readouterr().out
    assert inprocess.layerbench(monkeypatch, "explain", "linear", "--variants", "stock,again", "--run", _newest(tmp_path), *arguments) == 0


def _newest(folder: Path) -> str:
    return str(run_file.newest(folder / "results"))
