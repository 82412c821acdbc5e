"""Point -> one subject per variant: same weights, same inputs, same cotangent; and the calls that are verified and timed.

Not the judge (verify), not the stopwatch (clock): what is made here is only called there.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..declare.inputs import Size
from ..declare.layer import Init, Layer
from ..plan import steps
from ..timing.clock import Call
from . import optimizers, states
from .arguments import cast, names
from .arguments import draw as draw
from .building import build as build
from .building import copied, in_dtype
from .building import reference as reference
from .building import variant_module as variant_module
from .outputs import comparable
from .outputs import tensors as tensors


@dataclass
class Subject:
    """One variant, ready to be called.  `compiled` replaces `module` in calls once torch.compile has wrapped it."""

    variant: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    cotangents: tuple[Tensor | None, ...]
    compiled: Callable[..., object] | None = None

    def forward(self) -> object:
        called = self.module if self.compiled is None else self.compiled
        return called(*self.inputs)

    def names(self) -> tuple[str, ...]:
        """What each of the inputs is called to a reader."""
        return names(self.module, len(self.inputs))

    def leaves(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that backward gives a gradient, by name."""
        for name, tensor in zip(self.names(), self.inputs, strict=True):
            if tensor.requires_grad:
                yield name, tensor
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                yield name, parameter

    @property
    def learns(self) -> bool:
        """Whether a parameter wants a gradient."""
        return any(parameter.requires_grad for parameter in self.module.parameters())

    def gradients(self) -> dict[str, Tensor]:
        """What backward left, copied, by the reference's names: dense and real."""
        found = {name: leaf.grad.detach().clone() for name, leaf in self.leaves() if leaf.grad is not None}
        return {name: comparable(tensor, name) for name, tensor in states.gradients_back(self.module, found).items()}

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers, copied, by the variant's own names."""
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def changes(self, before: dict[str, Tensor]) -> dict[str, Tensor]:
        """What of the state has changed since, by the reference's names: dense and real."""
        found = states.changes_back(self.module, before, self.state())
        return {name: comparable(tensor, name) for name, tensor in found.items()}

    def clear_gradients(self) -> None:
        for _, leaf in self.leaves():
            leaf.grad = None

    def backward(self, output: object) -> None:
        pairs = [(y, g) for y, g in zip(tensors(output).values(), self.cotangents, strict=True) if g is not None and y.requires_grad]
        torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs])


def mode(step: str) -> AbstractContextManager[object]:
    """What a step's tensors are made and computed in: inference is without autograd, as where a model is served."""
    return torch.inference_mode() if step == steps.INFERENCE else nullcontext()


@dataclass(frozen=True)
class Drawn:
    """What every variant of a cell is given."""

    weights: nn.Module
    inputs: tuple[Tensor, ...]
    cotangents: tuple[Tensor | None, ...]


def drawn(layer: Layer, size: Size, dtype: torch.dtype, device: str, seed: int, init: Init | None = None) -> Drawn:
    """Weights, inputs and cotangents of a seed.  In inference mode the weights are in eval(), and nothing wants a gradient."""
    weights, inputs = reference(layer, size, dtype, device, seed, init), draw(layer.draws, size, dtype, device, seed)
    if torch.is_inference_mode_enabled():
        weights, inputs = weights.eval(), tuple(tensor.detach() for tensor in inputs)
    return Drawn(weights, inputs, cotangents(probe(weights, inputs), seed))


def subject(variant: str, module: nn.Module, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> Subject:
    """A subject on its own copies of the inputs, so that one variant's writes cannot reach another."""
    own = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs)
    return Subject(variant, module, own, tuple(cotangents))


def in_float64(module: nn.Module, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None], layer: Layer, size: Size) -> Subject:
    """The reference in float64 on the very numbers of the point: what every variant is judged against."""
    held = [*module.parameters(), *module.buffers(), *inputs]
    device = torch.device("cpu") if any(tensor.device.type == "mps" for tensor in held) or not held else held[0].device
    exact = in_dtype(build(layer, next(iter(layer.variants.values())), size), torch.float64, device)
    raised = [_double(tensor, device) for tensor in inputs]
    given = tuple(None if each is None else each.to(device).double() for each in cotangents)
    return Subject("float64", copied(exact, module), tuple(raised), given)


def _double(tensor: Tensor, device: torch.device) -> Tensor:
    return cast(tensor.detach().to(device, copy=True), torch.float64).requires_grad_(tensor.requires_grad)


def cotangents(output: object, seed: int) -> tuple[Tensor | None, ...]:
    """A fixed random gradient for every differentiable output; None for the others.

    Not from the stream of the inputs: a gradient equal to the input is a special case, where a norm's input gradient is zero.
    """
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    return tuple(
        torch.randn(y.shape, generator=generator).to(y.dtype).to(y.device) if y.requires_grad else None for y in tensors(output).values()
    )


def probe(module: nn.Module, inputs: Sequence[Tensor]) -> object:
    """One call of a copy of the module, to see the shape of its output; the module's own buffers stay as they are."""
    return copy.deepcopy(module)(*(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs))


def call(subject: Subject, step: str) -> Call:
    """What one step of a point runs.  All gradients are cleared, and the graph of a backward is built, outside the clock."""

    def forward(_: object) -> object:
        return subject.forward()

    def fresh_graph() -> object:
        subject.clear_gradients()
        return subject.forward()

    def train(_: object) -> object:
        output = subject.forward()
        subject.backward(output)
        return output

    if step in ("forward", steps.INFERENCE):
        return Call(subject.variant, None, forward)
    if step == "backward":
        return Call(subject.variant, fresh_graph, subject.backward, subject.clear_gradients)
    if step == "training":
        return Call(subject.variant, subject.clear_gradients, train, subject.clear_gradients)
    optimizer = optimizers.of(steps.optimizer(step), subject.module)

    def update(_: object) -> object:
        output = train(None)
        optimizer.step()
        return output

    return Call(subject.variant, subject.clear_gradients, update, subject.clear_gradients)
