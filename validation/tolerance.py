"""The judge of equivalence: how often does it reject a right layer, and how small a planted error does it always find?"""

import math
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import study
import torch
from torch import Tensor

from layerbench.bench.data.record import TensorError
from layerbench.bench.equivalence import verify
from layerbench.bench.equivalence.observe import observe
from layerbench.bench.equivalence.tolerance import ROUNDING, ULPS, Mismatch, distance
from layerbench.bench.subject import make

sys.path.insert(0, str(study.ROOT / "tests"))
import kinks  # the layers are the test's

DTYPES = ("float32", "float16", "bfloat16")
BATCH = 3
RIGHT, PLANTED = 200, 20  # seeds: all for right layers, the first for plants
RUNGS = 26  # of the ladder of plants: 2, 1, 1/2, 1/4, ...
PROOF = 4  # trials: one size, with weights of four scales


def one(trial: dict[str, Any]) -> dict[str, Any]:
    """Which right variants are rejected, now and by the rule before; and the smallest plants found, by kind."""
    layer, dtype = kinks.LAYERS[trial["layer"]], getattr(torch, trial["dtype"])
    truth = verify.truth(layer, {"batch": BATCH}, dtype, "cpu", trial["seed"])
    rejected, before = [], []
    for variant in list(layer.variants)[1:]:
        module = make.variant_module(layer, variant, truth.size, truth.weights)
        seen = observe(make.subject(variant, module, truth.inputs, truth.cotangents), truth.seed).all()
        rejected += [variant] if any(_rejects(truth, name, seen[name]) for name in seen) else []
        before += [variant] if any(_rejected_before(truth, name, seen[name]) for name in seen) else []
    result = {"variants": len(layer.variants) - 1, "rejected": rejected, "before": before, "draws": truth.moved.draws}
    return result | (_plants(truth, layer) if trial["seed"] < PLANTED else {})


def _rejects(truth: verify.Truth, name: str, found: Tensor) -> bool:
    try:
        verify.hold(truth, name, found)
    except Mismatch:
        return True
    return False


def _rejected_before(truth: verify.Truth, name: str, found: Tensor) -> bool:
    """Twice one error of the reference, or the least."""
    exact, own = truth.exact.all()[name], truth.own.all()[name]
    least = max(ULPS * torch.finfo(own.dtype).eps, ROUNDING) * float(exact.abs().max())
    error = TensorError(name, distance(name, found, exact).largest, max(2 * distance(name, own, exact).largest, least))
    return error.error > error.allowed


def _plants(truth: verify.Truth, layer: Any) -> dict[str, Any]:
    """Of every gradient of a weight, on the reference's own answer: kind -> smallest plants found, or whether it was."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, own in truth.own.gradients.items():
        if not name.endswith("weight grad") or own.dim() < 2:
            continue
        for kind, plant in PLANTS.items():
            for rule, rejects in {kind: _rejects, f"{kind} before": _rejected_before}.items():
                found[rule].append(
                    _smallest(lambda size, plant=plant, own=own: plant(own.double(), size).to(own.dtype), truth, name, rejects)
                )
        found["lacks a row"] += [_rejects(truth, name, (own.double() - row[name]).to(own.dtype)) for row in _rows(truth, layer)]
        if own.dim() == 4:
            for tap in range(own[0, 0].numel()):
                lacking = own.clone()
                lacking.flatten(2)[:, :, tap] = 0
                found["lacks a tap"].append(_rejects(truth, name, lacking))
    return {"plants": found}


def _element(right: Tensor, size: float) -> Tensor:
    """The largest number, off by a share of itself."""
    wrong = right.clone().flatten()
    wrong[wrong.abs().argmax()] *= 1 + size
    return wrong.view_as(right)


def _row(right: Tensor, size: float) -> Tensor:
    """All numbers of the row that is largest."""
    wrong = right.clone()
    wrong[right.flatten(1).norm(dim=1).argmax()] *= 1 + size
    return wrong


def _whole(right: Tensor, size: float) -> Tensor:
    return right * (1 + size)


PLANTS = {"element": _element, "row": _row, "whole": _whole}


def _smallest(plant: Callable[[float], Tensor], truth: verify.Truth, name: str, rejects: Callable[..., bool]) -> float:
    """Down the ladder until a plant is not found."""
    for rung in range(RUNGS):
        if not rejects(truth, name, plant(2.0 ** (1 - rung))):
            return 2.0 ** (2 - rung) if rung else math.inf
    return 0.0


def _rows(truth: verify.Truth, layer: Any) -> list[dict[str, Tensor]]:
    """What each row of the batch adds to the gradients."""
    rows = []
    for row in range(BATCH):
        (cotangent,) = truth.cotangents
        assert cotangent is not None
        alone = torch.zeros_like(cotangent)
        alone[row] = cotangent[row]
        rows.append(observe(make.in_float64(truth.weights, truth.inputs, (alone,), layer, truth.size), truth.seed).gradients)
    return rows


def main() -> None:
    chosen = study.options()
    seeds = range(4 if chosen.quick else RIGHT)
    todo = [{"layer": layer, "dtype": dtype, "seed": seed} for layer in kinks.LAYERS for dtype in DTYPES for seed in seeds]
    trials = study.trials("tolerance", todo, one, chosen)
    rows = []
    for layer in kinks.LAYERS:
        for dtype in DTYPES:
            of = [each for each in trials if (each["layer"], each["dtype"]) == (layer, dtype)]
            planted = [each["plants"] for each in of if "plants" in each]
            if not planted:
                continue
            right = [
                str(sum(each["variants"] for each in of)),
                *(str(sum(len(each[key]) for each in of)) for key in ("before", "rejected")),
            ]
            sizes = [f"{_worst(planted, kind)} ({_worst(planted, f'{kind} before')})" for kind in PLANTS]
            rows.append([layer, dtype, *right, *sizes, *(_shares(planted, f"lacks a {part}") for part in ("row", "tap"))])
    text = [
        "Right: variants that round differently (in a wider dtype and once at the end; as sums of two halves; written out plainly; with a",
        f"backward of their own), {RIGHT} seeds, batch {BATCH}. Before: the rule until 2026-11-27, twice one error of the reference.",
        f"Plants, {PLANTED} seeds, in the gradient of every weight: the smallest relative error on its largest element, its largest row,",
        "or all of it that was found at every seed and in every weight, in steps of 2; in brackets, of the rule before. Lacks a row of the",
        f"batch, or a tap of the kernel: the share found at one seed, and at one or more of {PROOF}, as many trials as such a proof has.",
    ]
    columns = ["layer", "dtype", "right", "rejected before", "rejected", "element", "row", "whole", "lacks a row", "lacks a tap"]
    study.publish("tolerance", "The judge of equivalence", columns, rows, text, chosen)


def _worst(planted: list[dict[str, Any]], kind: str) -> str:
    """The smallest size that was found wherever it was planted."""
    size = max(max(plants[kind]) for plants in planted)
    return "none" if size == math.inf else f"{size:.1g}"


def _shares(planted: list[dict[str, Any]], kind: str) -> str:
    """Of the seeds, and of so many seeds together."""
    hits = [plants[kind] for plants in planted if kind in plants]
    together = [any(each) for first in range(0, len(hits), PROOF) for each in zip(*hits[first : first + PROOF], strict=True)]
    single = [hit for each in hits for hit in each]
    return f"{_percent(single)}, {_percent(together)}" if hits else "-"


def _percent(hits: list[bool]) -> str:
    share = 100 * sum(hits) / len(hits)
    return f"{share:.0f} %" if share == 100 else f"{min(share, 99.9):.3g} %"


if __name__ == "__main__":
    main()
