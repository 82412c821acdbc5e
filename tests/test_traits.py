"""What a layer does beside its numbers: seeds, shared memory, hooks, and settings of the process."""

import os
import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from planted import Stock, layer, limits, outcome, reason
from torch import Tensor, nn

from layerbench.bench.data.uses import Uses
from layerbench.bench.law import dropout
from layerbench.bench.subject import torch_settings


def doing(what: Callable[[], object]) -> type[Stock]:
    """A right linear layer that does something else as well at every call."""

    class Doing(Stock):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            what()
            return y

    return Doing


SEEDS = {
    "torch's generator": lambda: torch.manual_seed(0),
    "Python's generator": lambda: random.seed(0),
    "numpy's generator": lambda: np.random.seed(0),
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_layer_that_seeds_a_generator_of_the_program_fails(name: str) -> None:
    assert reason(layer(Stock, doing(SEEDS[name]))) == (
        f"random numbers: it seeds {name}, which is not its own: what a program draws after it is no longer random; use a torch.Generator"
    )


def test_a_layer_that_seeds_anew_from_the_clock_fails_too() -> None:
    assert reason(layer(Stock, doing(torch.seed))).startswith("random numbers: it seeds torch's generator")


def test_a_layer_that_draws_where_the_reference_does_not_has_a_limit() -> None:
    assert limits(layer(Stock, doing(lambda: torch.rand(3))))["random numbers"] == "torch's generator: drawn"


class Drops(nn.Dropout):
    def __init__(self, *_: int) -> None:
        super().__init__(0.5)


class DropsFromASeed(Drops):
    """Draws, and seeds the program."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        torch.manual_seed(0)
        return y


def test_a_random_layer_draws_but_may_not_seed() -> None:
    sizes = ({"batch": 30, "width": 60},)
    assert isinstance(outcome(layer(Drops, lambda *_: Drops(), law=dropout(0.5), verify=sizes)), Uses)
    assert "it seeds torch's generator" in reason(layer(Drops, DropsFromASeed, law=dropout(0.5), verify=sizes))


def test_an_environment_variable_that_every_call_sets_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "0")
    told = "the process around it: it sets the environment variable PLANTED at every call; leave the process as it is"
    assert reason(layer(Stock, doing(lambda: os.environ.update(PLANTED="1")))) == told


def test_one_that_the_first_call_alone_sets_may_be_an_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "0")
    assert isinstance(outcome(layer(Stock, doing(lambda: os.environ.get("PLANTED") == "1" or os.environ.update(PLANTED="1")))), Uses)


@pytest.mark.parametrize("what", [lambda: warnings.simplefilter("ignore"), lambda: warnings.filterwarnings("ignore", "planted")])
def test_filters_of_warnings_that_every_call_changes_fail(what: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        assert reason(layer(Stock, doing(what))).startswith("the process around it: it changes the filters of warnings at every call")


def test_filters_that_are_put_back_are_nobodys_business() -> None:
    def quietly() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")

    before = list(warnings.filters)
    assert isinstance(outcome(layer(Stock, doing(quietly))), Uses)
    assert list(warnings.filters) == before


SETTINGS = {
    "changes torch's flag cudnn.benchmark from off to on": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "changes torch's flag cudnn.deterministic from off to on": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "changes torch's flag mkldnn.enabled from on to off": lambda: torch._C._set_mkldnn_enabled(False),
    "changes torch's flag flash attention from on to off": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "changes the detection of anomalies from off to on": lambda: torch.autograd.set_detect_anomaly(True),
    "changes the autocast from off, off, off to on, off, off": lambda: torch.set_autocast_enabled("cpu", True),
    "changes the flushing of denormal numbers from off to on": lambda: torch.set_flush_denormal(True),
    "changes the number of hooks on all modules from ": lambda: nn.modules.module.register_module_forward_hook(lambda *_: None),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("told", SETTINGS)
def test_a_setting_of_torch_that_is_left_changed_fails_and_is_put_back(told: str) -> None:
    before = torch_settings.look()
    assert reason(layer(Stock, doing(SETTINGS[told]))).startswith(told)
    assert torch_settings.look() == before


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 1


class View(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view_as(x)


def test_memory_that_an_output_shares_is_said_both_ways() -> None:
    def build(module, size):
        return module()

    assert limits(layer(Nothing, View, build=build))["memory of outputs"] == "output: in the memory of input 0"
    assert limits(layer(View, Nothing, build=build))["memory of outputs"] == "output: in memory of its own"


class Stack(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class PassesBy(Stack):
    """An adapter that hangs on `inner` does nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.inner.weight, self.inner.bias)


def test_a_submodule_that_is_passed_by_is_said() -> None:
    assert limits(layer(Stack, PassesBy))["hooks of submodules"] == "hooks of inner: not called"
    assert "hooks of submodules" not in limits(layer(Stack, type("Same", (Stack,), {})))
