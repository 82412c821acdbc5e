"""The sizes that the shipped layers have on a GPU: they fit its memory, by shapes alone, and some are such as the CPU has."""

import math

import pytest
import torch
from torch import Tensor

from layerbench.bench.plan.planning import sizes
from layerbench.bench.subject import make
from layerbench.bench.suite import mount

DECLARED = {each.layer.name: each for each in mount.mount(mount.DEFAULT)}
MOST_BYTES = 8e9  # of one variant in float32


def largest(layer: str) -> dict[str, int]:
    return sizes(DECLARED[layer].facts, "cuda", {})[-1]


def held_bytes(layer: str, variant: str, size: dict[str, int]) -> int:
    """Inputs, parameters, outputs, what is saved for backward and all gradients in float32, each storage once; no number is computed."""
    declared = DECLARED[layer].layer
    held: dict[int, tuple[object, int]] = {}

    def hold(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage._cdata] = storage, storage.nbytes()  # kept, so that no other storage gets its address
        return tensor

    with torch.device("meta"):
        module = make.build(declared, declared.variants[variant], size)
    subject = make.Subject(variant, module, make.draw(declared.draws, size, torch.float32, "meta", 0), ())
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        output = subject.forward()
    for tensor in (*make.tensors(output).values(), *subject.inputs, *module.parameters(), *module.buffers()):
        hold(tensor)
    gradients = sum(leaf.nbytes for _, leaf in subject.leaves()) + sum(y.nbytes for y in make.tensors(output).values() if y.requires_grad)
    return gradients + sum(nbytes for _, nbytes in held.values())


@pytest.mark.parametrize("layer", DECLARED)
def test_the_largest_size_fits(layer: str) -> None:
    reads_numbers = layer == "adam"  # the reference reads its counter on the host, which tensors without numbers do not have
    variant = "fused" if reads_numbers else next(iter(DECLARED[layer].layer.variants))
    assert held_bytes(layer, variant, largest(layer)) < MOST_BYTES


def test_the_bytes_are_those_that_a_reader_counts() -> None:
    x = 4 * 16 * 32_000  # in bytes; saved: the log-softmax, and labels of 8 bytes, which are an input
    got = held_bytes("crossentropy", "stock", {"batch": 16, "classes": 32_000})
    assert 3 * x <= got <= 3 * x + 8 * 16 + 100  # x, its log-softmax, its gradient; the loss


@pytest.mark.parametrize("layer", DECLARED)
def test_a_layer_has_about_as_many_sizes_as_on_the_cpu_and_larger_ones(layer: str) -> None:
    facts = DECLARED[layer].facts
    cpu, gpu = (sizes(facts, device, {}) for device in ("cpu", "cuda"))
    assert len(gpu) <= len(cpu) + 1
    assert len(facts.gpu_sweep.get(next(iter(facts.sweep)), next(iter(facts.sweep.values())))) >= 3
    assert math.prod(gpu[-1].values()) > math.prod(cpu[-1].values())


def test_some_layers_have_sizes_in_common_with_the_cpu_so_that_the_two_can_be_compared() -> None:
    common = {
        name: [size for size in sizes(each.facts, "cuda", {}) if size in sizes(each.facts, "cpu", {})] for name, each in DECLARED.items()
    }
    both = {name for name, found in common.items() if found}
    assert {"softmax", "logsoftmax", "dropout", "crossentropy", "mse", "convnet", "adaptive_avgpool2d", "adam"} <= both
