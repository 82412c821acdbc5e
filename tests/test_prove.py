"""A proof's trials: every size, and the first with weights of every scale."""

import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.data.record import Failed
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.equivalence.prove import Proof, prove, trials
from layerbench.bench.subject import make


class Unguarded(nn.Linear):
    """As Stock, but exp overflows where a logit is above 88."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).exp().sum(-1).log()


class Stock(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).logsumexp(-1)


def _layer(width: int, **more: object) -> Layer:
    sweep = {"batch": (4,), "width": (width,)}
    variants = {"stock": Variant(Stock), "unguarded": Variant(Unguarded)}
    inputs = (randn("batch", "width"),)
    return Layer("logits", sweep, inputs, lambda module, size: module(size["width"], 16), variants, **more)  # type: ignore[arg-type]  # any


def test_sizes_then_scales() -> None:
    layer = _layer(64, verify_at=({"batch": 3}, {"batch": 5}), init="xavier")
    small, large = {"batch": 3, "width": 64}, {"batch": 5, "width": 64}
    assert trials(layer) == [(small, "xavier"), (large, "xavier"), (small, "default"), (small, "normal"), (small, "kaiming")]


def test_a_variant_that_large_weights_break_has_failed_and_the_scale_is_named() -> None:
    layer = _layer(16384)  # logits of standard deviation 128
    found = prove(layer, ("stock", "unguarded"), "float32", "cpu", lambda stage, name: None)
    broken = found["unguarded"]
    assert isinstance(broken, Failed)
    assert broken.reason == "output: infinity in 3 of 3 places where the reference has numbers (at batch=3 width=16384, normal weights)"
    assert isinstance(found["stock"], Proof)


def test_without_a_matrix_there_is_one_scale() -> None:
    entered = []
    stock = {"stock": Variant(nn.LayerNorm)}
    layer = Layer("norm", {"n": (4,)}, (randn("n", 8),), lambda module, size: module(8), stock, verify_at=({"n": 3},))
    prove(layer, ("stock",), "float32", "cpu", lambda stage, name: entered.append(stage))
    assert entered[:3] == ["verify", "verify", "ways"]  # its truth, and its judgement


def test_the_weights_have_the_scale_of_their_initialisation() -> None:
    def deviation(**more: object) -> float:
        module = make.reference(_layer(1024, **more), {"width": 1024}, torch.float32, "cpu", 0)
        return float(module.get_parameter("weight").detach().std())

    noise = 1.01**0.5  # a tenth of it is added
    assert deviation(init="normal") == pytest.approx(noise, rel=0.03)
    assert deviation(init="xavier") == pytest.approx((2 / (1024 + 16)) ** 0.5 * noise, rel=0.03)
    assert deviation(init="kaiming") == pytest.approx((2 / 1024) ** 0.5 * noise, rel=0.03)
    assert deviation() == pytest.approx((1 / 3 / 1024) ** 0.5 * noise, rel=0.03)  # nn.Linear: uniform within 1 / sqrt(1024)


def test_an_unknown_initialisation_is_a_sentence() -> None:
    with pytest.raises(Mistake) as caught:
        _layer(8, init="he")
    assert str(caught.value) == "layer 'logits': init is 'he'; choose from default, normal, xavier, kaiming"
