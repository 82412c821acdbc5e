"""Point -> one subject per variant: same weights, same inputs, same cotangent; and the calls that are verified and timed.

Not the judge (verify), not the stopwatch (clock): what is made here is only called there.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..declare.layer import Draw, Init, Layer, Size, Variant
from ..declare.mistake import Mistake
from ..plan import steps
from ..timing.clock import Call
from . import optimizers, states


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

    def leaves(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that backward gives a gradient, by name."""
        for index, tensor in enumerate(self.inputs):
            if tensor.requires_grad:
                yield f"input {index}", tensor
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                yield name, parameter

    @property
    def learns(self) -> bool:
        """Whether a parameter wants a gradient."""
        return any(parameter.requires_grad for parameter in self.module.parameters())

    def clear_gradients(self) -> None:
        for _, leaf in self.leaves():
            leaf.grad = None

    def backward(self, output: object) -> None:
        pairs = [(y, g) for y, g in zip(tensors(output).values(), self.cotangents, strict=True) if g is not None and y.requires_grad]
        torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs])


def tensors(output: object, name: str = "output") -> dict[str, Tensor]:
    """The tensors of a module's output by name: output, or output[0], output['h'] where it is nested."""
    if isinstance(output, Tensor):
        return {name: output}
    if isinstance(output, Mapping):
        parts: list[tuple[str, object]] = [(f"{name}[{key!r}]", value) for key, value in output.items()]
    elif isinstance(output, Sequence) and not isinstance(output, str):
        parts = [(f"{name}[{index}]", value) for index, value in enumerate(output)]
    else:
        return {}
    return {label: tensor for part, value in parts for label, tensor in tensors(value, part).items()}


LOW, HIGH = 0.1, 2.0  # of inputs drawn positive


def draw(draws: Sequence[Draw], size: Size, dtype: torch.dtype, device: str, seed: int) -> tuple[Tensor, ...]:
    """The inputs of a point: the same numbers for a seed on every device, drawn on the CPU; on "meta" shapes alone, without a number."""
    at = torch.device("meta" if device == "meta" else "cpu")
    generator = None if device == "meta" else torch.Generator().manual_seed(seed)
    drawn = []
    for spec in draws:
        shape = [size[dim] if isinstance(dim, str) else dim for dim in spec.dims]
        if spec.kind == "integers":
            below = size[spec.below] if isinstance(spec.below, str) else spec.below
            assert below is not None
            drawn.append(torch.randint(below, shape, generator=generator, device=at).to(device))
        else:
            numbers = (
                torch.randn(shape, generator=generator, device=at)
                if spec.kind == "normal"
                else LOW + (HIGH - LOW) * torch.rand(shape, generator=generator, device=at)
            )
            drawn.append(numbers.to(dtype).to(device).requires_grad_())
    return tuple(drawn)


INITS: dict[Init, Callable[[Tensor], object]] = {
    "default": lambda weight: weight,
    "normal": nn.init.normal_,
    "xavier": nn.init.xavier_normal_,  # Glorot & Bengio, AISTATS 2010
    "kaiming": nn.init.kaiming_normal_,  # He et al., 2015, arXiv:1502.01852
}


def mode(step: str) -> AbstractContextManager[object]:
    """What a step's tensors are made and computed in: inference is without autograd, as where a model is served."""
    return torch.inference_mode() if step == steps.INFERENCE else nullcontext()


@torch.inference_mode(mode=False)  # a model is made, or loaded, before it is served
def reference(layer: Layer, size: Size, dtype: torch.dtype, device: str, seed: int, init: Init | None = None) -> nn.Module:
    """The reference variant's module with the weights that every variant of the point gets, rounded to dtype.

    They are those of an initialisation, the layer's unless told otherwise, with a tenth of noise added: a variant that ignores a weight
    of ones or a bias of zeros would otherwise pass for the same layer.
    """
    torch.manual_seed(seed)
    module = build(layer, next(iter(layer.variants.values())), size)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1 and parameter.numel():
                INITS[init or layer.init](parameter)
        for parameter in module.parameters():
            scale = float(parameter.square().mean().sqrt()) if parameter.numel() else 0.0
            parameter.add_(torch.randn_like(parameter), alpha=0.1 * (scale or 1.0))
    return module.to(device=device, dtype=dtype)


@torch.inference_mode(mode=False)
def variant_module(layer: Layer, variant: str, size: Size, weights: nn.Module) -> nn.Module:
    """A variant's module with the given weights, on their device and in their dtype.  Raises Mistake where the state_dicts differ."""
    module = build(layer, layer.variants[variant], size)
    state = weights.state_dict()
    first = next(iter(layer.variants))
    states.compare(variant, module.state_dict(), first, state)
    module.load_state_dict(state)
    for tensor in [*weights.parameters(), *weights.buffers()]:
        if tensor.is_floating_point():
            return module.to(device=tensor.device, dtype=tensor.dtype).train(weights.training)
    return module.to(next((t.device for t in weights.buffers()), torch.device("cpu"))).train(weights.training)


class Sizes(dict[str, int]):
    """What `build` is given: dimension -> its value."""

    def __missing__(self, dimension: object) -> int:
        raise Mistake(f"build asks for size[{dimension!r}], which is not in sweep; it has {', '.join(self)}")


def build(layer: Layer, variant: Variant, size: Size) -> nn.Module:
    """The variant's module as the layer builds it.  Raises Mistake where that is none."""
    module = layer.build(variant.module, Sizes(size))
    if not isinstance(module, nn.Module):
        raise Mistake(f"layer {layer.name!r}: build returned {type(module).__name__}, not an nn.Module; return module(...)")
    return module


@dataclass(frozen=True)
class Drawn:
    """What every variant of a cell is given."""

    weights: nn.Module
    inputs: tuple[Tensor, ...]
    cotangents: tuple[Tensor | None, ...]


def drawn(layer: Layer, size: Size, dtype: torch.dtype, device: str, seed: int, init: Init | None = None) -> Drawn:
    """Weights, inputs and cotangents of a seed.  In inference mode the weights are in eval(), and nothing wants a gradient."""
    weights, inputs = reference(layer, size, dtype, device, seed, init), draw(layer.inputs, size, dtype, device, seed)
    if torch.is_inference_mode_enabled():
        weights, inputs = weights.eval(), tuple(tensor.detach() for tensor in inputs)
    return Drawn(weights, inputs, cotangents(probe(weights, inputs), seed))


def subject(variant: str, module: nn.Module, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> Subject:
    """A subject on its own copies of the inputs, so that one variant's writes cannot reach another."""
    own = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs)
    return Subject(variant, module, own, tuple(cotangents))


def in_float64(module: nn.Module, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None], layer: Layer, size: Size) -> Subject:
    """The reference in float64 on the very numbers of the point: what every variant is judged against."""
    device = "cpu" if any(tensor.device.type == "mps" for tensor in inputs) else inputs[0].device if inputs else "cpu"
    exact = build(layer, next(iter(layer.variants.values())), size).to(device)
    exact.load_state_dict(module.state_dict())
    exact.train(module.training)
    raised = [_double(tensor, device) for tensor in inputs]
    return Subject("float64", exact.double(), tuple(raised), tuple(None if c is None else c.to(device).double() for c in cotangents))


def _double(tensor: Tensor, device: object) -> Tensor:
    copied = tensor.detach().to(device, copy=True)  # type: ignore[call-overload]
    return (copied.double() if tensor.is_floating_point() else copied).requires_grad_(tensor.requires_grad)


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
