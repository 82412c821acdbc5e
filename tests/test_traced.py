"""Ways of use in which torch traces the layer: what is wrong there alone fails, what is refused is a limit, what is not tried is said."""

from typing import Any

import pytest
import torch
from planted import Product, Stock, layer, limits, linear, outcome, reason
from torch import Tensor, nn

from layerbench.bench import mask, randn
from layerbench.bench.data.record import Failed
from layerbench.bench.data.uses import Uses
from layerbench.bench.equivalence import in_use, prove, verify
from layerbench.bench.profiling import compiling
from layerbench.bench.subject import dynamo, make

COMPILED, EXPORTED, ANY_BATCH, TRAINED = (
    "inside torch.compile",
    "under torch.export",
    "under torch.export, any batch",
    "gradients after torch.export",
)


@torch.library.custom_op("planted::add_one", mutates_args=())
def add_one(tensor: Tensor) -> None:
    """Writes to what it is given, and does not say so: torch.compile takes it for a call that does nothing."""
    tensor.add_(1.0)


@torch.library.custom_op("planted::product", mutates_args=())
def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x @ weight.T + bias


@add_one.register_fake
def _(tensor: Tensor) -> None: ...


@product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


product.register_autograd(
    lambda ctx, g: Product.backward(ctx, g), setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2])
)


class PlusOne(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1.0


class WritesUnseen(Stock):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        add_one(y.detach())
        return y


class OtherWhereExported(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.01 if torch.compiler.is_exporting() else 1.0)


class OtherWhereTheBatchIsASymbol(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if type(x.shape[0]) is int else 1.01)


class Breaks(Stock):
    def forward(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().forward(x)


class OneBatch(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.ones(int(x.shape[0]), 1, dtype=x.dtype)


class NoTracer(Stock):
    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            raise RuntimeError("cannot be traced")
        return super().forward(x)


class GradientOnlyByHand(Product):
    """torch.export keeps what forward does, and not this backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.detach() @ weight.T + bias


class ByOperator(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)


WRONG = {  # variant -> its reference, and how its reason begins
    WritesUnseen: (PlusOne, f"{COMPILED}: output: off by"),
    OtherWhereExported: (Stock, f"{EXPORTED}: output: off by"),
    OtherWhereTheBatchIsASymbol: (Stock, f"{ANY_BATCH}: output: off by"),
}
LIMITED = {  # variant -> way, and how its limit begins
    Breaks: (COMPILED, "graph breaks: 3 graphs and eager code between (Call to `torch._dynamo.graph_break()`"),
    OneBatch: (ANY_BATCH, "AssertionError: Guard failed: "),
    NoTracer: (EXPORTED, "RuntimeError: cannot be traced"),
    linear(GradientOnlyByHand): (TRAINED, "input 0 grad: missing; the reference has it"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_layer_that_is_wrong_only_where_it_is_traced_fails_with_the_way(wrong: type[nn.Module]) -> None:
    stock, told = WRONG[wrong]
    found = reason(layer(stock, wrong))
    assert found.startswith(told), found


@pytest.mark.parametrize("limited", LIMITED, ids=lambda limited: LIMITED[limited][1].partition(":")[0])
def test_what_is_refused_where_it_is_traced_is_a_limit(limited: type[nn.Module]) -> None:
    way, told = LIMITED[limited]
    found = limits(layer(Stock, limited))
    assert found[way].startswith(told), found


@pytest.mark.parametrize("right", [Stock, linear(Product), ByOperator], ids=["module", "function", "operator"])
def test_a_right_layer_has_no_limit_where_it_is_traced(right: type[nn.Module]) -> None:
    found = outcome(layer(Stock, type("Another", (right,), {})))
    assert isinstance(found, Uses), found
    assert found.refused == {} and set(found.limits) <= {"dtypes under autocast"}


def test_arguments_by_keyword_do_not_break_the_graph() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, *, keep: Tensor) -> Tensor:
            return x * keep

    class ByWhere(nn.Module):
        def forward(self, x: Tensor, *, keep: Tensor) -> Tensor:
            return torch.where(keep, x, 0.0)

    class ByBrokenWhere(ByWhere):
        def forward(self, x: Tensor, *, keep: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return torch.where(keep, x, 0.0)

    def made(other: type[nn.Module]) -> Any:
        return layer(Masked, other, randn("batch", "width"), build=lambda module, _: module(), kwargs={"keep": mask("batch", "width")})

    assert COMPILED not in limits(made(ByWhere))
    assert limits(made(ByBrokenWhere))[COMPILED].startswith("graph breaks: 3 graphs ")


def test_where_the_graph_of_the_reference_breaks_no_variant_has_a_limit_for_that() -> None:
    class BreaksTwice(Breaks):
        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return super().forward(x)

    assert COMPILED not in limits(layer(Breaks, BreaksTwice))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # what Dynamo does with a Function
def test_nothing_is_left_compiled_and_what_is_counted_of_a_variant_is_the_same_after_ways() -> None:
    if missing := compiling.missing_compiler():
        pytest.skip(missing)
    given = layer(Stock, linear(Product))
    counted = []
    for again in (False, True):
        if again:
            assert not isinstance(outcome(given), Failed)
            assert dynamo.graphs() == 0 and dynamo.breaks() == {}
        truth = verify.truth(given, {"batch": 3, "width": 6}, torch.float32, "cpu", 0)
        dynamo.forget()
        module = make.variant_module(given, "wrong", truth.size, truth.weights)
        found = compiling.compile_cold(make.subject("wrong", module, truth.inputs, truth.cotangents), True, cold=False)
        counted.append((found.graphs, found.breaks, dynamo.graphs()))
    assert counted[0] == counted[1] == (1, (), 1)


def test_the_tracer_is_asked_in_the_first_dtype_alone_and_its_time_is_limited_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    given = layer(Stock, Breaks)
    truth = verify.truth(given, {"batch": 3, "width": 6}, torch.float32, "cpu", 0)

    def examined(**more: Any) -> Uses:
        found = in_use.examine(given, truth, ("stock", "wrong"), lambda *_: None, **({"seconds": 60} | more))["stock"]
        assert isinstance(found, Uses)
        return found

    assert examined(thorough=False).tried == examined().tried - 5  # and second derivatives
    now = iter(range(10**6))
    monkeypatch.setattr(in_use.time, "thread_time", lambda: next(now))
    told = examined(seconds=10**6, tracing=2).refused["not tried"]
    assert told == f"2 more ways, for lack of time: {TRAINED}, {COMPILED}"


def test_under_the_interpreter_nothing_is_traced_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(in_use, "examine", lambda *given: asked.append(given) or {"stock": Uses(1)})
    prove.prove(layer(Stock, Stock), ("stock",), "float32", "cpu", lambda *_: None, interpreted=True)
    (*_, refused, tracing), *_ = asked
    told = "not tried under Triton's interpreter, which torch does not trace"
    assert tracing == 0 and refused == {"torch.compile and torch.export": told}
