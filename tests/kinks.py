"""Small layers written in several right ways that round differently: what tests/test_tolerance.py and validation/tolerance.py share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812 - its usual name

from layerbench.bench import Layer, Variant, randn
from layerbench.layers.convnet import ConvNet, FunctionConvNet

WIDER = {torch.float32: torch.float64, torch.float16: torch.float32, torch.bfloat16: torch.float32}


def once(stock: type[nn.Module]) -> Callable[..., nn.Module]:
    """The class that computes in the next wider dtype, and rounds outputs and gradients once."""

    class Once(stock):
        def forward(self, x: Tensor) -> Tensor:
            wide = WIDER.get(x.dtype)
            if wide is None or self._wide:
                return super().forward(x)
            self._wide = True
            try:
                return functional_call(self, {name: each.to(wide) for name, each in self.named_parameters()}, x.to(wide)).to(x.dtype)
            finally:
                self._wide = False

        _wide = False

    return Once


def halves(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer as two sums, the later half first, each rounded on its own."""
    middle = x.shape[-1] // 2
    return (x[..., middle:] @ weight[:, middle:].T + x[..., :middle] @ weight[:, :middle].T) + bias


def unfolded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution as a product of two such halves."""
    columns = F.unfold(x, weight.shape[2:]).transpose(1, 2)
    planes = halves(columns, weight.flatten(1), bias).transpose(1, 2)
    return planes.unflatten(2, tuple(side - taps + 1 for side, taps in zip(x.shape[2:], weight.shape[2:], strict=True)))


class Linear(nn.Linear):
    pass


class LinearByHalves(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return halves(x, self.weight, self.bias)


class Norm(nn.Module):
    """layer norm, linear, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.scores = nn.LayerNorm(33), nn.Linear(33, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.norm(x)).softmax(-1)


class PlainNorm(Norm):
    """As it stands in a book, every step rounded."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + self.norm.eps).sqrt() * self.norm.weight + self.norm.bias
        logits = halves(x, *self.scores.parameters())
        powers = (logits - logits.amax(-1, keepdim=True)).exp()
        return powers / powers.sum(-1, keepdim=True)


class Kinks(nn.Module):
    """convolution, ReLU, maximum over 2x2, linear, ReLU, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.scores = nn.Conv2d(2, 6, 3), nn.Linear(6 * 4 * 4, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.scores(F.relu(self.hidden(x.flatten(1))))


class KinksByHalves(Kinks):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(unfolded(x, *self.conv.parameters()), 2))
        return halves(F.relu(halves(x.flatten(1), *self.hidden.parameters())), *self.scores.parameters())


class ConvNetByHalves(ConvNet):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(unfolded(x, *self.conv1.parameters()), 2))
        x = F.relu(F.max_pool2d(unfolded(x, *self.conv2.parameters()), 2))
        return halves(F.relu(halves(x.flatten(1), *self.hidden.parameters())), *self.scores.parameters())


def _layer(name: str, shape: tuple[int, ...], stock: type[nn.Module], build: Callable[..., nn.Module], **others: type[nn.Module]) -> Layer:
    kinds = {"stock": stock, "once": once(stock), **others}
    variants = {name: Variant(kind) for name, kind in kinds.items()}
    return Layer(name, {"batch": (3,)}, (randn("batch", *shape),), build, variants)


LAYERS = {
    layer.name: layer
    for layer in (
        _layer("linear", (37,), Linear, lambda module, size: module(37, 24), halves=LinearByHalves),
        _layer("norm", (33,), Norm, lambda module, size: module(), plain=PlainNorm),
        _layer("kinks", (2, 10, 10), Kinks, lambda module, size: module(), halves=KinksByHalves),
        _layer("convnet", (1, 28, 28), ConvNet, lambda module, size: module(), halves=ConvNetByHalves, function=FunctionConvNet),
    )
}
