"""The suite of the gate's studies: three layers, two batches, two implementations each, and a plant that makes a call slower exactly.

A suite file like any other; the studies copy it into a repository of their own, with other values of EVERY and PLANTED at the head.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.declare.layer import Size

NEVER = 10**9
EVERY = NEVER  # of so many calls one runs twice: 20 is +5 %
PLANTED: tuple[str, ...] = ()  # ids of layer and variant, and the batch where not all of them: ("norm plain", "softmax stock 64")


class Planted(nn.Module):
    """Runs the module, and every so often its whole call once more: so many calls cost as much as that many and one."""

    def __init__(self, module: nn.Module, every: int) -> None:
        super().__init__()
        self.module, self.every, self.calls = module, every, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls % (self.every + 1) == 0:  # the call that is made here is counted too
            self(x)
        return self.module(x)


class PlainLayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps) * self.weight + self.bias


class PlainSoftmax(nn.Softmax):
    def forward(self, x: Tensor) -> Tensor:
        raised = torch.exp(x - x.amax(-1, keepdim=True))
        return raised / raised.sum(-1, keepdim=True)


class PlainLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight.t())


def build(name: str, *arguments: int) -> Callable[[Callable[..., nn.Module], Size], nn.Module]:
    def made(module: Callable[..., nn.Module], size: Size) -> nn.Module:
        variant = "plain" if getattr(module, "__name__", "").startswith("Plain") else "stock"
        planted = {f"{name} {variant}", f"{name} {variant} {size['batch']}"} & set(PLANTED)
        return Planted(module(*arguments), EVERY if planted else NEVER)

    return made


SWEEP = {"batch": (4, 16), "width": (256,)}  # a block holds more calls than lie between two plants
X = (randn("batch", "width"),)
norm = Layer("norm", SWEEP, X, build("norm", 256), {"stock": Variant(nn.LayerNorm), "plain": Variant(PlainLayerNorm)})
softmax = Layer("softmax", SWEEP, X, build("softmax", -1), {"stock": Variant(nn.Softmax), "plain": Variant(PlainSoftmax)})
linear = Layer("linear", SWEEP, X, build("linear", 256, 256), {"stock": Variant(nn.Linear), "plain": Variant(PlainLinear)})
