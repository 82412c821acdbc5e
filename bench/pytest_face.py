"""A suite's points as pytest-benchmark tests.  In a test file of yours:

    from layerbench.bench.pytest_face import points
    test_point = points("my_layers.py")

then  pytest --benchmark-only -k 'softmax and batch16'.  Every test first verifies its variant, and the first of a layer, dtype and variant
proves it as `layerbench run` does, at odd sizes and in all ways of use; then the step goes to the `benchmark` fixture.
pytest-benchmark measures one test after the other, so drift of the machine is in these figures: for ratios use `layerbench run`, which
interleaves.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from .cell.once import Once
from .data.record import Failed
from .declare.layer import Layer
from .declare.mistake import Mistake
from .equivalence import repeatable, replay, verify, weakness
from .equivalence.prove import Proof
from .equivalence.tolerance import Mismatch
from .equivalence.verify import Truth
from .machine import environment
from .plan import planning
from .plan.planning import Selection, Task
from .profiling import compiling
from .subject import dynamo, make, states
from .subject.fault import in_words
from .subject.make import Subject
from .suite import mount

NOT_THEIRS = (str(Path(__file__).parent), str(Path(torch.__file__).parent))  # files whose frames say nothing of a layer


class WeakCheck(UserWarning):
    """A check that could not have failed: the time beside it may be that of another layer."""


def points(suite: str = mount.DEFAULT, steps: Sequence[str] = ()) -> Callable[..., None]:
    """A test function with a case per point and variant of a suite; each id is the record's id in a run of layerbench.

    steps: as for `layerbench run --step`; forward and backward where none are named.
    suite is looked for beside the test file that calls this, then in the working directory.  Where it cannot be mounted, collecting that
    file fails with the sentence that says why.
    """
    try:
        declared = mount.mount(_found(suite, sys._getframe(1).f_globals.get("__file__")))
    except Mistake as mistake:
        raise pytest.Collector.CollectError(str(mistake)) from None
    layers = {each.layer.name: each.layer for each in declared}
    tasks = planning.plan([each.facts for each in declared], environment.devices(), Selection(everything=True, steps=tuple(steps)))
    cases = [
        pytest.param(layers[task.point.layer], task, variant, id=f"{task.point.id}-{variant}")
        for task in tasks
        for variant in task.variants
    ]

    once = Once(lambda stage, variant: None)

    @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")  # where a variant fails before it is timed
    @pytest.mark.parametrize(("layer", "task", "variant"), cases)
    def test_point(benchmark: Any, layer: Layer, task: Task, variant: str) -> None:
        __tracebackhide__ = _hidden
        _skip(layer, task, variant)
        proof = once.proofs(layer, (variant,), task.point)[variant]
        with make.mode(task.point.step):
            _measure(benchmark, layer, task, variant, proof)

    return test_point


def _hidden(seen: pytest.ExceptionInfo[BaseException]) -> bool:
    """Our frames, unless there is nothing else to show: pytest would say that it shows nothing."""
    return not isinstance(seen.value, pytest.fail.Exception)


def _found(suite: str, caller: str | None) -> str:
    """Raises Mistake where there is no such suite."""
    if suite == mount.DEFAULT:
        return suite
    beside = Path(caller).resolve().parent / suite if caller else Path(suite)
    if beside.exists() or Path(suite).exists():
        return str(beside if beside.exists() else suite)
    raise Mistake(
        f"points({suite!r}): there is no such file or folder beside {caller or 'the test file'}, nor in {Path.cwd()}; fix the path"
    )


def _skip(layer: Layer, task: Task, variant: str) -> None:
    """What this device cannot run."""
    declared, device = layer.variants[variant], task.point.device
    if declared.devices not in ("any", "cpu" if device == "cpu" else "gpu"):
        pytest.skip(f"{variant} is declared for devices={declared.devices!r}, and this point is on {device}")
    if declared.compile and device == "cpu" and (missing := compiling.missing_compiler()):
        pytest.skip(missing)


def _measure(benchmark: Any, layer: Layer, task: Task, variant: str, proof: Proof | Failed) -> None:
    """Verify, and benchmark one step."""
    __tracebackhide__ = _hidden
    point = task.point
    benchmark.group = point.id
    failed: Exception | None = None
    try:
        truth, subject, fresh, weak = _verified(layer, task, variant)
        if isinstance(proof, Failed):  # only now: what the variant raises here is shown with its own code
            failed = (Mistake if proof.stage == "declare" else Mismatch)(proof.reason)
    except Exception as error:  # noqa: BLE001  the code is the user's; told outside of this block, or pytest shows both
        failed = error
    if failed:
        _told(variant, failed)
    call = make.call(subject, point.step)
    if isinstance(proof, Proof) and proof.uses:
        weak += proof.uses.mark
        benchmark.extra_info["limits"] = proof.uses.limits
    if weak:
        benchmark.extra_info["weak checks"] = weak
        warnings.warn(WeakCheck(f"{point.layer}: {'; '.join(weak)}"), stacklevel=1)
    if call.setup is None:
        benchmark(call.step, None)
    else:
        setup = call.setup
        benchmark.pedantic(call.step, setup=lambda: ((setup(),), {}), rounds=50, warmup_rounds=5)
    try:
        replay.check(subject, fresh, truth)
    except Mismatch as error:
        failed = error
    if failed:
        _told(variant, failed)


def _verified(layer: Layer, task: Task, variant: str) -> tuple[Truth, Subject, Subject, list[str]]:
    """The variant, ready to be timed, and once more, and the checks that it could not have failed.

    Raises Mismatch, and whatever a layer raises.
    """
    point = task.point
    truth = verify.truth(layer, point.size, getattr(torch, point.dtype), point.device, seed=0)
    repeatable.check_not_random(layer, truth)
    subject, fresh = (
        make.subject(variant, make.variant_module(layer, variant, point.size, truth.weights), truth.inputs, truth.cotangents)
        for _ in range(2)
    )
    if layer.variants[variant].compile:
        dynamo.forget()
        compiling.compile_cold(subject, any(cotangent is not None for cotangent in truth.cotangents), cold=False)
        states.load(subject.module, truth.weights)  # as drawn: to compile it was called, which may change its buffers
    verify.judge(subject, truth)
    return truth, subject, fresh, weakness.weaknesses(truth)


def _told(variant: str, error: Exception) -> NoReturn:
    """A variant that is wrong fails in one line; what its own code raises is shown from that code on, and nothing of ours before it."""
    __tracebackhide__ = _hidden
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename.startswith(NOT_THEIRS):
        trace = trace.tb_next
    if isinstance(error, Mismatch):
        pytest.fail(f"{variant} is not the same layer: {error}", pytrace=False)
    if isinstance(error, Mistake) or trace is None:
        pytest.fail(f"{variant}: {in_words(error)}", pytrace=False)
    raise error.with_traceback(trace)
