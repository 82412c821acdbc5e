"""Facts of a layer by itself, in bits: does a row depend on its batch, and are two runs the same?  No tolerance, and no reference.

What trains or serves by its own samples asks for it.  A layer that is neither is not wrong, unless the suite says batch_invariant=True.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..declare.layer import Layer
from ..subject import make
from .tolerance import ROUNDING, Mismatch
from .use import Found, NotHere, Use, batched, device_of, step
from .verify import Truth

ROWS = 16  # of the batch that rows are taken from
COUNTS = (1, 2, 7)  # rows that are given alone
REPEATS = 3
NUMBERS = 2**18  # in the inputs, at most

BATCH, RUNS, THREADS = "bits of a row in any batch", "bits from run to run", "bits on one thread and on more"


def sized(layer: Layer, truth: Truth) -> Truth:
    """The trial's numbers at a size that threads and kernels of many rows are chosen for: ROWS rows, and the rest as in the sweep.

    The trial's own where that is too large.  Only weights, inputs and cotangents are of it.
    """
    size = {dimension: ROWS if dimension == "batch" else min(values) for dimension, values in layer.sweep.items()}
    if sum(math.prod(size[dim] if isinstance(dim, str) else dim for dim in draw.dims) for draw in layer.draws) > NUMBERS:
        return truth
    weights = make.reference(layer, size, truth.dtype, truth.device, truth.seed)
    inputs = make.draw(layer.draws, size, truth.dtype, truth.device, truth.seed)
    return replace(truth, size=size, weights=weights, inputs=inputs, cotangents=make.cotangents(make.probe(weights, inputs), truth.seed))


def facts(use: Use, exact: Use) -> dict[str, str]:
    """Fact -> "same", or "no" and what differs.  A fact that does not apply is left out.

    exact: the reference in float64, which says whether a row is by itself at all.
    """
    if use.layer.law:
        return {}
    found: dict[str, str] = {}
    for name, ask in ((RUNS, runs), (THREADS, threads), (BATCH, partial(rows, exact=exact))):
        with suppress(Exception):  # what a layer refuses has been told by the ways
            found[name] = ask(use)
    return found


def rows(use: Use, exact: Use) -> str:
    """Whether the bits of a row are the same in a batch of any size, and at any place in it."""
    places = list(batched(use))
    _check_that_rows_are_apart(exact, places)
    whole = _forward(use)
    count = next(tensor.shape[place] for tensor, place in zip(use.drawn[0], places, strict=True) if place is not None)
    for start, few in [(0, n) for n in COUNTS if n < count] + [(count - n, n) for n in COUNTS if n < count]:
        alone = _forward(_some_rows(use, places, range(start, start + few)))
        if name := next((name for name, tensor in alone.items() if differs(tensor, _cut(whole[name], tensor, start))), ""):
            return f"no: {name}, {few} of {count} rows alone"
    turned = _forward(_some_rows(use, places, [count - 1, *range(count - 1)]))
    first = _forward(_some_rows(use, places, [0]))
    for name, tensor in turned.items():
        if differs(_cut(tensor, first[name], 1), first[name]):
            return f"no: {name}, a row at another place"
    return "same"


def _some_rows(use: Use, places: list[int | None], which: Sequence[int]) -> Use:
    def take(index: int, tensor: Tensor) -> Tensor:
        place = places[index]
        return tensor if place is None else tensor.index_select(place, torch.tensor(list(which), device=tensor.device))

    return use.with_inputs(take)


def _forward(use: Use) -> Found:
    with torch.no_grad():
        return step(use.subject(), backward=False)


def _check_that_rows_are_apart(exact: Use, places: list[int | None]) -> None:
    """Raises NotHere where, in float64, a row alone is another than in its batch, as in a batch norm or a mean."""
    whole, first = _forward(exact), _forward(_some_rows(exact, places, [0]))
    for name, tensor in first.items():
        if tensor.shape == whole[name].shape:
            raise NotHere("its rows are not apart")
        if not torch.allclose(tensor, _cut(whole[name], tensor, 0), rtol=ROUNDING, atol=1e-9, equal_nan=True):
            raise NotHere("its rows depend on each other")


def _cut(whole: Tensor, like: Tensor, start: int) -> Tensor:
    """As many rows of an output as another one has, in the dimension in which it has fewer."""
    for place, (many, few) in enumerate(zip(whole.shape, like.shape, strict=True)):
        if many != few:
            return whole.narrow(place, start, few)
    return whole


def runs(use: Use) -> str:
    """Whether outputs and gradients are the same at every run."""
    first = step(use.subject(), use.seed)
    for _ in range(REPEATS - 1):
        if name := differing(first, step(use.subject(), use.seed)):
            return f"no: {name}"
    return "same"


def threads(use: Use) -> str:
    """Whether they are the same on one thread of the processor as on several."""
    if device_of(use) != "cpu":
        raise NotHere("it is not computed on the processor's threads")
    usual = torch.get_num_threads()
    first = step(use.subject(), use.seed)
    torch.set_num_threads(1 if usual > 1 else 2)
    try:
        second = step(use.subject(), use.seed)
    finally:
        torch.set_num_threads(usual)
    name = differing(first, second)
    return f"no: {name}" if name else "same"


def differing(first: Found, second: Found) -> str:
    """The first tensor of which a bit is another."""
    return next((name for name, tensor in first.items() if name not in second or differs(tensor, second[name])), "")


def differs(one: Tensor, other: Tensor) -> bool:
    """NaN is NaN."""
    return one.shape != other.shape or not bool(((one == other) | ((one != one) & (other != other))).all())


def check(layer: Layer, variant: str, found: Mapping[str, str]) -> None:
    """Raises Mismatch where the suite asks for rows that do not depend on their batch.  The reference is what it is."""
    if layer.batch_invariant and variant != next(iter(layer.variants)) and found.get(BATCH, "same") != "same":
        raise Mismatch(f"{BATCH}: {found[BATCH]}; the layer asks for it by batch_invariant=True")
