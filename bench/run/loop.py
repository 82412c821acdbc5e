"""The one loop: every planned point is measured by a worker; whatever happens to the worker becomes records.  No torch in this process."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from msgspec import structs

from ..data.record import Failed, LayerFacts, Outcome, Record, Roof, Skipped
from ..declare.layer import NOISE_FLOOR
from ..plan.planning import Task
from ..process.handle import WorkerDied
from ..process.protocol import Answer, FindRoof, Finished, FoundRoof, Measure, Prove, Request
from .known_failures import KnownFailures


class Spender(Protocol):
    """The budget: how long a point may be timed, with so many left, that one included; and how long it was."""

    def seconds(self, left: int) -> float: ...

    def timed(self, seconds: float) -> None: ...


class Answerer(Protocol):
    """Whatever answers requests: a worker process, or a Session in a test."""

    def answer(self, request: Request) -> Answer: ...


def run(
    tasks: Sequence[Task],
    layers: Sequence[LayerFacts],
    worker: Answerer,
    prover: Answerer,
    budget: Spender,
    traces: str,
    interleaved: bool = True,
    known: Iterable[Record] = (),
    graph: str = "auto",
    energy: bool = False,
) -> Iterator[Finished]:
    """Each task's records, as they are finished, with the seconds that workers spent on them.

    worker     measures; prover checks by value the variants that a device cannot run (Triton without a GPU).
    budget     grants the time to spend on the timed pass of each.
    traces     folder for trace files, "" for none.
    interleaved  False: time the variants of a point one after the other.
    graph      whether short steps are timed in a CUDA graph on an accelerator: auto, always or never.
    known      records of points that were finished before: what they teach counts here.
    energy     whether the energy of a call is wanted, on accelerators.
    """
    facts = {layer.name: layer for layer in layers}
    proofs: dict[tuple[str, str, str], Outcome] = {}
    failures = KnownFailures(known)
    for index, task in enumerate(tasks):
        layer, point = facts[task.point.layer], task.point
        here, elsewhere = _split(layer, task)
        request = Measure(point, here, budget.seconds(len(tasks) - index), traces, interleaved, graph, energy)
        records, spent = _measure(worker, request, failures)
        budget.timed(spent.get("time", 0.0))
        new = tuple(variant for variant in elsewhere if (layer.name, point.dtype, variant) not in proofs)
        if new and point.device == "cpu":
            begun = time.monotonic()
            proofs |= _prove(prover, layer.name, point.dtype, new)
            spent = spent | {"prove": time.monotonic() - begun}
        for variant in elsewhere:
            other = Skipped("make", f"declared for devices={_devices(layer, variant)!r}, and this point is on {point.device}")
            records.append(Record(point, variant, proofs.get((layer.name, point.dtype, variant), other)))
        place = {variant: number for number, variant in enumerate(task.variants)}
        yield Finished(tuple(sorted(records, key=lambda record: place.get(record.variant, len(place)))), spent)


def roofs(tasks: Sequence[Task], worker: Answerer) -> tuple[Roof, ...]:
    """What every device of the plan can do at most in each dtype.  None where the worker dies of it: then its times are not judged."""
    found = []
    for device, dtype in dict.fromkeys((task.point.device, task.point.dtype) for task in tasks):
        try:
            answer = worker.answer(FindRoof(device, dtype))
        except WorkerDied:
            continue
        assert isinstance(answer, FoundRoof)
        found.append(answer.roof)
    return tuple(found)


def _devices(layer: LayerFacts, variant: str) -> str:
    return next(each.devices for each in layer.variants if each.name == variant)


def _split(layer: LayerFacts, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The task's variants that its device can run, and the others."""
    wanted = ("any", "cpu") if task.point.device == "cpu" else ("any", "gpu")
    here = tuple(variant for variant in task.variants if _devices(layer, variant) in wanted)
    return here, tuple(variant for variant in task.variants if variant not in here)


def _measure(worker: Answerer, request: Measure, failures: KnownFailures) -> tuple[list[Record], dict[str, float]]:
    """Measure a point; a variant that kills the worker is Failed and the point is repeated without it.

    Returns its records and the worker's seconds by stage, without those of a worker that died.
    A death while no variant was in hand is nobody's: the point is tried once more, then it falls on the reference.
    """
    records: list[Record] = []
    point, (reference, *_) = request.point, request.variants
    left, again = list(request.variants), True
    for variant in request.variants:
        if outcome := failures.known(point, variant):
            records.append(Record(point, variant, outcome))
            left.remove(variant)
    while left:
        if reference not in left:
            return records + _alone(records, reference, left), {}
        try:
            answer = worker.answer(structs.replace(request, variants=tuple(left)))
        except WorkerDied as death:
            if death.variant not in left and again:
                again = False
                continue
            guilty = death.variant if death.variant in left else reference
            records.append(Record(point, guilty, Failed(death.stage, death.reason)))
            failures.learn(records[-1:])
            left.remove(guilty)
            continue
        assert isinstance(answer, Finished)
        failures.learn(answer.records)
        return records + list(answer.records), answer.seconds
    return records, {}


def _alone(records: Sequence[Record], reference: str, others: Sequence[str]) -> list[Record]:
    """The variants that are left where the reference is not, and its second copy."""
    gone = next(record for record in records if record.variant == reference)
    how = "failed" if isinstance(gone.outcome, Failed) else "was skipped"
    return [
        Record(gone.point, variant, Skipped("verify", f"the reference {reference!r} {how}, so there is nothing to compare with"))
        for variant in (*others, NOISE_FLOOR)
    ]


def _prove(prover: Answerer, layer: str, dtype: str, variants: tuple[str, ...]) -> dict[tuple[str, str, str], Outcome]:
    """Each variant proved on its own, so that one that kills the prover takes nothing with it."""
    outcomes: dict[tuple[str, str, str], Outcome] = {}
    for variant in variants:
        try:
            answer = prover.answer(Prove(layer, dtype, (variant,)))
        except WorkerDied as death:
            outcomes[layer, dtype, variant] = Failed(death.stage, death.reason)
            continue
        assert isinstance(answer, Finished)
        outcomes[layer, dtype, variant] = answer.records[0].outcome
    return outcomes
