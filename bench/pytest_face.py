"""A suite's points as pytest-benchmark tests.  In a test file of yours:

    from layerbench.bench.pytest_face import points
    test_point = points("my_layers.py")

then  pytest --benchmark-only -k 'softmax and batch16'.  Every test first verifies its variant, then hands the step to the `benchmark`
fixture.  pytest-benchmark measures one test after the other, so drift of the machine is in these figures: for ratios use
`layerbench run`, which interleaves.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from . import compiling, environment, make, mount, plan, verify
from .declare import Layer
from .make import Subject
from .mistake import Mistake
from .plan import Selection, Task
from .record import Point
from .tolerance import Mismatch


def points(suite: str = mount.DEFAULT) -> Callable[..., None]:
    """A test function with a case per point and variant of a suite; each id is the record's id in a run of layerbench.

    A path is looked for beside the test file that calls this, then from the working directory.  Raises Mistake where the suite cannot be
    mounted.
    """
    caller = Path(sys._getframe(1).f_globals.get("__file__", "."))
    beside = caller.parent / suite
    declared = mount.mount(str(beside) if beside.exists() else suite)
    layers = {each.layer.name: each.layer for each in declared}
    tasks = plan.plan([each.facts for each in declared], environment.devices(), Selection(everything=True))
    cases = [
        pytest.param(layers[task.point.layer], task, variant, id=f"{task.point.id}-{variant}")
        for task in tasks
        for variant in task.variants
    ]

    @pytest.mark.parametrize(("layer", "task", "variant"), cases)
    def test_point(benchmark: Any, layer: Layer, task: Task, variant: str) -> None:
        _measure(benchmark, layer, task, variant)

    return test_point


def _verified(layer: Layer, point: Point, variant: str) -> Subject:
    """A variant that has agreed with the reference.  What the check could not have seen is a warning."""
    truth = verify.truth(layer, point.size, getattr(torch, point.dtype), point.device, seed=0)
    module = make.variant_module(layer, variant, point.size, truth.weights)
    subject = make.subject(variant, module, truth.inputs, truth.cotangents)
    if layer.variants[variant].compile:
        compiling.forget()
        compiling.compile_cold(subject, any(cotangent is not None for cotangent in truth.cotangents))
        module.load_state_dict(truth.weights.state_dict())  # as drawn: to compile it was called, which may change its buffers
    verify.judge(subject, truth)
    for weak in verify.weaknesses(truth):
        warnings.warn(f"{point.id}: weak check: {weak}", stacklevel=1)
    return subject


def _measure(benchmark: Any, layer: Layer, task: Task, variant: str) -> None:
    """Skip what this device cannot run, verify, and benchmark one step.  A variant that is not the same layer is one sentence."""
    __tracebackhide__ = True
    point = task.point
    declared = layer.variants[variant]
    if declared.devices not in ("any", "cpu" if point.device == "cpu" else "gpu"):
        pytest.skip(f"{variant} is declared for devices={declared.devices!r}, and this point is on {point.device}")
    if declared.compile and point.device == "cpu" and (missing := compiling.missing_compiler()):
        pytest.skip(missing)
    try:
        subject = _verified(layer, point, variant)
    except (Mistake, Mismatch, compiling.CompiledNothing) as error:
        pytest.fail(f"{point.id}: {variant} is not the same layer: {error}", pytrace=False)
    call = make.call(subject, point.step)
    benchmark.group = point.id
    if call.setup is None:
        benchmark(call.step, None)
    else:
        setup = call.setup
        benchmark.pedantic(call.step, setup=lambda: ((setup(),), {}), rounds=50, warmup_rounds=5)
