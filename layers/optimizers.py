"""One step of an optimizer over a list of tensors, in place:  SGD with momentum, Adam, RMSprop, each with weight decay.

Element by element, w being a weight, g its gradient, and d = g + decay w, as torch.optim has weight decay unless it is decoupled:

sgd      b <- momentum b + d,                         w <- w - lr b.   (Polyak, 1964; torch.optim.SGD)
adam     m <- beta1 m + (1 - beta1) d,  v <- beta2 v + (1 - beta2) d^2,
         w <- w - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
         at step t.   (Kingma & Ba, 2015, arXiv:1412.6980; torch.optim.Adam)
rmsprop  v <- alpha v + (1 - alpha) d^2,  b <- momentum b + d / (sqrt(v) + eps),
         w <- w - lr b.   (Tieleman & Hinton, lecture 6.5 of Neural Networks for Machine Learning, 2012; torch.optim.RMSprop)

A layer of these is called with the gradients, a row to a tensor, and returns its weights after the step.  It has no backward, and a second
call begins where the first one ended: it is compared after four.

The learning rate is 1e-3, torch's default for SGD and Adam, and weights begin at 1/64 of a standard normal: four steps move them by a
quarter of that or more, which bfloat16 shows too.  The gradient of a timed layer is the same at every call, so the weights walk towards
-g / decay = -1e4 g, and there momentum would fade into numbers so small that a CPU takes many times as long to multiply them.  At 1e-3
the way takes SGD and RMSprop a million calls and Adam ten millions; in half types it ends where a step is less than half an ulp.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as adam_of_torch
from torch.optim.rmsprop import rmsprop as rmsprop_of_torch
from torch.optim.sgd import sgd as sgd_of_torch

from ..bench import GPU, Layer, Variant, randn

Tensors = list[Tensor]
TAKEN = 30.0  # steps behind a layer that begins.  With a new optimizer's zeros, float16 would have (1 - beta2) d^2 = 0 for small d, eps = 0
# too, and infinite steps; at thousands of steps Adam's corrections would be 1, and one left out would not show


class OptimizerStep(nn.Module):
    """Stock.  The gradients (tensors, numbers) -> the weights, `tensors` of so many numbers, after one optimizer.step().

    The state is made of buffers, one for each tensor, which are also in optimizer.state: what writes to a buffer in place, as
    load_state_dict does, writes to the optimizer.  A cast or a move makes other buffers of them, and those are linked anew.
    Counters stay float32 in every dtype, as torch.optim's own load_state_dict leaves them: bfloat16 counts to 256.  Stock and foreach
    have them on the host, which is torch's default: to read them waits for no device.  capturable=True would have them on the device,
    but torch warns that it impairs a step outside of a graph.  fused, compiled and Triton's steps read them on the device.
    """

    optimizer_type: ClassVar[type[torch.optim.Optimizer]]
    settings: ClassVar[Mapping[str, Any]]
    state: ClassVar[Mapping[str, Callable[[int], Tensor]]]  # name, as torch has it -> one tensor's, after TAKEN steps
    counters_on_device = False

    def __init__(self, tensors: int, numbers: int, **how: bool) -> None:
        super().__init__()
        self.counters_on_device |= how.get("fused", False)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(numbers) / 64, requires_grad=False) for _ in range(tensors))
        for name, taken in self.state.items():
            for index in range(tensors):
                self.register_buffer(f"{name}_{index}", taken(numbers))
        self.optimizer = self.optimizer_type(self.weights, **self.settings, **how)
        self._link()

    def _link(self) -> None:
        weights = list(self.weights)
        state = {name: [self.get_buffer(f"{name}_{index}") for index in range(len(weights))] for name in self.state}
        self.lists = {"weights": weights} | state
        for weight, *tensors in zip(weights, *state.values(), strict=True):
            self.optimizer.state[weight] = dict(zip(state, tensors, strict=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        counters = {name: counter for name, counter in self.named_buffers() if name.startswith("step_")}
        super()._apply(fn, recurse)
        for name, counter in counters.items():
            setattr(self, name, counter.to(self.weights[0].device) if self.counters_on_device else counter)
        self._link()
        return self

    def forward(self, gradients: Tensor) -> tuple[Tensor, ...]:
        self.update(list(gradients.detach().contiguous().unbind()), **self.lists)  # torch's fused steps read no strides
        return tuple(self.lists["weights"])

    def update(self, gradients: Tensors, weights: Tensors, **_: Tensors) -> None:
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        self.optimizer.step()


class SGDStep(OptimizerStep):
    """torch.optim.SGD.

    Before torch 2.14 fused=True on a CPU is another step in bfloat16 and float16, as verification says: it leaves all weights as they
    are but the last few that fill no vector, and reads momentum as if it were float32, past its end
    (https://github.com/pytorch/pytorch/issues/191763).
    """

    optimizer_type = torch.optim.SGD
    settings: ClassVar = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}
    state: ClassVar = {"momentum_buffer": torch.randn}


class CompiledSGD(SGDStep):
    """The function that SGD.step calls: step itself breaks the graph before and after it, on purpose."""

    counters_on_device = True

    def update(self, gradients: Tensors, weights: Tensors, momentum_buffer: Tensors) -> None:
        settings = self.settings | {"dampening": 0.0, "nesterov": False, "maximize": False}
        sgd_of_torch(weights, gradients, momentum_buffer, foreach=False, fused=False, **settings)


class TritonSGD(SGDStep):
    """The Triton kernel of kernels/optimizers.py."""

    counters_on_device = True

    def update(self, gradients: Tensors, weights: Tensors, momentum_buffer: Tensors) -> None:
        from ..kernels.optimizers import sgd  # here, so that this file can be read where Triton is not installed

        sgd(weights, gradients, momentum_buffer, **self.settings)


class AdamStep(OptimizerStep):
    """torch.optim.Adam."""

    optimizer_type = torch.optim.Adam
    settings: ClassVar = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-4}
    state: ClassVar = {
        "step": lambda _: torch.tensor(TAKEN),
        "exp_avg": torch.randn,
        "exp_avg_sq": lambda numbers: torch.empty(numbers).uniform_(0.5, 1.5).mul_(1 - 0.999**TAKEN),
    }


class CompiledAdam(AdamStep):
    """The function that Adam.step calls, as CompiledSGD.  On a GPU capturable, without which torch does not compile it.

    Its 1 - beta2^t is float32's, which at step 30 is off by a few millionths, where the others take it from the host's float64.
    """

    counters_on_device = True

    def update(self, gradients: Tensors, weights: Tensors, step: Tensors, exp_avg: Tensors, exp_avg_sq: Tensors) -> None:
        lr, (beta1, beta2), eps, weight_decay = self.settings.values()
        adam_of_torch(
            weights,
            gradients,
            exp_avg,
            exp_avg_sq,
            [],
            step,
            foreach=False,
            capturable=not weights[0].is_cpu,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=weight_decay,
            eps=eps,
            maximize=False,
        )


class TritonAdam(AdamStep):
    """The Triton kernel of kernels/optimizers.py."""

    counters_on_device = True

    def update(self, gradients: Tensors, weights: Tensors, step: Tensors, exp_avg: Tensors, exp_avg_sq: Tensors) -> None:
        from ..kernels.optimizers import adam

        adam(weights, gradients, exp_avg, exp_avg_sq, step, **self.settings)


class RMSpropStep(OptimizerStep):
    """torch.optim.RMSprop."""

    optimizer_type = torch.optim.RMSprop
    settings: ClassVar = {"lr": 1e-3, "alpha": 0.99, "eps": 1e-8, "weight_decay": 1e-4, "momentum": 0.9}
    state: ClassVar = {
        "step": lambda _: torch.tensor(TAKEN),
        "square_avg": lambda numbers: torch.empty(numbers).uniform_(0.5, 1.5).mul_(1 - 0.99**TAKEN),
        "momentum_buffer": torch.randn,
    }


class CompiledRMSprop(RMSpropStep):
    """The function that RMSprop.step calls, as CompiledSGD."""

    counters_on_device = True

    def update(self, gradients: Tensors, weights: Tensors, step: Tensors, square_avg: Tensors, momentum_buffer: Tensors) -> None:
        settings = self.settings | {"centered": False, "maximize": False, "capturable": not weights[0].is_cpu}
        rmsprop_of_torch(weights, gradients, square_avg, [], momentum_buffer, step, foreach=False, **settings)


class TritonRMSprop(RMSpropStep):
    """The Triton kernel of kernels/optimizers.py."""

    counters_on_device = True

    def update(self, gradients: Tensors, weights: Tensors, step: Tensors, square_avg: Tensors, momentum_buffer: Tensors) -> None:
        from ..kernels.optimizers import rmsprop

        rmsprop(weights, gradients, square_avg, momentum_buffer, step, **self.settings)


def _layer(name: str, stock: type[OptimizerStep], compiled: type[OptimizerStep], triton: type[OptimizerStep], fused: bool = True) -> Layer:
    absent = {"function": "an optimizer step has no backward"}
    return Layer(
        name,
        sweep={"tensors": (4, 16, 64), "numbers": (1024, 32_768)},
        inputs=(randn("tensors", "numbers"),),
        build=lambda module, size: module(size["tensors"], size["numbers"]),
        variants={
            "stock": Variant(partial(stock, foreach=False)),
            "foreach": Variant(partial(stock, foreach=True)),
            **({"fused": Variant(partial(stock, fused=True))} if fused else {}),
            "triton": Variant(triton, devices=GPU),
            "compile": Variant(compiled, compile=True),
        },
        verify_at=(
            {"tensors": 3, "numbers": 7},
            {"tensors": 5, "numbers": 1_025},  # a second block of one number
            {"tensors": 2, "numbers": 32},  # all lengths and addresses such that the widest loads are taken
            {"tensors": 2, "numbers": 0},
        ),
        absent=absent if fused else absent | {"fused": f"torch has no fused {stock.optimizer_type.__name__}"},
        calls=4,
        on_request=True,
        gpu_sweep={"numbers": (32_768, 1_048_576)},
    )


sgd = _layer("sgd", SGDStep, CompiledSGD, TritonSGD)
adam = _layer("adam", AdamStep, CompiledAdam, TritonAdam)
rmsprop = _layer("rmsprop", RMSpropStep, CompiledRMSprop, TritonRMSprop, fused=False)
