"""Is a variant the same layer?  Outputs, gradients of inputs and parameters, and buffers, against the reference in float64.

Method: every variant runs on the same numbers as the reference.  Per tensor, its distance from float64 is held against those of the
reference itself in that dtype; a variant that is further off is rejected only after the reference was tried on moved numbers: see `moved`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.record import Accuracy, TensorError
from ..declare.inputs import Size
from ..declare.layer import Init, Layer
from ..declare.mistake import Mistake
from ..law import Law, Observation
from ..subject import make, states
from ..subject.make import Subject
from .moved import Moved
from .observe import Values, observe
from .tolerance import ROUNDING, Mismatch, Off, allowed, check_finite, comparable, distance

PERTURBATION_ULPS = 64  # an output this far off must be rejected, else the check says that it is weak
DRAWS = 3  # with other seeds, to find a reference that is random
SAME = 1e-9  # of the largest value: what the order of a sum changes in float64 is far less, and what is drawn anew far more


@dataclass(frozen=True)
class Truth:
    """What a variant is judged against, for one seed and size."""

    size: Size
    seed: int
    weights: nn.Module  # the reference, with the weights that every variant gets
    inputs: tuple[Tensor, ...]  # as drawn
    cotangents: tuple[Tensor | None, ...]
    exact: Values  # the reference in float64
    own: Values  # the reference in the dtype of the point
    moved: Moved  # the reference again, on moved numbers, as far as anybody asked
    law: Law | None = None  # of a random layer: stands for the comparison with `exact`
    calls: int = 1  # made before values are compared

    def allowed(self, name: str, eps: float | None = None) -> Off:
        """What a tensor may be off, by what is known of the reference so far.  eps: of its dtype, unless that of the point."""
        own, *moved = self.moved.offs[name]
        eps = self._eps() if eps is None else eps
        return allowed(self.exact.all()[name], self.own.all()[name].dtype, eps, own, moved, self.calls)

    def _eps(self) -> float:
        return max((torch.finfo(tensor.dtype).eps for tensor in self.own.outputs.values() if tensor.is_floating_point()), default=0.0)


def truth(layer: Layer, size: Size, dtype: torch.dtype, device: str, seed: int, init: Init | None = None) -> Truth:
    """Run the reference in float64 and in dtype on the numbers of a seed.  init: of the weights, unless the layer's own.

    Raises Mistake where what it computes could prove nothing.
    """
    drawn = make.drawn(layer, size, dtype, device, seed, init)
    weights, inputs, cotangents = drawn.weights, drawn.inputs, drawn.cotangents
    if not cotangents:
        output = make.probe(weights, inputs)
        raise Mismatch(f"output: the reference returns {type(output).__name__}, no tensors; return a tensor, or a tuple or dict of them")
    exact = observe(make.in_float64(weights, inputs, cotangents, layer, size), seed, layer.calls)
    stock = make.subject(next(iter(layer.variants)), weights, inputs, cotangents)
    own = observe(stock, seed, layer.calls)
    check_finite(exact.all(), own.all(), layer.draws, random=layer.law is not None)
    moved = Moved(stock, seed, layer.calls, exact, own)
    law = layer.law if weights.training else None  # in eval() nothing is random
    return Truth(size, seed, weights, inputs, cotangents, exact, own, moved, law, layer.calls)


def judge(subject: Subject, truth: Truth) -> list[TensorError]:
    """Errors per tensor of a subject that holds the truth's weights and inputs.

    Raises Mismatch at the first tensor that is missing, misshapen, not finite where the reference is, too far off, or changed in place.
    """
    try:
        seen = observe(subject, truth.seed, truth.calls)
    except RuntimeError as error:
        if "in-place operation" in str(error) or "inplace operation" in str(error):
            with torch.no_grad():  # autograd forbade it; without autograd it can be seen which tensor it was
                subject.forward()
            _check_untouched(subject, truth)
            _check_parameters(subject, truth)
        raise
    _check_untouched(subject, truth)
    _check_kinds(seen, truth.own)
    if truth.law:
        return _by_law(truth.law, _observation(subject, seen), _observation(subject, observe(subject, truth.seed + 1)))
    found, exact, own = seen.all(), truth.exact.all(), truth.own.all()
    both = [name for name in exact if name in own]  # a buffer's update may be lost to rounding in a half type
    errors = [hold(truth, name, found.get(name)) for name in both]
    if extra := [name for name in found if name not in exact]:
        raise Mismatch(f"{extra[0]}: the reference has none, or leaves it as it is")
    return errors


def check_not_random(layer: Layer, truth: Truth) -> None:
    """Raises Mistake where the reference of a layer without a law computes something else at every call."""
    subject = make.in_float64(truth.weights, truth.inputs, truth.cotangents, layer, truth.size)
    for again in range(1, 0 if layer.law else 1 + DRAWS):
        seen = observe(subject, truth.seed + again, layer.calls).all()
        for name, exact in truth.exact.all().items():
            off = _apart(exact.double(), seen.get(name, exact).double())
            if off > SAME * float(exact.double().abs().nan_to_num(0.0, 0.0, 0.0).max() if exact.numel() else 0.0):
                raise Mistake(
                    f"{name}: it looks random: two calls with the same numbers are {off:.2g} apart; "
                    "say what holds of every draw, as law=law.dropout(0.1), or make it repeatable"
                )


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference where both are finite; of two shapes, without limit."""
    if a.shape != b.shape:
        return math.inf
    off = (a - b).abs()[a.isfinite() & b.isfinite()]
    return float(off.max()) if off.numel() else 0.0


def _observation(subject: Subject, seen: Values) -> Observation:
    return Observation(subject.inputs, subject.cotangents, seen.outputs, seen.gradients)


def _by_law(law: Law, seen: Observation, again: Observation) -> list[TensorError]:
    """Raises Mismatch at the first thing that the law does not allow."""
    errors = [TensorError(name, error, allowed) for name, (error, allowed) in law(seen, again).items()]
    for each in errors:
        if not each.error <= each.allowed:
            raise Mismatch(f"{each.tensor}: off by {each.error:.2g}, the law of this layer allows {each.allowed:.2g}")
    return errors


def _check_untouched(subject: Subject, truth: Truth) -> None:
    for index, (now, then) in enumerate(zip(subject.inputs, truth.inputs, strict=True)):
        if not torch.equal(now.detach(), then):
            raise Mismatch(f"input {index}: changed in place; compute on a copy")


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


def hold(truth: Truth, name: str, found: Tensor | None) -> TensorError:
    """One tensor against the truth.  Raises Mismatch where it is none of that name, shape and dtype, or off by more than is allowed."""
    exact, own = truth.exact.all()[name], truth.own.all()[name]
    if found is None:
        raise Mismatch(f"{name}: missing; the reference has it")
    if found.shape != exact.shape:
        raise Mismatch(f"{name}: its shape is {tuple(found.shape)}, the reference's {tuple(exact.shape)}")
    if found.dtype != own.dtype:
        raise Mismatch(f"{name}: its dtype is {found.dtype}, the reference's {own.dtype}")
    off, limit = distance(name, found, exact), truth.allowed(name)
    while not off.within(limit):
        if not truth.moved.more():
            if off.largest <= limit.largest:
                raise Mismatch(f"{name}: off by {off.rms:.2g} in root mean square, allowed {limit.rms:.2g}")
            raise Mismatch(f"{name}: off by {off.largest:.2g}, allowed {limit.largest:.2g}")
        limit = truth.allowed(name)
    return TensorError(name, off.largest, limit.largest)


def weaknesses(truth: Truth) -> list[str]:
    """The check's own test: a tensor for which zeros, a constant mean, or values a little off would pass is named."""
    if truth.law:
        return _weaknesses_of_law(truth, truth.law)
    if not truth.moved.draws:
        truth.moved.more()  # the first few show whether moved numbers widen a limit; all of them would cost more than they tell
    words = []
    own = truth.own.all()
    for name, exact in ((name, tensor) for name, tensor in truth.exact.all().items() if name in own):
        seen = comparable(exact, own[name].dtype)
        right, places = exact[seen], exact.numel()
        if not places:
            words.append(f"{name}: empty, so anything would pass")
            continue
        if right.numel() < places:
            words.append(f"{name}: NaN, infinite or out of range in some places, and only the others are compared")
        eps = torch.finfo(own[name].dtype).eps if exact.is_floating_point() else 0.0
        limit, wrong = truth.allowed(name, eps), _wrong(right, eps, truth.calls).items()
        words += [f"{name}: {what} would pass" for what, value in wrong if distance(name, value, right).within(limit)]
    return words


def _weaknesses_of_law(truth: Truth, law: Law) -> list[str]:
    (name, right), *_ = truth.own.outputs.items()

    def broken(output: Tensor) -> set[str]:
        seen = Observation(truth.inputs, truth.cotangents, truth.own.outputs | {name: output}, truth.own.gradients)
        return {each for each, (error, allowed) in law(seen, seen).items() if not error <= allowed}

    always = broken(right)  # two calls that are one
    wrong = _wrong(right, torch.finfo(right.dtype).eps, 1)
    return [f"{name}: {what} would pass" for what, output in wrong.items() if broken(output) <= always]


def _wrong(right: Tensor, eps: float, calls: int) -> dict[str, Tensor]:
    """What no check should take for `right`: of one number there is no other constant, and whole numbers are never a little off."""
    wrong = {"zeros": torch.zeros_like(right)}
    if right.numel() > 1:
        wrong["a constant mean"] = torch.full_like(right, right.double().mean().item())
    if right.is_floating_point():
        ulps = max(PERTURBATION_ULPS, round(2 * calls * ROUNDING / eps)) if eps else PERTURBATION_ULPS
        wrong[f"values off by {ulps} ulp"] = right * (1 + ulps * eps)
    return wrong


def worst(rounds: Sequence[Sequence[TensorError]], warnings: Sequence[str] = ()) -> Accuracy:
    """Per tensor the round with the least slack left."""
    by_name: dict[str, TensorError] = {}
    for error in (error for errors in rounds for error in errors):
        held = by_name.get(error.tensor)
        if held is None or _share(error) > _share(held):
            by_name[error.tensor] = error
    return Accuracy(tuple(by_name.values()), tuple(dict.fromkeys(warnings)))


def _share(error: TensorError) -> float:
    return error.error / error.allowed if error.allowed else (math.inf if error.error else 0.0)
