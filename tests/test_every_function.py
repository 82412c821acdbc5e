"""What every layer's function variant must hold: the hand-derived backward in float64, at empty batches and on non-contiguous inputs.

Layers are found as a run finds them.  Values in every dtype are test_layers' business.
"""

import sys
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from layerbench.bench.declare.layer import Layer
from layerbench.bench.plan.planning import sizes
from layerbench.bench.subject import make
from layerbench.bench.suite import mount
from layerbench.layers import _blocks

LAYERS = {each.layer.name: each for each in mount.mount(mount.DEFAULT) if "function" in each.layer.variants}
ONCE = "once_differentiable"
every_layer = pytest.mark.parametrize("name", LAYERS)


def transposed(tensor: Tensor) -> Tensor:
    """The same numbers, not contiguous."""
    return tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.dim() > 1 else tensor


def expanded(tensor: Tensor) -> Tensor:
    """One number in every place, as the gradient of a sum is."""
    return tensor.new_full((), 0.7).expand_as(tensor)


LAYOUTS = (transposed, expanded)


class Subject:
    """A variant in float64, as a function of its floating-point inputs and of its parameters that learn."""

    def __init__(self, layer: Layer, variant: str, size: Mapping[str, int], weights: nn.Module, inputs: Sequence[Tensor]) -> None:
        self.module = make.variant_module(layer, variant, size, weights)
        self.inputs = [each.detach().clone(memory_format=torch.preserve_format) for each in inputs]
        self.places = [i for i, each in enumerate(self.inputs) if each.is_floating_point()]
        self.names = [name for name, each in self.module.named_parameters() if each.requires_grad]
        parameters = dict(self.module.named_parameters())
        tensors = [*(self.inputs[i] for i in self.places), *(parameters[name] for name in self.names)]
        self.tensors = [each.detach().requires_grad_() for each in tensors]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = list(self.inputs)
        for place, tensor in zip(self.places, tensors, strict=False):
            inputs[place] = tensor
        learnt = dict(zip(self.names, tensors[len(self.places) :], strict=True))
        torch.manual_seed(0)  # a random layer draws the same in every call
        buffers = {name: each.clone() for name, each in self.module.named_buffers()}
        return tuple(make.tensors(functional_call(self.module, learnt | buffers, tuple(inputs))).values())

    def results(self, layout: Callable[[Tensor], Tensor] = torch.clone) -> list[Tensor]:
        """Outputs, and the gradient of every tensor, from cotangents in a layout."""
        outputs = self(*self.tensors)
        wanted = [each for each in outputs if each.requires_grad]
        cotangents = [layout(torch.randn(each.shape, generator=torch.Generator().manual_seed(1), dtype=each.dtype)) for each in wanted]
        gradients = torch.autograd.grad(wanted, self.tensors, cotangents, allow_unused=True)
        return [*(each.detach() for each in outputs), *(each for each in gradients if each is not None)]


def subjects(
    name: str, batch: int | None = None, strided: bool = False, variant: str = "function", dtype: torch.dtype = torch.float64
) -> dict[str, Subject]:
    """Stock and another variant with the same numbers, at the first of the layer's odd sizes."""
    declared = LAYERS[name]
    layer = declared.layer
    size = sizes(declared.facts, "cpu", {})[0] | dict(layer.verify_at[0] if layer.verify_at else {})
    if batch is not None:
        size |= {next(iter(layer.sweep)): batch}
    weights = make.reference(layer, size, dtype, "cpu", 0)
    inputs = make.draw(layer.draws, size, dtype, "cpu", 0)
    if strided:
        inputs = tuple(map(transposed, inputs))
    reference = next(iter(layer.variants))
    return {each: Subject(layer, each, size, weights, inputs) for each in (reference, variant)}


@every_layer
def test_gradients(name: str) -> None:
    subject = subjects(name)["function"]
    assert gradcheck(subject, subject.tensors, fast_mode=True)


@every_layer
def test_gradients_whichever_single_tensor_wants_one(name: str) -> None:
    _, subject = subjects(name).values()
    full = dict(enumerate(torch.autograd.grad(_sum(subject(*subject.tensors)), subject.tensors, allow_unused=True)))
    for number, wanting in enumerate(subject.tensors):
        alone = [each if each is wanting else each.detach() for each in subject.tensors]
        output = _sum(subject(*alone))
        if full[number] is not None:
            (gradient,) = torch.autograd.grad(output, wanting)
            torch.testing.assert_close(gradient, full[number], rtol=1e-12, atol=1e-12)


@every_layer
def test_second_derivatives_are_right_or_refused(name: str) -> None:
    subject = subjects(name)["function"]
    gradients = torch.autograd.grad(_sum(subject(*subject.tensors), power=3), subject.tensors, create_graph=True, allow_unused=True)
    try:
        _sum([each for each in gradients if each is not None and each.requires_grad]).backward()
    except RuntimeError as error:
        assert ONCE in str(error)
    else:
        assert gradgradcheck(subject, subject.tensors, fast_mode=True)


@every_layer
def test_a_second_derivative_under_a_constant_gradient_is_stocks_or_refused(name: str) -> None:
    """As after y.sum(): the incoming gradient does not depend on anything, but dL/dx may.  Whichever single tensor wants one, and all."""
    stock, function = subjects(name).values()
    check_twice(function, stock, ONCE)


@every_layer
def test_an_empty_batch(name: str) -> None:
    stock, function = subjects(name, batch=0).values()
    same(function.results(), stock.results())


def test_torch_is_told_the_true_size_of_an_empty_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of 0 positions is refused from torch 2.14 on."""
    told, stock = [], torch.native_group_norm
    monkeypatch.setattr(torch, "native_group_norm", lambda *given: told.append(given[3:6]) or stock(*given))
    subjects("groupnorm", batch=0)["function"].results()
    assert told == [(0, 6, 9)]


@pytest.mark.parametrize("name", [name for name, each in LAYERS.items() if each.layer.law is None])  # two variants draw two masks
def test_non_contiguous_inputs(name: str) -> None:
    stock, function = subjects(name, strided=True).values()
    same(function.results(), stock.results())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", [name for name, each in LAYERS.items() if each.layer.law is None])
def test_gradients_in_any_layout(name: str, layout: Callable[[Tensor], Tensor]) -> None:
    stock, function = subjects(name).values()
    same(function.results(layout), stock.results(layout))


BY_BLOCKS = [name for name, each in LAYERS.items() if hasattr(sys.modules[each.layer.variants["function"].module.__module__], "blocks")]


@pytest.mark.parametrize("name", BY_BLOCKS)
def test_blocks_add_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stock, function = subjects(name, batch=3).values()
    monkeypatch.setattr(_blocks, "CACHED", 1)  # each row or image a block of its own
    assert len(_blocks.blocks(torch.ones(3, 2))) == 3
    same(function.results(), stock.results())


def test_layers_go_by_blocks() -> None:
    assert {"batchnorm", "layernorm", "groupnorm", "crossentropy", "kldiv"} < set(BY_BLOCKS)


def check_twice(subject: Subject, stock: Subject, refusal: str, each_alone: bool = True, **tolerances: float) -> None:
    """Where every tensor wants a gradient, and where a single one does."""
    alone = [{number} for number in range(len(stock.tensors))] if each_alone else []
    for wanting in [*alone, set(range(len(stock.tensors)))]:
        try:
            found = twice(subject, wanting)
        except RuntimeError as error:
            assert refusal in str(error), error
        else:
            same(found, twice(stock, wanting), **tolerances)


def twice(subject: Subject, wanting: set[int]) -> list[Tensor]:
    """The derivatives of all first gradients' squares, under fixed cotangents; 0 where there are none."""
    tensors = [each.detach().requires_grad_(number in wanting) for number, each in enumerate(subject.tensors)]
    outputs = [each for each in subject(*tensors) if each.requires_grad]
    wanted = [each for each in tensors if each.requires_grad]
    cotangents = [torch.randn(each.shape, generator=torch.Generator().manual_seed(1), dtype=each.dtype) for each in outputs]
    gradients = torch.autograd.grad(outputs, wanted, cotangents, create_graph=True, allow_unused=True) if outputs else ()
    total = _sum([each for each in gradients if each is not None])
    if not total.requires_grad:
        return [torch.zeros_like(each) for each in wanted]
    return list(torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True))


def _sum(tensors: Sequence[Tensor], power: int = 2) -> Tensor:
    return sum((each.pow(power).sum() for each in tensors if each.requires_grad), torch.zeros((), dtype=torch.float64))


def same(found: Sequence[Tensor], expected: Sequence[Tensor], rtol: float = 1e-10, atol: float = 1e-10) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)
