"""Every custom op that a Triton variant calls keeps torch's contract for one: torch.library.opcheck, under Triton's interpreter.

The ops are found by calling the layers.  And a second derivative of a Triton variant is stock's, or refused.

This process may have imported triton for real already, so the checks run in a fresh one: this very file, as a script.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
import upstream
from test_every_function import LAYERS, LAYOUTS, check_twice, same, subjects
from torch.utils._python_dispatch import TorchDispatchMode

from layerbench.bench.plan.planning import sizes
from layerbench.bench.subject import make
from layerbench.bench.suite import mount

pytestmark = [pytest.mark.usefixtures("forked_processes"), upstream.needs_interpreter]

NETWORKS = ("convnet", "convnet_cifar")  # what they are given reaches a convolution and nothing else; each of their layers is tried alone
OURS = "_kernels"  # the end of a namespace: it is named by the package that the suite is mounted under


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton")
@pytest.mark.parametrize(
    ("what", "last"), [("ops", "ops checked"), ("second derivatives", "layers checked"), ("layouts", "layers checked")]
)
def test_every_op(what: str, last: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, what], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(last)


class Calls(TorchDispatchMode):
    """The first call of every op of ours, with its arguments; those of a backward want no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.backward = False
        self.found: dict[Any, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func.namespace.endswith(OURS) and func not in self.found:
            self.found[func] = (tuple(map(self._copy, args)), {name: self._copy(value) for name, value in (kwargs or {}).items()})
        return func(*args, **(kwargs or {}))

    def _copy(self, argument: Any) -> Any:
        if isinstance(argument, list):
            return [self._copy(each) for each in argument]
        if not isinstance(argument, torch.Tensor):
            return argument
        copy = argument.detach().clone(memory_format=torch.preserve_format)
        return copy.requires_grad_(argument.requires_grad and not self.backward)


def second_derivatives() -> None:
    layers = [each.layer for each in mount.mount(mount.DEFAULT) if "triton" in each.layer.variants]
    names = [layer.name for layer in layers if not layer.absent.get("function", "").endswith("has no backward")]
    tried: set[Any] = set()
    for name, (stock, triton) in sorted(((name, _pair(name)) for name in names), key=lambda each: len(each[1][0].tensors)):
        with Calls() as calls:
            triton(*triton.tensors)
        new = set(calls.found) - tried  # a network made of ops that a smaller layer has shown need not show every tensor alone
        print(name)
        check_twice(triton, stock, "Trying to backward through", each_alone=bool(new), rtol=1e-4, atol=1e-4)
        tried |= new
    print(f"{len(names)} layers checked")


def _pair(name: str) -> tuple[Any, Any]:
    stock, triton = subjects(name, variant="triton", dtype=torch.float32).values()
    return stock, triton


def layouts() -> None:
    """An empty batch, inputs that are not contiguous, and gradients in other layouts."""
    checked = 0
    for name, declared in LAYERS.items():
        if "triton" not in declared.layer.variants or declared.layer.law:  # two variants of a random layer draw two masks
            continue
        if name in NETWORKS:
            continue
        print(name)
        given = partial(subjects, name, variant="triton", dtype=torch.float32)
        stock, triton = given(strided=True).values()
        same(triton.results(), stock.results(), rtol=1e-4, atol=1e-4)
        stock, triton = given().values()
        for layout in LAYOUTS:
            same(triton.results(layout), stock.results(layout), rtol=1e-4, atol=1e-4)
        stock, triton = given(batch=0).values()
        same(triton.results(), stock.results(), rtol=1e-4, atol=1e-4)
        checked += 1
    print(f"{checked} layers checked")


def ops() -> None:
    calls = Calls()
    for declared in mount.mount(mount.DEFAULT):
        layer = declared.layer
        if "triton" in layer.variants:
            size = sizes(declared.facts, "cpu", {})[0] | dict(layer.verify_at[0] if layer.verify_at else {})
            weights = make.reference(layer, size, torch.float32, "cpu", 0)
            inputs = make.draw(layer.draws, size, torch.float32, "cpu", 0)
            cotangents = make.cotangents(make.probe(weights, inputs), 0)
            subject = make.subject("triton", make.variant_module(layer, "triton", size, weights), inputs, cotangents)
            with calls:
                calls.backward = False
                output = subject.forward()
                calls.backward = True
                if any(cotangent is not None for cotangent in cotangents):
                    subject.backward(output)
    assert calls.found
    for op, (arguments, named) in calls.found.items():
        torch.library.opcheck(op, arguments, named)
        print(op.name())
    print(f"{len(calls.found)} ops checked")


if __name__ == "__main__":
    {"ops": ops, "second derivatives": second_derivatives, "layouts": layouts}[sys.argv[1]]()
