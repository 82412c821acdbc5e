"""What the reference does in a way of use, made the judge of a variant in the same way."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..declare.mistake import Finding
from ..subject.fault import in_words
from . import rounding
from .kinds import Found, Trait, Way, Words
from .moved import Moved, barely
from .observe import Values
from .tolerance import Mismatch, comparable
from .use import LeftOut, NotHere, Use, moved
from .verify import Truth, hold

LONGEST = 160  # characters of what is said of a variant in one way
SURVIVES = 0.05  # of the largest value: where the reference is further off, its values are not worth comparing


@dataclass
class Seen:
    """What is known of a variant so far."""

    tried: int = 0
    limits: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)


Asked = Callable[[Use, Seen], None]  # raises Mismatch, or writes limits and marks


class RefusedByBoth(Finding):
    """The reference does not do it either, as is known only now.  Carries why."""


def asked(way: Way | Trait, truth: Truth, exact: Use, own: Use) -> Asked:
    """Run the reference.  What is returned judges a variant.  Raises NotHere, and whatever the reference raises."""
    if truth.law and not way.random:
        raise NotHere("it is random, and its values are not compared")
    if isinstance(way, Trait):
        return _in_words(way, own)
    return _traced(way, truth, exact, own) if way.traced else _with_numbers(way, truth, exact, own)


def _traced(way: Way, truth: Truth, exact: Use, own: Use) -> Asked:
    """To trace takes long, so the reference is traced for a variant alone that is not found right beside the reference as it is."""
    easy = _with_numbers(way, truth, exact, replace(own, plain=True))
    known: list[Asked] = []

    def judge(use: Use, seen: Seen) -> None:
        first = Seen()
        try:
            easy(use, first)
        except LeftOut:
            raise
        except Exception:  # noqa: BLE001  the reference may do the same
            first.limits[way.name] = ""
        if not first.limits:
            return
        try:
            known[:] = known or [_with_numbers(way, truth, exact, own)]
        except Exception as error:  # noqa: BLE001  the reference's code is the user's as well
            raise RefusedByBoth(in_words(error)) from None
        known[0](use, seen)

    return judge


def _with_numbers(way: Way, truth: Truth, exact: Use, own: Use) -> Asked:
    (right, _), (mine, usual) = _run(way, exact), _run(way, own)
    if way.values != "ordinary":
        right, mine = _worth(right, mine, way)
    within = getattr(torch, way.within) if way.within else None
    again = lambda draw: _run(way, moved(own, draw, within))[0]  # noqa: E731
    beside = lambda draw: _run(way, exact.with_inputs(lambda place, tensor: barely(tensor, draw + place)))[0]  # noqa: E731
    among = Moved(again, truth.seed, right, mine, beside if way.values == "ordinary" and not (truth.law or way.within) else None)
    wanted = replace(truth, exact=Values(right, {}, {}), own=Values(mine, {}, {}), moved=among)
    sizes = truth.sizes() if way.values == "ordinary" else {} if way.shrinks else truth.usual
    wanted = replace(wanted, usual=sizes)

    def judge(use: Use, seen: Seen) -> None:
        try:
            found, words = _run(way, use)
        except NotHere:
            if any(tensor.any() for tensor in right.values()):
                raise
            found, words = {}, {}  # nothing of it depends on anything, and all of the reference is 0
        if others := [f"{about}: {what}" for about, what in words.items() if about not in usual]:
            seen.limits[way.name] = short("; ".join(others))
        if way.values == "any":
            found = {name: _nan_counts_once(tensor, right.get(name), truth.exact.outputs.get(name)) for name, tensor in found.items()}
        try:
            _compare(wanted, way, use, found, seen)
        except Mismatch as error:
            if way.values == "ordinary" and way.fault:
                raise
            (seen.limits if way.values == "ordinary" else seen.marks)[way.name] = str(error)

    return judge


def _in_words(trait: Trait, own: Use) -> Asked:
    expected = trait.run(own)

    def judge(use: Use, seen: Seen) -> None:
        found = trait.run(use)
        if others := [f"{about}: {what}" for about, what in found.items() if what != expected.get(about, what)]:
            seen.limits[trait.name] = "; ".join(others[:3])

    return judge


def _run(way: Way, use: Use) -> tuple[Found, Words]:
    found = way.run(use)
    return found if isinstance(found, tuple) else (found, {})


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


def short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
