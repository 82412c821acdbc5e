"""Ways of use that take more than one call: gradients that add up, graphs that wait, weights that change between, copies.

As in `ways`, each is a small function of a `Use` that returns tensors by name.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..subject import make, states
from .kinds import Way
from .use import Found, LeftOut, NotHere, Use, back, gradients, labelled, outputs, state, step

# --- calls ----------------------------------------------------------------------------------------------------------------


def accumulated(use: Use) -> Found:
    """Gradients of two steps on different data, added up in .grad."""
    use.needs_gradients()
    module = use.module()
    step(use.subject(0, module))
    return step(use.subject(1, module))


def first_then_second(use: Use) -> Found:
    return _both_forwards_first(use, (0, 1))


def second_then_first(use: Use) -> Found:
    return _both_forwards_first(use, (1, 0))


def _both_forwards_first(use: Use, order: tuple[int, int]) -> Found:
    """Two forwards on different data before their backwards, as where a layer is shared."""
    use.needs_gradients()
    module = use.module()
    subjects = [use.subject(draw, module) for draw in (0, 1)]
    torch.manual_seed(use.seed)
    made = [subject.forward() for subject in subjects]
    found: Found = {}
    for which in order:
        found |= labelled(f"call {which + 1}", outputs(made[which]) | back(subjects[which], made[which]))
    return found


def checkpointed(use: Use) -> Found:
    """torch.utils.checkpoint: forward is run again in backward."""
    use.needs_gradients()
    subject = use.subject()
    torch.manual_seed(use.seed)
    output = checkpoint(subject.module, *subject.inputs, use_reentrant=False)
    return outputs(output) | back(subject, output)


def backward_twice(use: Use) -> Found:
    """Through one graph, kept by retain_graph=True."""
    use.needs_gradients()
    subject = use.subject()
    output = subject.forward()
    back(subject, output, keep=True)
    return back(subject, output)


def new_data(use: Use) -> Found:
    """A call for each of several inputs: what it returns and what it keeps."""
    module = use.module()
    found: Found = {}
    for draw in range(len(use.drawn)):
        found |= labelled(f"call {draw + 1}", step(use.subject(draw, module), backward=False))
    return found | state(module)


def kept_output(use: Use) -> Found:
    """An output that the caller holds while the layer is called again, on other data.  Not where it is the layer's own state."""
    module = use.module()
    kept = use.subject(0, module).forward()
    before = outputs(kept)
    use.subject(1, module).forward()
    after = outputs(kept)
    if use.exact and any(not torch.equal(tensor, before[name]) for name, tensor in after.items()):
        raise NotHere("the reference changes its outputs too")
    return labelled("read after the next call", after)


def second_derivatives(use: Use) -> Found:
    """The gradients of a sum of squares of the gradients, as a gradient penalty takes them."""
    use.needs_gradients()
    subject = use.subject()
    if not states.rearranges(subject.module):
        raise LeftOut("a sum over its weights is no sum over the reference's")
    output = subject.forward()
    pairs = [(y, g) for y, g in zip(make.tensors(output).values(), subject.cotangents, strict=True) if g is not None]
    leaves = dict(subject.leaves())
    first = torch.autograd.grad([y for y, _ in pairs], list(leaves.values()), [g for _, g in pairs], create_graph=True, allow_unused=True)
    wanted = [each for each in first if each is not None and each.requires_grad]
    if not wanted:
        raise NotHere("its gradients do not depend on anything")
    torch.stack([each.square().sum() for each in wanted]).sum().backward()  # type: ignore[no-untyped-call]
    return labelled("of the gradients", gradients(subject))


# --- weights and inputs that change ------------------------------------------------------------------------------------------------------


def weights_changed(use: Use) -> Found:
    """In place after the first call, as an optimizer does."""

    def change(module: nn.Module) -> None:
        wanted = _others(module)
        for name, parameter in module.named_parameters():
            parameter.copy_(wanted[name])

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
    Way("gradients accumulated", accumulated),
    Way("two calls, then backward", first_then_second),
    Way("two calls, backward reversed", second_then_first),
    Way("new data at every call", new_data),
    Way("output kept", kept_output),
    Way("state_dict loaded late", state_loaded),
    Way("weights replaced by .data", weights_replaced),
    Way("deep copy", deep_copy),
    Way("backward twice", backward_twice),
    Way("checkpointed", checkpointed),
    Way("second derivatives", second_derivatives, absence="not differentiable twice", first_dtype=True),
)
