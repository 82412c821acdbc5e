"""Holds a variant against the reference in every way of use: what it does, what it refuses, and what is wrong.

Ways are tried in the order of ORDER for as long as there is time, each on the reference first: what the reference does not do is asked of
nobody.  They are run on one thread of the processor: a call with several spins while one of them waits for a core that is busy with other
work, and its time would say nothing.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

from ..data.record import Failed
from ..data.uses import Uses
from ..declare.layer import Layer
from ..subject import torch_settings
from ..subject.fault import in_words
from . import calls, invariance, layouts, traced, traits, values, ways, weights
from .judging import Asked, RefusedByBoth, Seen, asked, short
from .kinds import Trait, Way
from .tolerance import Mismatch
from .use import LeftOut, NotHere, Use, of_variant, reference_in_float64
from .verify import Truth

ORDER: tuple[Way | Trait, ...] = (  # what is wrong most often comes first, what takes long last
    *layouts.WAYS[:5],
    *ways.WAYS[:7],
    *weights.WAYS[:1],
    *calls.WAYS[:5],
    *values.WAYS[:2],
    *traits.TRAITS,
    *ways.WAYS[7:],
    *weights.WAYS[1:],
    *calls.WAYS[5:],
    *layouts.WAYS[5:],
    *values.WAYS[2:],
    *traced.WAYS,
)
TRACING = 3.0  # seconds, after which no other way is begun of those that torch traces; they are counted by themselves


def examine(
    layer: Layer,
    truth: Truth,
    variants: Sequence[str],
    enter: Callable[[str, str], None],
    seconds: float,
    thorough: bool = True,
    refused: Mapping[str, str] = MappingProxyType({}),
    tracing: float = TRACING,
) -> dict[str, Uses | Failed]:
    """Every variant in every way.

    seconds: after so many no other way is begun; tracing: of those that torch traces, 0: none.  thorough: also such as are too slow for
    every dtype.  refused: what the reference did not take so far.
    """
    stock = next(iter(layer.variants))
    exact, own = reference_in_float64(layer, truth), of_variant(layer, truth, stock)
    sides = {variant: of_variant(layer, truth, variant) for variant in variants if _is_another(layer, variant)}
    seen = {variant: Seen() for variant in variants}
    failed: dict[str, Failed] = {}
    refused, late, groups = dict(refused), list[str](), set[str]()
    wanted = [way for way in ORDER if isinstance(way, Trait) or thorough or not way.once]
    plain, slow = ([way for way in wanted if (isinstance(way, Way) and way.traced) is each] for each in (False, True))
    slow = slow if tracing and sides else []
    with torch_settings.one_thread():
        for way in chain(_in_time(plain, seconds, late), _in_time(slow, tracing, late)):
            if isinstance(way, Way) and (way.group in groups or (way.traced and failed.keys() >= sides.keys())):
                continue
            enter("ways", stock)
            try:
                with torch_settings.untouched():
                    judge = asked(way, truth, exact, own)
            except NotHere:
                continue
            except Exception as error:  # noqa: BLE001  the reference's code is the user's as well
                refused[way.name] = short(in_words(error))
                continue
            groups |= {way.group} - {""} if isinstance(way, Way) else set()
            for variant in variants:
                if variant in failed:
                    continue
                seen[variant].tried += 1
                if variant in sides:
                    enter("ways", variant)
                    try:
                        why = _try(way, sides[variant], judge, seen[variant])
                    except RefusedByBoth as both:
                        refused[way.name] = short(str(both))
                        break
                    if why:
                        failed[variant] = Failed("verify", f"{way.name}: {why}")
    if late:
        refused["not tried"] = short(f"{len(late)} more ways, for lack of time: {', '.join(late)}")
    found: dict[str, Uses | Failed] = {}
    for variant, each in seen.items():
        found[variant] = failed.get(variant) or Uses(
            each.tried, each.limits, each.marks, refused if variant in (stock, variants[0]) else {}
        )
    return found


def _in_time(wanted: Sequence[Way | Trait], seconds: float, late: list[str]) -> Iterator[Way | Trait]:
    """Those that are begun before so many seconds of computing are over; the names of the others go to `late`."""
    begun = time.thread_time()
    for place, way in enumerate(wanted):
        if time.thread_time() - begun > seconds:
            late += [each.name for each in wanted[place:]]
            return
        yield way


def _is_another(layer: Layer, variant: str) -> bool:
    """Not the reference, nor the reference compiled: it is judged uncompiled here, and then it is the reference."""
    stock, *_ = layer.variants.values()
    return layer.variants[variant].module is not stock.module


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


def _try(way: Way | Trait, use: Use, judge: Asked, seen: Seen) -> str:
    """Why the variant is wrong; "" where it is not.  What it refuses is a limit."""
    try:
        with torch_settings.untouched():
            judge(use, seen)
    except (Mismatch, torch_settings.Meddles) as error:
        return str(error)
    except RefusedByBoth:
        raise
    except LeftOut as error:
        seen.limits[way.name] = f"not tried: {error}"
    except Exception as error:  # noqa: BLE001  the code is the user's: an error that the reference does not raise is a limit
        words = short(in_words(error))
        seen.limits[way.name] = (isinstance(way, Way) and way.absence) or words
    return ""
