"""`layerbench.bench.compare` in this process: is it the same layer, and how many times faster, to the digit under a fake clock."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from layerbench.bench import compare, notebook
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.timing.clock import FakeClock


class Mine(nn.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).rsqrt() * self.weight


class Forgets(Mine):
    """Its weight, which is all ones as it is made: right on the spot, wrong once trained."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.weight


COST = {"reference": 3e-3, "noise_floor": 3e-3, "other": 1.5e-3}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "clock_for", lambda device: FakeClock(lambda variant, number: COST[variant]))
    monkeypatch.setattr(notebook.sanity, "contended", lambda measured, machine: "")


def test_the_same_layer_twice_as_fast() -> None:
    found = compare(nn.RMSNorm(16), Mine(16), torch.randn(8, 16))
    assert found.same and [(each.name, each.verdict) for each in found.steps] == [("forward", "faster"), ("backward", "faster")]
    assert [each.ratio.ratio for each in found.steps] == pytest.approx([2.0, 2.0])
    text = repr(found)
    assert text.startswith("The same layer, on these inputs and on their numbers in another order.\nstep ")
    assert text.splitlines()[2].split() == ["forward", "3", "ms", "1.5", "ms", "2.00", "2.00", "to", "2.00", "1%", "faster"]
    assert "held for backward" in text and text.endswith(notebook.UNSEEN)
    assert found._repr_html_().startswith("<p><b>The same layer") and "<td>1.5 ms</td>" in found._repr_html_()


def test_another_layer_is_not_timed() -> None:
    found = compare(nn.RMSNorm(16), Forgets(16), torch.randn(8, 16))
    assert not found.same and found.steps == () and found.why.startswith("output: off by")
    assert repr(found) == f"Not the same layer: {found.why}\n{notebook.UNSEEN}"
    assert found._repr_html_().startswith("<p><b>Not the same layer: output: off by") and "<table>" not in found._repr_html_()


def test_what_is_given_stays_as_it_is() -> None:
    reference, other, x = nn.BatchNorm1d(4), nn.BatchNorm1d(4), torch.randn(8, 4)
    kept = [tensor.clone() for tensor in (*reference.state_dict().values(), *other.state_dict().values(), x)]
    state = torch.get_rng_state()
    assert compare(reference, other, x).same
    assert torch.equal(state, torch.get_rng_state()) and not x.requires_grad and reference.training
    assert all(map(torch.equal, kept, (*reference.state_dict().values(), *other.state_dict().values(), x)))


def test_functions_keywords_and_structures() -> None:
    def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor, scale: float) -> Tensor:
        return (q @ k.mT * scale).masked_fill(~attn_mask, float("-inf")).softmax(-1) @ v

    q, kept = torch.randn(2, 5, 4), torch.ones(5, 5).tril().bool()
    assert compare(F.scaled_dot_product_attention, attention, q, q, q, attn_mask=kept, scale=0.5).same
    assert not compare(F.scaled_dot_product_attention, attention, q, q, q, attn_mask=None, scale=0.5).same

    def sums(parts: list[Tensor]) -> Tensor:
        return parts[0] + parts[1]

    assert compare(sums, lambda parts: torch.stack(parts).sum(0), [q, q]).same


def test_only_forward_where_nothing_has_a_gradient() -> None:
    found = compare(lambda x: x > 0, lambda x: x.gt(0), torch.randn(8))
    assert found.same and [each.name for each in found.steps] == ["forward"]


def test_what_holds_on_these_numbers_alone_is_found() -> None:
    x = torch.linspace(0, 1, 64)
    assert not compare(lambda x: x.sort().values, lambda x: x * 1, x).same


def test_weights_that_are_laid_out_otherwise() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w

    layers: Any = nn.Linear(4, 3, bias=False), Transposed(), torch.randn(8, 4)
    assert compare(*layers, state=lambda state: {"w": state["weight"].T}).same
    assert "state_dict lacks 'weight'" in compare(*layers).why


def test_random_layers() -> None:
    x = torch.randn(16, 32)
    assert compare(nn.Dropout(0.5), F.dropout, x, law="seed").same
    found = compare(nn.Dropout(0.5), lambda x: x * (torch.rand(x.shape) >= 0.5) * 2, x, law="moments")
    assert found.same and "Weak check: only moments over 24 draws are compared" in repr(found)
    assert not compare(nn.Dropout(0.5), nn.Dropout(0.4), x, law="moments").same


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    (
        (nn.ReLU, nn.ReLU(), torch.ones(2)),
        {},
        "compare: reference is <class 'torch.nn.modules.activation.ReLU'>; give a module that is made",
    ),
    ((nn.ReLU(), "relu", torch.ones(2)), {}, "compare: other is 'relu'; give a module that is made"),
    ((nn.ReLU(), nn.ReLU(), torch.ones(2)), {"seconds": 0}, "compare: seconds is 0; give how long may be timed, as 4"),
    ((nn.Linear(3, 3), nn.Linear(3, 3), torch.ones(2)), {}, "compare: the reference: RuntimeError: "),
    ((lambda x: x + torch.rand(2), nn.ReLU(), torch.ones(2)), {}, "output: it looks random"),
    ((nn.ReLU(), nn.ReLU(), torch.nn), {}, "layer 'compared': inputs[0] is a module: <module 'torch.nn'"),
]


@pytest.mark.parametrize(("arguments", "more", "said"), WRONG)
def test_what_cannot_be_compared(arguments: tuple[Any, ...], more: dict[str, Any], said: str) -> None:
    with pytest.raises(Mistake) as caught:
        compare(*arguments, **more)
    assert str(caught.value).startswith(said)
