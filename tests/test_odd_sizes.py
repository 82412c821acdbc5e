"""Where a layer names no verify_at: each dimension by itself at odd sizes, as far as the reference takes them."""

from planted import Stock, layer, outcome, reason
from torch import Tensor, nn

from layerbench.bench import randn
from layerbench.bench.data.record import Failed
from layerbench.bench.data.uses import Uses
from layerbench.bench.equivalence import prove


class NoTail(Stock):
    """A kernel that reads whole blocks of 64."""

    def forward(self, x: Tensor) -> Tensor:
        whole = x.shape[-1] // 64 * 64
        return x[..., :whole] @ self.weight[:, :whole].T + self.bias


class OneBlockOf(Stock):
    """Right up to a width, and no further: what lies beyond one block is left out."""

    width = 2048

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.width] @ self.weight[:, : self.width].T + self.bias


class OnlyPowersOfTwo(Stock):
    def forward(self, x: Tensor) -> Tensor:
        odd = x.shape[-1] & (x.shape[-1] - 1)
        return super().forward(x) * (0.9 if odd else 1.0)


class LosesSingles(Stock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (0.9 if x.shape[-1] == 1 else 1.0)


def unverified(other: type[nn.Module], **more):
    return layer(Stock, other, verify=(), sweep={"batch": (4,), "width": (64, 2048)}, **more)


def test_a_kernel_without_a_tail_fails_where_only_round_sizes_are_swept() -> None:
    assert "width=" in reason(unverified(NoTail))


def test_a_second_block_is_reached() -> None:
    assert reason(unverified(OneBlockOf)).endswith("(at batch=3 width=2049)")


def test_odd_sizes_and_1_are_tried_on_every_dimension() -> None:
    assert "width=7" in reason(unverified(OnlyPowersOfTwo))
    assert reason(unverified(LosesSingles)).endswith("(at batch=3 width=1)")
    around = {"batch": 3, "width": 8}
    found = prove.odd_sizes(unverified(NoTail), around)
    assert {size["batch"] for dimension, size in found if dimension == "batch"} == set(prove.ODD)
    assert {size["width"] for dimension, size in found if dimension == "width"} == set(prove.ODD)


def test_named_sizes_are_enough() -> None:
    named = layer(Stock, NoTail, verify=({"batch": 3, "width": 128},), sweep={"batch": (4,), "width": (64, 2048)})
    found = prove.prove(named, ("wrong",), "float32", "cpu", lambda *_: None)["wrong"]
    assert not isinstance(found, Failed) or "width=128" not in found.reason
    assert prove.small_sizes(named) == []


class Heads(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (4, -1)).softmax(-1).flatten(-2)


def test_what_the_reference_refuses_is_left_out_and_said() -> None:
    given = layer(
        Heads, Heads, randn("batch", "width"), build=lambda module, size: module(), verify=(), sweep={"batch": (4,), "width": (64,)}
    )
    found = prove.prove(given, ("stock",), "float32", "cpu", lambda *_: None)["stock"]
    assert not isinstance(found, Failed) and found.uses
    refused = next(name for name in found.uses.refused if name.startswith("width="))
    assert refused == "width=1, 7, 31, 33, 127, 129, 1023, 2049, 4097, 8193"


def test_a_right_layer_of_another_formula_passes_at_sizes_of_one() -> None:
    """The gradient of a softmax over one number is zero, made of numbers that cancel."""

    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            e = x.exp()
            return e / e.sum(-1, keepdim=True)

    class Softmax(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(-1)

    for dtype in ("float32", "bfloat16"):
        given = layer(Softmax, Plain, build=lambda module, size: module(), verify=(), sweep={"batch": (4,), "width": (64,)})
        assert isinstance(outcome(given, dtype), Uses)


def test_right_norms_pass_over_one_number() -> None:
    """Their gradient there is a difference of numbers that are all but equal, over what may be near 0."""

    class RMSNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.rms_norm(x, x.shape[-1:], eps=1e-5)

    class PlainRMSNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()

    class Direction(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.cosine_similarity(x, x.flip(0), dim=-1)

    class PlainDirection(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y, squares = x.flip(0), x.square().sum(-1)
            return (x * y).sum(-1) * squares.rsqrt() * y.square().sum(-1).rsqrt()

    for dtype in ("float32", "bfloat16", "float16"):
        for stock, plain in ((RMSNorm, PlainRMSNorm), (Direction, PlainDirection)):
            given = layer(stock, plain, build=lambda module, size: module(), verify=(), sweep={"batch": (4,), "width": (64,)})
            assert isinstance(outcome(given, dtype), Uses), (stock, dtype)


def test_time_for_them_is_bounded_and_what_is_left_out_is_said(monkeypatch) -> None:
    monkeypatch.setattr(prove, "ODD_SECONDS", 0.0)
    found = prove.prove(unverified(Stock), ("stock",), "float32", "cpu", lambda *_: None)["stock"]
    assert not isinstance(found, Failed) and found.uses
    left_out = found.uses.refused["sizes not tried"]
    assert left_out.endswith("more, for lack of time") and int(left_out.split()[0]) >= 15
