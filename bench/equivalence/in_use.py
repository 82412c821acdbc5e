"""Holds a variant against the reference in every way of use: what it does, what it refuses, and what is wrong.

Ways are tried in the order of ORDER for as long as there is time, each on the reference first: what the reference does not do is asked of
nobody.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ..data.record import Failed
from ..data.uses import Uses
from ..declare.layer import Layer
from ..subject import torch_settings
from ..subject.fault import in_words
from . import calls, invariance, layouts, rounding, traits, values, ways
from .kinds import Trait, Way
from .moved import Moved
from .observe import Values
from .tolerance import Mismatch, comparable
from .use import Found, NotHere, Use, moved, of_variant, reference_in_float64
from .verify import Truth, hold

ORDER: tuple[Way | Trait, ...] = (  # what is wrong most often comes first
    *layouts.WAYS[:5],
    *ways.WAYS[:7],
    *calls.WAYS[:6],
    *values.WAYS[:2],
    *traits.TRAITS,
    *ways.WAYS[7:],
    *calls.WAYS[6:],
    *layouts.WAYS[5:],
    *values.WAYS[2:],
)
LONGEST = 160  # characters of what a variant says when it refuses
SURVIVES = 0.05  # of the largest value: where the reference is further off, its values are not worth comparing


@dataclass
class Seen:
    """What is known of a variant so far."""

    tried: int = 0
    limits: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)


def examine(
    layer: Layer,
    truth: Truth,
    variants: Sequence[str],
    enter: Callable[[str, str], None],
    seconds: float,
    thorough: bool = True,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Uses | Failed]:
    """Every variant in every way.

    seconds: after so many no other way is begun.  thorough: also such as are too slow for every dtype.  refused: what the reference did
    not take so far.
    """
    stock = next(iter(layer.variants))
    exact, own = reference_in_float64(layer, truth), of_variant(layer, truth, stock)
    sides = {variant: of_variant(layer, truth, variant) for variant in variants if _is_another(layer, variant)}
    seen = {variant: Seen() for variant in variants}
    for variant in variants:
        if layer.variants[variant].state is not None:  # ways name the reference's weights, which it has not
            seen[variant].limits["ways of use"] = "not tried, for its weights are laid out otherwise"
    failed: dict[str, Failed] = {}
    refused = dict(refused)
    begun, groups = time.thread_time(), set[str]()
    for place, way in enumerate(ORDER):
        if time.thread_time() - begun > seconds:
            refused["not tried"] = f"{len(ORDER) - place} more ways, for lack of time"
            break
        if isinstance(way, Way) and (way.group in groups or (way.first_dtype and not thorough)):
            continue
        enter("ways", stock)
        try:
            with torch_settings.untouched():
                asked = _asked(way, truth, exact, own)
        except NotHere:
            continue
        except Exception as error:  # noqa: BLE001  the reference's code is the user's as well
            refused[way.name] = _short(in_words(error))
            continue
        groups |= {way.group} - {""} if isinstance(way, Way) else set()
        for variant in variants:
            if variant in failed or layer.variants[variant].state is not None:
                continue
            seen[variant].tried += 1
            if variant in sides:
                enter("ways", variant)
                if why := _try(way, sides[variant], asked, seen[variant]):
                    failed[variant] = Failed("verify", f"{way.name}: {why}")
    found: dict[str, Uses | Failed] = {}
    for variant, each in seen.items():
        found[variant] = failed.get(variant) or Uses(
            each.tried, each.limits, each.marks, refused if variant in (stock, variants[0]) else {}
        )
    return found


def in_bits(layer: Layer, truth: Truth, variants: Sequence[str], enter: Callable[[str, str], None]) -> dict[str, dict[str, str] | Failed]:
    """The facts of every variant that is not compiled: other code has other bits.  Failed: the layer asks for what one is not."""
    stock = next(iter(layer.variants))
    found: dict[str, dict[str, str] | Failed] = {}
    enter("ways", stock)
    try:
        with torch_settings.untouched():
            large = invariance.sized(layer, truth)
    except Exception:  # noqa: BLE001  the reference's code is the user's: it does not take that size
        large = truth
    exact = reference_in_float64(layer, large)
    for variant in variants:
        if layer.variants[variant].compile:
            continue
        enter("ways", variant)
        try:
            with torch_settings.untouched():
                found[variant] = facts = invariance.facts(of_variant(layer, large, variant), exact)
                invariance.check(layer, variant, facts)
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            found[variant] = Failed("verify", in_words(error))
    return found


def _is_another(layer: Layer, variant: str) -> bool:
    """Not the reference, nor the reference compiled: it is judged uncompiled here, and then it is the reference."""
    stock, *_ = layer.variants.values()
    return layer.variants[variant].module is not stock.module


Asked = Callable[[Use, Seen], None]  # raises Mismatch, or writes limits and marks


def _asked(way: Way | Trait, truth: Truth, exact: Use, own: Use) -> Asked:
    """Run the reference.  What is returned judges a variant.  Raises NotHere, and whatever the reference raises."""
    if truth.law and not way.random:
        raise NotHere("it is random, and its values are not compared")
    if isinstance(way, Trait):
        expected = way.run(own)

        def judge_words(use: Use, seen: Seen) -> None:
            found = way.run(use)
            if others := [f"{about}: {what}" for about, what in found.items() if what != expected.get(about, what)]:
                seen.limits[way.name] = "; ".join(others[:3])

        return judge_words
    right, mine = way.run(exact), way.run(own)
    if way.values != "ordinary":
        right, mine = _worth(right, mine, way)
    within = getattr(torch, way.within) if way.within else None
    again = lambda draw: way.run(moved(own, draw, within))  # noqa: E731
    usual = truth.sizes() if way.values == "ordinary" else {} if way.shrinks else truth.usual
    asked = replace(truth, exact=Values(right, {}, {}), own=Values(mine, {}, {}), moved=Moved(again, truth.seed, right, mine), usual=usual)

    def judge_tensors(use: Use, seen: Seen) -> None:
        try:
            found = way.run(use)
        except NotHere:
            if any(tensor.any() for tensor in right.values()):
                raise
            return  # zeros are what nothing depends on
        if way.values == "any":
            found = {name: _nan_counts_once(tensor, right.get(name), truth.exact.outputs.get(name)) for name, tensor in found.items()}
        try:
            _compare(asked, way, use, found, seen)
        except Mismatch as error:
            if way.values == "ordinary":
                raise
            seen.marks[way.name] = str(error)

    return judge_tensors


def _try(way: Way | Trait, use: Use, asked: Asked, seen: Seen) -> str:
    """Why the variant is wrong; "" where it is not.  What it refuses is a limit."""
    try:
        with torch_settings.untouched():
            asked(use, seen)
    except (Mismatch, torch_settings.Meddles) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  the code is the user's: an error that the reference does not raise is a limit
        words = _short(in_words(error))
        seen.limits[way.name] = (isinstance(way, Way) and way.absence) or words
    return ""


def _compare(asked: Truth, way: Way, use: Use, found: Found, seen: Seen) -> None:
    """Raises Mismatch at the first tensor that is not the reference's.  A gradient of zeros may be missing, or be there too much."""
    right, mine = asked.exact.all(), asked.own.all()
    eps = torch.finfo(getattr(torch, way.within)).eps if way.within else None
    for name in right:
        if name not in mine or (name not in found and not right[name].any() and " grad" in name):
            continue
        try:
            error = hold(asked, name, found.get(name), eps, way.times)
        except Mismatch:
            if way.values != "ordinary" or name not in found or not rounding.in_way(way, use, name, right[name]):
                raise
            error = hold(asked, name, found[name], eps, rounding.TIMES)
        if eps and error.error > asked.allowed(name).largest:
            seen.limits.setdefault(way.name, f"rounds to {way.within} where the reference does not")
    if way.values == "ordinary":
        for name, tensor in found.items():
            if name not in right and tensor.any():
                raise Mismatch(f"{name}: the reference has none, or leaves it as it is")


def _nan_counts_once(found: Tensor, right: Tensor | None, plain: Tensor | None) -> Tensor:
    """NaN and infinities are one thing; and they may come out wherever the number that was replaced has changed the exact value."""
    if right is None or plain is None or found.shape != right.shape or not found.is_floating_point():
        return found
    there = right.to(found.device)
    may = ~there.isfinite() | (there != plain.to(found.device))
    return torch.where(~found.isfinite() & may, there.to(found.dtype), found)


def _worth(right: Found, mine: Found, way: Way) -> tuple[Found, Found]:
    """The tensors of which the reference tells something with such values.  Raises NotHere where it is none of its outputs."""
    worth = {name for name in right if name in mine and _tells(right[name], mine[name], way)}
    if not any(name in worth for name in right if name.startswith("output")):
        raise NotHere("the reference does not survive such values")
    return {name: right[name] for name in right if name in worth}, {name: mine[name] for name in right if name in worth}


def _tells(right: Tensor, mine: Tensor, way: Way) -> bool:
    if not right.is_floating_point() or not right.numel():
        return way.values == "finite"
    seen = comparable(right, mine.dtype)
    there = mine.to(right.device)
    if way.values == "any":
        return bool((seen == there.isfinite()).all())
    if not (seen.all() and there.isfinite().all()):
        return False
    return float((there.double() - right).abs().max()) <= SURVIVES * float(right.abs().max())


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
