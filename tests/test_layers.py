"""Every variant of every layer in the installed suite is the same layer.  New layers are found here without a word."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
import upstream

from layerbench.bench.cell.cell import Cell
from layerbench.bench.data.record import Checked, Failed, Point
from layerbench.bench.equivalence import interpreter
from layerbench.bench.equivalence.prove import Proof, prove
from layerbench.bench.machine import environment
from layerbench.bench.plan.planning import sizes
from layerbench.bench.process.handle import INTERPRETER, Worker
from layerbench.bench.process.protocol import Describe, Finished, Prove
from layerbench.bench.profiling import compiling
from layerbench.bench.subject import dynamo, make
from layerbench.bench.suite import mount

DECLARED = {each.layer.name: each for each in mount.mount(mount.DEFAULT)}
CPU = environment.devices()[0]
NETWORKS = ("convnet", "convnet_cifar")  # of layers that are proved alone in every dtype; to interpret one takes half a minute

# variants of torch's own that are another layer on a CPU in some versions of torch, and are told so
WRONG = {("sgd", "fused", "bfloat16"): upstream.FUSED_SGD, ("sgd", "fused", "float16"): upstream.FUSED_SGD}


def names(compiled: bool, devices: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(n, v) for n, d in DECLARED.items() for v, it in d.layer.variants.items() if it.compile == compiled and it.devices in devices]


def test_each_layer_has_the_four_ways_or_says_why_not() -> None:
    for name, declared in DECLARED.items():
        has = set(declared.layer.variants) | set(declared.layer.absent)
        assert {"stock", "function", "triton", "compile"} <= has, name


@pytest.mark.parametrize("dtype", CPU.dtypes)
@pytest.mark.parametrize(("layer", "variant"), names(compiled=False, devices=("any", "cpu")))
def test_variants_agree_at_odd_sizes(layer: str, variant: str, dtype: str) -> None:
    declared = DECLARED[layer].layer
    found = proofs(layer, dtype)[variant]
    known = WRONG.get((layer, variant, dtype))
    if known and known.holds():
        assert isinstance(found, Failed), f"{variant} agrees in {dtype}: correct the versions in tests/upstream.py"
        assert (found.stage, found.reason[:9]) == ("verify", "output[0]")
        return
    assert not isinstance(found, Failed), found
    errors = found.errors
    seen = {kind: any(each.tensor.endswith(f" {kind}") for each in errors) for kind in ("grad", "after")}
    assert seen["grad"] == differentiable(layer)
    assert seen["after"] or declared.calls == 1
    assert all(each.error <= each.allowed for each in errors)


@pytest.mark.parametrize("layer", DECLARED)
def test_a_layer_without_gradients_says_that_it_has_no_backward(layer: str) -> None:
    assert differentiable(layer) or DECLARED[layer].layer.absent["function"].endswith("has no backward")


@cache
def proofs(name: str, dtype: str) -> dict[str, Proof | Failed]:
    """Of all its variants at once, as in a run: what the reference does in each way of use is then found once."""
    layer = DECLARED[name].layer
    here = tuple(each for each, made in layer.variants.items() if not made.compile and made.devices in ("any", "cpu"))
    return prove(layer, here, dtype, "cpu", lambda stage, variant: None, thorough=dtype == "float32")


@cache
def differentiable(name: str) -> bool:
    """Does a gradient flow through the reference?"""
    layer = DECLARED[name].layer
    size = {dimension: min(values) for dimension, values in layer.sweep.items()}
    inputs = make.draw(layer.draws, size, torch.float32, "cpu", 0)
    outputs = make.probe(make.reference(layer, size, torch.float32, "cpu", 0), inputs)
    return any(tensor.requires_grad for tensor in make.tensors(outputs).values())


@pytest.fixture(scope="module")
def prover(forked_processes: None) -> Iterator[Worker]:
    worker = Worker(Describe(mount.DEFAULT, 0), INTERPRETER)
    yield worker
    worker.close()


def interpreted() -> list[tuple[str, str, str]]:
    """(layer, variant, dtype): NETWORKS in one dtype."""
    chosen = names(compiled=False, devices=("gpu",))
    return [(n, v, dtype) for n, v in chosen for dtype in (interpreter.DTYPES[:1] if n in NETWORKS else interpreter.DTYPES)]


@upstream.needs_interpreter
@pytest.mark.parametrize(("layer", "variant", "dtype"), interpreted())
def test_triton_variants_agree_under_the_interpreter(prover: Worker, layer: str, variant: str, dtype: str) -> None:
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
    size = sizes(declared.facts, "cpu", {})[0]
    cell = Cell(declared.layer, Point(layer, size, "float32", "cpu", ""), (reference, *compiled), {}, lambda stage, name: None, cold=False)
    assert cell.out == {}
    assert set(cell.subjects) == {reference, *compiled, "noise_floor"}


@pytest.mark.parametrize("layer", [name for name, each in DECLARED.items() if "compile" in each.layer.absent])
def test_a_layer_that_is_not_compiled_would_be_left_to_eager(layer: str) -> None:
    if missing := compiling.missing_compiler():
        pytest.skip(missing)
    declared = DECLARED[layer]
    size = sizes(declared.facts, "cpu", {})[0]
    weights = make.reference(declared.layer, size, torch.float32, "cpu", 0)
    inputs = make.draw(declared.layer.draws, size, torch.float32, "cpu", 0)
    subject = make.subject("stock", weights, inputs, make.cotangents(make.probe(weights, inputs), 0))
    dynamo.forget()
    with pytest.raises(compiling.CompiledNothing):
        compiling.compile_cold(subject, differentiable=True)
