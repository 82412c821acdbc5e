"""The one loop: every planned point is measured by a worker; whatever happens to the worker becomes records.  No torch in this process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from .plan import Task
from .protocol import Answer, Finished, Measure, Prove, Request
from .record import Failed, LayerFacts, Outcome, Point, Record, Skipped
from .remote import WorkerDied


class Answerer(Protocol):
    """Whatever answers requests: a worker process, or a Session in a test."""

    def answer(self, request: Request) -> Answer: ...


def run(
    tasks: Sequence[Task],
    layers: Sequence[LayerFacts],
    worker: Answerer,
    prover: Answerer,
    seconds: Callable[[int], float],
    traces: str,
) -> Iterator[list[Record]]:
    """Each task's records, as they are finished.

    worker     measures; prover checks by value the variants that a device cannot run (Triton without a GPU).
    seconds    called with the number of tasks left, this one included: the time to spend on the timed pass of this one.
    traces     folder for trace files, "" for none.
    """
    facts = {layer.name: layer for layer in layers}
    proofs: dict[tuple[str, str, str], Outcome] = {}
    deaths: dict[tuple[str, str], list[Failed]] = {}
    for index, task in enumerate(tasks):
        layer, point = facts[task.point.layer], task.point
        here, elsewhere = _split(layer, task)
        records = _measure(worker, point, here, deaths, seconds(len(tasks) - index), traces)
        new = tuple(variant for variant in elsewhere if (layer.name, point.dtype, variant) not in proofs)
        if new and point.device == "cpu":
            proofs |= _prove(prover, layer.name, point.dtype, new)
        for variant in elsewhere:
            other = Skipped("make", f"declared for devices={_devices(layer, variant)!r}, and this point is on {point.device}")
            records.append(Record(point, variant, proofs.get((layer.name, point.dtype, variant), other)))
        place = {variant: number for number, variant in enumerate(task.variants)}
        yield sorted(records, key=lambda record: place.get(record.variant, len(place)))


def _devices(layer: LayerFacts, variant: str) -> str:
    return next(each.devices for each in layer.variants if each.name == variant)


def _split(layer: LayerFacts, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The task's variants that its device can run, and the others."""
    wanted = ("any", "cpu") if task.point.device == "cpu" else ("any", "gpu")
    here = tuple(variant for variant in task.variants if _devices(layer, variant) in wanted)
    return here, tuple(variant for variant in task.variants if variant not in here)


def _measure(
    worker: Answerer, point: Point, variants: tuple[str, ...], deaths: dict[tuple[str, str], list[Failed]], seconds: float, traces: str
) -> list[Record]:
    """Measure a point; a variant that kills the worker is Failed and the point is repeated without it."""
    records: list[Record] = []
    left = list(variants)
    for variant in variants:
        if killed := deaths.get((point.cell, variant)):
            records.append(Record(point, variant, killed[0]))
            left.remove(variant)
    while left:
        if variants[0] not in left:
            reason = f"the reference {variants[0]!r} failed, so there is nothing to compare with"
            return records + [Record(point, variant, Skipped("verify", reason)) for variant in left]
        try:
            answer = worker.answer(Measure(point, tuple(left), seconds, traces))
        except WorkerDied as death:
            guilty = death.variant if death.variant in left else left[0]
            failed = Failed(death.stage, death.reason)
            deaths.setdefault((point.cell, guilty), []).append(failed)
            records.append(Record(point, guilty, failed))
            left.remove(guilty)
            continue
        assert isinstance(answer, Finished)
        return records + list(answer.records)
    return records


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
