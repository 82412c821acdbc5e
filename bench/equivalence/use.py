"""One side of a way of use: a layer on the numbers of a trial, made anew as often as a way wants it; and what became of it.

Not the judge: a way is run on the reference in float64, on the reference in the dtype, and on a variant, and `in_use` compares them.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..declare.layer import Layer
from ..declare.mistake import Finding
from ..subject import make, randomness, states
from ..subject.arguments import cast
from ..subject.make import Subject
from ..subject.outputs import comparable
from .kinds import Found as Found
from .moved import moved as nudge
from .observe import check_shapes
from .verify import Truth

DRAWS = 3  # of inputs: a way may call a layer with new data


class NotHere(Finding):
    """A way that says nothing of this layer.  Carries why."""


class LeftOut(Finding):
    """A way that cannot be tried with this variant.  Carries why."""


@dataclass(frozen=True)
class Use:
    """What a way is given.  Nothing of it may be written to: modules and subjects are made for a way to spoil.

    drawn: inputs in the dtype of the trial, then others of the same shapes.  exact: whether they are taken to float64.
    seed: of the module's random numbers.  plain: it says what is right, or how far off that may be, so that it is neither compiled nor
    exported.
    """

    name: str
    built: Callable[[], nn.Module]  # with the weights of the trial
    drawn: tuple[tuple[Tensor, ...], ...]
    gradients: tuple[Tensor | None, ...]  # incoming ones, drawn too
    layer: Layer
    seed: int
    exact: bool = False
    plain: bool = False

    def module(self) -> nn.Module:
        return self.built()

    def inputs(self, draw: int = 0) -> tuple[Tensor, ...]:
        """Copies that want a gradient where the drawn ones do."""
        return tuple(self.taken(tensor).requires_grad_(tensor.requires_grad) for tensor in self.drawn[draw])

    def subject(self, draw: int = 0, module: nn.Module | None = None) -> Subject:
        """A module, and inputs and cotangents of its own."""
        cotangents = tuple(None if each is None else self.taken(each) for each in self.gradients)
        return Subject(self.name, module or self.module(), self.inputs(draw), cotangents)

    def taken(self, tensor: Tensor) -> Tensor:
        """A copy in the dtype, and on the device, of this side."""
        copied = tensor.detach().clone()
        if not self.exact:
            return copied
        return cast(copied.cpu() if tensor.device.type == "mps" else copied, torch.float64)

    def needs_gradients(self) -> None:
        """Raises NotHere where there is no backward."""
        if all(each is None for each in self.gradients):
            raise NotHere("nothing of it can be differentiated")

    def with_inputs(self, change: Callable[[int, Tensor], Tensor]) -> "Use":
        """The same with inputs that are changed, each by its place and its numbers as drawn.  What wanted a gradient still does."""
        with torch.no_grad():
            changed = tuple(tuple(change(place, tensor.detach()) for place, tensor in enumerate(drawn)) for drawn in self.drawn)
        for new, old in zip(changed, self.drawn, strict=True):
            for tensor, was in zip(new, old, strict=True):
                tensor.requires_grad_(was.requires_grad)
        return replace(self, drawn=changed)


def reference_in_float64(layer: Layer, truth: Truth) -> Use:
    def built() -> nn.Module:
        return make.in_float64(truth.weights, truth.inputs, (), layer, truth.size).module

    return Use("float64", built, _draws(layer, truth), truth.cotangents, layer, truth.seed, exact=True, plain=True)


def of_variant(layer: Layer, truth: Truth, variant: str) -> Use:
    def built() -> nn.Module:
        return make.variant_module(layer, variant, truth.size, truth.weights)

    return Use(variant, built, _draws(layer, truth), truth.cotangents, layer, truth.seed)


def _draws(layer: Layer, truth: Truth) -> tuple[tuple[Tensor, ...], ...]:
    others = [make.draw(layer.draws, truth.size, truth.dtype, truth.device, 1_000 + truth.seed + place) for place in range(1, DRAWS)]
    return (truth.inputs, *others)


def step(subject: Subject, seed: int = 0, backward: bool = True, keep: bool = False) -> Found:
    """One forward and one backward: outputs, and gradients as they have come to be.  keep: the graph, for another backward."""
    randomness.seed(seed + 2_000_003)
    output = subject.forward()
    return outputs(output) | (back(subject, output, keep) if backward else {})


def outputs(output: object) -> Found:
    return {name: tensor.detach().clone() for name, tensor in make.tensors(output).items()}


def back(subject: Subject, output: object, keep: bool = False) -> Found:
    """Backward where anything wants it.  Raises Mismatch where the outputs are not as many, or shaped, as the reference's."""
    seen = make.tensors(output)
    check_shapes(seen, subject.cotangents)
    pairs = [(y, g) for y, g in zip(seen.values(), subject.cotangents, strict=True) if g is not None and y.requires_grad]
    if pairs:
        torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs], retain_graph=keep)
    return gradients(subject)


def gradients(subject: Subject) -> Found:
    return {f"{name} grad": tensor for name, tensor in subject.gradients().items()}


def state(module: nn.Module) -> Found:
    return {f"{name} after": comparable(tensor.detach().clone(), name) for name, tensor in states.now(module).items()}


def labelled(words: str, found: Mapping[str, Tensor]) -> Found:
    """Names that tell the parts of a way apart: `output, second time`."""
    return {f"{name}, {words}": tensor for name, tensor in found.items()}


def batched(use: Use) -> Iterator[int | None]:
    """Of every input the place of its dimension that is the batch; None where it has none.  Raises NotHere where no input has one."""
    name = "batch" if "batch" in use.layer.sweep else next(iter(use.layer.sweep))
    places = [draw.dims.index(name) if name in draw.dims else None for draw in use.layer.draws]
    if name != "batch" or all(place is None for place in places):
        raise NotHere('no dimension of its inputs is called "batch"')
    yield from places


def device_of(use: Use) -> str:
    return next((tensor.device.type for tensor in use.drawn[0]), "cpu")


def moved(use: Use, seed: int, within: torch.dtype | None = None) -> Use:
    """The same on numbers that are moved in their last place, or in that of a dtype with fewer."""
    found = []
    for draw in range(len(use.drawn)):
        subject = use.subject(draw)
        had = [tensor.dtype for tensor in subject.module.state_dict().values() if tensor.is_floating_point()]
        if within:
            subject.module.to(within)
            subject.inputs = tuple(_as(tensor, within) for tensor in subject.inputs)
        shifted = nudge(subject, seed)
        if within and had:
            shifted.module.to(had[0])
        shifted.inputs = tuple(_as(tensor, was.dtype) for tensor, was in zip(shifted.inputs, use.drawn[draw], strict=True))
        found.append(shifted)
    return replace(use, built=lambda: copy.deepcopy(found[0].module), drawn=tuple(each.inputs for each in found), plain=True)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype).requires_grad_(tensor.requires_grad) if tensor.is_floating_point() else tensor
