"""Whatever may stand wrongly in a field of a declaration: one sentence that names the field and says what to write."""

from pathlib import Path
from typing import Any

import inprocess
import pytest
import torch
from torch import nn

from layerbench.bench import Draw, Layer, Variant, integers, law, randn
from layerbench.bench.declare.mistake import Mistake

STOCK = Variant(nn.ReLU)
RIGHT: dict[str, Any] = {
    "name": "relu",
    "sweep": {"batch": (1, 8)},
    "inputs": (randn("batch", 8),),
    "build": lambda module, size: module(),
    "variants": {"stock": STOCK},
}

SIZES = "write a tuple of positive whole numbers, as (1, 8, 64)"
DRAWN = 'say how it is drawn, as randn("batch", "width")'
DIMS = 'write names from the sweep or positive whole numbers, as randn("batch", 28)'
KINDS = "choose from normal, positive, integers, uniform, mask, additive_mask, one_hot, lengths, probabilities, complex, drawn"
BELOW = 'write a positive whole number or a name from the sweep, as integers("batch", below=10)'
BUILD = "write a function of the variant's module and the size, as  lambda module, size: module(...)"
EITHER = "write True or False"
ABSENT = 'write a dict from variant to the reason, as {"triton": "the library\'s own kernel is called"}'
NAMED = "write lower-case letters, digits and underscores, a letter first and a letter or a digit last"
VERIFY_AT = "write a tuple of dicts, as ({'batch': 3},)"


def two(x: int, *, y: int) -> None: ...


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("not today")


# field, what stands there, what is said after "layer 'relu': "
FIELDS: list[tuple[str, Any, str]] = [
    ("sweep", (1, 8), 'sweep is (1, 8); write a dict from dimension to sizes, as {"batch": (1, 8, 64)}'),
    ("sweep", {"batch": range(1, 3)}, f"sweep['batch'] is range(1, 3); {SIZES}"),
    ("sweep", {"batch": torch.tensor([1, 8])}, f"sweep['batch'] is a Tensor of shape (2,); {SIZES}"),
    ("sweep", {"batch": (8, 1, 8)}, "sweep['batch'] is (8, 1, 8); write every size once"),
    ("gpu_sweep", (1, 8), 'gpu_sweep is (1, 8); write a dict from dimension to sizes, as {"batch": (1, 8, 64)}'),
    ("gpu_sweep", None, 'gpu_sweep is None; write a dict from dimension to sizes, as {"batch": (1, 8, 64)}'),
    ("gpu_sweep", {"batch": 8}, f"gpu_sweep['batch'] is 8; {SIZES}"),
    ("gpu_sweep", {"batch": ()}, f"gpu_sweep['batch'] is (); {SIZES}"),
    ("gpu_sweep", {"batch": (64, 64)}, "gpu_sweep['batch'] is (64, 64); write every size once"),
    ("verify_at", {"batch": 3}, f"verify_at is {{'batch': 3}}; {VERIFY_AT}"),
    ("verify_at", (3, 5), f"verify_at is (3, 5); {VERIFY_AT}"),
    ("verify_at", ({"batch": True},), "verify_at has batch=True; write a whole number"),
    ("verify_at", ({"batch": torch.ones(3)},), "verify_at has batch=a Tensor of shape (3,); write a whole number"),
    ("verify_at", ({"batch": 0.0},), "verify_at has batch=0.0; write a whole number"),
    ("inputs", torch.ones(400, 3), 'inputs is a Tensor of shape (400, 3); write a tuple, as (randn("batch", "width"),)'),
    ("inputs", (randn("batch"), torch.ones(400, 3)), f"inputs[1] is a Tensor of shape (400, 3); {DRAWN}"),
    ("inputs", ("batch",), f"inputs[0] is 'batch'; {DRAWN}"),
    ("inputs", ([torch.ones(400, 3)] * 3,), f"inputs[0][0] is a Tensor of shape (400, 3); {DRAWN}"),
    ("inputs", ({"a": [1.0, {*range(99)}]},), f"inputs[0]['a'][1] is a set: {str({*range(99)})[:80]}...; {DRAWN}"),
    ("inputs", {"x": torch.ones(4)}, 'inputs is a dict of a Tensor of shape (4,); write a tuple, as (randn("batch", "width"),)'),
    ("inputs", (torch.Tensor,), f"inputs[0] is {torch.Tensor!r}; {DRAWN}"),
    ("inputs", (Unprintable(),), f"inputs[0] is a Unprintable; {DRAWN}"),
    ("inputs", (randn,), f"inputs[0] is the function randn; {DRAWN}"),
    ("inputs", (randn("batch", 1.5),), f"inputs[0] has dims ('batch', 1.5); {DIMS}"),
    ("inputs", (randn("batch", -1),), f"inputs[0] has dims ('batch', -1); {DIMS}"),
    ("inputs", (randn("batch", True),), f"inputs[0] has dims ('batch', True); {DIMS}"),
    ("inputs", (randn(("batch", 8)),), f"inputs[0] has dims (('batch', 8),); {DIMS}"),
    ("inputs", (Draw("batch", "normal"),), f"inputs[0] has dims 'batch'; {DIMS}"),
    ("inputs", (Draw(("batch",), "bool"),), f"inputs[0] has kind 'bool'; {KINDS}"),
    ("inputs", (Draw(("batch",), ["normal"]),), f"inputs[0] has kind ['normal']; {KINDS}"),
    ("inputs", (Draw(("batch",), "normal", 4),), "inputs[0] is normal and has below=4; only integers have it: remove it"),
    ("inputs", (Draw(("batch",), "integers"),), f"inputs[0] has below=None; {BELOW}"),
    ("inputs", (integers("batch", below=0),), f"inputs[0] has below=0; {BELOW}"),
    ("inputs", (integers("batch", below=2.5),), f"inputs[0] has below=2.5; {BELOW}"),
    ("build", "nn.ReLU", f"build is 'nn.ReLU'; {BUILD}"),
    ("build", nn.ReLU(), f"build is a ReLU that is made already; {BUILD}"),
    ("build", lambda m: m(), f"build takes (m); {BUILD}"),
    ("build", lambda: nn.ReLU(), f"build takes (); {BUILD}"),
    ("build", two, f"build takes (x: int, *, y: int) -> None; {BUILD}"),
    (
        "variants",
        [STOCK],
        f'variants is a list: {str([STOCK])[:80]}...; write a dict from name to Variant, as {{"stock": Variant(nn.Linear)}}',
    ),
    ("variants", {"stock": nn.ReLU}, f"variant 'stock' is {nn.ReLU!r}; write Variant(YourModule)"),
    ("variants", {"stock": nn.ReLU()}, "variant 'stock' is a ReLU that is made already; write Variant(YourModule)"),
    (
        "variants",
        {"stock": Variant(nn.ReLU())},  # type: ignore[arg-type]
        "variant 'stock' is a ReLU that is made already; give the class, as Variant(ReLU), or a function that makes one",
    ),
    (
        "variants",
        {"stock": Variant(torch.compile(nn.ReLU()))},  # type: ignore[arg-type]
        "variant 'stock' is compiled already; give the class, as Variant(ReLU, compile=True)",
    ),
    (
        "variants",
        {"stock": Variant("ReLU")},  # type: ignore[arg-type]
        "variant 'stock' has module 'ReLU'; give a class, as Variant(nn.Linear), or a function that returns a module",
    ),
    ("variants", {"stock": Variant(nn.ReLU, "yes")}, f"variant 'stock' has compile='yes'; {EITHER}"),  # type: ignore[arg-type]
    ("variants", {"stock": Variant(nn.ReLU, 1)}, f"variant 'stock' has compile=1; {EITHER}"),  # type: ignore[arg-type]
    ("variants", {"stock": Variant(nn.ReLU, False, "cuda")}, "variant 'stock' has devices='cuda'; write ANY, CPU or GPU"),  # type: ignore[arg-type]
    ("variants", {"stock": Variant(nn.ReLU, False, None)}, "variant 'stock' has devices=None; write ANY, CPU or GPU"),  # type: ignore[arg-type]
    ("absent", ["triton"], f"absent is ['triton']; {ABSENT}"),
    ("absent", {"triton": None}, "absent['triton'] is None; write a sentence that says why the layer does not have it"),
    ("absent", {"triton": " "}, "absent['triton'] is ' '; write a sentence that says why the layer does not have it"),
    ("law", lambda seen: {}, "law takes (seen); write a function of two observations, as  lambda seen, again: {...}"),
    ("law", 0.1, 'law is 0.1; write "seed", "moments" or a law, as law.dropout(0.1)'),
    ("law", "mean", 'law is \'mean\'; write "seed", "moments" or a law, as law.dropout(0.1)'),
    ("law", law.dropout, "law is the function dropout; call it, as law=law.dropout(0.1)"),
    ("init", "zeros", "init is 'zeros'; choose from default, normal, xavier, kaiming"),
    ("init", nn.init.zeros_, "init is the function zeros_; choose from default, normal, xavier, kaiming"),
    ("calls", "4", "calls is '4'; write how many calls are made before state is compared, as 4"),
    ("kwargs", ["mask"], 'kwargs is [\'mask\']; write a dict from keyword to how it is drawn, as {"mask": mask("batch", "tokens")}'),
    ("parameters", randn(3), 'parameters is randn(3); write a dict from name to how it is drawn, as {"weight": randn("out", "in")}'),
    ("on_request", "yes", f"on_request is 'yes'; {EITHER}"),
    ("batch_invariant", 1, f"batch_invariant is 1; {EITHER}"),
]


@pytest.mark.parametrize(("field", "value", "said"), FIELDS)
def test_a_field_that_holds_something_else(field: str, value: Any, said: str) -> None:
    with pytest.raises(Mistake) as caught:
        Layer(**(RIGHT | {field: value}))
    assert str(caught.value) == f"layer 'relu': {said}"


def test_every_field_is_in_the_table() -> None:
    assert {field for field, *_ in FIELDS} | {"name"} == set(Layer.__dataclass_fields__)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "not", "layer name 'not': -k has its own meaning for it; choose another"),
        ("variants", {"or": STOCK}, "variant name 'or': -k has its own meaning for it; choose another"),
        ("name", torch.ones(3), f"layer name a Tensor of shape (3,): {NAMED}"),
        ("absent", {3: "no"}, f"absent variant name 3: {NAMED}"),
        ("verify_at", ({3: 3},), "verify_at dimension 3 is not in sweep; it has batch"),
        ("gpu_sweep", {"widht": (3,)}, "gpu_sweep dimension 'widht' is not in sweep; it has batch"),
    ],
)
def test_names_that_are_none(field: str, value: Any, said: str) -> None:
    with pytest.raises(Mistake) as caught:
        Layer(**(RIGHT | {field: value}))
    assert str(caught.value) == said


def test_an_empty_range_to_draw_below() -> None:
    with pytest.raises(Mistake) as caught:
        Layer(**(RIGHT | {"inputs": (randn("batch"), integers(3, below="batch")), "verify_at": ({"batch": 3}, {"batch": 0})}))
    assert str(caught.value) == "layer 'relu': verify_at has batch=0, and inputs[1] is drawn below it; write at least 1"


@pytest.mark.parametrize(
    "build",
    [
        lambda module, size: module(),
        lambda *both: both[0](),
        lambda m, s, more=1: m(),
        type("Build", (), {"__call__": lambda self, m, s: m()})(),
    ],
)
def test_what_can_be_called_with_module_and_size_is_a_build(build: Any) -> None:
    assert Layer(**(RIGHT | {"build": build})).build is build


@pytest.mark.parametrize("probability", [1, 1.5, -0.1, "0.1", None, True, float("nan")])
def test_a_law_of_dropout_with_what_is_no_probability(probability: Any) -> None:
    with pytest.raises(Mistake) as caught:
        law.dropout(probability)
    assert (
        str(caught.value) == f"law.dropout: probability is {probability!r}; write the share that is dropped, at least 0 and below 1, as 0.1"
    )


HEAD = """
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

def build(module, size: dict) -> nn.Module:
    return module()

"""
LAYER = 'relu = Layer("relu", {"batch": (2,)}, (randn("batch", 8),), build, {"stock": Variant(nn.ReLU), "again": Variant(nn.ReLU)})\n'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "Variant(nn.ReLU)}",
            "Variant(nn.ReLU, compile='yes')}",
            "relu.py: layer 'relu': variant 'again' has compile='yes'; write True or False",
        ),
        ('randn("batch", 8)', "torch.ones(2, 800)", f"relu.py: layer 'relu': inputs[0] is a Tensor of shape (2, 800); {DRAWN}"),
        (
            "relu = Layer",
            "ALL = [Layer",
            "relu.py: ALL holds layer 'relu', which has no name at module level; write  relu = Layer(...)",
        ),
        (
            "relu = Layer",
            "Layer",
            "relu.py, line 9: nothing keeps layer 'relu', which has no name at module level; write  relu = Layer(...)",
        ),
    ],
)
def test_it_is_one_line_of_the_command_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    text = HEAD + LAYER.replace(old, new)
    (tmp_path / "relu.py").write_text(text.rstrip() + "]\n" if "ALL" in new else text)
    inprocess.install(monkeypatch, tmp_path)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "relu.py") == 2
    assert capsys.readouterr().err == f"layerbench: {said}\n"


def test_a_size_that_is_not_in_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = HEAD.replace("return module()", "return module() if size['widht'] else None") + LAYER
    (tmp_path / "relu.py").write_text(text)
    inprocess.install(monkeypatch, tmp_path)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "relu.py", "--step", "forward") == 2
    assert "build asks for size['widht'], which is not in sweep; it has batch" in capsys.readouterr().out
