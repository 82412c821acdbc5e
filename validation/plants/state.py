"""Layers with a state: running statistics of batches, a mean that moves."""

import torch
from torch import nn

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "batchnorm biased": ("running statistics", "the running variance is that of the batch without Bessel's correction"),
    "batchnorm momentum_reversed": ("running statistics", "keeps 0.1 of the old value and takes 0.9 of the new"),
    "batchnorm uncounted": ("running statistics", "num_batches_tracked stays 0"),
    "batchnorm toward_first": ("running statistics", "moves towards the statistics of the first batch; right for one batch repeated"),
    "batchnorm updated_in_backward": ("running statistics", "statistics move in backward only"),
    "batchnorm centred_by_running": ("running statistics", "the variance is taken around the running mean"),
    "ema not_persistent": ("state_dict changed", "its running mean is not in the state_dict"),
    "ema first_call_counts_twice": ("running statistics", "a first call moves the mean by itself once more"),
    "ema jumps": ("large values", "the running mean moves by 1 at most"),
    "ema state_in_graph": ("running statistics", "the running mean keeps the graph: gradients flow through earlier calls"),
}


class Norm(nn.BatchNorm1d):
    def forward(self, x):
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            self.count()
            self.move(self.running_mean, self.target("mean", x.mean(0)))
            self.move(self.running_var, self.target("var", self.variance(x)))
        return (x - x.mean(0)) * (x.var(0, correction=0) + self.eps).rsqrt() * self.weight + self.bias

    def count(self):
        self.num_batches_tracked += 1

    def move(self, running, target):
        running.mul_(1 - self.momentum).add_(target, alpha=self.momentum)

    def target(self, name, found):
        return found

    def variance(self, x):
        return x.var(0)


class Biased(Norm):
    def variance(self, x):
        return x.var(0, correction=0)


class MomentumReversed(Norm):
    def move(self, running, target):
        running.mul_(self.momentum).add_(target, alpha=1 - self.momentum)


class Uncounted(Norm):
    def count(self):
        pass


class TowardFirst(Norm):
    def target(self, name, found):
        if not hasattr(self, f"first_{name}"):
            setattr(self, f"first_{name}", found.clone())
        return getattr(self, f"first_{name}")


class UpdatedInBackward(Norm):
    def forward(self, x):
        if not (self.training and x.requires_grad and torch.is_grad_enabled()):
            return super().forward(x)
        kept = {name: tensor.clone() for name, tensor in self.named_buffers()}
        y = super().forward(x)
        moved = {name: tensor.clone() for name, tensor in self.named_buffers()}
        self.fill(kept)
        y.register_hook(lambda g: self.fill(moved))
        return y

    def fill(self, values):
        with torch.no_grad():
            for name, tensor in self.named_buffers():
                tensor.copy_(values[name])


class CentredByRunning(Norm):
    def variance(self, x):
        return (x - self.running_mean).square().sum(0) / (len(x) - 1)


batchnorm = Layer(
    "batchnorm",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={
        "stock": Variant(nn.BatchNorm1d),
        "by_hand": Variant(Norm),
        "biased": Variant(Biased),
        "momentum_reversed": Variant(MomentumReversed),
        "uncounted": Variant(Uncounted),
        "toward_first": Variant(TowardFirst),
        "updated_in_backward": Variant(UpdatedInBackward),
        "centred_by_running": Variant(CentredByRunning),
    },
)


class Ema(nn.Module):
    """y = x - m, and m moves by a tenth towards the mean of the batch."""

    persistent, moved = True, 0.1

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width), persistent=self.persistent)

    def forward(self, x):
        y = x - self.mean
        if self.training:
            with torch.no_grad():
                self.mean.copy_(self.other(x))
        return y

    def other(self, x):
        return self.mean + self.moved * (x.mean(0) - self.mean)


class Lerped(Ema):
    def other(self, x):
        return self.mean.lerp(x.mean(0), self.moved)


class NotPersistent(Lerped):
    persistent = False


class FirstCountsTwice(Lerped):
    def other(self, x):
        once = super().other(x)
        return once.lerp(x.mean(0), self.moved) if not self.mean.any() else once


class StateInGraph(Lerped):
    def forward(self, x):
        y = x - self.mean
        if self.training:
            self.mean = self.other(x)
        return y


class Jumps(Lerped):
    """Within a factor of the mean: what is further off moves it by no more."""

    def other(self, x):
        return self.mean + (self.moved * (x.mean(0) - self.mean)).clamp(-1, 1)


ema = Layer(
    "ema",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={
        "stock": Variant(Ema),
        "lerped": Variant(Lerped),
        "not_persistent": Variant(NotPersistent),
        "first_call_counts_twice": Variant(FirstCountsTwice),
        "state_in_graph": Variant(StateInGraph),
        "jumps": Variant(Jumps),
    },
)
