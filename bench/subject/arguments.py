"""The arguments of a call: tensors drawn from a seed as a flat tuple, and the lists, dicts and keywords that a module is given them in.

All of layerbench calls a module with the flat tuple.  Where a layer is called otherwise, a hook before the module's forward puts the
tensors in their places, so that the hook is the one place that knows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..declare.fields import shown
from ..declare.inputs import Draw, Function, Size, draws_of
from ..declare.layer import Layer
from ..declare.mistake import Mistake

LOW, HIGH = 0.1, 2.0  # of inputs drawn positive
Together = dict[Function, tuple[tuple[Tensor, ...], set[int]]]  # what a function drew last, and which of it has been taken


def draw(draws: Sequence[Draw], size: Size, dtype: torch.dtype, device: str, seed: int) -> tuple[Tensor, ...]:
    """The inputs of a point: the same numbers for a seed on every device, drawn on the CPU; on "meta" shapes alone, without a number."""
    at = torch.device("meta" if device == "meta" else "cpu")
    generator = torch.Generator().manual_seed(seed)
    together: Together = {}
    return tuple(_brought(_numbers(each, size, generator, at, together), each, dtype, device) for each in draws)


def _numbers(spec: Draw, size: Size, generator: torch.Generator, at: torch.device, together: Together) -> Tensor:
    if spec.kind == "drawn":
        return _by_function(spec, size, generator, together)
    dice = None if at.type == "meta" else generator
    shape = [size[dim] if isinstance(dim, str) else dim for dim in spec.dims]
    below = size[spec.below] if isinstance(spec.below, str) else spec.below or 0
    match spec.kind:
        case "normal":
            return torch.randn(shape, generator=dice, device=at)
        case "complex":
            return torch.view_as_complex(torch.randn([*shape, 2], generator=dice, device=at))
        case "positive":
            return LOW + (HIGH - LOW) * torch.rand(shape, generator=dice, device=at)
        case "uniform":
            low, high = spec.numbers
            return low + (high - low) * torch.rand(shape, generator=dice, device=at)
        case "probabilities":
            return torch.randn(shape, generator=dice, device=at).softmax(-1)
        case "integers":
            return torch.randint(below, shape, generator=dice, device=at)
        case "lengths":
            drawn = torch.randint(1, below + 1, shape, generator=dice, device=at)
            return drawn.sort(dim=0, descending=True).values if drawn.dim() else drawn
        case "one_hot":
            classes = torch.randint(below, [*shape, 1], generator=dice, device=at)
            return torch.zeros([*shape, below], device=at).scatter(-1, classes, 1.0)
    kept = torch.rand(shape, generator=dice, device=at) < spec.numbers[0]
    kept[..., :1] = True  # a softmax over nothing is NaN
    return kept if spec.kind == "mask" else torch.zeros(shape, device=at).masked_fill(~kept, float("-inf"))


def _by_function(spec: Draw, size: Size, generator: torch.Generator, together: Together) -> Tensor:
    """Raises Mistake where the function returns something else than it was declared to."""
    assert spec.function
    found, taken = together.get(spec.function, ((), {spec.place}))
    if spec.place in taken:
        with torch.device("cpu"):
            result = spec.function(size, generator)
        found, taken = result if isinstance(result, tuple) else (result,), set()
        together[spec.function] = found, taken
    taken.add(spec.place)
    if len(found) != spec.of or not isinstance(found[spec.place], Tensor):
        expected = "a tensor" if spec.of == 1 else f"a tuple of {spec.of} tensors"
        raise Mistake(
            f"draw: its function returned {shown(found if len(found) > 1 else found[0])}; return {expected}, or give their number"
        )
    return found[spec.place].detach()


def _brought(numbers: Tensor, spec: Draw, dtype: torch.dtype, device: str) -> Tensor:
    """To the dtype and device of the point.  The memory is the input's own, whatever a function returned."""
    numbers = cast(numbers, dtype).to(device)
    if spec.kind == "drawn":
        numbers = numbers.clone()
    wanted = spec.requires_grad and (numbers.is_floating_point() or numbers.is_complex())
    return numbers.requires_grad_() if wanted else numbers


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers with a fraction in a dtype, complex ones in the complex dtype of that precision, others as they are."""
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


@dataclass(frozen=True)
class Arrange:
    """A hook before forward: the flat tensors of a call become the arguments that the layer declares."""

    inputs: tuple[object, ...]
    kwargs: Mapping[str, object]

    @cached_property
    def names(self) -> tuple[str, ...]:
        placed = [(f"input {place}", each) for place, each in enumerate(self.inputs)]
        placed += [(f"input {keyword}", each) for keyword, each in self.kwargs.items()]
        return tuple(name for called, each in placed for name, _ in draws_of(each, called))

    def __call__(self, module: nn.Module, tensors: tuple[Tensor, ...], _: object) -> tuple[tuple[object, ...], dict[str, object]]:
        left = iter(tensors)
        return tuple([_placed(each, left) for each in self.inputs]), {name: _placed(each, left) for name, each in self.kwargs.items()}

    def __deepcopy__(self, _: object) -> "Arrange":
        return self


def _placed(argument: object, left: Iterator[Tensor]) -> object:
    if isinstance(argument, Draw):
        return next(left)
    if isinstance(argument, list | tuple):
        placed = [_placed(each, left) for each in argument]
        make = getattr(argument, "_make", type(argument))  # of a named tuple
        return make(placed)
    if isinstance(argument, Mapping):
        return {key: _placed(each, left) for key, each in argument.items()}
    return argument


def names(module: nn.Module, count: int) -> tuple[str, ...]:
    """What a reader is told of the tensors of a call: input 0; in a list input 0[1]; by keyword input mask."""
    arranged = [each for each in module._forward_pre_hooks.values() if isinstance(each, Arrange)]
    return arranged[0].names if arranged else tuple(f"input {place}" for place in range(count))


def arrange(layer: Layer, module: nn.Module) -> nn.Module:
    """The module, callable with the flat tensors of the layer."""
    if layer.kwargs or not all(isinstance(each, Draw) for each in layer.inputs):
        if any(isinstance(each, Arrange) for each in module._forward_pre_hooks.values()):
            return module  # build returns the same one every time
        hook: Callable[..., object] = Arrange(tuple(layer.inputs), dict(layer.kwargs))
        module.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
    return module
