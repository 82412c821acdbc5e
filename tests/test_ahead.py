"""What is prepared side by side before a run on an accelerator, with workers that only write down what they are asked."""

import os

import pytest
from fixture_run import facts
from msgspec import structs

from layerbench.bench.data.record import LayerFacts, Point, VariantFacts
from layerbench.bench.plan.planning import Task
from layerbench.bench.process.handle import WorkerDied
from layerbench.bench.process.protocol import Answer, Finished, Prove, Request, StartCompiler
from layerbench.bench.run import ahead


def declared(name: str) -> LayerFacts:
    variants = (VariantFacts("stock", False, "any"), VariantFacts("triton", False, "gpu"), VariantFacts("compile", True, "any"))
    return structs.replace(facts(name, {"batch": (1,)}, ("stock", "triton", "compile")), variants=variants)


LAYERS = [declared(name) for name in ("softmax", "rmsnorm", "linear")]


def tasks(device: str, *variants: str) -> list[Task]:
    return [
        Task(Point(layer.name, {"batch": 1}, dtype, device, "forward"), variants) for layer in LAYERS for dtype in ("float32", "bfloat16")
    ]


class Asked:
    """A worker; one that `dies` does so at its first question."""

    def __init__(self, dies: bool = False) -> None:
        self.requests: list[Request] = []
        self.dies, self.launched, self.closed = dies, False, False

    def launch(self) -> None:
        self.launched = True

    def greet(self) -> Answer:
        assert self.launched
        return Finished(())

    def answer(self, request: Request) -> Answer:
        if self.dies:
            raise WorkerDied("verify", "triton", "it fell")
        self.requests.append(request)
        return Finished(())

    def close(self) -> None:
        self.closed = True


def prepared(monkeypatch: pytest.MonkeyPatch, todo: list[Task], dies: bool = False) -> tuple[Asked, list[Asked]]:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    worker, spares = Asked(), []

    def spare() -> Asked:
        spares.append(Asked(dies=dies and not spares))
        return spares[-1]

    ahead.prepare(todo, LAYERS, worker, spare)
    assert all(each.closed for each in spares)
    return worker, spares


def test_kernels_are_compiled_in_spare_workers_while_the_worker_starts_its_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, spares = prepared(monkeypatch, tasks("cuda", "stock", "triton", "compile"))
    assert worker.requests == [StartCompiler("cuda")]
    assert len(spares) == 4
    asked = [request for each in spares for request in each.requests]
    wanted = [Prove(layer.name, dtype, ("stock", "triton"), "cuda") for layer in LAYERS for dtype in ("float32", "bfloat16")]
    assert sorted(map(str, asked)) == sorted(map(str, wanted))


def test_nothing_is_prepared_for_the_cpu_or_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    for todo in (tasks("cpu", "stock", "triton", "compile"), tasks("cuda", "stock")):
        worker, spares = prepared(monkeypatch, todo)
        assert (worker.requests, spares) == ([], [])


def test_a_spare_worker_that_dies_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, spares = prepared(monkeypatch, tasks("cuda", "stock", "triton", "compile"), dies=True)
    assert worker.requests == [StartCompiler("cuda")]
    assert sum(len(each.requests) for each in spares) == 5  # of six: the one that it died of is lost
