"""Numbers out of the ordinary: what differs there alone is ranked with a mark; what the reference does not survive is asked of nobody."""

import pytest
import torch
from planted import layer, marks, outcome
from torch import Tensor, nn

from layerbench.bench import positive
from layerbench.bench.data.record import Failed
from layerbench.bench.data.uses import Uses
from layerbench.bench.equivalence.prove import Proof, prove


class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


class NoMaximum(nn.Module):
    """Right at standard normal numbers."""

    def forward(self, x: Tensor) -> Tensor:
        e = x.exp()
        return e / e.sum(-1, keepdim=True)


class WithMaximum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        e = (x - x.amax(-1, keepdim=True)).exp()
        return e / e.sum(-1, keepdim=True)


class NanWhereMasked(nn.Module):
    """-infinity times 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1) + 0 * x


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Swallows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.nan_to_num(0.0) * x.nan_to_num(0.0)


class Leaks(nn.Module):
    """A NaN comes out in places that it has nothing to do with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x + 0 * x.sum()


class Rms(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


class NoEpsilon(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).rsqrt()


class Tanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


class TanhByExp(nn.Module):
    """Infinity by infinity above 44."""

    def forward(self, x: Tensor) -> Tensor:
        e = (2 * x).exp()
        return (e - 1) / (e + 1)


class Clipped(torch.autograd.Function):
    """Gradients above 10 are cut off."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * g.clamp(-10, 10)


class ClipsGradients(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Clipped.apply(x)


def plain(stock, other, *inputs, **more):
    return layer(stock, other, *inputs, build=lambda module, size: module(), verify=({"batch": 3, "width": 64},), **more)


def test_a_softmax_without_its_maximum_is_marked_with_the_scale_and_the_tensor() -> None:
    found = marks(plain(Softmax, NoMaximum))
    assert found["inputs times 100"].startswith("output: NaN in ")
    assert "every third number -infinity" in marks(plain(Softmax, NanWhereMasked))
    assert marks(plain(Softmax, WithMaximum)) == {}


@pytest.mark.parametrize(
    ("stock", "other", "way"),
    [
        (Square, Swallows, "a NaN"),
        (Square, Leaks, "a NaN"),
        (Rms, NoEpsilon, "inputs of zeros"),
        (Rms, NoEpsilon, "inputs times 0.001"),
        (Tanh, TanhByExp, "inputs times 1e+30"),
        (Square, ClipsGradients, "gradients times 100"),
    ],
)
def test_what_differs_out_of_the_ordinary_alone_is_marked(stock, other, way: str) -> None:
    assert way in marks(plain(stock, other))


def test_it_is_ranked_and_the_mark_is_a_warning() -> None:
    found = prove(plain(Softmax, NoMaximum), ("stock", "wrong"), "float32", "cpu", lambda *_: None)["wrong"]
    assert isinstance(found, Proof) and found.uses
    (told,) = found.uses.mark
    assert told.startswith("same for ordinary values only: with inputs times 100, output: NaN in ")
    assert "; and with " in told


def test_the_largest_that_the_reference_survives_is_tried_and_no_larger() -> None:
    """A square of 1e30 overflows float32, one of 1e16 does not."""

    class Overflows(Square):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x.abs() > 1e12, 0 * x, super().forward(x))

    found = marks(plain(Square, Overflows))
    assert "inputs times 1e+16" in found and "inputs times 1e+30" not in found


def test_where_the_reference_overflows_too_nobody_is_asked() -> None:
    assert marks(plain(NoMaximum, Softmax)) == {}


def test_numbers_that_are_drawn_positive_stay_positive() -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.log()

    class LogOfPositive(nn.Module):
        """Another answer for 0, which is never asked."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, x, torch.ones_like(x)).log()

    found = outcome(plain(Log, LogOfPositive, positive("batch", "width")))
    assert isinstance(found, Uses) and found.marks == {}


def test_a_wrong_layer_is_not_let_off_with_a_mark() -> None:
    class Off(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1.001 * x.softmax(-1)

    assert isinstance(outcome(plain(Softmax, Off)), Failed)
