"""Every variant of every layer in the installed suite is the same layer.  New layers are found here without a word."""

from collections.abc import Iterator

import pytest

from layerbench.bench import compiling, environment, interpreter, mount
from layerbench.bench.cell import Cell
from layerbench.bench.plan import sizes
from layerbench.bench.protocol import Describe, Finished, Prove
from layerbench.bench.prove import prove
from layerbench.bench.record import Checked, Failed, Point
from layerbench.bench.remote import INTERPRETER, Worker

DECLARED = {each.layer.name: each for each in mount.mount(mount.DEFAULT)}
CPU = environment.devices()[0]


def names(compiled: bool, devices: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(n, v) for n, d in DECLARED.items() for v, it in d.layer.variants.items() if it.compile == compiled and it.devices in devices]


def test_each_layer_has_the_four_ways_or_says_why_not() -> None:
    for name, declared in DECLARED.items():
        has = set(declared.layer.variants) | set(declared.layer.absent)
        assert {"stock", "function", "triton", "compile"} <= has, name


@pytest.mark.parametrize("dtype", CPU.dtypes)
@pytest.mark.parametrize(("layer", "variant"), names(compiled=False, devices=("any", "cpu")))
def test_variants_agree_at_odd_sizes(layer: str, variant: str, dtype: str) -> None:
    errors = prove(DECLARED[layer].layer, (variant,), dtype, "cpu", lambda stage, name: None)[variant]
    assert not isinstance(errors, Failed), errors
    gradients = [each for each in errors if each.tensor.endswith(" grad")]
    assert gradients
    assert all(each.error <= each.allowed for each in errors)


@pytest.fixture(scope="module")
def prover() -> Iterator[Worker]:
    worker = Worker(Describe(mount.DEFAULT, 0), INTERPRETER)
    yield worker
    worker.close()


@pytest.mark.parametrize("dtype", interpreter.DTYPES)
@pytest.mark.parametrize(("layer", "variant"), names(compiled=False, devices=("gpu",)))
def test_triton_variants_agree_under_the_interpreter(prover: Worker, layer: str, variant: str, dtype: str) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    answer = prover.answer(Prove(layer, dtype, (variant,)))
    assert isinstance(answer, Finished)
    outcome = answer.records[0].outcome
    assert isinstance(outcome, Checked), outcome
    assert outcome.accuracy.slack <= 1


@pytest.mark.parametrize("layer", DECLARED)
def test_compiled_variants_agree_at_the_smallest_size(layer: str) -> None:
    if missing := compiling.missing_compiler():
        pytest.skip(missing)
    declared = DECLARED[layer]
    reference = next(iter(declared.layer.variants))
    compiled = tuple(name for name, variant in declared.layer.variants.items() if variant.compile)
    size = sizes(declared.facts, {})[0]
    cell = Cell(declared.layer, Point(layer, size, "float32", "cpu", ""), (reference, *compiled), {}, lambda stage, name: None)
    assert cell.out == {}
    assert set(cell.subjects) == {reference, *compiled, "noise_floor"}
