"""What can be declared beside a module of tensors: for each kind a right variant that passes, and a wrong one that fails."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from layerbench.bench import (
    Layer,
    Variant,
    additive_mask,
    complex_randn,
    draw,
    integers,
    lengths,
    mask,
    one_hot,
    positive,
    probabilities,
    randn,
    uniform,
)
from layerbench.bench.cell.cell import Cell
from layerbench.bench.data.record import Failed, Point
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.equivalence.prove import prove
from layerbench.bench.subject import arguments, make

SIZE = {"batch": 6, "tokens": 5, "width": 4}
SWEEP = {dimension: (value,) for dimension, value in SIZE.items()}


def layer(inputs: Any, variants: dict[str, Any], **more: Any) -> Layer:
    declared = {name: each if isinstance(each, Variant) else Variant(each) for name, each in variants.items()}
    return Layer("mine", SWEEP, inputs, variants=declared, **more)


def judged(given: Layer, dtype: str = "float32") -> dict[str, str]:
    """Why each variant is not the same layer; "" where it is: at the sizes and weights of a proof, and then in a cell."""
    names = tuple(given.variants)
    proofs = prove(given, names, dtype, "cpu", lambda stage, variant: None)
    found = {name: proof.reason if isinstance(proof, Failed) else "" for name, proof in proofs.items()}
    right = tuple(name for name, reason in found.items() if not reason)
    if names[0] in right:
        cell = Cell(given, Point("mine", SIZE, dtype, "cpu", ""), right, {}, lambda stage, variant: None)
        found |= {name: getattr(outcome, "reason", "") for name, outcome in cell.out.items()}
    return found


def drawn(*draws: Any, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, ...]:
    return arguments.draw(draws, SIZE, dtype, "cpu", seed)


# --- inputs ---------------------------------------------------------------------------------------------------------------------------


def test_what_each_kind_draws() -> None:
    kept, added, spread, hot, longest, shares, waves = drawn(
        mask("batch", "tokens", keep=0.5),
        additive_mask("batch", "tokens", keep=0.5),
        uniform("batch", "width", low=-3, high=-1),
        one_hot("batch", classes="tokens"),
        lengths("batch", most="tokens"),
        probabilities("batch", "width"),
        complex_randn("batch", "width"),
    )
    assert kept.dtype == torch.bool and kept[:, 0].all() and 0 < kept.double().mean() < 1
    assert set(added.unique().tolist()) == {0.0, float("-inf")} and not added[:, 0].any() and not added.requires_grad
    assert spread.min() >= -3 and spread.max() < -1 and spread.requires_grad
    assert hot.shape == (6, 5) and hot.sum(1).tolist() == [1.0] * 6 and hot.count_nonzero() == 6 and not hot.requires_grad
    assert longest.tolist() == sorted(longest.tolist(), reverse=True) and longest.min() >= 1 and longest.max() <= 5
    assert torch.allclose(shares.sum(1), torch.ones(6)) and shares.min() > 0
    assert waves.dtype == torch.complex64 and waves.requires_grad
    assert not drawn(randn("batch", requires_grad=False))[0].requires_grad


def test_the_dtype_of_the_point_is_theirs() -> None:
    kinds = (additive_mask("batch"), uniform("batch", low=0, high=1), one_hot("batch", classes=3), probabilities("batch"))
    assert {each.dtype for each in drawn(*kinds, dtype=torch.bfloat16)} == {torch.bfloat16}
    assert drawn(complex_randn("batch"), dtype=torch.float64)[0].dtype == torch.complex128
    assert drawn(complex_randn("batch"), dtype=torch.float16)[0].dtype == torch.complex64


def test_a_function_draws_all_else() -> None:
    targets = draw(lambda size, generator: torch.randint(-1, 3, (size["batch"],), generator=generator).sub(99 * 0))
    (found,) = drawn(targets)
    assert found.shape == (6,) and found.dtype == torch.int64
    assert torch.equal(found, drawn(targets)[0]) and not torch.equal(found, drawn(targets, seed=1)[0])
    halves, whole = drawn(draw(lambda size, generator: torch.ones(2, dtype=torch.float64)), randn(2), dtype=torch.float16)
    assert halves.dtype == whole.dtype == torch.float16 and halves.requires_grad


def test_tensors_that_are_drawn_together_share_what_they_like() -> None:
    def both(size: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        order = torch.randperm(size["batch"], generator=generator)
        return order, order.argsort()

    there, back = draw(both, 2)
    order, inverse, again, other = drawn(there, back, there, back)
    assert torch.equal(order[inverse], torch.arange(6)) and torch.equal(again[other], torch.arange(6))
    assert not torch.equal(order, again)  # two arguments are not one tensor by chance


ATTENTION = [randn("batch", 2, "tokens", "width")] * 3


def masked(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor, is_causal: bool = False) -> Tensor:
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ v


def unmasked(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor, is_causal: bool = False) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("kind", [mask, additive_mask])
def test_a_mask_by_keyword(kind: Callable[..., Any]) -> None:
    given = layer(
        tuple(ATTENTION),
        {"stock": F.scaled_dot_product_attention, "mine": masked, "wrong": unmasked},
        kwargs={"attn_mask": kind("tokens", "tokens", keep=0.5), "is_causal": False},
    )
    found = judged(given)
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


class Batch(NamedTuple):
    numbers: Tensor
    weights: dict[str, Tensor]


def weighted(batch: Batch, parts: list[Tensor], reduction: str, scale: float) -> Tensor:
    assert isinstance(batch, Batch) and isinstance(parts, list) and reduction == "mean"
    return scale * (batch.numbers * batch.weights["w"] + parts[0] - parts[1]).mean(-1)


def swapped(batch: Batch, parts: list[Tensor], reduction: str, scale: float) -> Tensor:
    return scale * (batch.numbers * batch.weights["w"] + parts[1] - parts[0]).mean(-1)


def test_lists_dicts_numbers_and_words() -> None:
    parts = [randn("batch", "width"), randn("batch", "width")]
    batch = Batch(randn("batch", "width"), {"w": positive("width")})  # type: ignore[arg-type]
    found = judged(layer((batch, parts, "mean", 0.5), {"stock": weighted, "mine": weighted, "wrong": swapped}))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


def scaled_by_none(x: Tensor, bias: Tensor | None, flag: bool) -> Tensor:
    assert bias is None and flag is True
    return x * 2


def test_none_and_truth_values() -> None:
    given = (randn("batch", "width"), None, True)
    found = judged(layer(given, {"stock": scaled_by_none, "wrong": lambda x, bias, flag: x * 2 + (bias is None)}))
    assert found["stock"] == "" and found["wrong"].startswith("output: off by")


class Table(nn.Module):
    """No inputs at all: what it returns is made of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self) -> Tensor:
        return self.weight.softmax(-1)


class WrongTable(Table):
    def forward(self) -> Tensor:
        return self.weight.detach().softmax(-1) + 0 * self.weight


def test_no_inputs_at_all() -> None:
    found = judged(layer((), {"stock": Table, "mine": Table, "wrong": WrongTable}))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("weight grad: off by")


def test_a_tensor_that_needs_no_gradient() -> None:
    inputs = (randn("batch", "width"), randn("batch", "width", requires_grad=False))
    seen = []

    def product(x: Tensor, y: Tensor) -> Tensor:
        seen.append(y.requires_grad)
        return x * y

    found = judged(layer(inputs, {"stock": product, "wrong": lambda x, y: x.detach() * y + 0 * x}))
    assert found["stock"] == "" and found["wrong"].startswith("input 0 grad: off by")
    assert set(seen) == {False}


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    return x * turn / turn.abs()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_complex_numbers(dtype: str) -> None:
    inputs = (complex_randn("batch", "width"), complex_randn("width"))
    found = judged(layer(inputs, {"stock": rotated, "mine": lambda x, t: x * torch.exp(1j * t.angle()), "wrong": _not_conjugated}), dtype)
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


def _not_conjugated(x: Tensor, turn: Tensor) -> Tensor:
    return x * turn.conj() / turn.abs()


def test_what_is_called_with_a_structure_is_compiled_whole() -> None:
    parts = [randn("batch", "width"), randn("batch", "width")]
    given = layer(
        ({"a": parts},),
        {"stock": lambda x, scale: x["a"][0] * scale + x["a"][1], "compile": Variant(_summed, compile=True)},
        kwargs={"scale": 3.0},
    )
    cell = Cell(given, Point("mine", SIZE, "float32", "cpu", ""), ("stock", "compile"), {}, lambda stage, variant: None)
    assert cell.out == {}
    assert (cell.compiled["compile"].graphs, cell.compiled["compile"].breaks) == (1, ())


def _summed(x: dict[str, list[Tensor]], scale: float) -> Tensor:
    return x["a"][0] * scale + x["a"][1]


ARGUMENTS: dict[str, tuple[Any, Any]] = {  # how the reason of the wrong one begins -> the right one, the wrong one
    "input scale grad: off by": (lambda x, scale: x["a"][1] * scale, lambda x, scale: x["a"][1] * (scale + scale.detach()) / 2),
    "input 0['a'][1] grad: off by": (lambda x, scale: x["a"][1] * scale, lambda x, scale: (x["a"][1] + x["a"][1].detach()) / 2 * scale),
    "input scale: changed in place; compute on a copy": (
        lambda x, scale: x["a"][1] * scale,
        lambda x, scale: x["a"][1] * scale.clone() + 0 * scale.data.add_(1),
    ),
    "the reference: output: NaN or infinite in": (lambda x, scale: scale.log() + 0 * x["a"][1], None),
}


@pytest.mark.parametrize("told", ARGUMENTS)
def test_an_argument_is_called_by_its_keyword_or_its_place_in_a_list(told: str) -> None:
    stock, wrong = ARGUMENTS[told]
    parts = [randn("batch", "width", requires_grad=False), randn("batch", "width")]
    given = layer(({"a": parts},), {"stock": stock, "wrong": wrong or stock}, kwargs={"scale": randn("batch", "width")})
    found = judged(given)
    if wrong:
        assert found["stock"] == "" and found["wrong"].startswith(told), found
    else:
        names = "inputs[0]['a'][0] and inputs[0]['a'][1] and kwargs['scale'] are standard normal"
        assert found["stock"].startswith(told) and names in found["stock"], found


# --- functions ------------------------------------------------------------------------------------------------------------------------


def plain_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x @ weight.T + bias


def linear_without_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x @ weight.T + 0 * bias


def test_functions_with_weights_as_inputs_and_as_parameters() -> None:
    variants = {"stock": F.linear, "mine": plain_linear, "wrong": linear_without_bias}
    weights = {"weight": randn(3, "width"), "bias": randn(3)}
    as_inputs = judged(layer((randn("batch", "width"), *weights.values()), variants))
    assert as_inputs["stock"] == as_inputs["mine"] == "" and as_inputs["wrong"].startswith("output: off by")
    given = layer((randn("batch", "width"),), variants, parameters=weights)
    assert list(make.reference(given, SIZE, torch.float32, "cpu", 0).state_dict()) == ["weight", "bias"]
    found = judged(given)
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


def test_a_function_against_a_module_and_a_function_that_build_returns() -> None:
    given = layer((randn("batch", "width"),), {"stock": nn.SiLU, "mine": lambda x: x * x.sigmoid(), "wrong": F.relu})
    found = judged(given)
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")
    built = layer((randn("batch", "width"),), {"stock": F.softmax, "wrong": F.log_softmax}, build=lambda f, size: partial(f, dim=-1))
    found = judged(built)
    assert found["stock"] == "" and found["wrong"].startswith("output: off by")


def test_a_class_with_arguments_of_its_own() -> None:
    class Scaled(nn.Linear):
        def __init__(self, width: int, block: int = 0, **kwargs: Any) -> None:
            super().__init__(width, 3, **kwargs)
            self.block = block

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1 + (self.block == 2))

    variants = {"stock": Scaled, "mine": partial(Scaled, block=1), "wrong": partial(Scaled, block=2)}
    found = judged(layer((randn("batch", "width"),), variants, build=lambda module, size: module(size["width"])))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")
    without_build = judged(layer((randn("batch", "width"),), {"stock": partial(nn.Softmax, -1), "mine": partial(nn.Softmax, dim=1)}))
    assert without_build == {"stock": "", "mine": ""}


# --- other layouts of the weights -----------------------------------------------------------------------------------------------------


class Projections(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q(x), self.k(x), self.v(x)


class Fused(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Any:
        return self.qkv(x).chunk(3, -1)


class FusedWrongly(Fused):
    """Right in forward; the gradients of k and v are exchanged."""

    def forward(self, x: Tensor) -> Any:
        q, k, v = super().forward(x)
        return q, k.detach() + v - v.detach(), v.detach() + k - k.detach()


def fuse(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"qkv.{kind}": torch.cat([state[f"{part}.{kind}"] for part in "qkv"]) for kind in ("weight", "bias")}


def projections(**variants: Variant) -> Layer:
    stock = {"stock": Variant(Projections)}
    return layer((randn("batch", "width"),), stock | variants, build=lambda module, size: module(size["width"]))


def test_fused_projections() -> None:
    given = projections(mine=Variant(Fused, state=fuse), wrong=Variant(FusedWrongly, state=fuse))
    found = judged(given)
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("input 0 grad: off by")


class Kept(nn.Module):
    """Transposed weights, names of its own, and a running mean and a count that a call changes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, width))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight.T
        with torch.no_grad():
            self.mean.lerp_(y.mean(0), 0.1)
            self.count += 1
        return y


class KeptOtherwise(nn.Module):
    weight_by = 0.1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(width, 3))
        self.register_buffer("m", torch.zeros(1, 3))
        self.register_buffer("n", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.w
        with torch.no_grad():
            self.m.lerp_(y.mean(0, keepdim=True), self.weight_by)
            self.n += 1
        return y


class KeptWrongly(KeptOtherwise):
    weight_by = 0.2


def otherwise(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"w": state["weight"].T, "m": state["mean"][None], "n": state["count"]}


def test_transposed_weights_and_what_a_call_changes() -> None:
    variants = {
        "stock": Variant(Kept),
        "mine": Variant(KeptOtherwise, state=otherwise),
        "wrong": Variant(KeptWrongly, state=otherwise),
    }
    found = judged(layer((randn("batch", "width"),), variants, build=lambda module, size: module(size["width"])))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("mean after: off by")


class Renamed(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(out, width))
        self.bias = nn.Parameter(torch.randn(out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w, self.bias)


def test_names_alone_and_scaled_weights() -> None:
    class Halved(Renamed):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, 2 * self.w, self.bias)

    variants = {
        "stock": Variant(nn.Linear),
        "mine": Variant(Renamed, state={"weight": "w"}),
        "halved": Variant(Halved, state=lambda state: {"w": state["weight"] / 2, "bias": state["bias"]}),
        "wrong": Variant(Halved, state={"weight": "w"}),
    }
    found = judged(layer((randn("batch", "width"),), variants, build=lambda module, size: module(size["width"], 3)))
    assert found["stock"] == found["mine"] == found["halved"] == "" and found["wrong"].startswith("output: off by")


STATES = [
    ({"wieght": "w"}, "state names 'wieght', which 'stock' lacks; it has weight, bias"),
    ({}, "state makes no 'w', which its module has; return it too"),
    (
        lambda state: {"w": state["weight"].T, "bias": state["bias"]},
        "state makes 'w' of shape (4, 3), its module has (3, 4); give it that shape",
    ),
    (lambda state: {"w": state["weight"], **state}, "state makes 'weight', which its module lacks; it has w, bias"),
    (lambda state: {"w": state["weight"], "bias": state["bias"] * 0}, "state loses 3 of the 3 numbers of 'bias'; use all of them"),
    (
        lambda state: {"w": state["weight"][:1].expand(3, 4), "bias": state["bias"]},
        "state loses 8 of the 12 numbers of 'weight'; use all of them",
    ),
    (lambda state: {"w": state["w"]}, "state raised KeyError: 'w'; it is given a dict with weight, bias"),
    (lambda state: [state["weight"]], "state returned list; return a dict from the variant's names to tensors"),
    (
        lambda state: {"w": state["weight"].detach(), "bias": state["bias"].detach()},
        "no gradient flows through state; use operations that autograd knows, as torch.cat",
    ),
]


@pytest.mark.parametrize(("state", "said"), STATES)
def test_a_state_that_loses_something_is_refused(state: Any, said: str) -> None:
    variants = {"stock": Variant(nn.Linear), "mine": Variant(Renamed, state=state)}
    found = judged(layer((randn("batch", "width"),), variants, build=lambda module, size: module(size["width"], 3)))
    assert found["mine"].startswith(f"variant 'mine': {said}"), found


# --- modules ----------------------------------------------------------------------------------------------------------------------------


class LazyMLP(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.LazyLinear(3), nn.LazyBatchNorm1d())


class LazyWrongly(LazyMLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3


def test_lazy_modules() -> None:
    made = make.build(layer((randn("batch", "width"),), {"stock": LazyMLP}), Variant(LazyMLP), SIZE)
    assert all(part.training for part in made.modules()) and made.state_dict()["1.running_mean"].tolist() == [0.0] * 3
    found = judged(layer((randn("batch", "width"),), {"stock": LazyMLP, "mine": LazyMLP, "wrong": LazyWrongly}))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


def frozen(width: int) -> nn.Module:
    """Made with a part in eval(), as where a network is tuned."""
    return nn.Sequential(nn.Linear(width, 3), nn.BatchNorm1d(3).eval())


def thawed(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 3), nn.BatchNorm1d(3))


def test_modules_of_which_a_part_is_in_eval_as_made() -> None:
    build: Any = lambda module, size: module(size["width"])  # noqa: E731
    found = judged(layer((randn("batch", "width"),), {"stock": frozen, "mine": frozen, "wrong": thawed}, build=build))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")
    whole = {"stock": lambda width: thawed(width).eval(), "mine": thawed}  # the reference is in eval(), and so are the others
    assert judged(layer((randn("batch", "width"),), whole, build=build)) == {"stock": "", "mine": ""}


class Tied(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.there, self.back = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.back.weight = self.there.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.there(x).tanh())


class Untied(Tied):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.back.weight = nn.Parameter(self.there.weight.detach().clone())


def test_tied_weights() -> None:
    found = judged(
        layer((randn("batch", "width"),), {"stock": Tied, "mine": Tied, "wrong": Untied}, build=lambda module, size: module(size["width"]))
    )
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("there.weight grad: off by")


def normed(width: int) -> nn.Module:
    return weight_norm(nn.Linear(width, 3))


def test_parametrizations() -> None:
    class Wrong(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.parametrizations.weight.original1, self.bias)  # type: ignore[union-attr, attr-defined]

    variants = {"stock": normed, "mine": normed, "wrong": lambda width: weight_norm(Wrong(width, 3))}
    found = judged(layer((randn("batch", "width"),), variants, build=lambda module, size: module(size["width"])))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


class Shuffle(nn.Module):
    """A buffer of whole numbers that is drawn as it is made."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(width))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order]


class ShuffleBack(Shuffle):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order.argsort()]


def test_buffers_of_whole_numbers() -> None:
    sweep = {"batch": (6,), "width": (64,)}
    variants = {"stock": Variant(Shuffle), "mine": Variant(Shuffle), "wrong": Variant(ShuffleBack)}
    given = Layer("shuffle", sweep, (randn("batch", "width"),), lambda module, size: module(size["width"]), variants)
    proofs = prove(given, tuple(variants), "bfloat16", "cpu", lambda stage, variant: None)
    assert {name for name, proof in proofs.items() if isinstance(proof, Failed)} == {"wrong"}


# --- outputs ----------------------------------------------------------------------------------------------------------------------------


def test_none_and_nested_containers() -> None:
    def stock(x: Tensor) -> Any:
        return {"y": (x.exp(), None), "more": [{"count": x.detach().sum(0)}]}

    def wrong(x: Tensor) -> Any:
        return {"y": (x.exp(), x), "more": [{"count": x.detach().sum(0)}]}

    def less(x: Tensor) -> Any:
        return {"y": (x.exp(), None), "more": [{}]}

    found = judged(layer((randn("batch", "width"),), {"stock": stock, "mine": stock, "wrong": wrong, "less": less}))
    assert found["stock"] == found["mine"] == "" and "2" in found["wrong"] and found["less"] != ""


class Result(NamedTuple):
    values: Tensor
    places: Tensor


def test_outputs_of_which_some_need_no_gradient() -> None:
    def largest(x: Tensor) -> Result:
        return Result(*x.topk(2))

    def shifted(x: Tensor) -> Result:
        values, places = x.topk(2)
        return Result(values, places.roll(1, -1))

    found = judged(layer((randn("batch", "width"),), {"stock": largest, "mine": largest, "wrong": shifted}))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output[1]: off by")


def test_truth_values() -> None:
    found = judged(layer((randn("batch", "width"),), {"stock": lambda x: x > 0, "mine": lambda x: x.gt(0), "wrong": lambda x: x > 1}))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


def test_complex_outputs_and_weights() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(x) * self.weight

    class Wrong(Spectral):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(x) * self.weight.conj()

    found = judged(layer((randn("batch", "width"),), {"stock": Spectral, "mine": Spectral, "wrong": Wrong}))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


def test_sparse_outputs_and_gradients_are_compared_densely() -> None:
    build: Any = lambda module, size: module(10, size["width"])  # noqa: E731
    stock = partial(nn.Embedding, sparse=True)

    class Wrong(nn.Embedding):
        def forward(self, index: Tensor) -> Tensor:
            return F.embedding(index, 2 * self.weight) / 1.5

    found = judged(layer((integers("batch", below=10),), {"stock": stock, "mine": nn.Embedding, "wrong": Wrong}, build=build))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")
    sparse = {"stock": lambda x: x.to_sparse(), "mine": lambda x: (x * 1).to_sparse(), "wrong": lambda x: (x * 1.01).to_sparse()}
    found = judged(layer((randn("batch", "width"),), sparse))
    assert found["stock"] == found["mine"] == "" and found["wrong"].startswith("output: off by")


def test_a_nested_tensor_is_refused() -> None:
    def nested(x: Tensor) -> Tensor:
        return torch.nested.as_nested_tensor(list(x.unbind()), layout=torch.jagged)

    said = "output: a NestedTensor cannot be compared; return the padded tensor, or a list of tensors"
    assert said in judged(layer((randn("batch", "width"),), {"stock": nested}))["stock"]


# --- what is declared wrongly -------------------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"inputs": (mask("batch", keep=0),)},
        'inputs[0] keeps (0,); write a share above 0 and up to 1, as mask("batch", "tokens", keep=0.8)',
    ),
    ({"inputs": (additive_mask(),)}, 'inputs[0] has no dims; write those of the mask, as additive_mask("batch", "tokens")'),
    (
        {"inputs": (uniform("batch", low=1, high=1),)},
        'inputs[0] has low and high (1, 1); write two numbers, as uniform("batch", low=-1.0, high=1.0)',
    ),
    ({"inputs": (probabilities(),)}, 'inputs[0] has no dims; the last is that of the classes: write probabilities("batch", "classes")'),
    (
        {"inputs": (one_hot("batch", classes=0),)},
        'inputs[0] has classes=0; write a positive whole number or a name from the sweep, as one_hot("batch", classes=10)',
    ),
    ({"inputs": ([randn("batch"), {"a": object}],)}, "inputs[0][1]['a'] is <class 'object'>; say how it is drawn"),
    ({"inputs": ("batch",)}, 'inputs[0] is \'batch\'; say how it is drawn, as randn("batch", "width")'),
    ({"inputs": (randn("batch", requires_grad=1),)}, "inputs[0] has requires_grad=1; write True or False"),  # type: ignore[arg-type]
    (
        {"inputs": (draw(lambda size: None),)},  # type: ignore[arg-type, misc]
        "inputs[0] is drawn by a function that takes (size); write a function of the size and a generator, as  draw(lambda size,",
    ),
    ({"inputs": (draw(None),)}, "inputs[0] is drawn by None; write a function of the size and a generator"),  # type: ignore[arg-type]
    ({"kwargs": ("mask",)}, "kwargs is ('mask',); write a dict from keyword to how it is drawn, as"),
    ({"kwargs": {"is": 1}}, "kwargs is {'is': 1}; write a dict from keyword to how it is drawn, as"),
    ({"kwargs": {"mask": torch.ones(3)}}, "kwargs['mask'] is a Tensor of shape (3,); say how it is drawn"),
    ({"parameters": [randn(3)]}, "parameters is [randn(3)]; write a dict from name to how it is drawn, as"),
    ({"parameters": {"w": integers(3, below=2)}}, "parameters['w'] is integers(3, below=2); write a name and what it is drawn as"),
    (
        {"variants": {"stock": Variant(nn.ReLU, state="w")}},  # type: ignore[arg-type]
        "variant 'stock' has state='w'; write a dict of names, as {'weight': 'w'}, or  lambda state: {...}",
    ),
    ({"variants": {"stock": Variant(nn.ReLU, state=7)}}, "variant 'stock' has state=7; write"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_a_wrong_declaration_is_told_in_one_sentence(changes: dict[str, Any], said: str) -> None:
    parts = {"name": "mine", "sweep": {"batch": (1,)}, "inputs": (randn("batch"),), "variants": {"stock": Variant(nn.ReLU)}}
    with pytest.raises(Mistake) as caught:
        Layer(**(parts | changes))  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"layer 'mine': {said}")


def test_what_is_found_as_it_is_made() -> None:
    inputs = (randn("batch", "width"),)
    with pytest.raises(Mistake, match="draw: count is 0; write how many tensors the function returns"):
        draw(lambda size, generator: torch.ones(2), 0)
    wrong = draw(lambda size, generator: [1.0])  # type: ignore[arg-type, return-value]
    assert "draw: its function returned [1.0]; return a tensor" in judged(layer((wrong,), {"stock": nn.ReLU}))["stock"]
    first, second = draw(lambda size, generator: (torch.ones(2),), 2)  # type: ignore[misc]
    assert "return a tuple of 2 tensors" in judged(layer((first, second), {"stock": torch.add}))["stock"]
    factory = layer(inputs, {"stock": lambda x: nn.ReLU()})
    assert "<lambda> returned a ReLU; to have a function make modules, give build" in judged(factory)["stock"]
    assert "made dict, not an nn.Module; give a module's class" in judged(layer(inputs, {"stock": dict}))["stock"]


# --- chance -----------------------------------------------------------------------------------------------------------------------------


def dropped(x: Tensor) -> Tensor:
    return F.dropout(x, 0.5)


def dropped_by_hand(x: Tensor) -> Tensor:
    return x * (torch.empty_like(x).bernoulli_(0.5) * 2)


def dropped_otherwise(x: Tensor) -> Tensor:
    """By other numbers of the generator: another draw of the same law."""
    return x * (torch.rand(x.shape, dtype=torch.float64) >= 0.5).to(x.dtype) * 2


def dropped_by_rows(x: Tensor) -> Tensor:
    return x * (torch.rand(x.shape[0], 1) < 0.5).to(x.dtype) * 2


def dropped_by_columns(x: Tensor) -> Tensor:
    return x * (torch.rand(x.shape[1]) < 0.5).to(x.dtype) * 2


def dropped_always_the_same(x: Tensor) -> Tensor:
    return x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(1234)) < 0.5).to(x.dtype) * 2


def dropped_unscaled(x: Tensor) -> Tensor:
    return x * (torch.rand(x.shape) < 0.5).to(x.dtype)


def dropped_less(x: Tensor) -> Tensor:
    return x * (torch.rand(x.shape) < 0.6).to(x.dtype) / 0.6


class OtherBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return dropped(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return dropped(grad)  # another mask than that of forward


class InTwos:
    """Every mask is used in two calls."""

    def __init__(self) -> None:
        self.__name__ = "in_twos"
        self.kept: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        used, self.kept = self.kept, None
        if used is None or used.shape != x.shape:
            used = self.kept = torch.rand(x.shape) < 0.5
        return x * used.to(x.dtype) * 2


def turned(x: Tensor) -> Tensor:
    return dropped(x.roll(1, -1))


WIDE = {"batch": (32,), "width": (64,)}


def random_layer(law: Any, sweep: dict[str, tuple[int, ...]] = WIDE, **variants: Any) -> dict[str, str]:
    declared = {name: Variant(each) for name, each in ({"stock": dropped} | variants).items()}
    given = Layer(
        "mine",
        sweep,
        (randn("batch", "width"),),
        variants=declared,
        law=law,
        verify_at=({name: value for name, (value,) in sweep.items()},),
    )
    proofs = prove(given, tuple(declared), "float32", "cpu", lambda stage, variant: None)
    return {name: proof.reason if isinstance(proof, Failed) else "" for name, proof in proofs.items()}


def test_one_seed_and_the_same_numbers() -> None:
    found = random_layer("seed", mine=dropped_by_hand, other=dropped_otherwise, wrong=dropped_unscaled)
    assert found["stock"] == found["mine"] == ""
    assert found["other"].startswith("output: off by") and found["wrong"].startswith("output: off by")


MOMENTS: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (dropped_by_rows, "output: neighbours along dimension 1"),
    (dropped_by_columns, "output: neighbours along dimension 0"),
    (dropped_always_the_same, "output: draws that are all the same"),
    (dropped_unscaled, "output: mean square"),
    (dropped_less, "output: mean square"),
    (OtherBackward.apply, "output and input 0 grad"),
    (turned, "sum under random signs"),
    (lambda x: x * 1, "output: draws that are all the same"),
    (InTwos(), "output and that of the next call"),
    (lambda x: dropped(x)[:, :1], "output: its shape is (32, 1), the reference's (32, 64)"),
]


def test_other_numbers_of_the_same_moments() -> None:
    right = {"hand": dropped_by_hand, "other": dropped_otherwise}
    found = random_layer("moments", **right, **{f"wrong_{place}": wrong for place, (wrong, _) in enumerate(MOMENTS)})
    assert [found[name] for name in ("stock", *right)] == ["", "", ""]
    reasons = [found[f"wrong_{place}"] for place in range(len(MOMENTS))]
    assert [reason for reason, (_, said) in zip(reasons, MOMENTS, strict=True) if said not in reason] == []


@pytest.mark.parametrize("seed", range(5))
def test_moments_reject_no_right_one_of_few_numbers(seed: int) -> None:
    sweep = {"batch": (2 + seed,), "width": (3,)}
    assert random_layer("moments", sweep, mine=dropped_otherwise) == {"stock": "", "mine": ""}


def test_a_check_by_moments_is_said_to_be_weak_and_a_cell_measures_it() -> None:
    given = layer((randn("batch", "width"),), {"stock": dropped, "mine": dropped_otherwise}, law="moments")
    cell = Cell(given, Point("mine", SIZE, "float32", "cpu", ""), ("stock", "mine"), {}, lambda stage, variant: None)
    assert cell.out == {}
    assert cell.accuracy["mine"].warnings == ('only moments over 24 draws are compared, as law="moments" says: small errors would pass',)
