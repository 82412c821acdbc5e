"""How far a tensor is from the exact one, how far it may be, and whether the exact one can tell anything at all.  Tensor arithmetic alone.

Only places that can be compared count: the exact value is finite, and within the range of the dtype that is judged.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..declare.inputs import Draw
from ..declare.mistake import Finding, Mistake

Named = Sequence[tuple[str, Draw]]
OWN = 2  # times the error of the reference, on the numbers as drawn
ULPS = 4  # of the tensor's largest value, in the dtype of the point
NOTHING = 8  # times the error of the reference on moved numbers, of a tensor that is 0: that of fused attention is up to 3.4 times as large
ROUNDING = 2.0**-18  # of the tensor's largest value, in every dtype, for each call: 32 ulp of float32.  A plainly written softmax is 18 ulp
# off in its input gradient, where the stock one rounds but once; and Adam's 1 - beta2 in float32 is off by 100 ulp of itself, at each call


class Mismatch(Finding):
    """A variant is not the same layer.  Carries the tensor's name and what is wrong with it."""


def comparable(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """Where an exact tensor has values that one of `dtype` can hold."""
    if not exact.is_floating_point() or not dtype.is_floating_point:
        return torch.ones_like(exact, dtype=torch.bool)
    return exact.isfinite() & (exact.abs() <= torch.finfo(dtype).max)


def check_finite(exact: Mapping[str, Tensor], own: Mapping[str, Tensor], draws: Named, random: bool) -> None:
    """Raises Mistake where half of an exact tensor, or NaN in a quarter of it, cannot be compared: there any variant would pass.

    A logarithm of normal numbers is NaN in about half of all places, by chance in fewer.  Raises it, too, where the reference in its own
    dtype has no number though there is one.  Two draws of a random layer are not held against each other.
    """
    for name, tensor in exact.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        finite, dtype = tensor.isfinite(), own[name].dtype if name in own else tensor.dtype
        odd, nan = int((~finite).sum()), int(tensor.isnan().sum())
        if 2 * odd >= tensor.numel() or 4 * nan >= tensor.numel():
            raise Mistake(f"{name}: NaN or infinite in {_places(odd, tensor)}, so nothing is proved; {_advice(draws)}")
        seen = comparable(tensor, dtype)
        beyond = int((finite & ~seen).sum())
        broken = 0 if random or name not in own else int((seen & ~own[name].to(seen.device).isfinite()).sum())
        if broken or 2 * (odd + beyond) >= tensor.numel():
            word, where = str(dtype).removeprefix("torch."), _places(broken or beyond, tensor)
            raise Mistake(
                f"{name}: in {word} NaN or infinite in {where} where it is a number in float64; "
                f"make its inputs or weights smaller, or leave {word} out"
            )


def _places(count: int, tensor: Tensor) -> str:
    return f"{count} of {tensor.numel()} places"


def _advice(draws: Named) -> str:
    """Which inputs to draw otherwise."""
    normal = [(name, draw) for name, draw in draws if draw.kind == "normal"]
    if not normal:
        return "fix the reference"
    names = " and ".join(name for name, _ in normal)
    dims = ", ".join(f'"{dim}"' if isinstance(dim, str) else str(dim) for dim in normal[0][1].dims)
    return f"{names} {'is' if len(normal) == 1 else 'are'} standard normal: where only positive numbers fit, write positive({dims})"


class Off(NamedTuple):
    """How far one tensor is from the exact one, in its own unit; of whole numbers the places that differ, and 0."""

    largest: float
    rms: float  # root of the mean square

    def within(self, limit: "Off") -> bool:
        return self.largest <= limit.largest and self.rms <= limit.rms

    def times(self, factor: float) -> "Off":
        return Off(factor * self.largest, factor * self.rms)


def distance(name: str, found: Tensor, exact: Tensor) -> Off:
    """Raises Mismatch unless infinities and NaN stand where the exact tensor has them, or is beyond the range of the dtype."""
    wide = found.to(exact.device, exact.dtype)
    if not wide.numel():
        return Off(0.0, 0.0)
    if not wide.is_floating_point():
        return Off(float((wide != exact).sum()), 0.0)
    same = (wide == exact) | (wide.isnan() & exact.isnan())
    overflow = wide.isinf() & (exact.abs() > torch.finfo(found.dtype).max) & (wide.sign() == exact.sign())
    odd = ~(wide.isfinite() | same | overflow)
    if odd.any():
        what = "NaN" if wide[odd].isnan().any() else "infinity"
        raise Mismatch(f"{name}: {what} in {int(odd.sum())} of {wide.numel()} places where the reference has numbers")
    if (exact.isfinite().logical_not() & ~same).any():
        raise Mismatch(f"{name}: a number where the reference has NaN or infinity")
    return _off(torch.where(same | overflow, 0.0, wide - exact))


def largest(tensor: Tensor) -> float:
    """Its largest finite value; 0 where there is none."""
    return float(tensor.double().abs().nan_to_num(0.0, 0.0, 0.0).max()) if tensor.numel() else 0.0


def own_distance(own: Tensor, exact: Tensor) -> Off:
    """Of an answer of the reference itself, over what can be compared; where it has no number nothing is said."""
    if not exact.is_floating_point():
        return distance("", own, exact)
    seen = comparable(exact, own.dtype)
    return _off((own.to(exact.device, exact.dtype)[seen] - exact[seen]).nan_to_num(0.0, 0.0, 0.0))


def _off(differences: Tensor) -> Off:
    if not differences.numel():
        return Off(0.0, 0.0)
    return Off(float(differences.abs().max()), float(differences.square().mean().sqrt()))


def allowed(exact: Tensor, dtype: torch.dtype, eps: float, own: Off, moved: Sequence[Off] = (), calls: int = 1) -> Off:
    """What a variant may be off: the least of any, or OWN times `own`, or the largest of `moved` and a rounding on top of it.

    A rounding is ULPS of the tensor, or for each call ROUNDING of it; the least is that of its largest value.  own, moved: the reference's
    own distances, on the numbers as drawn and on moved ones.  Where `own` is 0 nothing was rounded, and `moved` says nothing.  Where it is
    larger than the tensor, as of a gradient that is 0, `moved` counts NOTHING times: no rounding of the tensor comes on top of it there.
    """
    size = _off(exact[comparable(exact, dtype)]) if exact.is_floating_point() else Off(0.0, 0.0)
    rounding = size.times(max(ULPS * eps, calls * ROUNDING))
    limits = [own.times(OWN), Off(rounding.largest, rounding.largest)]
    if own.largest:
        times = NOTHING if exact.is_floating_point() and own.largest > size.largest else 1
        limits += [Off(times * each.largest + rounding.largest, times * each.rms + rounding.rms) for each in moved]
    return Off(max(each.largest for each in limits), max(each.rms for each in limits))
