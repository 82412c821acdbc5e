"""The steps of a layer that can be timed, by their words.  What a step calls is make's work.

An update is written with its optimizer, `update_adam`: the ids of two optimizers differ, and no two of them are ever compared.
"""

from collections.abc import Sequence

INFERENCE = "inference"
STEPS = ("forward", "backward", "training", "update", INFERENCE)
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
_UPDATE = "update_"


def written(steps: Sequence[str], optimizers: Sequence[str]) -> tuple[str, ...]:
    """The steps as points have them: one update for each optimizer."""
    return tuple(full for step in steps for full in ([_UPDATE + name for name in optimizers] if step == "update" else [step]))


def optimizer(step: str) -> str:
    """That of an update; "" for the other steps."""
    return step.removeprefix(_UPDATE) if step.startswith(_UPDATE) else ""


def place(step: str) -> tuple[int, str]:
    """Where a step stands among others."""
    word = "update" if optimizer(step) else step
    return STEPS.index(word) if word in STEPS else len(STEPS), step


def impossible(step: str, differentiable: bool, learns: bool) -> str:
    """Why a layer has no such step; "" where it has.  learns: whether a parameter wants a gradient."""
    if step not in ("forward", INFERENCE) and not differentiable:
        return "no output of this layer has a gradient, so there is no backward to time"
    if optimizer(step) and not learns:
        return "this layer has no parameters, so an optimizer has nothing to update"
    return ""
