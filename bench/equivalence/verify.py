"""Is a variant the same layer?  Outputs, gradients of inputs and parameters, and buffers, against the reference in float64.

Method: every variant runs on the same numbers as the reference.  Per tensor, its distance from float64 is held against those of the
reference itself in that dtype; a variant that is further off is rejected only after the reference was tried on moved numbers: see `moved`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ..data.record import TensorError
from ..declare.inputs import Size
from ..declare.layer import Init, Layer
from ..law import Deviations, Law, Observation
from ..subject import make, states
from ..subject.make import Subject
from . import moments, rounding
from .moments import Features
from .moved import Moved, barely
from .moved import moved as nudge
from .observe import Values, observe, versions
from .tolerance import NOTHING, ROUNDING, ULPS, Mismatch, Off, allowed, check_finite, distance, largest, own_distance

NOTHING_LEFT = 2.0**-20  # of what it may be off by its usual size, below which a tensor is 0 but for the rounding of float64


@dataclass(frozen=True)
class Truth:
    """What a variant is judged against, for one seed and size."""

    size: Size
    dtype: torch.dtype
    device: str
    seed: int
    weights: nn.Module  # the reference, with the weights that every variant gets
    inputs: tuple[Tensor, ...]  # as drawn
    cotangents: tuple[Tensor | None, ...]
    exact: Values  # the reference in float64
    own: Values  # the reference in the dtype of the point
    moved: Moved  # the reference again, on moved numbers, as far as anybody asked
    law: Law | Literal["seed", "moments"] | None = None  # of a random layer: stands for the comparison with `exact`
    calls: int = 1  # made before values are compared
    moments: Features | None = None  # of the reference, where its law is "moments"
    usual: Mapping[str, float] = field(
        default_factory=dict
    )  # tensor -> its largest value as a rule; one that cancels to nothing is made of such

    def allowed(self, name: str, eps: float | None = None) -> Off:
        """What a tensor may be off, by what is known of the reference so far.  eps: of its dtype, unless that of the point."""
        own, *moved = self.moved.offs[name]
        eps = self._eps() if eps is None else eps
        limit = allowed(self.exact.all()[name], self.own.all()[name].dtype, eps, own, moved, self.calls)
        least = self.usual.get(name.partition(", ")[0], 0.0) * max(ULPS * eps, self.calls * ROUNDING)
        least *= NOTHING if largest(self.exact.all()[name]) <= NOTHING_LEFT * least else 1
        return Off(max(limit.largest, least), max(limit.rms, least))

    def _eps(self) -> float:
        return max((torch.finfo(tensor.dtype).eps for tensor in self.own.outputs.values() if tensor.is_floating_point()), default=0.0)

    def sizes(self) -> dict[str, float]:
        """The largest value of each tensor, as for `usual`; of one that is 0 that of the numbers it is made of, as its rounding tells."""
        exact = {name: largest(tensor) for name, tensor in self.exact.all().items() if tensor.is_floating_point()}
        off = {name: self.moved.offs[name][0].largest if name in self.moved.offs else 0.0 for name in exact}
        return {name: size if off[name] <= size else off[name] / max(ULPS * self._eps(), ROUNDING) for name, size in exact.items()}


def truth(layer: Layer, size: Size, dtype: torch.dtype, device: str, seed: int, init: Init | None = None) -> Truth:
    """Run the reference in float64 and in dtype on the numbers of a seed.  init: of the weights, unless the layer's own.

    Raises Mistake where what it computes could prove nothing.
    """
    drawn = make.drawn(layer, size, dtype, device, seed, init)
    weights, inputs, cotangents = drawn.weights, drawn.inputs, drawn.cotangents
    if not cotangents:
        output = make.probe(weights, inputs)
        raise Mismatch(f"output: the reference returns {type(output).__name__}, no tensors; return a tensor, or a tuple or dict of them")
    law = layer.law if weights.training else None  # in eval() nothing is random
    stock = make.subject(next(iter(layer.variants)), weights, inputs, cotangents)
    own = observe(stock, seed, layer.calls)
    double: Callable[[Sequence[Tensor]], Values] = lambda given: observe(  # noqa: E731
        make.in_float64(weights, given, cotangents, layer, size), seed, layer.calls
    )
    exact = _widened(own) if law == "seed" else double(inputs)
    check_finite(exact.all(), own.all(), layer.named_draws, random=layer.law is not None)
    beside = lambda draw: double([barely(each, draw + place) for place, each in enumerate(inputs)]).all()  # noqa: E731
    again = lambda draw: observe(nudge(stock, draw), seed, layer.calls).all()  # noqa: E731
    moved = Moved(again, seed, exact.all(), own.all(), None if layer.law else beside)
    seen = moments.features(stock, seed, layer.calls) if law == "moments" else None
    return Truth(size, dtype, device, seed, weights, inputs, cotangents, exact, own, moved, law, layer.calls, seen)


def _widened(own: Values) -> Values:
    """What stands for the exact values where the seed decides: in float64 a reference draws other numbers."""
    outputs, gradients, state = (
        {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in part.items()}
        for part in (own.outputs, own.gradients, own.state)
    )
    return Values(outputs, gradients, state, own.kinds)


def judge(subject: Subject, truth: Truth) -> list[TensorError]:
    """Errors per tensor of a subject that holds the truth's weights and inputs.

    Raises Mismatch at the first tensor that is missing, misshapen, not finite where the reference is, too far off, or changed in place.
    """
    before = versions(subject)
    try:
        seen = _observed(subject, truth)
    except RuntimeError as error:
        if "in-place operation" in str(error) or "inplace operation" in str(error):
            with torch.no_grad():  # autograd forbade it; without autograd it can be seen which tensor it was
                subject.forward()
            _check_untouched(subject, truth)
            _check_parameters(subject, truth)
        raise
    _check_untouched(subject, truth)
    _check_versions(subject, before)
    _check_kinds(seen, truth.own)
    if truth.moments is not None:
        _check_alike(seen, truth.own)
        return _held(moments.deviations(moments.features(subject, truth.seed, truth.calls), truth.moments))
    if callable(truth.law):
        again = _observation(subject, observe(subject, truth.seed + 1))
        return _held(truth.law(_observation(subject, seen), again))
    found, exact, own = seen.all(), truth.exact.all(), truth.own.all()
    zeros = {name for each in (seen, truth.exact) for name, tensor in each.gradients.items() if not tensor.any()}  # as good as none
    both = [name for name in exact if name in own]  # a buffer's update may be lost to rounding in a half type
    errors = [
        _judged(subject, truth, name, found.get(name, _as_it_was(truth, name))) for name in both if name in found or name not in zeros
    ]
    if extra := [name for name in found if name not in exact and name not in zeros]:
        raise Mismatch(f"{extra[0]}: the reference has none, or leaves it as it is")
    return errors


def _as_it_was(truth: Truth, name: str) -> Tensor | None:
    """Of a buffer that a variant leaves as it is: its value, where the update is one that rounding may lose.  Else None."""
    before = truth.weights.state_dict().get(name.removesuffix(" after")) if name.endswith(" after") else None
    if before is None or not before.is_floating_point():
        return None
    return before if own_distance(before, truth.exact.all()[name]).within(truth.allowed(name)) else None


def _judged(subject: Subject, truth: Truth, name: str, found: Tensor | None) -> TensorError:
    """As `hold`; what is off by rounding alone may be off by more."""
    try:
        return hold(truth, name, found)
    except Mismatch:
        if found is None or not found.is_floating_point() or not rounding.alone(subject, name, truth.exact, truth.seed, truth.calls):
            raise
        return hold(truth, name, found, times=rounding.TIMES)


def _observed(subject: Subject, truth: Truth) -> Values:
    """Raises Mismatch where backward writes to the incoming gradient, which others may hold; the subject's own stays as it is."""
    given = subject.cotangents
    subject.cotangents = tuple(None if each is None else each.clone() for each in given)
    try:
        seen = observe(subject, truth.seed, truth.calls)
        for name, now, then in zip(seen.outputs, subject.cotangents, given, strict=False):
            if now is not None and then is not None and not torch.equal(now, then):
                raise Mismatch(f"{name}: backward writes to its incoming gradient; write to a tensor of its own")
    finally:
        subject.cotangents = given
    return seen


def _observation(subject: Subject, seen: Values) -> Observation:
    return Observation(subject.inputs, subject.cotangents, seen.outputs, seen.gradients)


def _check_alike(seen: Values, own: Values) -> None:
    """Raises Mismatch where a tensor is missing, or of another shape or dtype."""
    found, expected = seen.all(), own.all()
    for name, tensor in expected.items():
        _check_shape(name, found.get(name), tensor, tensor.dtype)
    if extra := [name for name in found if name not in expected]:
        raise Mismatch(f"{extra[0]}: the reference has none, or leaves it as it is")


def _held(deviations: Deviations) -> list[TensorError]:
    """Raises Mismatch at the first thing that the law does not allow."""
    errors = [TensorError(name, error, allowed) for name, (error, allowed) in deviations.items()]
    for each in errors:
        if not each.error <= each.allowed:
            raise Mismatch(f"{each.tensor}: off by {each.error:.2g}, the law of this layer allows {each.allowed:.2g}")
    return errors


def _check_untouched(subject: Subject, truth: Truth) -> None:
    for name, now, then in zip(subject.names(), subject.inputs, truth.inputs, strict=True):
        if not torch.equal(now.detach(), then):
            raise Mismatch(f"{name}: changed in place; compute on a copy")


def _check_versions(subject: Subject, before: list[int]) -> None:
    for index, (now, then) in enumerate(zip(versions(subject), before, strict=True)):
        if now != then:
            raise Mismatch(f"input {index}: written to in place, and put back; whoever saved it cannot go backward: compute on a copy")


def _check_kinds(seen: Values, own: Values) -> None:
    """A subclass may put its work off until somebody looks, who is not timed."""
    for name, kind in seen.kinds.items():
        if name in own.kinds and kind != own.kinds[name]:
            raise Mismatch(f"{name}: it is a {kind}, the reference returns a {own.kinds[name]}; return that")


def _check_parameters(subject: Subject, truth: Truth) -> None:
    drawn = states.of_variant(subject.module, truth.weights)
    for name, parameter in subject.module.named_parameters():
        if not torch.equal(parameter.detach(), drawn[name]):
            raise Mismatch(f"{name}: changed in place by a call; the reference leaves it as it is")


def _check_shape(name: str, found: Tensor | None, expected: Tensor, dtype: torch.dtype) -> Tensor:
    if found is None:
        raise Mismatch(f"{name}: missing; the reference has it")
    if found.shape != expected.shape:
        raise Mismatch(f"{name}: its shape is {tuple(found.shape)}, the reference's {tuple(expected.shape)}")
    if found.dtype != dtype:
        raise Mismatch(f"{name}: its dtype is {found.dtype}, the reference's {dtype}")
    return found


def hold(truth: Truth, name: str, found: Tensor | None, eps: float | None = None, times: float = 1.0) -> TensorError:
    """One tensor against the truth.  Raises Mismatch where it is none of that name, shape and dtype, or off by more than is allowed.

    eps: of a dtype coarser than that of the point, where rounding may be that coarse.  times: what is allowed.
    """
    exact, own = truth.exact.all()[name], truth.own.all()[name]
    found = _check_shape(name, found, exact, own.dtype)
    off, limit = distance(name, found, exact), truth.allowed(name, eps).times(times)
    while not off.within(limit):
        if not truth.moved.more():
            off = distance(name, found, truth.moved.nearest(name, found))
            if off.within(limit):
                break
            if off.largest <= limit.largest:
                raise Mismatch(f"{name}: off by {off.rms:.2g} in root mean square, allowed {limit.rms:.2g}")
            raise Mismatch(f"{name}: off by {off.largest:.2g}, allowed {limit.largest:.2g}")
        limit = truth.allowed(name, eps).times(times)
    return TensorError(name, off.largest, limit.largest)
