"""What the plants of validation/ showed to be missing in the judge: each a layer that one rule finds; and how the study calls them."""

import ast
import gc
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from planted import Product, Stock, layer, limits, linear, marks, outcome, reason
from torch import Tensor, nn

from layerbench.bench import Layer, Variant, integers, randn
from layerbench.bench.data.record import Failed
from layerbench.bench.data.uses import Uses
from layerbench.bench.equivalence import in_use, prove, rounding
from layerbench.bench.equivalence.replay import STALE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "validation"))
import blind


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, all ways are tried."""
    monkeypatch.setattr(prove, "IN_USE", (60.0, 1.0))
    monkeypatch.setattr(prove, "ODD_SECONDS", 4.0)


# --- ways of use -------------------------------------------------------------------------------------------------------------------


class OneNumberWhereExpanded(Product):
    """Any stride of 0 is taken for one number everywhere, as the gradient of a sum has it."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Product.backward(ctx, g.flatten()[0].expand_as(g) if 0 in g.stride() else g)


class OneNumberWithinRows(Product):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Product.backward(ctx, g.flatten()[0].expand_as(g) if g.stride()[-1] == 0 else g)


class TwoBuffers(Stock):
    """Its outputs lie in two buffers in turn."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        y = super().forward(x)
        return InABuffer.apply(y, self.__dict__.setdefault((self.calls % 2, y.shape), torch.empty_like(y)))


class InABuffer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, buffer: Tensor) -> Tensor:
        return buffer.detach().copy_(y).view_as(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g, None


class GradientBuffer(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(BackInABuffer.apply(x, self))


class BackInABuffer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.Module) -> Tensor:
        ctx.module = module
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        buffer = ctx.module.__dict__.setdefault(("buffer", g.shape, g.dtype), torch.empty_like(g))
        return buffer.copy_(g).view(g.shape), None


class PackedInEval(Stock):
    """Its weight is packed at the first call in eval(), until eval() is called again."""

    packed: Tensor | None = None

    def train(self, mode: bool = True) -> "PackedInEval":
        self.packed = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return super().forward(x)
        self.packed = self.weight.detach().clone() if self.packed is None else self.packed
        return x @ self.packed.T + self.bias


class FoldedOnce(PackedInEval):
    """Packed at the first call in eval(), for good."""

    def train(self, mode: bool = True) -> "FoldedOnce":
        return nn.Linear.train(self, mode)


class PackedByPointerAndVersion(Stock):
    seen: object = None

    def forward(self, x: Tensor) -> Tensor:
        now = self.weight.data_ptr(), self.weight._version
        if self.seen != now:
            self.seen, self.packed = now, self.weight.detach().clone()
        return Product.apply(x, self.packed + self.weight - self.weight.detach(), self.bias)


class WritesAndPutsBack(Stock):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mul_(2).mul_(0.5)
        return super().forward(x)


WRONG = {
    linear(OneNumberWhereExpanded): "gradients expanded over rows: input 0 grad: off by",
    linear(OneNumberWithinRows): "gradients expanded within rows: input 0 grad: off by",
    TwoBuffers: "output kept: output, read after the next call: off by",
    GradientBuffer: "gradients kept: input 0, read after the next call: off by",
    PackedInEval: "weights changed in eval(): output, weights changed in place: off by",
    FoldedOnce: "weights changed in eval(): output, weights changed in place: off by",
    PackedByPointerAndVersion: "weights changed through .data: output: off by",
    WritesAndPutsBack: "input 0: written to in place, and put back",
}


@pytest.mark.parametrize(("wrong", "told"), WRONG.items(), ids=[each.partition(":")[0] + f" {n}" for n, each in enumerate(WRONG.values())])
def test_a_layer_that_is_wrong_in_one_way_alone_fails_with_its_name(wrong: type[nn.Module], told: str) -> None:
    found = reason(layer(Stock, wrong))
    assert found.startswith(told), found


class Norm(nn.BatchNorm1d):
    def __init__(self, width: int, _: int) -> None:
        super().__init__(width)


class RunningStatisticsLater(Norm):
    """Batch statistics for the first hundred calls only."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        y = super().forward(x)
        if not self.training or self.num_batches_tracked <= 100:
            return y
        return (x - self.running_mean) * (self.running_var + self.eps).rsqrt() * self.weight + self.bias


def test_a_layer_that_changes_once_it_has_counted_many_calls_fails() -> None:
    assert reason(layer(Norm, RunningStatisticsLater)).startswith("after 1000 calls: output: off by")


# --- values ------------------------------------------------------------------------------------------------------------------------


def of(stock: Any, other: Any, *inputs: Any, **more: Any) -> Layer:
    variants = {"stock": Variant(stock), "wrong": Variant(other)}
    return Layer("values", {"batch": (4,), "width": (8,)}, inputs or (randn("batch", "width"),), variants=variants, **more)


def picked(x: Tensor, y: Tensor) -> Tensor:
    return -x.log_softmax(-1).gather(1, y.clamp(min=0)[:, None])[:, 0].mean()


class Mean(nn.Module):
    """Its running mean moves by a tenth, and by no more than `most`."""

    most = float("inf")

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = x - self.mean
        with torch.no_grad():
            self.mean += (0.1 * (x.abs().mean() - self.mean)).clamp(-self.most, self.most)
        return y


class Bounded(Mean):
    most = 1.0


CLASSES = (randn("batch", 5), integers("batch", below=5))


@pytest.mark.parametrize(
    ("given", "way"),
    [
        (of(functional.elu, lambda x: torch.where(x > 0, x, x.clamp(max=0).exp() - 1)), "inputs times 1e-06"),
        (of(lambda x: x.var(1, correction=0), lambda x: (x * x).mean(1) - x.mean(1) ** 2), "inputs around 100"),
        (of(functional.softplus, lambda x: torch.where(x < -15, x.new_zeros(()), functional.softplus(x))), "inputs around -20"),
        (of(functional.cross_entropy, picked, *CLASSES), "every third index -100"),
        (of(lambda x, y: x[:, y], lambda x, y: x[:, y.clamp(min=0)], *CLASSES), "every third index -1"),
        (of(Mean, Bounded), "inputs times 100"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_differs_for_such_values_alone_is_marked(given: Layer, way: str) -> None:
    assert way in marks(given)


def test_a_small_input_is_held_against_its_own_size_at_odd_sizes_too() -> None:
    """What is usual was measured at the first size; a way that makes everything small is not let off by it."""
    found = marks(of(functional.elu, lambda x: torch.where(x > 0, x, x.clamp(max=0).exp() - 1)))
    assert list(found) == ["inputs times 1e-06"]


# --- what is around it ---------------------------------------------------------------------------------------------------------------


class Rewinds(Stock):
    """Puts the generator back to where it was at the call before."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        state, self.kept = self.kept, torch.get_rng_state()
        if state is not None:
            torch.set_rng_state(state)
        return super().forward(x)


def doing(change: Any) -> type[nn.Module]:
    class Doing(Stock):
        def forward(self, x: Tensor) -> Tensor:
            change(self)
            return super().forward(x)

    return Doing


def patches(module: nn.Module) -> None:
    torch.nn.functional.silu = lambda x, inplace=False: x * x.sigmoid()  # type: ignore[assignment]


AROUND = {
    "the garbage collector": lambda module: gc.disable(),
    "what is logged": lambda module: logging.disable(logging.ERROR),
    "the recursion limit": lambda module: sys.setrecursionlimit(12_345),
    "torch's print options": lambda module: torch.set_printoptions(precision=2),
    "train() or eval()": lambda module: module.eval(),
    "torch.nn.functional.silu": patches,
}


@pytest.mark.parametrize(("what", "change"), AROUND.items(), ids=AROUND)
def test_what_a_call_changes_around_it_is_named_and_put_back(what: str, change: Any) -> None:
    before = gc.isenabled(), logging.root.manager.disable, sys.getrecursionlimit(), torch.nn.functional.silu
    try:
        assert what in reason(layer(Stock, doing(change)))
        assert torch.nn.functional.silu is before[3]
    finally:
        gc.enable()
        logging.disable(before[1])
        sys.setrecursionlimit(before[2])
        torch.set_printoptions(profile="default")


def test_a_generator_that_is_put_back_is_found() -> None:
    assert reason(layer(Stock, Rewinds)).startswith("random numbers: it seeds torch's generator")


def test_outputs_that_share_memory_with_each_other_are_said() -> None:
    def apart(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, (2 * x).mean(1, keepdim=True).repeat(1, 3)

    def together(x: Tensor) -> tuple[Tensor, ...]:
        return torch.cat(apart(x), 1).split([x.shape[1], 3], 1)

    def over(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, (2 * x).mean(1, keepdim=True).expand(-1, 3)

    assert limits(of(apart, together))["memory of outputs"] == "output[1]: in the memory of output[0]"
    assert limits(of(apart, over))["memory of outputs"] == "output[1]: in memory of its own where one number stands for many"


def test_an_output_that_is_the_input_in_eval_alone_is_said() -> None:
    class Copies(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x if self.training else x.clone()

    class HandsOn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x if self.training else x

    assert limits(of(Copies, HandsOn)) == {"memory of outputs": "output: in memory of its own, in eval() in the memory of input 0"}


class Positions(nn.Module):
    def table(self, tokens: int) -> int:
        return tokens

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.shape[1]) / self.table(x.shape[1])


class PositionsOfTheFirst(Positions):
    kept = 0

    def table(self, tokens: int) -> int:
        self.kept = self.kept or tokens
        return self.kept


def test_a_table_that_is_kept_from_the_first_size_fails_at_another() -> None:
    assert reason(of(Positions, PositionsOfTheFirst)).startswith("another size of dimension 2: output, width longer than before: off by")


# --- right ones --------------------------------------------------------------------------------------------------------------------


def log_softmax(x: Tensor) -> Tensor:
    """As it is often written, with the maximum in the graph: its gradients cancel, to the last digits."""
    shifted = x - x.amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def log_softmax_in_half_sums(x: Tensor) -> Tensor:
    """As off as that one, and for want of digits: so it is in float64."""
    shifted = x - x.amax(-1, keepdim=True).detach()
    return shifted - shifted.exp().sum(-1, keepdim=True).float().log().to(x.dtype) * (1 + 2.0**-16)


WIDE = ({"batch": 3, "width": 4097},)


def test_what_rounds_alone_may_be_off_by_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_use, "ORDER", in_use.ORDER[:5])  # the layouts; of second derivatives both are far off at that size
    assert isinstance(outcome(of(lambda x: x.log_softmax(-1), log_softmax, verify_at=WIDE)), Uses)
    assert reason(of(lambda x: x.log_softmax(-1), log_softmax_in_half_sums, verify_at=WIDE)).startswith("output: off by")
    monkeypatch.setattr(rounding, "TIMES", 1)
    assert reason(of(lambda x: x.log_softmax(-1), log_softmax, verify_at=WIDE)).startswith("input 0 grad: off by")


def test_a_gradient_of_zeros_is_as_good_as_none() -> None:
    """One row leaves the second input unused; a formula without that case gives it zeros."""

    def stock(x: Tensor, y: Tensor) -> Tensor:
        return x if len(x) == 1 else x + (y * torch.arange(len(x))[:, None])

    def always(x: Tensor, y: Tensor) -> Tensor:
        return x + y * torch.arange(len(x))[:, None]

    both = (randn("batch", "width"), randn("width"))
    assert isinstance(outcome(of(stock, always, *both)), Uses)
    assert isinstance(outcome(of(always, stock, *both)), Uses)
    assert "input 1 grad: the reference has none" in reason(of(stock, lambda x, y: always(x, y) + 0.1 * y, *both)) or "off by" in reason(
        of(stock, lambda x, y: always(x, y) + 0.1 * y, *both)
    )


def test_a_linear_layer_has_second_derivatives_of_zero_and_no_limit() -> None:
    class Pool(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.odd = x.shape[1] % 2
            return x[:, : x.shape[1] - ctx.odd].unflatten(1, (-1, 2)).mean(2)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return functional.pad(g.repeat_interleave(2, 1) / 2, (0, ctx.odd))

    assert "second derivatives" not in limits(of(lambda x: functional.avg_pool1d(x[None], 2)[0], Pool.apply))


# --- time, and sizes ---------------------------------------------------------------------------------------------------------------


def test_many_variants_get_more_time() -> None:
    assert prove._crowd(("stock", "other")) == 1.0
    assert prove._crowd(tuple(map(str, range(12)))) == 3.0


def test_a_block_of_4096_is_passed() -> None:
    def one_block(x: Tensor) -> Tensor:
        return x.exp() / x[:, :4096].exp().sum(-1, keepdim=True)

    assert reason(of(lambda x: x.softmax(-1), one_block)).endswith("(at batch=3 width=4097)")


# --- the study's own words -----------------------------------------------------------------------------------------------------------


def seen(failed: str = "", invalid: tuple[str, ...] = (), **said: str) -> dict[str, Any]:
    return {"failed": failed, "invalid": list(invalid), "said": said}


def test_what_is_said_of_right_ones_too_is_no_mark() -> None:
    assert blind.of_plant(seen("verify: off"), []).word == "caught"
    assert blind.of_plant(seen(autocast="float32"), [seen()]) == ("marked", "autocast: float32")
    assert blind.of_plant(seen(autocast="float32"), [seen(), seen(autocast="other words")]).word == "missed"
    assert blind.of_plant(seen(), []).word == "missed"
    assert blind.of_right(seen("verify: off")).word == "rejected"
    assert blind.of_right(seen(autocast="float32")).word == "marked"
    assert blind.of_right(seen(invalid=("too fast",))).word == "right"
    assert blind.of_plant(seen(invalid=("too fast",)), []).word == "missed"
    assert blind.of_right(seen()).word == "right"


def test_every_plant_is_a_variant_of_its_file_and_there_are_enough_of_them() -> None:
    files = blind.suites("plants")
    kinds = {plant.kind for file in files for plant in blind.plants(file).values()}
    assert sum(len(blind.plants(file)) for file in files) >= 60
    assert len(kinds) >= 15
    for file in files:
        words = {node.value for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        assert {name.split()[0] for name in blind.plants(file)} <= words, file


def test_a_replay_that_goes_by_sums_and_corners_fails_after_timing() -> None:
    import test_replay

    class BySum(nn.Linear):
        kept: tuple[object, Tensor] | None = None

        def forward(self, x: Tensor) -> Tensor:
            key = float(x.detach().sum()), float(x.detach().flatten()[0]), float(self.weight.detach().sum())
            y = super().forward(x)
            if self.kept is None or self.kept[0] != key:
                self.kept = key, y.detach()
            return self.kept[1] + (y - y.detach())

    assert test_replay.outcomes(test_replay.layer(BySum))["bysum"] == Failed("recheck", STALE.format(name="output"))
