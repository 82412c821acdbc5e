"""Ways of use that take more than one call: gradients that add up, graphs that wait, outputs that are kept.

As in `ways`, each is a small function of a `Use` that returns tensors by name.
"""

import torch
from torch.utils.checkpoint import checkpoint

from ..subject import make, randomness, states
from .kinds import Way
from .use import Found, LeftOut, NotHere, Use, back, gradients, labelled, outputs, state, step

LATER = (1, 2, 0, 1, 2)  # draws of the calls that come after one: several, for buffers may be taken in turn
MANY = 1000


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
    randomness.seed(use.seed)
    made = [subject.forward() for subject in subjects]
    found: Found = {}
    for which in order:
        found |= labelled(f"call {which + 1}", outputs(made[which]) | back(subjects[which], made[which]))
    return found


def checkpointed(use: Use) -> Found:
    """torch.utils.checkpoint: forward is run again in backward."""
    use.needs_gradients()
    subject = use.subject()
    randomness.seed(use.seed)
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


def counted_on(use: Use) -> Found:
    """After a thousand calls, as far as the layer counts them: a buffer that is one whole number."""
    module, counters = use.module(), 0
    for buffer in module.buffers():
        if buffer.numel() == 1 and not buffer.is_floating_point() and buffer.dtype != torch.bool:
            buffer += MANY
            counters += 1
    if not counters:
        raise NotHere("it counts nothing")
    return step(use.subject(0, module)) | state(module)


def kept_output(use: Use) -> Found:
    """An output that the caller holds while the layer is called again and again, on other data.  Not where it is the layer's own state."""
    module = use.module()
    kept = use.subject(0, module).forward()
    before = outputs(kept)
    for draw in LATER:
        use.subject(draw, module).forward()
    after = outputs(kept)
    if use.exact and any(not torch.equal(tensor, before[name]) for name, tensor in after.items()):
        raise NotHere("the reference changes its outputs too")
    return labelled("read after the next call", after)


def kept_gradients(use: Use) -> Found:
    """Gradients of inputs that the caller holds, as .grad, while the layer is called again, on other data."""
    use.needs_gradients()
    module, held = use.module(), use.subject(0)
    held.module = module
    back(held, held.forward())
    kept = {name: leaf.grad for name, leaf in held.leaves() if leaf.grad is not None and any(leaf is each for each in held.inputs)}
    for draw in LATER:
        other = use.subject(draw, module)
        other.cotangents = tuple(None if each is None else each / 2 for each in other.cotangents)
        step(other)
    return labelled("read after the next call", {name: tensor.detach().clone() for name, tensor in kept.items()})


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


WAYS = (
    Way("gradients accumulated", accumulated),
    Way("two calls, then backward", first_then_second),
    Way("two calls, backward reversed", second_then_first),
    Way("new data at every call", new_data),
    Way("output kept", kept_output),
    Way("after 1000 calls", counted_on),
    Way("gradients kept", kept_gradients),
    Way("backward twice", backward_twice),
    Way("checkpointed", checkpointed),
    Way("second derivatives", second_derivatives, absence="not differentiable twice", first_dtype=True),
)
