"""Numbers out of the ordinary: small and large ones, zeros, equal rows, infinities, NaN.

Equivalence is proved on standard normal numbers.  What differs only here is another thing than a wrong layer, and is marked, not rejected.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from .kinds import Way
from .use import Found, NotHere, Use, device_of, state, step

LARGE = (1e30, 1e16, 1e8, 1e4)  # the largest that the reference survives is tried
SHARE = 3  # every third number is replaced


def inputs_times(scale: float, use: Use) -> Found:
    """Also what the layer keeps of them, as a running mean."""
    subject = _changed(use, lambda tensor: tensor * scale).subject()
    return step(subject) | state(subject.module)


def inputs_around(centre: float, use: Use) -> Found:
    """Their spread is 1: what takes the difference of two large numbers loses it, and what falls off exponentially is small.

    Without backward: a slope of 1e-9 is worth no mark.
    """
    return step(_changed(use, lambda tensor: tensor + centre, signed=True).subject(), backward=False)


def gradients_times(scale: float, use: Use) -> Found:
    use.needs_gradients()
    return step(replace(use, gradients=tuple(None if each is None else each * scale for each in use.gradients)).subject())


def zeros(use: Use) -> Found:
    return step(_changed(use, torch.zeros_like, signed=True).subject())


def equal_rows(use: Use) -> Found:
    """All numbers of a row are equal: their deviation is 0."""
    return step(_changed(use, lambda tensor: tensor[..., :1].expand(tensor.shape).clone() if tensor.dim() else tensor).subject())


def some(value: float, use: Use) -> Found:
    """Every third number of each row is -infinity, as where it is masked, or very small."""
    return step(_changed(use, lambda tensor: _every_third(tensor, value), signed=True).subject())


def one(value: float, use: Use) -> Found:
    """A single number of each input is NaN or infinity."""

    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[tensor.numel() // 2 :][:1] = value
        return tensor

    return step(_changed(use, change, signed=True).subject(), backward=False)


def indices(value: int, use: Use) -> Found:
    """Every third index or target.  On the CPU alone: elsewhere an index that a variant does not expect may end the process."""
    wanted = [draw.kind == "integers" for draw in use.layer.draws]
    if device_of(use) != "cpu" or not any(wanted):
        raise NotHere("no input holds indices")

    def change(place: int, tensor: Tensor) -> Tensor:
        if wanted[place] and tensor.numel() > 1:
            tensor = tensor.clone()
            tensor.view(-1)[1::SHARE] = value
        return tensor

    try:
        return step(replace(use, drawn=use.drawn[:1]).with_inputs(change).subject())
    except (IndexError, RuntimeError) as error:
        if use.exact:
            raise NotHere("the reference takes no such index") from error
        raise


def _every_third(tensor: Tensor, value: float) -> Tensor:
    if not tensor.dim() or tensor.shape[-1] < 2:
        raise NotHere("its rows are single numbers")
    tensor = tensor.clone()
    tensor[..., 1::SHARE] = max(value, torch.finfo(tensor.dtype).min / 4) if math.isfinite(value) else value
    return tensor


def _changed(use: Use, change: Callable[[Tensor], Tensor], signed: bool = False) -> Use:
    """signed: only inputs that may be any number, and not such as are drawn positive."""
    kinds = ("normal",) if signed else ("normal", "positive")
    wanted = [draw.kind in kinds for draw in use.layer.draws]
    if not any(wanted):
        raise NotHere("none of its inputs may have such numbers")
    first = replace(use, drawn=use.drawn[:1])
    return first.with_inputs(lambda place, tensor: change(tensor) if wanted[place] and tensor.is_floating_point() else tensor)


WAYS = (
    Way("inputs times 100", partial(inputs_times, 100.0), "finite"),
    Way("every third number -infinity", partial(some, -math.inf), "finite"),
    *(Way(f"inputs times {scale:.0e}", partial(inputs_times, scale), "finite", "large inputs") for scale in LARGE),
    Way("inputs times 0.001", partial(inputs_times, 0.001), "finite", shrinks=True),
    Way("inputs times 1e-06", partial(inputs_times, 1e-6), "finite", shrinks=True),
    Way("inputs around 100", partial(inputs_around, 100.0), "finite"),
    Way("inputs around -20", partial(inputs_around, -20.0), "finite", shrinks=True),
    Way("every third number -1e30", partial(some, -1e30), "finite"),
    Way("inputs of zeros", zeros, "finite"),
    Way("rows of equal numbers", equal_rows, "finite", roughly=64.0),  # a norm divides a rounding by the root of its epsilon
    Way("gradients times 100", partial(gradients_times, 100.0), "finite"),
    *(Way(f"gradients times {scale:.0e}", partial(gradients_times, scale), "finite", "large gradients") for scale in LARGE),
    Way("gradients times 0.001", partial(gradients_times, 0.001), "finite"),
    Way("every third index -100", partial(indices, -100), "finite"),
    Way("every third index -1", partial(indices, -1), "finite"),
    Way("a NaN", partial(one, math.nan), "any"),
    Way("an infinity", partial(one, math.inf), "any"),
)
