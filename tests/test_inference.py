"""The step inference: without autograd, in eval(), as where a model is served; proved, timed, weighed and checked so."""

import random

import inprocess
import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, law, randn
from layerbench.bench.cell.cell import Cell
from layerbench.bench.check.side.pair import Draws, instance
from layerbench.bench.data.record import Checked, Failed, Measured, Outcome, Point, Skipped
from layerbench.bench.storage import run_file
from layerbench.bench.subject import make
from layerbench.bench.timing.clock import FakeClock
from layerbench.bench.timing.measure import Limit

SEEN: list[dict[str, bool]] = []


class Looks(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(
            {
                "autograd": torch.is_grad_enabled(),
                "mode": torch.is_inference_mode_enabled(),
                "training": self.training,
                "wanted": x.requires_grad,
                "weights of inference": self.weight.is_inference(),
            }
        )
        return super().forward(x)


class Batch(nn.BatchNorm1d):
    """Statistics of the batch in eval(), too."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0, unbiased=False) + self.eps).sqrt() * self.weight + self.bias


class AlwaysDrops(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, training=True)


def norm(**variants: type[nn.Module]) -> Layer:
    named = {"stock": Variant(nn.BatchNorm1d)} | {name: Variant(module) for name, module in variants.items()}
    return Layer("norm", {"batch": (16,)}, (randn("batch", 3),), lambda module, size: module(3), named)


def outcomes(layer: Layer, step: str = "inference", **size: int) -> dict[str, Outcome]:
    cell = Cell(layer, Point(layer.name, size, "float32", "cpu", step), tuple(layer.variants), {}, lambda stage, variant: None)
    return cell.measure(step, FakeClock(lambda variant, number: 1e-3), Limit(0.05), None)


def test_every_call_is_one_of_inference() -> None:
    SEEN.clear()
    found = outcomes(norm(looks=Looks), batch=16)
    assert isinstance(found["looks"], Measured)
    asked = {"autograd": False, "mode": True, "training": False, "wanted": False, "weights of inference": False}
    assert len(SEEN) > 10
    assert [seen for seen in SEEN if seen != asked] == []


def test_outside_of_it_nothing_has_changed() -> None:
    outcomes(norm(), batch=16)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_layer_that_is_wrong_in_eval_alone_fails_there_alone() -> None:
    layer = norm(batch=Batch)
    assert isinstance(outcomes(layer, batch=16)["batch"], Failed)


def test_dropout_is_the_identity_and_one_that_still_drops_fails() -> None:
    variants = {"stock": Variant(nn.Dropout), "own": Variant(nn.Dropout), "always": Variant(AlwaysDrops)}
    layer = Layer("drop", {"batch": (64,)}, (randn("batch", 8),), lambda module, size: module(0.5), variants, law=law.dropout(0.5))
    found = outcomes(layer, batch=64)
    assert isinstance(found["own"], Measured)
    assert isinstance(found["always"], Failed)


def test_nothing_is_saved_for_a_backward_and_the_work_is_that_of_forward() -> None:
    layer = Layer("exp", {"batch": (64,)}, (randn("batch", 64),), lambda module, size: module(), {"stock": Variant(nn.Sigmoid)})
    found, trained = (outcomes(layer, step, batch=64)["stock"] for step in ("inference", "forward"))
    assert isinstance(found, Measured)
    assert isinstance(trained, Measured)
    assert found.memory.saved_bytes == 0
    assert found.memory.peak_forward_bytes == trained.memory.peak_forward_bytes == 4 * 64 * 64
    assert found.work == trained.work


def test_it_shares_a_cell_with_no_other_step() -> None:
    forward, backward, inference = (Point("norm", {"batch": 16}, "float32", "cpu", step) for step in ("forward", "backward", "inference"))
    assert forward.cell == backward.cell != inference.cell
    assert inference.id == "norm-inference-cpu-float32-batch16"


def test_an_instance_of_a_check_is_in_the_same_mode() -> None:
    SEEN.clear()
    layer, point = norm(looks=Looks), Point("norm", {"batch": 16}, "float32", "cpu", "inference")
    with make.mode("inference"):
        instance(layer, "looks", point, Draws().of("head", layer, point), random.Random(0)).call.once()
    assert {(seen["mode"], seen["training"]) for seen in SEEN} == {(True, False)}


def test_a_layer_without_gradients_has_an_inference_and_no_backward() -> None:
    class Sign(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().sign()

    layer = Layer("sign", {"batch": (4,)}, (randn("batch", 4),), lambda module, size: module(), {"stock": Variant(Sign)})
    assert isinstance(outcomes(layer, batch=4)["stock"], Measured)
    assert isinstance(outcomes(layer, "backward", batch=4)["stock"], Skipped)


@pytest.mark.filterwarnings("ignore")
def test_a_run_has_it_beside_other_steps(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    words = ["-k", "^softmax", "--step", "forward", "--step", "inference", "--set", "batch=2", "--set", "width=64", "--budget", "1s"]
    assert inprocess.layerbench(monkeypatch, "run", *words, "--device", "cpu") == 0
    whole = run_file.read(run_file.newest(tmp_path / "results"))
    assert {record.point.step for record in whole.records} == {"forward", "inference"}
    assert all(isinstance(record.outcome, Measured | Checked | Skipped) for record in whole.records)
    page = next((tmp_path / "reports").glob("*/index.html")).read_text(encoding="utf-8")
    assert ">inference<" in page
