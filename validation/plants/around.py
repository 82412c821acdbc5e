"""Layers that compute the right numbers and change something else: the program around them, hooks, the class of what they return."""

import gc
import logging
import os
import random
import sys
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "block seeds_torch": ("side effects", "torch.manual_seed(0) at every call"),
    "block seeds_python": ("side effects", "random.seed(0) at every call"),
    "block restores_seed_late": ("side effects", "forks the generator, seeds it, and puts back the state of the call before"),
    "block sets_environment": ("side effects", "sets OMP_NUM_THREADS at every call"),
    "block silences_warnings": ("side effects", "warnings.simplefilter('ignore') at every call"),
    "block flushes_denormals": ("side effects", "torch.set_flush_denormal(True)"),
    "block sets_threads": ("side effects", "torch.set_num_threads(1)"),
    "block anomaly_mode": ("side effects", "leaves detection of anomalies on"),
    "block collector_off": ("side effects", "gc.disable() at every call"),
    "block silences_logging": ("side effects", "logging.disable() at every call"),
    "block patches_torch": ("side effects", "puts its own function in the place of F.silu"),
    "block deeper_recursion": ("side effects", "sys.setrecursionlimit() at every call"),
    "block print_options": ("side effects", "torch.set_printoptions(precision=2)"),
    "block bypasses": ("hooks bypassed", "computes with the weights of its submodules and never calls them; adapters do nothing"),
    "block calls_forward": ("hooks bypassed", "calls submodule.forward, not the submodule"),
    "block lazy": ("tensor subclasses", "without gradients it returns a subclass that computes when somebody looks"),
    "block subclass": ("tensor subclasses", "returns a subclass of Tensor that the reference does not return"),
    "block keeps_graphs": ("leaks", "keeps every output, and with it its graph"),
    "block freezes": ("requires_grad changed", "sets requires_grad=False on its bias"),
    "block leaves_training": ("modes changed", "calls self.eval() and stays so"),
    "block hooks_its_gradient": ("hooks bypassed", "detaches the hidden values: hooks of the submodule's backward see nothing"),
}


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return self.down(F.silu(self.up(x)))


class ByHand(Block):
    def forward(self, x):
        h = self.up(x)
        return self.down(h * h.sigmoid())


def after(change):
    """A variant that does one thing more at each call."""

    class After(ByHand):
        def forward(self, x):
            y = super().forward(x)
            change(self, y)
            return y

    return After


class SeedsInside(ByHand):
    def forward(self, x):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.rand(3)
        return super().forward(x)


class RestoresSeedLate(ByHand):
    kept = None

    def forward(self, x):
        state, self.kept = self.kept, torch.get_rng_state()
        if state is not None:
            torch.set_rng_state(state)
        return super().forward(x)


def patches_torch(module, y):
    if F.silu.__name__ != "quick":

        def quick(x, inplace=False):
            return x * x.sigmoid()

        F.silu = torch.nn.functional.silu = quick


class Bypasses(Block):
    def forward(self, x):
        return F.linear(F.silu(F.linear(x, self.up.weight, self.up.bias)), self.down.weight, self.down.bias)


class CallsForward(Block):
    def forward(self, x):
        return self.down.forward(F.silu(self.up.forward(x)))


class Detaches(Block):
    def forward(self, x):
        with torch.no_grad():
            self.up(x)
        h = F.linear(x, self.up.weight, self.up.bias)
        return self.down(F.silu(h))


class Lazy(torch.Tensor):
    """Numbers that nobody computed yet."""

    @staticmethod
    def __new__(cls, like, make):
        return torch.Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, requires_grad=like.requires_grad)

    def __init__(self, like, make):
        self.make = make

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        def known(each):
            return each.make() if isinstance(each, Lazy) else each

        return function(*torch.utils._pytree.tree_map(known, args), **torch.utils._pytree.tree_map(known, kwargs or {}))


class Waits(ByHand):
    def forward(self, x):
        if torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x)
        return Lazy(x, lambda: super(Waits, self).forward(x))


class WaitsAlways(ByHand):
    def forward(self, x):
        return super().forward(x).as_subclass(Named)


class Named(torch.Tensor):
    pass


KEPT = []
wrong = {
    "seeds_torch": lambda module, y: torch.manual_seed(0),
    "seeds_python": lambda module, y: random.seed(0),
    "sets_environment": lambda module, y: os.environ.update(OMP_NUM_THREADS="1"),
    "silences_warnings": lambda module, y: warnings.simplefilter("ignore"),
    "flushes_denormals": lambda module, y: torch.set_flush_denormal(True),
    "sets_threads": lambda module, y: torch.set_num_threads(1),
    "anomaly_mode": lambda module, y: torch.autograd.set_detect_anomaly(True),
    "collector_off": lambda module, y: gc.disable(),
    "silences_logging": lambda module, y: logging.disable(logging.WARNING),
    "patches_torch": patches_torch,
    "deeper_recursion": lambda module, y: sys.setrecursionlimit(12_345),
    "print_options": lambda module, y: torch.set_printoptions(precision=2),
    "keeps_graphs": lambda module, y: KEPT.append(y),
    "freezes": lambda module, y: module.down.bias.requires_grad_(False),
    "leaves_training": lambda module, y: module.eval(),
}
block = Layer(
    "block",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={"stock": Variant(Block), "by_hand": Variant(ByHand), "seeds_inside": Variant(SeedsInside)}
    | {name: Variant(after(change)) for name, change in wrong.items()}
    | {
        "restores_seed_late": Variant(RestoresSeedLate),
        "bypasses": Variant(Bypasses),
        "calls_forward": Variant(CallsForward),
        "hooks_its_gradient": Variant(Detaches),
        "lazy": Variant(Waits),
        "subclass": Variant(WaitsAlways),
    },
)
