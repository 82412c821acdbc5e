"""The reference's weights in a variant, and what became of them back again by the reference's names.

Most variants have the reference's own state_dict.  One that is laid out otherwise declares `state`, which makes its state_dict of the
reference's.  With v = state(r) the gradient by r is that by v times the Jacobian of `state`, which autograd has; and where `state` only
rearranges numbers, as it must where calls change them, it is inverted by rearranging their places.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from ..declare.mistake import Finding, Mistake

State = dict[str, Tensor]
HELD = "_layerbench_carried"  # the attribute of a module that has another layout than the reference


@dataclass(frozen=True)
class Carried:
    """How a variant's state is made of the reference's.  places: of every number in the variant that in the reference, by name; or None."""

    variant: str
    function: Callable[[State], State]
    weights: nn.Module
    places: State | None

    def __deepcopy__(self, _: object) -> "Carried":
        return self


def prepare(module: nn.Module, variant: str, declared: object, first: str, weights: nn.Module) -> None:
    """Make the module ready for `load`.  Raises Mistake where its state_dict cannot be made of the reference's, called `first`.

    declared: the variant's `state`.
    """
    given = weights.state_dict()
    if declared is None:
        compare(variant, module.state_dict(), first, given)
        return
    if isinstance(declared, Mapping):
        if unknown := [name for name in declared if name not in given]:
            raise Mistake(f"variant {variant!r}: state names {unknown[0]!r}, which {first!r} lacks; it has {', '.join(given)}")
        names = dict(declared)
        function: Callable[[State], State] = lambda state: {names.get(name, name): tensor for name, tensor in state.items()}  # noqa: E731
    else:
        function = cast("Callable[[State], State]", declared)
    _check_made(variant, module.state_dict(), _called(variant, function, {name: each.detach().clone() for name, each in given.items()}))
    _check_kept(variant, function, given)
    setattr(module, HELD, Carried(variant, function, weights, _places(function, given)))


def load(module: nn.Module, weights: nn.Module) -> None:
    """The reference's weights into a module that `prepare` has seen."""
    module.load_state_dict(of_variant(module, weights))


def of_variant(module: nn.Module, weights: nn.Module) -> State:
    """The reference's state by the variant's names and in its layout."""
    state = weights.state_dict()
    carried: Carried | None = getattr(module, HELD, None)
    return carried.function({name: each.detach().clone() for name, each in state.items()}) if carried else state


def gradients_back(module: nn.Module, gradients: State) -> State:
    """Gradients of inputs and of the variant's parameters by the reference's names and in its layout."""
    carried: Carried | None = getattr(module, HELD, None)
    if carried is None:
        return gradients
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    found = {name: each for name, each in gradients.items() if name not in names}
    wanted = {name: each for name, each in carried.weights.named_parameters() if each.requires_grad}
    with torch.inference_mode(mode=False), torch.enable_grad():
        raised = {name: _wide(each).requires_grad_(name in wanted) for name, each in carried.weights.state_dict().items()}
        made = carried.function(raised)
        pairs = [(made[name], each) for name, each in gradients.items() if name in names and made[name].requires_grad]
        if pairs:
            outputs, incoming = [each for each, _ in pairs], [each.to_dense().to(made.dtype) for made, each in pairs]
            leaves = [raised[name] for name in wanted]
            for (name, was), back in zip(wanted.items(), torch.autograd.grad(outputs, leaves, incoming, allow_unused=True), strict=True):
                if back is not None:
                    found[name] = back.to(was.dtype)
    return found


def changes_back(module: nn.Module, before: State, after: State) -> State:
    """What of a state changed, by the reference's names and in its layout.  Raises Mistake where that cannot be told."""
    changed = {name: each for name, each in after.items() if not torch.equal(each, before[name])}
    carried: Carried | None = getattr(module, HELD, None)
    if carried is None or not changed:
        return changed
    if carried.places is None:
        raise Mistake(
            f"variant {carried.variant!r}: a call changes {next(iter(changed))!r}, and state does more than rearrange numbers, so "
            "that cannot be compared with the reference's; rearrange only"
        )
    was, now = (_rearranged_back(carried, carried.places, state) for state in (before, after))
    return {name: each for name, each in now.items() if not torch.equal(each, was[name])}


def now(module: nn.Module) -> State:
    """A copy of its state by the reference's names and in its layout.  Raises Mistake where that cannot be told."""
    state = {name: each.detach().clone() for name, each in module.state_dict().items()}
    carried: Carried | None = getattr(module, HELD, None)
    if carried is None:
        return state
    if carried.places is not None:
        return _rearranged_back(carried, carried.places, state)
    if any(not torch.equal(each.to(state[name]), state[name]) for name, each in of_variant(module, carried.weights).items()):
        raise Mistake("state does more than rearrange numbers, so what became of them cannot be compared with the reference's")
    return {name: each.detach().clone() for name, each in carried.weights.state_dict().items()}


def changed(module: nn.Module, change: Callable[[str, Tensor], Tensor]) -> State:
    """What its own state is to be where each tensor of the reference's is changed.  Its gradients go back as from there."""
    state = {name: change(name, each) for name, each in now(module).items()}
    carried: Carried | None = getattr(module, HELD, None)
    if carried is None:
        return state
    weights = copy.deepcopy(carried.weights)
    weights.load_state_dict(state)
    setattr(module, HELD, replace(carried, weights=weights))
    return of_variant(module, weights)


def parameters(module: nn.Module, each_once: bool = False) -> dict[str, Tensor]:
    """The reference's parameters that its own stand for.  A shared one has all of its names, or is there once."""
    carried: Carried | None = getattr(module, HELD, None)
    return dict((carried.weights if carried else module).named_parameters(remove_duplicate=each_once))


def made_of(module: nn.Module, wanted: str) -> set[str]:
    """Its own tensors in which there are numbers of one of the reference's."""
    carried: Carried | None = getattr(module, HELD, None)
    if carried is None:
        return {wanted}
    with torch.inference_mode(mode=False), torch.enable_grad():
        raised = {name: _wide(each).requires_grad_(name == wanted) for name, each in carried.weights.state_dict().items()}
        return {name for name, each in carried.function(raised).items() if each.requires_grad}


def named_alike(module: nn.Module) -> bool:
    """Whether its state_dict is the reference's."""
    return getattr(module, HELD, None) is None


def rearranges(module: nn.Module) -> bool:
    """Whether every number of the reference's is in it once, as it is."""
    carried: Carried | None = getattr(module, HELD, None)
    if carried is None or carried.places is None:
        return carried is None
    return sum(each.numel() for each in carried.places.values()) == sum(each.numel() for each in carried.weights.state_dict().values())


def _rearranged_back(carried: Carried, places: State, state: State) -> State:
    given = carried.weights.state_dict()
    wide = torch.complex128 if any(each.is_complex() for each in given.values()) else torch.float64
    flat = torch.zeros(sum(each.numel() for each in given.values()), dtype=wide)
    for name, tensor in state.items():
        flat[places[name].flatten()] = tensor.detach().to("cpu", wide).flatten()
    parts = zip(given.items(), torch.split(flat, [each.numel() for each in given.values()]), strict=True)
    real = {name: (part if each.is_complex() or not wide.is_complex else part.real).view(each.shape) for (name, each), part in parts}
    return {name: part.to(given[name].device, given[name].dtype) for name, part in real.items()}


def _places(function: Callable[[State], State], given: State) -> State | None:
    """Run `state` on the places of the numbers instead of the numbers.  None where what comes out is no place."""
    total, counted = 0, {}
    for name, tensor in given.items():
        counted[name] = torch.arange(total, total + tensor.numel(), dtype=torch.float64).view(tensor.shape)
        total += tensor.numel()
    made = {name: each.cpu() for name, each in function(counted).items()}
    if any(((each != each.round()) | (each < 0) | (each >= total)).any() for each in made.values()):
        return None
    found = {name: each.long() for name, each in made.items()}
    hit = torch.zeros(total, dtype=torch.bool)
    for each in found.values():
        hit[each.flatten()] = True
    return found if hit.all() else None


def _check_kept(variant: str, function: Callable[[State], State], given: State) -> None:
    """Raises Mistake where a number of the reference has no effect on what is made: then its gradient has no way back."""
    generator = torch.Generator().manual_seed(0)

    def drawn(like: Tensor) -> Tensor:
        return 1 + torch.rand(like.shape, generator=generator, dtype=torch.float64)

    with torch.inference_mode(mode=False), torch.enable_grad():
        raised = {name: drawn(each).requires_grad_() for name, each in given.items()}
        made = [each for each in _called(variant, function, dict(raised)).values() if each.requires_grad]
        if not made:
            raise Mistake(f"variant {variant!r}: no gradient flows through state; use operations that autograd knows, as torch.cat")
        back = torch.autograd.grad(made, list(raised.values()), [drawn(each).to(each) for each in made], allow_unused=True)
    for (name, tensor), each in zip(raised.items(), back, strict=True):
        lost = tensor.numel() if each is None else int((each == 0).sum())
        if lost:
            raise Mistake(f"variant {variant!r}: state loses {lost} of the {tensor.numel()} numbers of {name!r}; use all of them")


def _wide(tensor: Tensor) -> Tensor:
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().to(wide, copy=True)


def _called(variant: str, function: Callable[[State], State], given: State) -> State:
    try:
        made = function(given)
    except Exception as error:
        if isinstance(error, Finding):
            raise
        raise Mistake(
            f"variant {variant!r}: state raised {type(error).__name__}: {error}; it is given a dict with {', '.join(given)}"
        ) from error
    if not isinstance(made, Mapping) or not all(isinstance(each, Tensor) for each in made.values()):
        raise Mistake(f"variant {variant!r}: state returned {type(made).__name__}; return a dict from the variant's names to tensors")
    return dict(made)


def _check_made(variant: str, state: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if name not in made:
            raise Mistake(f"variant {variant!r}: state makes no {name!r}, which its module has; return it too")
        if made[name].shape != tensor.shape:
            theirs, ours = tuple(made[name].shape), tuple(tensor.shape)
            raise Mistake(f"variant {variant!r}: state makes {name!r} of shape {theirs}, its module has {ours}; give it that shape")
    if extra := [name for name in made if name not in state]:
        raise Mistake(f"variant {variant!r}: state makes {extra[0]!r}, which its module lacks; it has {', '.join(state)}")


def compare(variant: str, state: Mapping[str, Tensor], first: str, expected: Mapping[str, Tensor]) -> None:
    """Raises Mistake where a name or a shape differs.  first: the reference's name."""
    for name, tensor in expected.items():
        if name not in state:
            raise Mistake(
                f"variant {variant!r}: state_dict lacks {name!r} that {first!r} has; subclass {first!r} and override only forward"
            )
        if state[name].shape != tensor.shape:
            theirs, ours = tuple(state[name].shape), tuple(tensor.shape)
            raise Mistake(f"variant {variant!r}: {name!r} in its state_dict has shape {theirs}, {first!r} has {ours}; give it that shape")
    for name in state:
        if name not in expected:
            raise Mistake(
                f"variant {variant!r}: state_dict has {name!r} that {first!r} lacks; register it with persistent=False, or remove it"
            )
