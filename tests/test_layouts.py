"""The same numbers with other strides: who reads memory as if it were contiguous is found, who refuses or copies is not rejected."""

from typing import Any

import pytest
import torch
from planted import Product, Stock, flat, layer, limits, linear, outcome, reason
from torch import Tensor, nn

from layerbench.bench import randn
from layerbench.bench.data.uses import Uses
from layerbench.bench.equivalence import layouts


class ReadsGradientFlat(Product):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Product.backward(ctx, flat(g))


class ReadsInputFlat(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(flat(x))


class RefusesOtherInputs(Stock):
    def forward(self, x: Tensor) -> Tensor:
        if not x.is_contiguous():
            raise ValueError("x must be contiguous")
        return super().forward(x)


class Copies(Product):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Product.backward(ctx, g.contiguous())


class FlatImage(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        dense = x.is_contiguous(memory_format=torch.channels_last) and x.shape[1] > 1
        return super().forward(flat(x) if dense else x)


class FlatGradientOfImage(torch.autograd.Function):
    """Right but for an incoming gradient that is channels-last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * (flat(g) if g.is_contiguous(memory_format=torch.channels_last) and not g.is_contiguous() else g)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class TwiceByHand(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return FlatGradientOfImage.apply(x)


def test_a_backward_that_reads_its_incoming_gradient_flat_is_wrong() -> None:
    assert reason(layer(Stock, linear(ReadsGradientFlat))).startswith("transposed gradients: input 0 grad: off by")


@pytest.mark.parametrize("way", ["expanded gradients", "sliced gradients", "every second number of gradients"])
def test_each_layout_of_a_gradient_finds_it_alone(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, way)
    assert reason(layer(Stock, linear(ReadsGradientFlat))).startswith(f"{way}: ")


@pytest.mark.parametrize("way", ["transposed inputs", "sliced inputs", "expanded inputs", "every second number of inputs"])
def test_each_layout_of_an_input_finds_a_forward_that_reads_it_flat(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, way)
    assert reason(layer(Stock, ReadsInputFlat)).startswith(f"{way}: output: off by")


def test_channels_last_images_and_gradients_are_tried_too() -> None:
    def build(module, size):
        return module(3, 5, 3) if module in (nn.Conv2d, FlatImage) else module()

    image = randn("batch", 3, 6, 7)
    assert reason(layer(nn.Conv2d, FlatImage, image, build=build)).startswith("channels-last inputs: output: off by")
    assert reason(layer(Twice, TwiceByHand, image, build=build)).startswith("channels-last gradients: input 0 grad: off by")


def test_who_refuses_a_layout_has_a_limit_in_its_own_words() -> None:
    found = limits(layer(Stock, RefusesOtherInputs))
    told = "ValueError: x must be contiguous"
    assert {name: words for name, words in found.items() if "inputs" in name} == {
        "transposed inputs": told,
        "sliced inputs": told,
        "expanded inputs": told,
        "every second number of inputs": told,
    }


def test_who_copies_first_is_right() -> None:
    found = outcome(layer(Stock, linear(Copies)))
    assert isinstance(found, Uses)
    assert {name for name in found.limits if "gradients" in name or "inputs" in name} == set()


@pytest.mark.parametrize("lay", [layouts.transposed, layouts.sliced, layouts.every_second, layouts.channels_last])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4, 5)])
def test_a_layout_keeps_numbers_and_shape(lay: layouts.Lay, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape)
    made = layouts.laid(tensor, lay)
    assert torch.equal(made, tensor)
    other = made.stride() != tensor.stride() or made.storage_offset() > 0
    assert (
        other == {"transposed": len(shape) > 1, "sliced": True, "every_second": bool(shape), "channels_last": len(shape) == 4}[lay.__name__]
    )


def _only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from layerbench.bench.equivalence import in_use

    monkeypatch.setattr(in_use, "ORDER", tuple(way for way in in_use.ORDER if way.name == name))
