"""Verify variants at a layer's own verify_at sizes and at every scale of weights, once per dtype and device.  Nothing is timed.

Odd sizes find what round ones hide; large weights find what small ones hide, as an exponential that overflows.
"""

from collections.abc import Callable, Mapping

import torch

from ..data.record import Checked, Failed, Skipped, TensorError
from ..declare.layer import Init, Layer
from ..declare.mistake import Mistake
from ..subject import make, torch_settings
from ..subject.building import INITS
from ..subject.fault import in_words
from . import interpreter, verify

Enter = Callable[[str, str], None]  # (stage, variant): said before each piece of work


def sizes(layer: Layer) -> list[dict[str, int]]:
    """The verify_at sizes, each filled up with the smallest values of the sweep on the CPU, on every device."""
    smallest = {dimension: min(values) for dimension, values in layer.sweep.items()}
    return [smallest | dict(size) for size in layer.verify_at or ({next(iter(smallest)): 3},)]


def trials(layer: Layer) -> list[tuple[dict[str, int], Init]]:
    """The sizes with the layer's own initialisation, then the first of them with every other."""
    first, *_ = found = sizes(layer)
    return [(size, layer.init) for size in found] + [(first, init) for init in INITS if init != layer.init]


def prove(layer: Layer, variants: tuple[str, ...], dtype: str, device: str, enter: Enter) -> dict[str, list[TensorError] | Failed]:
    """Each variant's errors over all trials, or why it is not the same layer.  Compiled variants are judged uncompiled here."""
    errors: dict[str, list[TensorError]] = {variant: [] for variant in variants}
    failed: dict[str, Failed] = {}
    scalable = True
    for seed, (size, init) in enumerate(trials(layer)):
        if init != layer.init and not scalable:
            break
        where = shown(size) + (f", {init} weights" if init != "default" else "")
        enter("verify", variants[0])
        try:
            with torch_settings.untouched():
                truth = verify.truth(layer, size, getattr(torch, dtype), device, seed, init)
                if seed == 0:
                    verify.check_not_random(layer, truth)
                scalable = any(parameter.dim() > 1 for parameter in truth.weights.parameters())
        except Exception as error:  # noqa: BLE001  the reference's code is the user's as well
            if isinstance(error, Mistake) and init != layer.init:
                continue  # the layer's own weights are what must prove something
            stage = "declare" if isinstance(error, Mistake) else "verify"
            return errors | {variants[0]: Failed(stage, f"the reference: {in_words(error)} (at {where})")}
        for variant in variants:
            if variant in failed:
                continue
            enter("verify", variant)
            try:
                with torch_settings.untouched():
                    module = make.variant_module(layer, variant, size, truth.weights)
                    errors[variant] += verify.judge(make.subject(variant, module, truth.inputs, truth.cotangents), truth)
            except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
                stage = "declare" if isinstance(error, Mistake) else "verify"
                failed[variant] = Failed(stage, f"{in_words(error)} (at {where})")
    return {variant: failed.get(variant, errors[variant]) for variant in variants}


def under_interpreter(layer: Layer, variants: tuple[str, ...], dtype: str, enter: Enter) -> dict[str, Checked | Skipped | Failed]:
    """Prove variants that need a GPU by Triton's interpreter on the CPU, in the given dtype or, where it is not faithful, in float32."""
    if reason := interpreter.missing():
        return dict.fromkeys(variants, Skipped("verify", f"needs a GPU, and cannot be checked without one: {reason}"))
    judged = dtype if dtype in interpreter.DTYPES else "float32"
    outcomes: dict[str, Checked | Skipped | Failed] = {}
    for variant in variants:
        with interpreter.counted() as launches:
            result = prove(layer, (variant,), judged, "cpu", enter)[variant]
        if not launches.count:
            why = result.reason if isinstance(result, Failed) else "it ran without one"
            outcomes[variant] = Skipped(
                "verify", f"needs a GPU; no Triton kernel was launched under the interpreter, so nothing is proved: {why}"
            )
        elif isinstance(result, Failed):
            outcomes[variant] = result
        else:
            outcomes[variant] = Checked(verify.worst([result]), _proved(layer, judged, launches.count))
    return outcomes


def _proved(layer: Layer, dtype: str, launches: int) -> str:
    where = "; ".join(shown(size) for size in sizes(layer))
    kernels = f"{launches} kernel launch{'es' if launches > 1 else ''}"
    return f"no GPU here, so not timed; values proved under Triton's interpreter in {dtype}, {kernels}, at {where}"


def shown(size: Mapping[str, int]) -> str:
    return " ".join(f"{dimension}={value}" for dimension, value in size.items())
