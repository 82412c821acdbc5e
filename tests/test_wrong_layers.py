"""Wrong layers never rank: each is Failed at "verify" with the tensor's name, and the others are measured all the same."""

from pathlib import Path

import inprocess
import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.analysis import frame, ranking
from layerbench.bench.data.record import Failed, Measured
from layerbench.bench.equivalence.observe import observe
from layerbench.bench.equivalence.prove import prove
from layerbench.bench.storage import run_file
from layerbench.bench.subject import make

SUITE = '''
"""A linear layer, written well once and wrongly in many ways."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Again(nn.Linear):
    def forward(self, x):
        return x @ self.weight.T + self.bias

class WrongForward(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 1.001

class WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias
    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.T @ x * 0.5, g.sum(0)

class WrongWeightGradient(nn.Linear):
    def forward(self, x):
        return WeightGradient.apply(x, self.weight, self.bias)

class NoWeightGradient(nn.Linear):
    def forward(self, x):
        return x @ self.weight.detach().T + self.bias

class Zeros(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 0

class BareZeros(nn.Linear):
    def forward(self, x):
        return torch.zeros(x.shape[0], self.out_features)

class InPlace(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        with torch.no_grad():
            x.mul_(2)
        return y

class InPlaceForbidden(nn.Linear):
    def forward(self, x):
        return super().forward(x.mul_(1.5))

class Nan(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.tensor(float("nan"))

class IgnoresBias(nn.Linear):
    def forward(self, x):
        return x @ self.weight.T

class Shape(nn.Linear):
    def forward(self, x):
        return super().forward(x)[None]

class Dtype(nn.Linear):
    def forward(self, x):
        return super().forward(x).double()

class ChangesItself(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        with torch.no_grad():
            self.weight.add_(0.01)
        return y

class Remembers(nn.Linear):
    """Right at the first call, and never again."""
    def forward(self, x):
        if not hasattr(self, "kept"):
            self.kept = super().forward(x)
            return self.kept
        return self.kept.detach() + 0 * super().forward(x)

class OnlySmall(nn.Linear):
    def forward(self, x):
        return super().forward(x) if x.shape[0] != 3 else super().forward(x) + 1

class Raises(nn.Linear):
    def forward(self, x):
        raise ArithmeticError("no such thing")

linear = Layer("linear", {"batch": (4, 8), "width": (5,)}, (randn("batch", "width"),),
    lambda module, size: module(size["width"], 7),
    {"stock": Variant(nn.Linear)} | {c.__name__.lower(): Variant(c) for c in (Again, WrongForward, WrongWeightGradient, NoWeightGradient,
     Zeros, BareZeros, InPlace, InPlaceForbidden, Nan, IgnoresBias, Shape, Dtype, ChangesItself, Remembers, OnlySmall, Raises)})
'''

# what each is told; the figures are left out where they depend on the random numbers
TOLD = {
    "wrongforward": "output: off by",
    "wrongweightgradient": "weight grad: off by",
    "noweightgradient": "weight grad: missing; the reference has it",
    "zeros": "output: off by",
    "barezeros": "output: no gradient flows through it",
    "inplace": "input 0: changed in place; compute on a copy",
    "inplaceforbidden": "input 0: changed in place; compute on a copy",
    "nan": "output: NaN in 21 of 21 places where the reference has numbers",
    "ignoresbias": "output: off by",
    "shape": "output: its shape is (1, 3, 7), the reference's (3, 7)",
    "dtype": "output: its dtype is torch.float64, the reference's torch.float32",
    "changesitself": "weight: changed in place by a call; the reference leaves it as it is",
    "onlysmall": "output: off by",
    "raises": "ArithmeticError: no such thing",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrong.py").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        inprocess.install(patch, folder)
        code = inprocess.layerbench(patch, "run", "--suite", "wrong.py", "--step", "backward")
        assert code == 1
        return run_file.read(run_file.newest(Path("results")))


@pytest.mark.parametrize("variant", TOLD)
def test_a_wrong_variant_fails_verification_with_the_name_of_the_tensor(run, variant: str) -> None:
    outcomes = [record.outcome for record in run.records if record.variant == variant]
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert isinstance(outcome, Failed)
        assert outcome.stage == "verify"
        assert outcome.reason.startswith(TOLD[variant])


def test_a_failure_at_an_odd_size_says_at_which(run) -> None:
    reasons = {record.outcome.reason for record in run.records if record.variant == "onlysmall"}
    assert all(reason.endswith("(at batch=3 width=5)") for reason in reasons)


def test_a_variant_that_is_right_only_once_fails(run) -> None:
    outcome = next(record.outcome for record in run.records if record.variant == "remembers")
    assert isinstance(outcome, Failed)
    assert outcome.stage == "verify" and "off by" in outcome.reason


def test_the_others_are_measured_and_only_they_rank(run) -> None:
    measured = {record.variant for record in run.records if isinstance(record.outcome, Measured)}
    assert measured == {"stock", "again", "noise_floor"}
    table = frame.tidy(run)
    assert set(table.variant[table.speedup.notna()]) == {"again", "noise_floor"}
    assert set(ranking.points(table).winner) == {""}


class Momentum(nn.Module):
    """b <- b / 2 + g,  w <- w - b,  in place; and it counts its calls."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width), requires_grad=False)
        self.register_buffer("momentum", torch.randn(width))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, gradient: Tensor) -> Tensor:
        self.calls += 1
        self.momentum.div_(2).add_(gradient.detach())
        return self.weight.sub_(self.momentum)


class DropsItAtTheSecondCall(Momentum):
    def forward(self, gradient: Tensor) -> Tensor:
        if self.calls == 1:
            self.momentum.zero_()
        return super().forward(gradient)


class WeightAstrayFromTheThird(Momentum):
    def forward(self, gradient: Tensor) -> Tensor:
        super().forward(gradient)
        return self.weight.mul_(1.01) if self.calls >= 3 else self.weight


class OutputAloneIsRight(Momentum):
    def forward(self, gradient: Tensor) -> Tensor:
        output = super().forward(gradient).clone()
        if self.calls == 4:
            self.weight.mul_(1.01)
        return output


def stateful(module: type[Momentum], calls: int) -> Layer:
    variants = {"stock": Variant(Momentum), "wrong": Variant(module)}
    return Layer("momentum", {"width": (8,)}, (randn("width"),), lambda module, size: module(size["width"]), variants, calls=calls)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (DropsItAtTheSecondCall, "output: off by"),
        (WeightAstrayFromTheThird, "output: off by"),
        (OutputAloneIsRight, "weight after: off by"),
    ],
)
def test_state_that_goes_wrong_at_a_later_call_is_seen_after_several(module: type[Momentum], told: str) -> None:
    after_one, after_four = (prove(stateful(module, calls), ("wrong",), "float32", "cpu", lambda *_: None)["wrong"] for calls in (1, 4))
    if isinstance(after_one, Failed):  # found by calling it again, and by nothing else
        assert after_one.reason.startswith(("in eval(): output, in train() again", "new data at every call"))
    else:
        assert [each.tensor for each in after_one.errors[:4]] == ["output", "weight after", "momentum after", "calls after"]
    assert isinstance(after_four, Failed)
    assert (after_four.stage, after_four.reason[: len(told)]) == ("verify", told)


def test_state_is_put_back_where_it_lay() -> None:
    torch.manual_seed(0)
    module, gradient = Momentum(3), torch.randn(3)
    before = {name: (tensor.data_ptr(), tensor.tolist()) for name, tensor in module.state_dict().items()}
    seen = observe(make.subject("stock", module, (gradient,), (None,)), 0, calls=4)
    assert {name: (tensor.data_ptr(), tensor.tolist()) for name, tensor in module.state_dict().items()} == before
    assert seen.state["calls after"] == 4
    b, w = torch.tensor(before["momentum"][1]), torch.tensor(before["weight"][1])
    for _ in range(4):
        b = b / 2 + gradient
        w = w - b
    torch.testing.assert_close(seen.outputs["output"], w)
    torch.testing.assert_close(seen.state["momentum after"], b)
