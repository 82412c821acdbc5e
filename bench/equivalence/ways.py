"""The ways in which layers are used: each a small function of a `Use` that returns tensors by name.

A way is run on the reference in float64, on the reference in the dtype, and on a variant; that of the variant must be as near to the first
as the rule of `tolerance` says.  A public report of a layer that is wrong in some use becomes one more function here.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..subject import make
from .kinds import Way
from .use import Found, NotHere, Use, back, batched, device_of, gradients, labelled, outputs, state, step

MOST_LEAVES = 6  # inputs and parameters that are tried alone


# --- modes -------------------------------------------------------------------------------------------------------------------------


def in_eval(use: Use) -> Found:
    """`eval()`, and `train()` again.  A layer that is declared in eval() stays there."""
    module = use.module()
    if not module.training:
        raise NotHere("it is declared in eval()")
    found = step(use.subject(module=module.eval()))
    if use.layer.law:  # which is for train()
        return found
    module.zero_grad()
    return found | labelled("in train() again", step(use.subject(module=module.train())) | state(module))


def no_grad(use: Use) -> Found:
    return _without_gradients(use, torch.no_grad)


def inference_mode(use: Use) -> Found:
    return _without_gradients(use, torch.inference_mode)


def _without_gradients(use: Use, mode: Callable[[], AbstractContextManager[object]]) -> Found:
    subject = use.subject()
    with mode():
        return step(subject, backward=False)


def autocast(use: Use) -> Found:
    """Forward under torch.autocast in bfloat16, backward outside, as its manual says.  float64 stays float64 there."""
    if any(tensor.dtype != torch.float32 for tensor in use.drawn[0] if tensor.is_floating_point()):
        raise NotHere("autocast is for float32")
    subject = use.subject()
    torch.manual_seed(use.seed)
    with torch.autocast(device_of(use), torch.bfloat16):
        output = subject.forward()
    wide = make.tensors(output)
    subject.cotangents = tuple(None if g is None else g.to(y.dtype) for y, g in zip(wide.values(), subject.cotangents, strict=True))
    found = outputs(output) | back(subject, output)
    return {name: tensor if tensor.dtype == torch.float64 else tensor.float() for name, tensor in found.items()}


# --- what needs a gradient -----------------------------------------------------------------------------------------------------------


def inputs_need_none(use: Use) -> Found:
    """As the first layer of a network."""
    subject = use.subject()
    subject.inputs = tuple(tensor.detach() for tensor in subject.inputs)
    return step(subject)


def weights_need_none(use: Use) -> Found:
    """As a frozen layer."""
    use.needs_gradients()
    module = use.module()
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise NotHere("it has no parameters")
    return step(use.subject(module=module.requires_grad_(False)))


def each_alone(use: Use) -> Found:
    """One input or parameter after the other is the only one that needs a gradient."""
    use.needs_gradients()
    names = [name for name, _ in use.subject().leaves()]
    if len(names) < 2:
        raise NotHere("only one tensor needs a gradient")
    found: Found = {}
    for wanted in names[:MOST_LEAVES]:
        subject = use.subject()
        for name, leaf in list(subject.leaves()):
            leaf.requires_grad_(name == wanted)
        found |= labelled(f"only {wanted.removesuffix(' grad')} needing one", step(subject))
    return found


def each_output_alone(use: Use) -> Found:
    """Of several outputs one after the other is the only one that is used."""
    use.needs_gradients()
    if len(use.gradients) < 2:
        raise NotHere("it has one output")
    found: Found = {}
    for place, kept in enumerate(use.gradients):
        if kept is not None:
            subject = use.subject()
            subject.cotangents = tuple(each if index == place else None for index, each in enumerate(subject.cotangents))
            found |= labelled(f"output {place} alone used", step(subject))
    return found


# --- more than one call ----------------------------------------------------------------------------------------------------------------


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
        for parameter in module.parameters():
            parameter.copy_(_other(parameter))

    return _after(use, change)


def weights_replaced(use: Use) -> Found:
    """By other memory after the first call, through .data."""

    def change(module: nn.Module) -> None:
        for parameter in module.parameters():
            parameter.data = _other(parameter.detach())

    return _after(use, change)


def state_loaded(use: Use) -> Found:
    """A state_dict loaded after the first call."""

    def change(module: nn.Module) -> None:
        module.load_state_dict({name: _other(tensor) for name, tensor in module.state_dict().items()})

    return _after(use, change)


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


def batch_of_one(use: Use) -> Found:
    """The first row alone: no dimension may be lost."""
    places = list(batched(use))
    subject = use.with_inputs(
        lambda place, tensor: tensor if places[place] is None else tensor.narrow(places[place], 0, 1).clone()
    ).subject()
    torch.manual_seed(use.seed)
    output = subject.forward()
    subject.cotangents = make.cotangents(output, use.seed)
    return outputs(output) | back(subject, output)


def same_tensor(use: Use) -> Found:
    """One tensor for all inputs of its shape and kind."""
    subject = use.subject()
    first: dict[object, torch.Tensor] = {}
    given = tuple(first.setdefault((tensor.shape, tensor.dtype, _kind(use, place)), tensor) for place, tensor in enumerate(subject.inputs))
    if len({id(tensor) for tensor in given}) == len(given):
        raise NotHere("no two of its inputs have one shape")
    subject.inputs = given
    return step(subject)


def _kind(use: Use, place: int) -> object:
    draw = use.layer.inputs[place]
    return draw.kind, draw.below


WAYS = (
    Way("no gradient for inputs", inputs_need_none),
    Way("no gradient for weights", weights_need_none),
    Way("each gradient alone", each_alone),
    Way("under no_grad", no_grad),
    Way("under inference_mode", inference_mode),
    Way("in eval()", in_eval, random=True),
    Way("weights changed in place", weights_changed),
    Way("gradients accumulated", accumulated),
    Way("two calls, then backward", first_then_second),
    Way("two calls, backward reversed", second_then_first),
    Way("batch of 1", batch_of_one),
    Way("new data at every call", new_data),
    Way("output kept", kept_output),
    Way("state_dict loaded late", state_loaded),
    Way("weights replaced by .data", weights_replaced),
    Way("deep copy", deep_copy),
    Way("backward twice", backward_twice),
    Way("each output alone", each_output_alone),
    Way("one tensor for several inputs", same_tensor),
    Way("checkpointed", checkpointed),
    Way("second derivatives", second_derivatives, absence="not differentiable twice", first_dtype=True),
    Way("under autocast", autocast, within="bfloat16"),
)
