"""Verify variants at a layer's own verify_at sizes and at every scale of weights, once per dtype and device.  Nothing is timed.

Odd sizes find what round ones hide; large weights find what small ones hide, as an exponential that overflows.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from msgspec import structs

from ..data.record import Checked, Failed, Skipped, TensorError
from ..data.uses import Uses
from ..declare.layer import Init, Layer
from ..declare.mistake import Mistake
from ..subject import make, torch_settings
from ..subject.building import INITS
from ..subject.fault import in_words
from . import in_use, interpreter, repeatable, slack, verify
from .tolerance import largest
from .verify import NOTHING_LEFT, Truth

Enter = Callable[[str, str], None]  # (stage, variant): said before each piece of work

ODD = (1, 7, 31, 33, 96, 127, 129, 1023, 2049, 3072, 4097, 8193)  # a prime, near powers of two, three times one; beyond usual blocks
SMALL = 8  # at most, every other dimension meanwhile
ODD_NUMBERS = 2**17  # in the inputs of such a size
ODD_SECONDS = 1.0  # after which no other such size is begun
IN_USE = 5.0, 0.5  # after so many seconds no other way of use is begun, or after this share of the time that the trials took
INTERPRETED = 0.1, 0.25  # the same under Triton's interpreter
UNTRACED = {"torch.compile and torch.export": "not tried under Triton's interpreter, which torch does not trace"}
FEW = 4  # variants: for each one more, a quarter of the seconds more


def sizes(layer: Layer) -> list[dict[str, int]]:
    """The verify_at sizes, each filled up with the smallest values of the sweep on the CPU, on every device."""
    smallest = {dimension: min(values) for dimension, values in layer.sweep.items()}
    return [smallest | dict(size) for size in layer.verify_at or ({next(iter(smallest)): 3},)]


def small_sizes(layer: Layer) -> list[dict[str, int]]:
    """Where the layer names no verify_at: what odd sizes are taken around, if the reference takes it; the sweep's smallest else."""
    around, *_ = sizes(layer)
    return [] if layer.verify_at else [{dimension: min(value, SMALL) for dimension, value in around.items()}, around]


def odd_sizes(layer: Layer, around: dict[str, int]) -> list[tuple[str, dict[str, int]]]:
    """Each dimension by itself at ODD, while inputs stay small; the smallest first."""
    found = [(dimension, around | {dimension: value}) for value in ODD for dimension in around if around[dimension] != value]
    few = [each for each in found if _numbers(layer, each[1]) <= max(ODD_NUMBERS, 2 * _numbers(layer, around))]
    return sorted(few, key=lambda each: (_numbers(layer, each[1]), each[1][each[0]]))


def _numbers(layer: Layer, size: Mapping[str, int]) -> int:
    """Of all inputs together."""
    return sum(math.prod(size[dim] if isinstance(dim, str) else dim for dim in draw.dims) for draw in layer.draws)


def trials(layer: Layer) -> list[tuple[dict[str, int], Init]]:
    """The sizes with the layer's own initialisation, then the first of them with every other."""
    first, *_ = found = sizes(layer)
    return [(size, layer.init) for size in found] + [(first, init) for init in INITS if init != layer.init]


@dataclass(frozen=True)
class Proof:
    """What is known of a variant that is the same layer: its errors over all trials, and what it does in use."""

    errors: list[TensorError]
    uses: Uses | None = None  # None: it was not asked


def prove(
    layer: Layer, variants: tuple[str, ...], dtype: str, device: str, enter: Enter, thorough: bool = True, interpreted: bool = False
) -> dict[str, Proof | Failed]:
    """Each variant's proof, or why it is not the same layer.  Compiled variants are judged uncompiled here.

    thorough: also in ways that are too slow to be tried in every dtype.
    interpreted: by Triton's interpreter, which is slow, and of which the bits say nothing of a GPU's.
    """
    begun = time.thread_time()
    seen = _Trials({variant: [] for variant in variants}, {}, {})
    _over_trials(layer, variants, getattr(torch, dtype), device, enter, seen)
    right = tuple(variant for variant in variants if variant not in seen.failed)
    examined: dict[str, Uses | Failed] = {}
    if seen.first and right:
        least, share = INTERPRETED if interpreted else IN_USE
        seconds = max(least * _crowd(variants), share * (time.thread_time() - begun))
        seen.refused |= UNTRACED if interpreted else {}
        examined = in_use.examine(layer, seen.first, right, enter, seconds, thorough, seen.refused, 0 if interpreted else in_use.TRACING)
        right = tuple(variant for variant in right if isinstance(examined[variant], Uses))
        facts = in_use.in_bits(layer, seen.first, right, enter) if thorough and not interpreted else {}
        examined |= {variant: _with(examined[variant], found) for variant, found in facts.items()}
    return {variant: seen.failed.get(variant) or _proof(seen.errors[variant], examined.get(variant)) for variant in variants}


def _crowd(variants: tuple[str, ...]) -> float:
    return max(1.0, len(variants) / FEW)


def _with(uses: Uses | Failed, facts: dict[str, str] | Failed) -> Uses | Failed:
    if isinstance(uses, Failed) or isinstance(facts, Failed):
        return facts if isinstance(facts, Failed) else uses
    return structs.replace(uses, facts=facts)


def _proof(errors: list[TensorError], uses: Uses | Failed | None) -> Proof | Failed:
    return uses if isinstance(uses, Failed) else Proof(errors, uses)


@dataclass
class _Trials:
    """What trials have shown so far."""

    errors: dict[str, list[TensorError]]
    failed: dict[str, Failed]
    refused: dict[str, str]  # a size that the reference does not take -> why
    usual: dict[str, float] = field(default_factory=dict)  # of the first trial: see Truth
    first: Truth | None = None  # what ways of use begin with; None where the reference failed


def _over_trials(layer: Layer, variants: tuple[str, ...], dtype: torch.dtype, device: str, enter: Enter, seen: _Trials) -> None:
    scalable, first = True, None
    for seed, (size, init) in enumerate(trials(layer)):
        if init != layer.init and not scalable:
            break
        enter("verify", variants[0])
        try:
            with torch_settings.untouched():
                truth = verify.truth(layer, size, dtype, device, seed, init)
                first = first or truth
                if seed == 0:
                    repeatable.check_not_random(layer, truth)
                scalable = any(parameter.dim() > 1 for parameter in truth.weights.parameters())
        except Exception as error:  # noqa: BLE001  the reference's code is the user's as well
            if isinstance(error, Mistake) and init != layer.init:
                continue  # the layer's own weights are what must prove something
            stage = "declare" if isinstance(error, Mistake) else "verify"
            seen.failed[variants[0]] = Failed(stage, f"the reference: {in_words(error)} (at {_where(size, init)})")
            return
        _judge(layer, variants, truth, _where(size, init), enter, seen)
    assert first
    seen.first, seen.usual = first, first.sizes()
    _at_odd_sizes(layer, variants, dtype, device, enter, seen)


def _at_odd_sizes(layer: Layer, variants: tuple[str, ...], dtype: torch.dtype, device: str, enter: Enter, seen: _Trials) -> None:
    """What the reference does not take, or proves nothing at, is left out.  The smallest of them are then used in all ways."""
    begun, refused = time.thread_time(), dict[str, tuple[list[int], str]]()
    seconds = ODD_SECONDS * _crowd(variants)

    def judged(size: dict[str, int], seed: int, dimension: str) -> str:
        """Why the reference does not take it; "" where it does."""
        enter("verify", variants[0])
        try:
            with torch_settings.untouched():
                truth = replace(verify.truth(layer, size, dtype, device, seed), usual=seen.usual)
        except Exception as error:  # noqa: BLE001  the reference's code is the user's as well
            return in_words(error)
        _judge(layer, variants, _over_one_number(truth, dimension), shown(size), enter, seen)
        if not seen.first or (min(size.values()) > 1 and _numbers(layer, size) < _numbers(layer, seen.first.size)):
            seen.first = truth
        return ""

    around = next((size for seed, size in enumerate(small_sizes(layer), 100) if not judged(size, seed, "batch")), None)
    slow, left_out = set[str](), 0
    for place, (dimension, size) in enumerate(odd_sizes(layer, around) if around else []):
        now = time.thread_time()
        if dimension in slow or now - begun > seconds:
            left_out += 1
            continue
        why = judged(size, 200 + place, dimension)
        slow |= {dimension} if time.thread_time() - now > seconds / 4 else set()
        if why:
            refused.setdefault(dimension, ([], why))[0].append(size[dimension])
    if left_out:
        seen.refused["sizes not tried"] = f"{left_out} more, for lack of time"
    seen.refused |= {f"{dimension}={', '.join(map(str, values))}": why for dimension, (values, why) in refused.items()}


def _over_one_number(truth: Truth, dimension: str) -> Truth:
    """Where a dimension is 1 that is not the batch: without the gradients of inputs that are 0, and in a half dtype without any.

    Those of a norm over one number are differences of numbers that are all but equal, divided by what may be near 0.
    """
    if dimension == "batch" or truth.size[dimension] != 1:
        return truth
    kept, exact = truth.own.gradients, truth.exact.gradients
    half = truth.dtype in (torch.float16, torch.bfloat16)
    left = {
        name for name in kept if name.startswith("input ") and (half or largest(exact[name]) <= NOTHING_LEFT * truth.usual.get(name, 0.0))
    }
    return replace(truth, own=replace(truth.own, gradients={name: each for name, each in kept.items() if name not in left}))


def _judge(layer: Layer, variants: tuple[str, ...], truth: Truth, where: str, enter: Enter, seen: _Trials) -> None:
    for variant in variants:
        if variant in seen.failed:
            continue
        enter("verify", variant)
        try:
            with torch_settings.untouched():
                module = make.variant_module(layer, variant, truth.size, truth.weights)
                seen.errors[variant] += verify.judge(make.subject(variant, module, truth.inputs, truth.cotangents), truth)
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            seen.failed[variant] = Failed("declare" if isinstance(error, Mistake) else "verify", f"{in_words(error)} (at {where})")


def _where(size: Mapping[str, int], init: Init) -> str:
    return shown(size) + (f", {init} weights" if init != "default" else "")


def under_interpreter(layer: Layer, variants: tuple[str, ...], dtype: str, enter: Enter) -> dict[str, Checked | Skipped | Failed]:
    """Prove variants that need a GPU by Triton's interpreter on the CPU, in the given dtype or, where it is not faithful, in float32."""
    if reason := interpreter.missing():
        return dict.fromkeys(variants, Skipped("verify", f"needs a GPU, and cannot be checked without one: {reason}"))
    judged = dtype if dtype in interpreter.DTYPES else "float32"
    outcomes: dict[str, Checked | Skipped | Failed] = {}
    for variant in variants:
        with interpreter.counted() as launches:
            result = prove(layer, (variant,), judged, "cpu", enter, interpreted=True)[variant]
        if not launches.count:
            why = result.reason if isinstance(result, Failed) else "it ran without one"
            outcomes[variant] = Skipped(
                "verify", f"needs a GPU; no Triton kernel was launched under the interpreter, so nothing is proved: {why}"
            )
        elif isinstance(result, Failed):
            outcomes[variant] = result
        else:
            accuracy = structs.replace(slack.worst([result.errors]), uses=result.uses)
            outcomes[variant] = Checked(accuracy, _proved(layer, judged, launches.count))
    return outcomes


def _proved(layer: Layer, dtype: str, launches: int) -> str:
    where = "; ".join(shown(size) for size in sizes(layer))
    kernels = f"{launches} kernel launch{'es' if launches > 1 else ''}"
    return f"no GPU here, so not timed; values proved under Triton's interpreter in {dtype}, {kernels}, at {where}"


def shown(size: Mapping[str, int]) -> str:
    return " ".join(f"{dimension}={value}" for dimension, value in size.items())
