"""The ways in which layers are used, by one call: each a small function of a `Use` that returns tensors by name.

A way is run on the reference in float64, on the reference in the dtype, and on a variant; that of the variant must be as near to the first
as the rule of `tolerance` says.  A public report of a layer that is wrong in some use becomes one more function here.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import torch

from ..subject import make, randomness, states
from .kinds import Way
from .use import Found, NotHere, Use, back, batched, device_of, labelled, outputs, state, step

MOST_LEAVES = 6  # inputs and parameters that are tried alone


# --- modes -------------------------------------------------------------------------------------------------------------------------


def in_eval(use: Use) -> Found:
    """`eval()`, and `train()` again.  A layer that is declared in eval() stays there."""
    module = use.module()
    if not module.training:
        raise NotHere("it is declared in eval()")
    found = step(use.subject(module=module.eval()))
    if use.layer.law:  # which is for train()
        again = step(use.subject(module=module), seed=1, backward=False)
        if use.exact and any(not torch.equal(tensor, found[name]) for name, tensor in again.items()):
            raise NotHere("it is random in eval(), too")
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
    randomness.seed(use.seed)
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
    subject = use.subject()
    given = dict(zip(subject.names(), subject.inputs, strict=True))
    names = [name for name, tensor in (given | states.parameters(subject.module, each_once=True)).items() if tensor.requires_grad]
    if len(names) < 2:
        raise NotHere("only one tensor needs a gradient")
    found: Found = {}
    inputs = [name for name in names if name.startswith("input ")]
    ordered = inputs + sorted(set(names) - set(inputs))  # not as they were registered: a variant may have them in another order
    for wanted in ordered[:MOST_LEAVES]:
        subject = use.subject()
        own = {wanted} if wanted in given else states.made_of(subject.module, wanted)
        for name, leaf in list(subject.leaves()):
            leaf.requires_grad_(name in own)
        seen = {name: tensor for name, tensor in step(subject).items() if not name.endswith(" grad") or name == f"{wanted} grad"}
        found |= labelled(f"only {wanted} needing one", seen)
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


def batch_of_one(use: Use) -> Found:
    """The first row alone: no dimension may be lost."""
    places = list(batched(use))

    def first(index: int, tensor: torch.Tensor) -> torch.Tensor:
        place = places[index]
        return tensor if place is None else tensor.narrow(place, 0, 1).clone()

    subject = use.with_inputs(first).subject()
    randomness.seed(use.seed)
    output = subject.forward()
    subject.cotangents = make.cotangents(output, use.seed)
    return outputs(output) | back(subject, output)


def another_size(place: int, use: Use) -> Found:
    """One module at two sizes, the smaller first and the smaller last: a mask or a table that it keeps must fit both.

    place: of the dimension in the sweep.
    """
    dimension = dict(enumerate(use.layer.sweep)).get(place, "")
    short = _half(use, dimension)
    if short is None:
        raise NotHere("no such dimension of its inputs can be halved")
    found: Found = {}
    for words, sides in (("longer than before", (short, use)), ("shorter than before", (use, short))):
        module = use.module()
        try:
            made = [step(side.subject(module=module), backward=False) for side in sides]
        except Exception as error:
            if use.name in ("float64", next(iter(use.layer.variants))):
                raise NotHere("its module takes one size") from error
            raise
        found |= labelled(f"{dimension} {words}", made[-1])
    return found


def _half(use: Use, dimension: str) -> Use | None:
    """The first half of its inputs in that dimension; None where none of them has it, or it is 1."""

    def cut(place: int, tensor: torch.Tensor) -> torch.Tensor:
        for at, name in enumerate(use.layer.draws[place].dims[: tensor.dim()]):
            tensor = tensor.narrow(at, 0, tensor.shape[at] // 2) if name == dimension else tensor
        return tensor.clone()

    sizes = [
        tensor.shape[at] for tensor, d in zip(use.drawn[0], use.layer.draws, strict=True) for at, n in enumerate(d.dims) if n == dimension
    ]
    return use.with_inputs(cut) if sizes and min(sizes) > 1 else None


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
    return replace(use.layer.draws[place], dims=())


WAYS = (
    Way("no gradient for inputs", inputs_need_none),
    Way("no gradient for weights", weights_need_none),
    Way("each gradient alone", each_alone),
    Way("under no_grad", no_grad),
    Way("under inference_mode", inference_mode),
    Way("in eval()", in_eval, random=True),
    Way("batch of 1", batch_of_one),
    Way("each output alone", each_output_alone),
    *(Way(f"another size of dimension {place + 1}", partial(another_size, place)) for place in range(3)),
    Way("one tensor for several inputs", same_tensor),
    Way("under autocast", autocast, within="bfloat16"),
)
