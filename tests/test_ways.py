"""Ways of use: each finds a layer that is wrong in it alone; right layers that look suspicious pass; what is refused is a limit."""

import copy
from typing import Any

import pytest
import torch
from planted import Product, Stock, layer, limits, linear, outcome, reason
from torch import Tensor, nn

from layerbench.bench import Variant, randn
from layerbench.bench.data.record import Failed
from layerbench.bench.data.uses import Uses
from layerbench.bench.equivalence import calls, in_use, layouts, traced, traits, values, verify, ways, weights
from layerbench.bench.law import dropout


class ZerosWithoutGradient(Stock):
    """Right only where its input needs a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(x.requires_grad)


class OtherUnderNoGrad(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if torch.is_grad_enabled() else 1.01)


class OtherInInference(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.01 if torch.is_inference_mode_enabled() else 1.0)


class NoWeightGradientAlone(Product):
    """The weights' gradient is zero where the input needs none."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        to_x, to_weight, to_bias = Product.backward(ctx, g)
        return (to_x, to_weight, to_bias) if ctx.needs_input_grad[0] else (None, torch.zeros_like(to_weight), torch.zeros_like(to_bias))


class WrongWhereFrozen(Product):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        to_x, to_weight, to_bias = Product.backward(ctx, g)
        return to_x if ctx.needs_input_grad[1] else to_x * 0.9, to_weight, to_bias


class WrongWhereBiasIsFrozen(Product):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        to_x, to_weight, to_bias = Product.backward(ctx, g)
        return to_x, to_weight if ctx.needs_input_grad[2] else to_weight * 0.9, to_bias


class LosesTheBatch(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


class Overwrites(Product):
    """.grad is written, not added to."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        to_x, to_weight, to_bias = Product.backward(ctx, g)
        _, weight = ctx.saved_tensors
        weight.grad = None
        return to_x, to_weight, to_bias


class StateOnTheModule(Stock):
    """What backward needs is kept on the module: of two calls, the second one's."""

    def forward(self, x: Tensor) -> Tensor:
        module = self

        class Kept(Product):
            @staticmethod
            def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                ctx.save_for_backward(x, weight)
                module.kept = x.detach()
                return x @ weight.T + bias

            @staticmethod
            def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
                _, weight = ctx.saved_tensors
                return g @ weight, g.T @ module.kept, g.sum(0)

        return Kept.apply(x, self.weight, self.bias)


class FirstOnTheModule(Stock):
    """The same, and kept until a backward has taken it: of two calls, the first one's, whichever comes back first."""

    def forward(self, x: Tensor) -> Tensor:
        waiting = self.__dict__.setdefault("waiting", [])
        if torch.is_grad_enabled():
            waiting.append(x.detach())

        class Kept(Product):
            @staticmethod
            def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                ctx.save_for_backward(x, weight)
                return x @ weight.T + bias

            @staticmethod
            def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
                x, weight = ctx.saved_tensors
                return g @ weight, g.T @ (waiting.pop(0) if waiting else x), g.sum(0)

        return Kept.apply(x, self.weight, self.bias)


class LoadsIntoACopy(Stock):
    """What load_state_dict brings is not looked at after the first call; an update in place is."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "loaded"):
            self.loaded = 1.0
        return super().forward(x) * self.loaded

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        if hasattr(self, "loaded"):
            self.loaded = 0.9


class GradientOnce(Product):
    """A second backward through one graph finds what the first one left."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        first = not hasattr(ctx, "done")
        ctx.done = True
        to_x, *rest = Product.backward(ctx, g)
        return to_x if first else torch.zeros_like(to_x), *rest


class SecondDerivativeWrong(Product):
    """Constants where the gradient depends on the weight."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return g @ weight.detach(), g.T @ x, g.sum(0)


class OnceDifferentiable(Product):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Product.backward(ctx, g)


class Packed(Stock):
    """Its weight is transposed once, and again only when a state_dict is loaded."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "packed"):
            self.packed = self.weight.detach().T.clone()
        return x @ (self.packed + (self.weight - self.weight.detach()).T) + self.bias

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.__dict__.pop("packed", None)


class PackedByVersion(Packed):
    """Packed again where the weight has changed in place: right; but not where it lies in other memory."""

    def forward(self, x: Tensor) -> Tensor:
        version = self.weight._version
        if getattr(self, "version", version) != version:
            self.__dict__.pop("packed", None)
        self.version = version
        return super().forward(x)


class PackedForGood(Stock):
    """Not packed again when a state_dict is loaded, but wherever the weight is another tensor."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "packed"):
            self.packed, self.of = self.weight.detach().clone(), self.weight.data_ptr()
        fresh = self.of != self.weight.data_ptr()
        return x @ ((self.weight if fresh else self.packed + (self.weight - self.weight.detach())).T) + self.bias


class CopySharesTheWeight(Stock):
    """A deep copy goes on with the original's weights."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.owner = [self]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.owner[0].weight.T + self.owner[0].bias

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        made = type(self)(self.in_features, self.out_features)
        made.load_state_dict(self.state_dict())
        made.owner = [self]
        return made


class OneBuffer(Stock):
    """One memory for all outputs."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if not hasattr(self, "buffer"):
            self.buffer = torch.empty_like(y)
        with torch.no_grad():
            self.buffer.resize_(y.shape).copy_(y)
        return _Into.apply(y, self.buffer)


class _Into(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, buffer: Tensor) -> Tensor:
        return buffer.view(buffer.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g, None


class WritesIntoTheGradient(Product):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        found = Product.backward(ctx, g)
        g.mul_(0.5)
        return found


class HalfUnderAutocast(Stock):
    """Computes another thing where autocast is on."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.1 if torch.is_autocast_enabled("cpu") else 1.0)


class StaysInFloat32(Stock):
    """Does not know autocast, and is more exact for it: right."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(x)


class OnlyPlainCalls(Stock):
    """Wrong where forward runs a second time inside backward."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        backward = torch._C._current_graph_task_id() != -1
        return super().forward(x * (0.9 if backward else 1.0))


WRONG = {  # variant -> how its reason begins
    ZerosWithoutGradient: "no gradient for inputs: output: off by",
    linear(NoWeightGradientAlone): "no gradient for inputs: weight grad: off by",
    linear(WrongWhereFrozen): "no gradient for weights: input 0 grad: off by",
    linear(WrongWhereBiasIsFrozen): "each gradient alone: weight grad, only weight needing one: off by",
    OtherUnderNoGrad: "under no_grad: output: off by",
    OtherInInference: "under inference_mode: output: off by",
    Packed: "weights changed in place: output: off by",
    PackedByVersion: "weights replaced by .data: output: off by",
    PackedForGood: "weights changed in place: output: off by",
    StateOnTheModule: "two calls, then backward: weight grad, call 1: off by",
    FirstOnTheModule: "two calls, backward reversed: weight grad, call 2: off by",
    LoadsIntoACopy: "state_dict loaded late: output: off by",
    linear(Overwrites): "gradients accumulated: weight grad: off by",
    LosesTheBatch: "batch of 1: output: its shape is (4,), the reference's (1, 4)",
    CopySharesTheWeight: "deep copy: output: off by",
    OneBuffer: "output kept: output, read after the next call: off by",
    linear(GradientOnce): "backward twice: input 0 grad: off by",
    linear(SecondDerivativeWrong): "second derivatives: ",
    HalfUnderAutocast: "under autocast: output: off by",
    OnlyPlainCalls: "checkpointed: ",
    linear(WritesIntoTheGradient): "output: backward writes to its incoming gradient; write to a tensor of its own",
}


@pytest.mark.parametrize(("wrong", "told"), WRONG.items(), ids=[told.partition(":")[0] + f" {n}" for n, told in enumerate(WRONG.values())])
def test_a_layer_that_is_wrong_in_one_way_of_use_fails_with_its_name(wrong: type[nn.Module], told: str) -> None:
    found = reason(layer(Stock, wrong))
    assert found.startswith(told), found


class Norm(nn.BatchNorm1d):
    def __init__(self, width: int, _: int) -> None:
        super().__init__(width)


class BatchStatisticsInEval(Norm):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        return nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True)


class StatisticsOfTheFirstBatch(Norm):
    """Running statistics that go on as if every batch were the first one."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if not hasattr(self, "first"):
            self.first = x.detach().clone()
        if self.num_batches_tracked > 1:
            self.running_mean.data += (self.first.mean(0) - x.detach().mean(0)) * self.momentum
        return y


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sin(), x.cos()


class TwoAtOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, h: Tensor | None) -> Tensor:
        (x,) = ctx.saved_tensors
        if g is None or h is None:
            return torch.zeros_like(x)
        return g * x.cos() - h * x.sin()


class OnlyBoth(nn.Module):
    """No gradient where one of its outputs is not used."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return TwoAtOnce.apply(x)


class Times(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


class TimesItself(nn.Module):
    """Takes two inputs of one memory for one that needs half of its gradient."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * (y.detach() if x.data_ptr() == y.data_ptr() else y)


class Drops(nn.Dropout):
    def __init__(self, *_: int) -> None:
        super().__init__(0.5)


class DropsInEval(Drops):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, training=True)


def test_batch_statistics_in_eval_fail() -> None:
    assert reason(layer(Norm, BatchStatisticsInEval, verify=({"batch": 5, "width": 6},))).startswith("in eval(): output: off by")


def test_running_statistics_that_are_right_for_one_batch_repeated_fail() -> None:
    found = reason(layer(Norm, StatisticsOfTheFirstBatch, verify=({"batch": 5, "width": 6},), calls=3))
    assert found.startswith("new data at every call: running_mean after: off by")


def test_an_output_that_is_used_alone_needs_its_gradient() -> None:
    found = reason(layer(Two, OnlyBoth, build=lambda module, size: module()))
    assert found.startswith("each output alone: input 0 grad, output 0 alone used: ")


def test_one_tensor_given_twice_needs_both_gradients() -> None:
    inputs = randn("batch", "width"), randn("batch", "width")
    found = reason(layer(Times, TimesItself, *inputs, build=lambda module, size: module()))
    assert found.startswith("one tensor for several inputs: input 0 grad: off by")


def test_a_random_layer_is_compared_in_eval_alone() -> None:
    given = layer(Drops, DropsInEval, law=dropout(0.5), verify=({"batch": 30, "width": 60},))
    assert reason(given).startswith("in eval(): output: off by")
    found = outcome(layer(Drops, lambda *_: Drops(), law=dropout(0.5), verify=({"batch": 30, "width": 60},)))
    assert isinstance(found, Uses) and found.tried == 6 and not found.limits  # eval(), and all traits


# --- right, though they look suspicious ------------------------------------------------------------------------------------------------


class KeepsATable(Stock):
    """Keeps what depends on shapes alone."""

    def forward(self, x: Tensor) -> Tensor:
        if getattr(self, "table", None) is None or self.table.shape != x.shape[-1:]:
            self.table = torch.ones(x.shape[-1], dtype=x.dtype, device=x.device)
        return super().forward(x * self.table)


class CopiesTheGradient(Product):
    """Changes the gradient, but its own copy of it."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Product.backward(ctx, g.clone().mul_(1.0))


class OtherOrder(Stock):
    """Sums in another order."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.flip(-1).unsqueeze(-2) * self.weight.flip(-1)).sum(-1) + self.bias


class Recomputes(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(super().forward, x, use_reentrant=False)


class DrawsFromItsOwn(Stock):
    """A generator of its own is nobody else's business."""

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3, generator=torch.Generator().manual_seed(0))
        return super().forward(x)


class InLoop(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(InLoop, self).forward(row) for row in x])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "right", [KeepsATable, linear(CopiesTheGradient), linear(Product), OtherOrder, Recomputes, DrawsFromItsOwn, InLoop, StaysInFloat32]
)
def test_right_layers_of_another_style_pass_in_every_way(right: type[nn.Module], dtype: str) -> None:
    found = outcome(layer(Stock, right), dtype)
    assert isinstance(found, Uses), found
    assert found.tried > 35
    assert found.marks == {}
    allowed = {"under autocast", "dtypes under autocast", "checkpointed"}  # one does not nest, one knows no autocast
    allowed |= {"inside torch.compile", "under torch.export, any batch"}  # one has a generator, one a loop over the batch
    assert set(found.limits) <= allowed


def test_a_layer_that_is_not_differentiable_twice_is_said_to_be_so() -> None:
    assert limits(layer(Stock, linear(OnceDifferentiable)))["second derivatives"] == "not differentiable twice"


def test_what_the_reference_refuses_is_asked_of_nobody() -> None:
    class Once(Stock):
        def forward(self, x: Tensor) -> Tensor:
            return OnceDifferentiable.apply(x, self.weight, self.bias)

    found = outcome(layer(Once, linear(SecondDerivativeWrong)))
    assert isinstance(found, Uses) and "second derivatives" not in found.limits


def test_every_way_is_in_the_order_once_and_has_a_name_of_its_own() -> None:
    everything = [*ways.WAYS, *calls.WAYS, *weights.WAYS, *layouts.WAYS, *values.WAYS, *traits.TRAITS, *traced.WAYS]
    assert sorted(way.name for way in in_use.ORDER) == sorted(way.name for way in everything)
    assert len({way.name for way in everything}) == len(everything)


def test_when_the_time_is_up_what_was_not_tried_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_use.time, "thread_time", iter(range(1000)).__next__)
    given = layer(Stock, Stock, verify=({"batch": 3},))
    truth = verify.truth(given, {"batch": 3, "width": 8}, torch.float32, "cpu", 0)
    found = in_use.examine(given, truth, ("stock",), lambda *_: None, seconds=3, tracing=0)["stock"]
    assert isinstance(found, Uses)
    late = [way.name for way in in_use.ORDER[3:] if way not in traced.WAYS]
    told = f"{len(late)} more ways, for lack of time: {', '.join(late)}"
    assert (found.tried, found.refused) == (3, {"not tried": told[:159] + "…"})


def test_ways_are_run_on_one_thread_so_that_their_time_does_not_depend_on_other_work() -> None:
    seen, usual = set(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        class Counts(Stock):
            def forward(self, x: Tensor) -> Tensor:
                seen.add(torch.get_num_threads())
                return super().forward(x)

        given = layer(Stock, Counts)
        truth = verify.truth(given, {"batch": 3, "width": 8}, torch.float32, "cpu", 0)
        in_use.examine(given, truth, ("stock", "wrong"), lambda *_: None, seconds=5)
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(usual)


def test_a_compiled_reference_is_not_asked_again() -> None:
    """It is judged uncompiled, and is then the reference itself."""
    given = layer(Stock, Stock)
    again = copy.copy(given)
    object.__setattr__(again, "variants", {"stock": Variant(Stock), "wrong": Variant(Stock, compile=True)})
    found = outcome(again)
    assert isinstance(found, Uses) and not isinstance(found, Failed)


class Three(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for place in range(9):
            self.register_parameter(f"w{place}", nn.Parameter(torch.randn(8)))

    def forward(self, x: Tensor) -> Tensor:
        return x * sum(getattr(self, f"w{place}") for place in range(9))


class ThreeRegisteredLastFirst(Three):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        for place in reversed(range(9)):
            self.register_parameter(f"w{place}", nn.Parameter(torch.randn(8)))


def test_parameters_may_be_registered_in_another_order() -> None:
    given = layer(Three, ThreeRegisteredLastFirst, randn("batch", 8), build=lambda module, size: module(), sweep={"batch": (4,)}, verify=())
    assert isinstance(outcome(given), Uses)


class Averaged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool1d(x, 2)


class AveragedPlainly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, 2)).mean(-1)


def test_what_is_linear_is_differentiable_twice() -> None:
    """Its second derivatives are 0, and autograd may say so by having none."""
    given = layer(Averaged, AveragedPlainly, randn("batch", 8, 8), build=lambda module, size: module(), sweep={"batch": (4,)}, verify=())
    found = outcome(given)
    assert isinstance(found, Uses)
    assert "second derivatives" not in found.limits


class Blur(nn.Module):
    """A filter that no state_dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.full((1, 1, 3), 0.25), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv1d(x, self.filter)


class BlurOfSums(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x[..., :-2] + x[..., 1:-1] + x[..., 2:]) / 4


def test_a_variant_of_a_reference_without_weights_is_in_the_dtype_of_the_point() -> None:
    given = layer(BlurOfSums, Blur, randn("batch", 1, 8), build=lambda module, size: module(), sweep={"batch": (4,)}, verify=())
    for dtype in ("float32", "bfloat16", "float16"):
        assert isinstance(outcome(given, dtype), Uses)
