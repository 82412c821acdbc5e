"""Copies of one class: whatever is timed has only been made, compiled and verified, each by the same calls in the same number."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.cell import passes
from layerbench.bench.cell.cell import Cell
from layerbench.bench.data.record import Measured, Point, Timing
from layerbench.bench.declare.layer import NOISE_FLOOR
from layerbench.bench.profiling import compiling, work
from layerbench.bench.subject import dynamo
from layerbench.bench.subject.make import Subject
from layerbench.bench.timing.clock import FakeClock
from layerbench.bench.timing.measure import Limit

COPIES = ("stock", "copy_a", "copy_b", NOISE_FLOOR)
calls: Counter[int] = Counter()  # of forward, by module


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(self.a(x)) * self.b(torch.cat((x, y)))[: len(x)]


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, held = Subject.forward, []

    def noted(subject: Subject) -> object:
        held.append(subject.module)  # or a later one may get its address
        calls.update([id(subject.module)])
        return forward(subject)

    monkeypatch.setattr(Subject, "forward", noted)


def made(*, compile: bool = False) -> Cell:
    variants = {name: Variant(Gate, compile=compile) for name in COPIES[:-1]}
    layer = Layer("gate", {"batch": (4,)}, (randn("batch", 4), randn("batch", 4)), lambda module, size: module(), variants)
    calls.clear()
    return Cell(layer, Point("gate", {"batch": 4}, "float32", "cpu", ""), COPIES[:-1], {}, lambda stage, name: None, cold=False)


def portrait(subject: Subject) -> dict[str, object]:
    """All that can be read of a subject's tensors and modules, and of the graph that backward walks."""
    seen: dict[str, object] = {}
    for name, tensor in [*subject.leaves(), *subject.module.named_buffers()]:
        seen |= {f"{name}.{what}": value for what, value in readable(tensor)}
    for name, module in subject.module.named_modules():
        seen |= {f"module {name}.{what}": plain(value) for what, value in vars(module).items()}
    output = subject.forward()
    assert isinstance(output, Tensor)
    seen["graph"] = list(graph(output.grad_fn))
    return seen


def readable(tensor: Tensor) -> Iterator[tuple[str, object]]:
    for name in sorted({*dir(tensor), *vars(tensor)} - {"data", "T", "H", "mT", "mH", "real", "grad_fn", "__dict__", "_cdata"}):
        if isinstance(getattr(type(tensor), name, None), type(Tensor.shape)) or name in vars(tensor):
            try:
                yield name, plain(getattr(tensor, name))
            except RuntimeError:  # as .imag of a real tensor
                continue
    yield "__dict__", {name: plain(value) for name, value in vars(tensor).items()}
    yield "strides", tensor.stride()


def plain(value: object) -> object:
    """Something that can be compared: of a container its contents, of a tensor or module its type."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def graph(node: Any) -> Iterator[object]:
    """The types of the nodes of backward, their hooks, and what they keep as plain numbers."""
    if node is not None:
        kept = {name: plain(getattr(node, name)) for name in dir(node) if name.startswith("_saved_") and not name.startswith("_saved_self")}
        yield type(node).__name__, kept, dict(node.metadata)
        for following, _ in node.next_functions:
            yield from graph(following)


def all_alike(found: Cell) -> None:
    assert set(found.subjects) == set(COPIES), found.out
    expected = portrait(found.subjects["stock"])
    assert any(name.endswith("._backward_hooks") for name in expected), "the portrait sees no hooks"
    for name in COPIES[1:]:
        assert portrait(found.subjects[name]) == expected


def called(found: Cell) -> set[int]:
    """How often each copy was called."""
    return {calls[id(found.subjects[name].module)] for name in COPIES}


def test_before_anything_is_timed_all_copies_are_alike_and_were_called_as_often() -> None:
    found = made()
    assert len(called(found)) == 1
    all_alike(found)


def test_after_every_step_they_still_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weighing, looking for leaks, profiles and rechecks of one step come before the next step is timed."""
    found = made()
    timed: list[dict[str, int]] = []
    measure = passes.measure

    def noted(*given: Any, **named: Any) -> dict[str, Timing]:
        timed.append({name: calls[id(subject.module)] for name, subject in found.subjects.items()})
        return measure(*given, **named)

    monkeypatch.setattr(passes, "measure", noted)
    for step in ("forward", "backward", "training", "update_sgd"):
        outcomes = found.measure(step, FakeClock(lambda variant, number: 1e-3), Limit(0.01), None)
        assert all(isinstance(outcome, Measured) for outcome in outcomes.values()), outcomes
        assert len(set(timed[-1].values())) == 1, f"before {step} was timed: {timed[-1]}"
        assert len(called(found)) == 1, step
    assert len(timed) == 4
    all_alike(found)


def test_compiled_copies_are_alike_too_and_the_doubles_that_are_weighed_compile_nothing() -> None:
    if missing := compiling.missing_compiler():
        pytest.skip(missing)
    found = made(compile=True)
    graphs = dynamo.graphs()
    outcomes = found.measure("training", FakeClock(lambda variant, number: 1e-3), Limit(0.01), None)
    assert all(isinstance(outcome, Measured) for outcome in outcomes.values()), outcomes
    assert dynamo.graphs() == graphs
    all_alike(found)


def test_no_copy_is_the_first_in_memory_at_every_point() -> None:
    layer = Layer("relu", {"batch": (4,)}, (randn("batch", 4),), lambda m, size: m(), {name: Variant(nn.ReLU) for name in COPIES[:-1]})
    points = (Point("relu", {"batch": batch}, "float32", "cpu", "") for batch in range(1, 30))
    assert {next(iter(Cell(layer, point, COPIES[:-1], {}, lambda stage, name: None).subjects)) for point in points} == set(COPIES)


def test_whoever_dies_while_the_work_is_counted_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last variant to be made, in an order by chance, has no part in it."""
    said: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()
    monkeypatch.setattr(work, "count", lambda *_: seen.add(said[-1]) or {})
    layer = Layer("relu", {"batch": (4,)}, (randn("batch", 4),), lambda m, size: m(), {name: Variant(nn.ReLU) for name in COPIES[:-1]})
    for batch in range(1, 10):
        Cell(layer, Point("relu", {"batch": batch}, "float32", "cpu", ""), COPIES[:-1], {}, lambda stage, name: said.append((stage, name)))
    assert seen == {("make", "stock")}
