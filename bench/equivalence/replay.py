"""Does a variant compute what it is asked at every call?  What was timed is asked again, with other numbers in the very same tensors.

A variant that hands out what it computed before, as long as its inputs have the address and the version that they had, is right at every
call of a benchmark, and fast.  So the contents of the inputs are changed beneath it, without a new version, and its answer is held against
that of a fresh copy of itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..subject import states
from ..subject.make import Subject
from .observe import Values, observe
from .tolerance import Mismatch, Off, distance, own_distance
from .verify import Truth

STALE = "{name}: it answers with old numbers where the contents of its inputs have changed in place; compute at every call"


def check(timed: Subject, fresh: Subject, truth: Truth) -> None:
    """timed: what was timed, on the truth's numbers.  fresh: the same variant, made anew, on the same.

    Raises Mismatch where the two differ by more than each may differ from the truth.  The timed one has its numbers again afterwards.
    """
    if not any(tensor.is_floating_point() or tensor.is_complex() for tensor in timed.inputs):
        return
    kept = [tensor.data.clone() for tensor in timed.inputs]
    _ask(timed, fresh, truth, kept, [_turned(tensor) for tensor in kept])
    coarse = [_coarse(tensor) for tensor in kept]
    _fill(fresh.inputs, others := [_inside_out(tensor) for tensor in coarse])
    try:
        _observed(fresh, truth)
    except Exception:  # noqa: BLE001  the code is the user's: it may ask more of its inputs, as that they are symmetric
        return
    _ask(timed, fresh, truth, coarse, others)


def _ask(timed: Subject, fresh: Subject, truth: Truth, first: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Whether it computes the others where it has seen the first."""
    kept = [tensor.data.clone() for tensor in timed.inputs]
    _fill(timed.inputs, first)
    timed.forward()  # so that it has seen these numbers, with these versions of its weights
    drawn = states.of_variant(timed.module, truth.weights)
    for name, tensor in timed.module.state_dict().items():
        tensor.data.copy_(drawn[name])  # what that forward left in its buffers
    _fill(timed.inputs, others)
    _fill(fresh.inputs, others)
    try:
        seen, expected = _observed(timed, truth), _observed(fresh, truth)
    finally:
        _fill(timed.inputs, kept)
    for name, right in expected.all().items():
        found = seen.all().get(name)
        if found is None or found.shape != right.shape or not _near(name, found, right, truth):
            raise Mismatch(STALE.format(name=name))


def _observed(subject: Subject, truth: Truth) -> Values:
    return observe(subject, truth.seed, truth.calls)


def _turned(content: Tensor) -> Tensor:
    """The numbers in the opposite order, which fit wherever those did; one alone is halved.  Whole numbers may mean something and stay."""
    if not (content.is_floating_point() or content.is_complex()):
        return content.clone()
    return content.flip(tuple(range(content.dim()))) if content.numel() > 1 else content / 2


def _coarse(content: Tensor) -> Tensor:
    """In steps of 1/64: their sum is exact, and so the same in every order."""
    return (content * 64).round() / 64 if content.is_floating_point() else content.clone()


def _inside_out(content: Tensor) -> Tensor:
    """The same numbers, with the same first and last; what lies between is in the opposite order.  What sums tell is not enough."""
    if not content.is_floating_point() or content.numel() < 4:
        return _turned(content)
    flat = content.flatten()
    return torch.cat([flat[:1], flat[1:-1].flip(0), flat[-1:]]).view(content.shape)


def _fill(tensors: Sequence[Tensor], contents: Sequence[Tensor]) -> None:
    """`data` is a view with a version of its own: that of the tensor stays."""
    for tensor, content in zip(tensors, contents, strict=True):
        tensor.data.copy_(content)


def _near(name: str, found: Tensor, right: Tensor, truth: Truth) -> bool:
    """Two runs of one code on the same numbers: equal, but for the order in which a sum is taken."""
    if torch.equal(found, right) or not right.is_floating_point():
        return torch.equal(found, right)
    return distance(name, found, right.double()).within(_limit(name, right, truth))


def _limit(name: str, right: Tensor, truth: Truth) -> Off:
    """What it may be off the truth, as a share of its size: other numbers have another size."""
    exact = truth.exact.all()[name].double()
    was, now = own_distance(torch.zeros_like(exact), exact), own_distance(torch.zeros_like(right), right.double())
    limit = truth.allowed(name).times(2)
    return limit.times(max(1.0, now.largest / was.largest)) if was.largest else limit
