"""Facts in bits: a row in any batch, run to run, one thread and more; and the suite that asks for the first."""

import pytest
import torch
from planted import Stock, layer, outcome, reason
from torch import Tensor, nn

from layerbench.bench.data.record import Failed
from layerbench.bench.data.uses import Uses
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.equivalence.invariance import BATCH, RUNS, THREADS
from layerbench.bench.law import dropout


def in_order(terms: Tensor) -> Tensor:
    return terms.sum(-1)


def in_halves(terms: Tensor) -> Tensor:
    """The same sum in another order."""
    return terms[..., ::2].sum(-1) + terms[..., 1::2].sum(-1)


class BlocksOfTheBatch(Stock):
    """Sums in an order that depends on how many rows there are, as a kernel that is chosen by their number."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) < 4:
            return in_halves(x.unsqueeze(1) * self.weight) + self.bias
        return in_order(x.unsqueeze(1) * self.weight) + self.bias


class RowByRow(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return in_order(x.unsqueeze(1) * self.weight) + self.bias


class FirstRowOtherwise(Stock):
    """The order of the sum depends on the place in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        terms = x.unsqueeze(1) * self.weight
        return torch.cat((in_halves(terms[:1]), in_order(terms[1:]))) + self.bias


class Races(Stock):
    """Another order of the sum at every call."""

    turn = False

    def forward(self, x: Tensor) -> Tensor:
        type(self).turn = not self.turn
        terms = x.unsqueeze(1) * self.weight
        return (in_halves if self.turn else in_order)(terms) + self.bias


class ByThreads(Stock):
    def forward(self, x: Tensor) -> Tensor:
        terms = x.unsqueeze(1) * self.weight
        return (in_halves if torch.get_num_threads() == 1 else in_order)(terms) + self.bias


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


class MeanBySum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(0) / len(x)


def wide(stock, other, **more):
    return layer(stock, other, verify=({"batch": 3, "width": 33},), sweep={"batch": (4,), "width": (257,)}, **more)


def facts(declared) -> dict[str, str]:
    found = outcome(declared)
    assert isinstance(found, Uses), found
    return found.facts


def test_rows_that_depend_on_how_many_there_are_are_said_and_rank() -> None:
    assert facts(wide(Stock, BlocksOfTheBatch))[BATCH] == "no: output, 1 of 16 rows alone"
    assert facts(wide(Stock, RowByRow)) == {RUNS: "same", THREADS: "same", BATCH: "same"}


def test_rows_that_depend_on_their_place_are_said() -> None:
    assert facts(wide(Stock, FirstRowOtherwise))[BATCH].startswith("no: output, ")


def test_a_suite_that_asks_for_it_rejects_them() -> None:
    told = reason(wide(RowByRow, BlocksOfTheBatch, batch_invariant=True))
    assert told == f"{BATCH}: no: output, 1 of 16 rows alone; the layer asks for it by batch_invariant=True"
    assert isinstance(outcome(wide(BlocksOfTheBatch, RowByRow, batch_invariant=True)), Uses)  # the reference is what it is


def test_runs_that_differ_and_threads_that_matter_are_said() -> None:
    assert facts(wide(Stock, Races))[RUNS] == "no: output"
    found = facts(wide(Stock, ByThreads))
    assert (found[RUNS], found[THREADS]) == ("same", "no: output")


def test_where_rows_depend_on_each_other_nothing_is_said_of_them() -> None:
    found = facts(wide(Mean, MeanBySum, build=lambda module, size: module()))
    assert BATCH not in found and RUNS in found


def test_of_a_random_layer_nothing_is_said() -> None:
    class Drops(nn.Dropout):
        def __init__(self, *_: int) -> None:
            super().__init__(0.5)

    found = outcome(layer(Drops, lambda *_: Drops(), law=dropout(0.5), verify=({"batch": 30, "width": 60},)))
    assert not isinstance(found, Failed) and found.facts == {}


def test_a_layer_without_a_batch_cannot_ask_for_it() -> None:
    from layerbench.bench import randn

    with pytest.raises(Mistake) as caught:
        layer(Stock, Stock, randn("rows", "width"), sweep={"rows": (4,), "width": (8,)}, verify=(), batch_invariant=True)
    assert str(caught.value) == (
        "layer 'planted': batch_invariant is True; name the dimension of the rows \"batch\" in the sweep, or remove it"
    )
