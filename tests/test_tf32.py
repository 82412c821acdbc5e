"""float32 means float32: TF32 is off for all unless --tf32 asks for it, and a variant that switches it by itself has failed."""

from collections.abc import Iterator
from pathlib import Path

import inprocess
import pytest
import torch

from layerbench.bench.data.record import Failed, Measured
from layerbench.bench.storage import run_file
from layerbench.bench.subject import torch_settings

SUITE = '''
"""ReLU, and one that switches TF32 on for whoever comes next."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Switches(nn.ReLU):
    def forward(self, x):
        torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32
        return super().forward(x)

relu = Layer("relu", {"batch": (2,)}, (randn("batch", 4),), lambda module, size: module(),
    {"stock": Variant(nn.ReLU), "switches": Variant(Switches)})
'''


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch_settings.look()
    yield
    torch_settings.put_back(before)


def allowed() -> list[bool]:
    return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]


def test_it_is_switched_for_products_and_convolutions_alike() -> None:
    torch.backends.cudnn.allow_tf32 = True  # as torch has it by itself
    torch_settings.use_tf32(allowed=False)
    assert allowed() == [False, False]
    torch_settings.use_tf32(allowed=True)
    assert allowed() == [True, True]


@pytest.mark.parametrize(("words", "on"), [((), "off"), (("--tf32",), "on")])
def test_a_run_sets_it_and_a_variant_may_not(words: tuple[str, ...], on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.backends.cudnn.allow_tf32 = on == "off"
    (tmp_path / "tf32.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "tf32.py", "--step", "forward", *words) == 1
    assert allowed() == [on == "on"] * 2
    outcomes = {record.variant: record.outcome for record in run_file.read(run_file.newest(tmp_path / "results")).records}
    assert isinstance(outcomes["stock"], Measured)
    assert isinstance(outcomes["switches"], Failed)
    assert outcomes["switches"].reason.startswith(f"changes the use of TF32 by cuDNN from {on} to {'off' if on == 'on' else 'on'}")
