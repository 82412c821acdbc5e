"""The memory pass against byte counts worked out by hand."""

import pytest
import torch
from torch import nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.data.record import Memory
from layerbench.bench.equivalence import verify
from layerbench.bench.profiling import memory
from layerbench.bench.subject import make
from layerbench.bench.subject.make import Subject

KIB = 1024


class KeepsMore(nn.Softmax):
    """Saves its input beside its output: one more tensor of the input's size stays alive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Keeping.apply(x)


class Keeping(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        y = torch.softmax(x, -1)
        ctx.save_for_backward(y, x.clone())
        return y

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        y, _ = ctx.saved_tensors
        return torch.ops.aten._softmax_backward_data(g, y, -1, g.dtype)


def subject(module: type[nn.Module], batch: int, width: int, *arguments: object) -> Subject:
    layer = Layer(
        "layer",
        {"batch": (batch,), "width": (width,)},
        (randn("batch", "width"),),
        lambda m, size: m(*arguments),
        {"stock": Variant(module)},
    )
    truth = verify.truth(layer, {"batch": batch, "width": width}, torch.float32, "cpu", 0)
    made = make.subject("stock", truth.weights, truth.inputs, truth.cotangents)
    for _ in range(2):
        make.call(made, "backward").once()
    return made


@pytest.mark.parametrize(
    ("module", "arguments", "expected"),
    [
        # y (64 KiB) is held and is also all that backward needs; backward adds the input's gradient
        (nn.Softmax, (-1,), Memory(64 * KIB, 0, 64 * KIB, 128 * KIB)),
        # beside y, a copy of x is saved
        (KeepsMore, (-1,), Memory(64 * KIB, 64 * KIB, 128 * KIB, 192 * KIB)),
        # x 64 + weight 256 + bias 1 KiB alive; y 64 KiB; backward: y + input grad 64 + weight grad 256 + bias grad 1 KiB
        (nn.Linear, (256, 256), Memory(321 * KIB, 0, 64 * KIB, 385 * KIB)),
        # nothing is computed: the output is the input, and its gradient a copy of the cotangent
        (nn.Identity, (), Memory(64 * KIB, 0, 0, 64 * KIB)),
    ],
)
def test_bytes_are_exact(module: type[nn.Module], arguments: tuple[object, ...], expected: Memory) -> None:
    assert memory.weigh(subject(module, 64, 256, *arguments), "cpu") == expected


def test_it_does_not_depend_on_what_was_called_before() -> None:
    made = subject(nn.Linear, 64, 256, 256, 256)
    first = memory.weigh(made, "cpu")
    made.backward(made.forward())  # leaves gradients behind
    assert memory.weigh(made, "cpu") == first
