"""Layers that are right where everything needs a gradient, once: other modes, frozen weights, two calls before backward."""

import torch
import torch.nn.functional as F
from torch import nn

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "gated zeros_without_gradient": ("inference", "zeros where the input needs no gradient"),
    "gated other_under_no_grad": ("inference", "relu in place of silu under no_grad"),
    "gated other_in_inference_mode": ("inference", "a coarse sigmoid under inference_mode alone"),
    "gated weight_gradient_first_layer": ("what needs a gradient", "weight gradient zero where the input needs none"),
    "gated bias_with_weight": ("what needs a gradient", "bias gradient only where the weight needs one, too"),
    "gated frozen_weight": ("what needs a gradient", "input gradient without the weight where that is frozen"),
    "gated needs_swapped": ("what needs a gradient", "needs_input_grad read one place too far"),
    "gated grad_overwritten": ("accumulation", "writes .grad, where it should add"),
    "gated grad_doubled": ("accumulation", "adds to .grad and returns the same gradient, from the second step on"),
    "gated state_on_module": ("two calls before backward", "saves its hidden values on the module, not in the context"),
    "gated last_context": ("two calls before backward", "one dict of saved tensors by shape"),
    "gated graph_used_up": ("a second backward", "frees what it saved by resizing it to 0, and takes zeros the second time"),
    "gated scaled_in_place": ("a second backward", "multiplies a saved tensor in place in backward"),
    "gated stack_of_saved": ("two calls before backward", "pushes what it saves on a stack, and pops in backward"),
    "norm batch_in_eval": ("train and eval", "batch statistics in eval(), too"),
    "norm running_in_train": ("train and eval", "running statistics in train() once they are 100 calls old"),
    "norm updates_in_eval": ("train and eval", "running statistics move in eval(), too"),
    "norm folded_stale": ("train and eval", "scale and shift folded at the first eval(), never again"),
}


class Gated(nn.Module):
    """y = silu(x W^T + b)."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width) / width**0.5)
        self.bias = nn.Parameter(torch.randn(width))
        self.kept, self.calls = None, 0

    def forward(self, x):
        return F.silu(F.linear(x, self.weight, self.bias))


class Own(Gated):
    """By a Function; what is wrong with others is one method of theirs."""

    def forward(self, x):
        return Silu.apply(x, self.weight, self.bias, self)

    def save(self, ctx, h):
        ctx.h = h

    def load(self, ctx):
        return ctx.h

    def slope(self, h):
        return h.sigmoid() * (1 + h * (1 - h.sigmoid()))

    def gradients(self, needs, gh, x, weight):
        return gh @ weight, gh.T @ x, gh.sum(0)


class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, module):
        h = F.linear(x, weight, bias)
        ctx.save_for_backward(x, weight, bias)
        ctx.module = module
        module.save(ctx, h)
        return F.silu(h)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, weight, _ = ctx.saved_tensors
        needs = ctx.needs_input_grad
        found = ctx.module.gradients(needs, g * ctx.module.slope(ctx.module.load(ctx)), x, weight)
        return *(each if need else None for each, need in zip(found, needs, strict=False)), None


class ZerosWithoutGradient(Own):
    def forward(self, x):
        return super().forward(x) * float(x.requires_grad)


class OtherUnderNoGrad(Own):
    def forward(self, x):
        return super().forward(x) if torch.is_grad_enabled() else F.relu(F.linear(x, self.weight, self.bias))


class OtherInInferenceMode(Own):
    def forward(self, x):
        if not torch.is_inference_mode_enabled():
            return super().forward(x)
        h = F.linear(x, self.weight, self.bias)
        return h * F.hardsigmoid(h)


class WeightGradientFirstLayer(Own):
    def gradients(self, needs, gh, x, weight):
        return gh @ weight, gh.T @ x if needs[0] else torch.zeros_like(weight), gh.sum(0)


class BiasWithWeight(Own):
    def gradients(self, needs, gh, x, weight):
        return gh @ weight, gh.T @ x, gh.sum(0) if needs[1] else torch.zeros_like(gh[0])


class FrozenWeight(Own):
    def gradients(self, needs, gh, x, weight):
        return gh @ weight if needs[1] else gh, gh.T @ x, gh.sum(0)


class NeedsSwapped(Own):
    def gradients(self, needs, gh, x, weight):
        return gh @ weight if needs[1] else None, gh.T @ x if needs[2] else None, gh.sum(0)


class GradOverwritten(Own):
    def gradients(self, needs, gh, x, weight):
        self.weight.grad = None
        return super().gradients(needs, gh, x, weight)


class GradDoubled(Own):
    def gradients(self, needs, gh, x, weight):
        if self.bias.grad is not None:
            self.bias.grad += gh.sum(0)
        return super().gradients(needs, gh, x, weight)


class StateOnModule(Own):
    def save(self, ctx, h):
        self.kept = h

    def load(self, ctx):
        return self.kept


class LastContext(Own):
    def save(self, ctx, h):
        self.kept = (self.kept or {}) | {h.shape: h}
        ctx.shape = h.shape

    def load(self, ctx):
        return self.kept[ctx.shape]


class GraphUsedUp(Own):
    def load(self, ctx):
        h, ctx.h = ctx.h, torch.zeros_like(ctx.h)
        return h


class ScaledInPlace(Own):
    def slope(self, h):
        s = h.sigmoid()
        return s * (1 + h.mul_(1 - s))


class StackOfSaved(Own):
    def save(self, ctx, h):
        self.kept = [*(self.kept or [])[-3:], h]

    def load(self, ctx):
        return self.kept.pop()


wrong = (
    *(ZerosWithoutGradient, OtherUnderNoGrad, OtherInInferenceMode, WeightGradientFirstLayer, BiasWithWeight, FrozenWeight, NeedsSwapped),
    *(GradOverwritten, GradDoubled, StateOnModule, LastContext, GraphUsedUp, ScaledInPlace, StackOfSaved),
)


def snake(name):
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")


gated = Layer(
    "gated",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={"stock": Variant(Gated), "own": Variant(Own)} | {snake(each.__name__): Variant(each) for each in wrong},
)


class Norm(nn.BatchNorm1d):
    def forward(self, x):
        return self.by(x, self.training, self.training)

    def by(self, x, batch, update):
        mean, variance = (x.mean(0), x.var(0, correction=0)) if batch else (self.running_mean, self.running_var)
        if update:
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(x.mean(0), self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class BatchInEval(Norm):
    def forward(self, x):
        return self.by(x, True, self.training)


class RunningInTrain(Norm):
    def forward(self, x):
        return self.by(x, self.training and self.num_batches_tracked < 100, self.training)


class UpdatesInEval(Norm):
    def forward(self, x):
        return self.by(x, self.training, len(x) > 1)


class FoldedStale(Norm):
    folded = None

    def forward(self, x):
        if self.training:
            return super().forward(x)
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        self.folded = self.folded or (scale, self.bias - self.running_mean * scale)
        return x * self.folded[0] + self.folded[1]


norm = Layer(
    "norm",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"]),
    variants={"stock": Variant(nn.BatchNorm1d), "by_hand": Variant(Norm)}
    | {snake(each.__name__): Variant(each) for each in (BatchInEval, RunningInTrain, UpdatesInEval, FoldedStale)},
)
