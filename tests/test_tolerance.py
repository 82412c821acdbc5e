"""What may differ from the reference and what may not: right networks with kinks pass in half precision, systematic mistakes do not."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import kinks
import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.data.record import Failed
from layerbench.bench.equivalence import moved, verify, weakness
from layerbench.bench.equivalence.prove import prove
from layerbench.bench.equivalence.tolerance import Mismatch, Off, allowed
from layerbench.bench.subject import make

HALF = (torch.float16, torch.bfloat16)


def judge(layer: Layer, variant: str, truth: verify.Truth) -> None:
    module = make.variant_module(layer, variant, truth.size, truth.weights)
    verify.judge(make.subject(variant, module, truth.inputs, truth.cotangents), truth)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_right_networks_pass_whichever_way_a_kink_falls(dtype: torch.dtype) -> None:
    """validation/tolerance.py has more seeds."""
    asked = 0
    for name in ("kinks", "convnet"):
        layer = kinks.LAYERS[name]
        for seed in range(15):
            truth = verify.truth(layer, {"batch": 3}, dtype, "cpu", seed)
            for variant in layer.variants:
                judge(layer, variant, truth)
            asked += truth.moved.draws > 0
    assert asked, "none of these needed moved numbers"


def lacking(parameter: str, part: str) -> Callable[[], nn.Module]:
    """ConvNet; the gradient of a parameter lacks what the first row of the batch adds to it, or one tap."""

    class Lacking(kinks.ConvNet):
        def forward(self, image: Tensor) -> Tensor:
            weight = self.get_parameter(parameter)
            if part == "tap":
                mask = torch.zeros_like(weight)
                mask[..., 2, 3] = 1
                cut = weight * (1 - mask) + (weight * mask).detach()
                return self._with(cut, image)
            return torch.cat([self._with(weight.detach(), image[:1]), self._with(weight, image[1:])])

        def _with(self, value: Tensor, image: Tensor) -> Tensor:
            return torch.func.functional_call(_Plain(self), {f"network.{parameter}": value}, image)

    return Lacking


class _Plain(nn.Module):
    """Calls ConvNet's own forward of a network of another class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return kinks.ConvNet.forward(self.network, image)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("parameter", "part"),
    [*((name, "row") for name in ("conv1.weight", "conv2.weight", "hidden.weight")), ("conv1.weight", "tap"), ("conv2.weight", "tap")],
)
def test_a_gradient_that_lacks_a_row_or_a_tap_fails_behind_kinks_too(parameter: str, part: str, dtype: str) -> None:
    layer = replace(kinks.LAYERS["convnet"], variants={"stock": Variant(kinks.ConvNet), "wrong": Variant(lacking(parameter, part))})
    found = prove(layer, ("stock", "wrong"), dtype, "cpu", lambda *_: None)
    assert not isinstance(found["stock"], Failed)
    assert isinstance(found["wrong"], Failed)
    assert found["wrong"].reason.startswith(f"{parameter} grad: off by")


def test_moved_numbers_are_one_step_away_at_most_and_keep_signs_zeros_and_whole_numbers() -> None:
    for dtype in (*HALF, torch.float32):
        tensor = torch.cat([torch.randn(1000), torch.tensor([0.0, 1.0, -1.0, torch.inf])]).to(dtype)
        state = torch.get_rng_state()
        seen = moved.nudged(tensor, torch.Generator().manual_seed(3))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(seen, moved.nudged(tensor, torch.Generator().manual_seed(3)))
        assert torch.equal(seen.sign(), tensor.sign())
        steps = ((seen.double() - tensor.double()) / tensor.double())[:1000].abs()
        assert float(steps.max()) <= torch.finfo(dtype).eps
        assert 0.5 < float((steps > 0).double().mean()) < 0.8
    whole = torch.arange(9)
    assert torch.equal(moved.nudged(whole, torch.Generator()), whole)


def test_the_reference_is_tried_on_moved_numbers_only_before_a_variant_is_rejected() -> None:
    layer = kinks.LAYERS["linear"]
    truth = verify.truth(layer, {"batch": 3}, torch.float32, "cpu", 0)
    before = [each.clone() for each in (*truth.inputs, *truth.weights.state_dict().values())]
    judge(layer, "halves", truth)
    assert truth.moved.draws == 0
    name, exact = next(iter(truth.exact.outputs.items()))
    with pytest.raises(Mismatch):
        verify.hold(truth, name, (exact * 1.01).float())
    assert truth.moved.draws == moved.MOST
    assert all(map(torch.equal, before, (*truth.inputs, *truth.weights.state_dict().values())))


def test_where_the_reference_is_exact_moved_numbers_widen_nothing() -> None:
    """As of a maximum over neighbours that are a step apart: nobody rounds before it, so nobody has a reason to choose the other."""
    exact = torch.tensor([1.0, -2.0], dtype=torch.float64)
    eps = torch.finfo(torch.bfloat16).eps
    assert allowed(exact, torch.bfloat16, eps, Off(0.0, 0.0), [Off(9.0, 9.0)]) == (8 * eps, 8 * eps)
    assert allowed(exact, torch.bfloat16, eps, Off(0.1, 0.1), [Off(2.0, 1.0), Off(1.0, 0.5)]) == (
        2.0 + 8 * eps,
        1.0 + 4 * eps * 2.5**0.5,
    )
    whole = torch.tensor([1, 2])
    assert allowed(whole, torch.int64, eps, Off(0.0, 0.0), [Off(1.0, 0.0)]) == (0.0, 0.0)
    assert allowed(whole, torch.int64, eps, Off(1.0, 0.0), [Off(3.0, 0.0)]) == (3.0, 0.0)


def test_what_is_0_but_for_rounding_may_be_a_few_times_as_far_off_as_the_reference() -> None:
    """As the gradient of a key's bias in attention, which no softmax sees: fused kernels are up to 3.4 times as far off."""
    nothing, eps = torch.zeros(2, dtype=torch.float64), torch.finfo(torch.float32).eps
    assert allowed(nothing, torch.float32, eps, Off(1e-7, 1e-7), [Off(2e-7, 1e-7)]) == (8 * 2e-7, 8 * 1e-7)
    assert allowed(nothing + 1, torch.float32, eps, Off(1e-7, 1e-7), [Off(2e-7, 1e-7)]).largest < 5e-6

    class Keys(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(8))

        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return (q @ (k + self.bias).mT).softmax(-1) @ q

    class Fused(Keys):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k + self.bias, q, scale=1.0)

    class Wrong(Keys):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return super().forward(q, k) + 0.001 * (self.bias - self.bias.detach()).sum()

    variants = {"stock": Variant(Keys), "fused": Variant(Fused), "wrong": Variant(Wrong)}
    sweep = {"batch": (2,), "tokens": (32,)}  # odd sizes have 1 among them, where the reference's gradient is 0 without any rounding
    attention = Layer("keys", sweep, (randn("batch", "tokens", 8),) * 2, lambda module, size: module(), variants)
    for dtype in ("float32", "bfloat16", "float16"):
        found = prove(attention, tuple(variants), dtype, "cpu", lambda *_: None)
        assert not isinstance(found["fused"], Failed), (dtype, found["fused"].reason)
    truth, one = (verify.truth(attention, {"batch": 2, "tokens": tokens}, torch.float32, "cpu", 0) for tokens in (32, 1))
    noise = float((truth.own.gradients["bias grad"].double() - truth.exact.gradients["bias grad"]).abs().max())
    assert replace(one, usual=truth.sizes()).allowed("bias grad").largest == pytest.approx(8 * noise, rel=1e-6)
    wrong = prove(attention, ("stock", "wrong"), "float32", "cpu", lambda *_: None)["wrong"]
    assert isinstance(wrong, Failed) and wrong.reason.startswith("bias grad: off by")


class Statistics(nn.Module):
    """A running mean of squares, which are about 1: the first update in bfloat16 may be lost, or be one step."""

    def __init__(self, square: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("square", torch.ones(()))
        self.call = square

    def forward(self, x: Tensor) -> Tensor:
        self.call(self.square, x)
        return x * 2


def test_an_update_of_a_buffer_may_be_lost_to_rounding_but_not_left_out() -> None:
    ways = {
        "stock": lambda square, x: square.add_(0.005),
        "lost": lambda square, x: square.mul_(1.001),  # one step of bfloat16 is 0.008
        "left_out": lambda square, x: None,
    }
    variants = {name: Variant(partial(Statistics, way)) for name, way in ways.items()}
    layer = Layer("statistics", {"n": (7,)}, (randn("n"),), lambda module, size: module(), variants)
    judge(layer, "lost", verify.truth(layer, {"n": 7}, torch.bfloat16, "cpu", 0))
    with pytest.raises(Mismatch, match=r"^square after: missing; the reference has it"):
        judge(layer, "left_out", verify.truth(layer, {"n": 7}, torch.float32, "cpu", 0))


class Largest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.max(-1).values


class Even(nn.Module):
    """Of several that are the largest, each has a share of the gradient; another choice than the reference's, and as good a one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(-1)


class Twice(nn.Module):
    """Each of them has the whole of it."""

    def forward(self, x: Tensor) -> Tensor:
        largest = x.amax(-1, keepdim=True).detach()
        return torch.where(x == largest, x, 0.0).sum(-1) - (largest * ((x == largest).sum(-1, keepdim=True) - 1)).squeeze(-1)


class Second(nn.Module):
    """The gradient goes to what is a step smaller than the largest."""

    def forward(self, x: Tensor) -> Tensor:
        order = x.sort(-1).values
        return order[..., -1].detach() + order[..., -2] - order[..., -2].detach()


def test_where_two_are_equal_the_gradient_may_go_to_either_but_only_there() -> None:
    """In bfloat16 among 129 numbers the largest is often there twice."""
    variants = {"stock": Variant(Largest), "even": Variant(Even), "second": Variant(Second), "twice": Variant(Twice)}
    layer = Layer("largest", {"batch": (64,), "width": (129,)}, (randn("batch", "width"),), lambda module, size: module(), variants)
    for dtype in HALF:
        truth = verify.truth(layer, {"batch": 64, "width": 129}, dtype, "cpu", 0)
        judge(layer, "even", truth)
        for wrong in ("second", "twice") if dtype == torch.bfloat16 else ("second",):
            with pytest.raises(Mismatch, match=r"^input 0 grad: off by"):
                judge(layer, wrong, truth)
    found = prove(layer, ("stock", "even"), "bfloat16", "cpu", lambda *_: None)["even"]
    assert not isinstance(found, Failed) and found.uses
    assert "inputs of zeros" in found.uses.marks


def test_an_error_in_all_places_is_told_apart_from_one_that_is_large_in_a_few() -> None:
    layer = kinks.LAYERS["convnet"]
    truth = verify.truth(layer, {"batch": 3}, torch.bfloat16, "cpu", 0)
    name, exact = "conv2.weight grad", truth.exact.gradients["conv2.weight grad"]
    while truth.moved.more():
        pass
    limit = truth.allowed(name)
    assert limit.rms < 0.5 * limit.largest
    with pytest.raises(Mismatch, match=r"^conv2.weight grad: off by .* in root mean square, allowed "):
        verify.hold(truth, name, (exact + 0.9 * limit.largest).bfloat16())
    one = exact.clone()
    one[0, 0, 0, 0] += 0.9 * limit.largest
    verify.hold(truth, name, one.bfloat16())


class Mean(nn.Module):
    """v <- beta v + (1 - beta) g^2: a state that a constant, rounded to float32, moves a little at every call."""

    def __init__(self, beta: float = 0.999, rest: float | None = None) -> None:
        super().__init__()
        self.register_buffer("v", torch.empty(7).uniform_(0.01, 0.04))
        self.beta, self.rest = beta, 1 - beta if rest is None else rest

    def forward(self, gradient: Tensor) -> Tensor:
        return self.v.mul_(self.beta).addcmul_(gradient.detach(), gradient.detach(), value=self.rest).clone()


def test_constants_rounded_to_float32_may_show_at_every_call_of_an_optimizer() -> None:
    beta = float(torch.tensor(0.999))
    ways = {"stock": Mean, "rounded": partial(Mean, beta, 1 - beta), "wrong": partial(Mean, 0.999, 0.0010003)}
    variants = {name: Variant(way) for name, way in ways.items()}
    layer = Layer("mean", {"n": (7,)}, (randn(7),), lambda module, size: module(), variants, calls=4)
    for seed in range(20):
        truth = verify.truth(layer, {"n": 7}, torch.float32, "cpu", seed)
        judge(layer, "rounded", truth)
        with pytest.raises(Mismatch, match=r"^output: off by"):
            judge(layer, "wrong", truth)
    assert weakness.weaknesses(truth) == []
