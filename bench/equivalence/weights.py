"""Ways of use in which the weights change after the first call: in place, through .data, by a state_dict, in eval(), or of a copy."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from ..subject import states
from .kinds import Way
from .use import Found, NotHere, Use, labelled, state, step


def weights_changed(use: Use) -> Found:
    """In place after the first call, as an optimizer does."""
    return _after(use, _change)


def changed_in_eval(use: Use) -> Found:
    """As a server does: called in eval() without gradients, then with other weights, then after a step of training."""
    module = use.module()
    if not module.state_dict():
        raise NotHere("it has no weights")
    trains, first = module.training, {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def served(words: str) -> Found:
        with torch.no_grad():
            return labelled(words, step(use.subject(0, module), backward=False))

    module.eval()
    served("")
    with torch.no_grad():
        _change(module)
    found = served("weights changed in place")
    module.load_state_dict(first)
    found |= served("state_dict loaded again")
    if trains:
        step(use.subject(1, module.train()))
        module.eval()
        found |= served("after a step in train()")
    return found


def weights_filled(use: Use) -> Found:
    """In place through .data after the first call: no version counts it."""

    def change(module: nn.Module) -> None:
        wanted = _others(module)
        for name, parameter in module.named_parameters():
            parameter.data.copy_(wanted[name])

    return _after(use, change)


def weights_replaced(use: Use) -> Found:
    """By other memory after the first call, through .data."""

    def change(module: nn.Module) -> None:
        wanted = _others(module)
        for name, parameter in module.named_parameters():
            parameter.data = torch.empty_like(parameter.detach()).copy_(wanted[name])

    return _after(use, change)


def state_loaded(use: Use) -> Found:
    """A state_dict loaded after the first call."""

    def change(module: nn.Module) -> None:
        module.load_state_dict(states.changed(module, lambda _, tensor: _other(tensor)))

    return _after(use, change)


def _change(module: nn.Module) -> None:
    """Other numbers into its parameters, in place."""
    wanted = _others(module)
    for name, parameter in module.named_parameters():
        parameter.copy_(wanted[name])


def _others(module: nn.Module) -> dict[str, torch.Tensor]:
    """Its state with other parameters, and its buffers as they are."""
    learned = states.parameters(module)
    return states.changed(module, lambda name, tensor: _other(tensor) if name in learned else tensor)


def _other(tensor: torch.Tensor) -> torch.Tensor:
    """Other numbers of the same kind, exact in every dtype: rows in another order, and half as large."""
    return (tensor.roll(1, 0) if tensor.dim() else tensor) / 2 if tensor.is_floating_point() else tensor.clone()


def _after(use: Use, change: Callable[[nn.Module], None]) -> Found:
    module = use.module()
    if not module.state_dict():
        raise NotHere("it has no weights")
    step(use.subject(0, module))
    module.zero_grad()
    with torch.no_grad():
        change(module)
    return step(use.subject(0, module)) | state(module)


def deep_copy(use: Use) -> Found:
    """A copy made after the first call, while the weights of the original go on changing."""
    module = use.module()
    step(use.subject(0, module))
    module.zero_grad()
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return step(use.subject(0, copied)) | state(copied)


WAYS = (
    Way("weights changed in place", weights_changed),
    Way("state_dict loaded late", state_loaded),
    Way("weights replaced by .data", weights_replaced),
    Way("weights changed through .data", weights_filled),
    Way("deep copy", deep_copy),
    Way("weights changed in eval()", changed_in_eval),
)
