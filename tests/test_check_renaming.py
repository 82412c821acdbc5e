"""Layers that were renamed: found by their source, and only where both compute the same.  In this process; one case with workers."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from fixture_run import environment
from test_check_cases import SILU, SLOW
from toy_repository import write

from layerbench.bench.check import examining, renaming
from layerbench.bench.check.executors import Fault
from layerbench.bench.check.mounting import Opened
from layerbench.bench.check.renaming import Renamed
from layerbench.bench.check.side.session import Sides
from layerbench.bench.data.record import LayerFacts, Point, VariantFacts
from layerbench.bench.plan.planning import Selection
from layerbench.bench.process.check_messages import DescribedSides, DescribeSides, Sketch, Sketched, SketchReference

RELU = SILU.replace("SiLU", "ReLU").replace('"silu"', '"relu"').replace("silu = ", "relu = ").replace("x * x.sigmoid()", "x * (x > 0)")
LINEAR = '''"""A layer of another kind."""
from torch import nn
from layerbench.bench import Layer, Variant, randn

def build(module, size):
    return module(size["width"], size["out"], bias=False)

linear = Layer("linear", {"rows": (8, 16), "width": (64,), "out": (64,)}, (randn("rows", "width"),), build, {"stock": Variant(nn.Linear)})
'''


def named(text: str, name: str) -> str:
    return text.replace('"silu"', f'"{name}"').replace("silu = ", f"{name} = ")


def found(folder: Path, head: str, base: str) -> list[Renamed]:
    sides = [renaming.declared([write(folder / side, {"a.py": text}) / "a.py"]) for side, text in (("head", head), ("base", base))]
    return renaming.pairs(*sides)


@pytest.mark.parametrize(
    ("head", "percent"),
    [
        (named(SILU, "swish"), 100),
        (named(SILU.replace('"""x times its sigmoid."""', '"""Swish."""  # as it is called elsewhere'), "swish"), 100),
        (named(SILU.replace("Plain", "Swish"), "swish"), 98),
        (named(SILU.replace("(32,)", "(8, 64)"), "swish"), 98),
        (named(SLOW, "swish"), 88),
        (LINEAR, 0),
        (SILU, 0),  # it is there under its name
        ("def half a file", 0),
    ],
)
def test_how_alike_a_renamed_layer_is(head: str, percent: int, tmp_path: Path) -> None:
    pairs = found(tmp_path, head, SILU)
    assert [int(100 * each.likeness) for each in pairs] == ([percent] if percent else [])
    if percent == 98:
        assert str(pairs[0]) == "paired swish with silu of the base (renamed, 98 % the same code)"


def test_source_alone_does_not_tell_layers_of_one_family_apart(tmp_path: Path) -> None:
    """As alike as a layer that was edited: so what the references compute decides."""
    (pair,) = found(tmp_path, RELU, SILU)
    assert 0.9 < pair.likeness < 1


def test_of_several_the_most_alike_are_paired_and_each_once(tmp_path: Path) -> None:
    both = SILU + RELU.replace("class Plain", "class Other").replace("Variant(Plain)", "Variant(Other)")
    renamed = both.replace('"silu"', '"my_silu"').replace('"relu"', '"my_relu"').replace("silu = ", "my_silu = ")
    pairs = found(tmp_path, renamed.replace("relu = ", "my_relu = "), both)
    assert [(each.new, each.old, each.likeness) for each in pairs] == [("my_relu", "relu", 1.0), ("my_silu", "silu", 1.0)]


def test_of_a_file_with_many_layers_only_what_a_layer_uses_is_its_source(tmp_path: Path) -> None:
    words = renaming.declared([write(tmp_path, {"a.py": SILU + "\nclass Unused:\n    SOME = 1\n" + LINEAR}) / "a.py"])
    assert ("Unused" in words["silu"], "Plain" in words["silu"], "Plain" in words["linear"], "build" in words["linear"]) == (
        *(False, True, False, True),
    )


# Whether both compute the same.


class Sketching:
    """An executor that knows what references compute."""

    def __init__(self, answers: Mapping[str, Sketched | Fault]) -> None:
        self.answers = answers

    def sketch(self, request: SketchReference) -> Sketched | Fault:
        return self.answers[request.side]


def facts(name: str) -> LayerFacts:
    return LayerFacts(name, "", f"layers/{name}.py", 1, {"batch": (8,)}, (VariantFacts("stock", False, "any"),), {})


ONE, OTHER = (Sketched("x", {"output": Sketch((1,), 1.0, (value,))}) for value in (1.0, 2.0))


@pytest.mark.parametrize(
    ("base", "head", "paired"),
    [
        (ONE, ONE, True),
        (ONE, OTHER, False),
        (Sketched("", {}, "no kernel"), ONE, False),
        (Sketched("", {}, "no kernel"), Sketched("", {}, "no kernel"), False),
        (Fault("base", "it died"), ONE, False),
    ],
)
def test_a_pair_is_one_layer_where_both_references_compute_the_same(base: Sketched | Fault, head: Sketched | Fault, paired: bool) -> None:
    likely = [Renamed("swish", "silu", 0.97)]
    layers = {"base": (facts("silu"), facts("relu")), "head": (facts("swish"), facts("relu"))}
    ready = Opened(Sketching({"base": base, "head": head}), layers, {"base": {}, "head": {}}, environment(), "")  # type: ignore[arg-type]
    now, renamed = examining.renamed(ready, likely, Selection(expression="relu"))
    assert [layer.name for layer in now.layers["base"]] == (["swish", "relu"] if paired else ["silu", "relu"])
    assert now.layers["base"][0].file == "layers/silu.py"
    assert renamed == (likely if paired else [])


def test_a_worker_has_the_bases_layer_under_both_names(tmp_path: Path) -> None:
    texts = {"base": SILU, "head": named(SLOW, "swish")}
    roots = {side: str(write(tmp_path / side, {"layers/silu.py": text})) for side, text in texts.items()}
    session = Sides(lambda stage, variant: None)
    answer = session.answer(DescribeSides({side: f"{root}/layers" for side, root in roots.items()}, roots, 0, renamed={"swish": "silu"}))
    assert isinstance(answer, DescribedSides)
    assert [[layer.name for layer in answer.layers[side]] for side in ("base", "head")] == [["silu"], ["swish"]]
    point = Point("swish", {"batch": 4, "width": 8}, "float32", "cpu", "forward")
    then, now = (session.answer(SketchReference(side, point)) for side in ("base", "head"))
    assert then == now
