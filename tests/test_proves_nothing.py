"""References that prove nothing: they are refused with the input that is to be drawn otherwise, or the weak check is said."""

from pathlib import Path

import inprocess
import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Draw, Layer, Variant, integers, positive, randn
from layerbench.bench.data.record import Failed
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.equivalence import verify, weakness
from layerbench.bench.equivalence.prove import prove
from layerbench.bench.equivalence.tolerance import Mismatch, allowed, distance, own_distance
from layerbench.bench.storage import run_file
from layerbench.bench.subject import make


class Of(nn.Module):
    """A function of the input as a module with a weight."""

    def __init__(self, function, times: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.function, self.times = function, times

    def forward(self, *x: Tensor) -> object:
        return self.function(*x, self.weight)


def layer(function, *inputs: Draw, wrong=None, **changes) -> Layer:
    variants = {"stock": Variant(lambda: Of(function)), "wrong": Variant(lambda: Of(wrong or function))}
    return Layer("f", {"batch": (4,)}, inputs or (randn("batch", 8),), lambda module, size: module(), variants, **changes)


def refusal(given: Layer, dtype: torch.dtype = torch.float32) -> str:
    with pytest.raises(Mistake) as caught:
        verify.truth(given, {"batch": 4}, dtype, "cpu", 0)
    return str(caught.value)


def weak(function, *inputs: Draw, dtype: torch.dtype = torch.float32) -> list[str]:
    return weakness.weaknesses(verify.truth(layer(function, *inputs), {"batch": 4}, dtype, "cpu", 0))


def test_a_logarithm_of_normal_numbers_is_refused_and_of_positive_ones_told_apart() -> None:
    given = layer(lambda x, w: (x * w).log(), wrong=lambda x, w: (x * w).log() * 123)
    assert refusal(given) == (
        "output: NaN or infinite in 15 of 32 places, so nothing is proved; "
        'inputs[0] is standard normal: where only positive numbers fit, write positive("batch", 8)'
    )
    found = prove(given, ("stock", "wrong"), "float32", "cpu", lambda *_: None)
    assert isinstance(found["stock"], Failed) and found["stock"].stage == "declare"
    assert found["stock"].reason.startswith("the reference: output: NaN or infinite in ")
    drawn = layer(lambda x, w: (x * w).log(), positive("batch", 8), wrong=lambda x, w: (x * w).log() * 123)
    found = prove(drawn, ("stock", "wrong"), "float32", "cpu", lambda *_: None)
    assert not isinstance(found["stock"], Failed)
    assert isinstance(found["wrong"], Failed) and found["wrong"].reason.startswith("output: off by")


def test_positive_numbers_lie_between_a_tenth_and_two_and_take_part_in_backward() -> None:
    (drawn,) = make.draw((positive("batch", 1000),), {"batch": 4}, torch.float32, "cpu", 0)
    assert drawn.requires_grad
    low, high = drawn.detach().aminmax()
    assert (0.1 <= float(low) < 0.11, 1.99 < float(high) <= 2.0) == (True, True)


@pytest.mark.parametrize(
    ("function", "inputs", "told"),
    [
        (lambda x, w: x * w / (w - w), (), "output: NaN or infinite in 32 of 32"),
        (lambda x, w: (x * 0).abs().sqrt() + w, (), "input 0 grad: NaN or infinite in 32 of 32"),
        (lambda x, w: x + (w * 0).abs().sqrt(), (), "weight grad: NaN or infinite in 8 of 8"),
        (lambda x, y, w: x.log() * y * w, (randn("batch", 8), randn("batch", 8)), "inputs[0] and inputs[1] are standard normal"),
        (lambda x, w: w * x / 0, (integers("batch", 8, below=4),), "so nothing is proved; fix the reference"),
    ],
)
def test_every_tensor_is_looked_at(function, inputs, told: str) -> None:
    assert told in refusal(layer(function, *inputs))


def test_where_fewer_than_half_are_not_finite_the_others_are_judged_and_it_is_said() -> None:
    def masked(x: Tensor, w: Tensor) -> Tensor:
        return (x * w).masked_fill(torch.arange(8) > 4, -torch.inf)

    given = layer(masked, wrong=lambda x, w: masked(x, w) * 1.01)
    truth = verify.truth(given, {"batch": 4}, torch.float32, "cpu", 0)
    subject = make.subject("wrong", make.variant_module(given, "wrong", {"batch": 4}, truth.weights), truth.inputs, truth.cotangents)
    with pytest.raises(Mismatch, match=r"^output: off by"):
        verify.judge(subject, truth)
    said = "NaN, infinite or out of range in some places, and only the others are compared"
    assert weakness.weaknesses(truth) == [f"output: {said}"]
    assert weak(lambda x, w: (x * w * 0).masked_fill(torch.arange(8) > 4, -torch.inf))[:2] == [
        f"output: {said}",
        "output: zeros would pass",
    ]


def test_values_that_a_dtype_cannot_hold_are_refused_or_do_not_widen_what_is_allowed() -> None:
    assert refusal(layer(lambda x, w: x * w * 1e6), torch.float16) == (
        "output: in float16 NaN or infinite in 32 of 32 places where it is a number in float64; "
        "make its inputs or weights smaller, or leave float16 out"
    )
    overflows = layer(lambda x, w: (x * 300 * w).square().sqrt())  # halfway, which float64 does not
    assert refusal(overflows, torch.float16).startswith("output: in float16 NaN or infinite in")
    underflows = weak(lambda x, w: x * w / (x * 300).square().mean().sqrt(), dtype=torch.float16)  # to zero: its own error is all there is
    assert "output: zeros would pass" in underflows
    exact = torch.tensor([1.0, 2.0, 1e9], dtype=torch.float64)
    own = torch.tensor([1.0, 2.0, torch.inf], dtype=torch.float16)
    eps = torch.finfo(torch.float16).eps
    assert allowed(exact, own.dtype, eps, own_distance(own, exact)) == (4 * eps * 2.0, 4 * eps * 2.0)
    off = distance("output", torch.tensor([1.5, 2.0, torch.inf], dtype=torch.float16), exact)
    assert off == pytest.approx((0.5, 0.5 / 3**0.5))


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x, w: x * w * 0, "output: zeros would pass"),
        (lambda x, w: x * w * 0 + 3, "output: a constant mean would pass"),
        (lambda x, w: (x * w).sum() * 0, "output: zeros would pass"),
        (lambda x, w: (x * w)[:, :0], "output: empty, so anything would pass"),
        (lambda x, w: ((x * w).relu(), (x * w > 1e9).long()), "output[1]: zeros would pass"),
        (lambda x, w: (x * w + 1e9) - 1e9, "output: zeros would pass"),  # its own error is larger than its values
    ],
)
def test_a_check_that_could_not_fail_is_said(function, told: str) -> None:
    assert told in weak(function)


def test_a_plain_layer_has_no_weak_check() -> None:
    assert weak(lambda x, w: x * w) == []
    assert weak(lambda x, w: (x * w).sum()) == []


def test_a_dropout_of_ones_own_is_called_random_and_law_is_named() -> None:
    own = layer(lambda x, w: x * w * (torch.rand_like(x) >= 0.1) / 0.9)
    found = prove(own, ("stock",), "float32", "cpu", lambda *_: None)["stock"]
    assert isinstance(found, Failed) and found.stage == "declare"
    assert found.reason.startswith("the reference: output: it looks random: two calls with the same numbers are ")
    assert found.reason.endswith("or what holds of every draw, as law=law.dropout(0.1); or make it repeatable (at batch=3)")


SUITE = """
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Zero(nn.Module):
    def forward(self, x):
        return x * 0

zero = Layer("zero", {"batch": (4,)}, (randn("batch", 8),), lambda module, size: module(), {"stock": Variant(Zero), "again": Variant(Zero)})
"""
SAID = [
    f"weak check of zero, 1 point: {name}: {what} would pass"
    for name in ("output", "input 0 grad")
    for what in ("zeros", "a constant mean")
]


def test_a_weak_check_is_said_wherever_a_ratio_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zero.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "zero.py", "--step", "forward") == 0
    file = str(run_file.newest(tmp_path / "results"))
    shown = [capsys.readouterr().out]
    for words in (("explain", "zero", "--variants", "again", "--run", file), ("compare", file, file)):
        assert inprocess.layerbench(monkeypatch, *words) == 0
        shown.append(capsys.readouterr().out)
    for each in shown:
        assert set(SAID) <= set(each.splitlines())
    page = next((tmp_path / "reports").rglob("index.html")).read_text()
    assert "output: zeros would pass" in page


class Counts(nn.Module):
    """A buffer whose update a half type loses: 1000 + 0.5 is 1000 in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.full((8,), 1000.0))

    def forward(self, x: Tensor) -> Tensor:
        self.total += 0.5
        return x * 2


def test_a_buffer_whose_update_a_half_type_loses_fails_nobody() -> None:
    variants = {"stock": Variant(Counts), "again": Variant(Counts)}
    given = Layer("f", {"batch": (4,)}, (randn("batch", 8),), lambda module, size: module(), variants)
    found = prove(given, ("stock", "again"), "bfloat16", "cpu", lambda *_: None)
    assert not [each for each in found.values() if isinstance(each, Failed)], found
