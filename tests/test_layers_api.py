"""docs/layers-api.md against the code: its tables name every field and default, and its examples can be declared and agree."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from layerbench import bench
from layerbench.bench import Layer, Variant
from layerbench.bench.cell.cell import Cell
from layerbench.bench.data.record import Point
from layerbench.bench.plan.planning import sizes
from layerbench.bench.suite import mount

PAGE = (Path(__file__).parents[1] / "docs" / "layers-api.md").read_text(encoding="utf-8")
DECLARING = (Path(__file__).parents[1] / "docs" / "declaring.md").read_text(encoding="utf-8")
LAYERS = {
    PAGE: {"softmax", "embedding", "split", "dropout"},
    DECLARING: {"masked_attention", "linear", "projections", "kinds", "loss", "permuted", "lazy"},
}


def table(heading: str) -> dict[str, tuple[str, str]]:
    """Rows of the table below a heading: the first column -> the second and the third."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): (row[1].strip("`"), row[2]) for row in rows}


@pytest.mark.parametrize("declared", [Layer, Variant])
def test_every_field_is_there_with_its_default(declared: type) -> None:
    def default(field: dataclasses.Field[object]) -> str:
        if field.default is not dataclasses.MISSING:
            return repr(field.default).replace("'", '"')
        return "required" if field.default_factory is dataclasses.MISSING else repr(field.default_factory())

    assert [(name, shown) for name, (shown, _) in table(declared.__name__).items()] == [
        (field.name, default(field)) for field in dataclasses.fields(declared)
    ]


def test_every_way_to_draw_an_input_is_there_with_its_arguments() -> None:
    found = {
        each.__name__: ", ".join(
            f"*{name}" if p.kind is p.VAR_POSITIONAL else name for name, p in inspect.signature(each).parameters.items()
        )
        for each in (getattr(bench, name) for name in bench.__all__)
        if inspect.isfunction(each) and each is not bench.compare
    }
    assert {name: shown for name, (shown, _) in table("Inputs").items()} == found


@pytest.mark.parametrize("page", LAYERS, ids=["layers-api", "declaring"])
def test_the_examples_are_layers_that_agree_with_themselves(page: str, tmp_path: Path) -> None:
    file = tmp_path / "examples.py"
    file.write_text("\n\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), encoding="utf-8")
    declared = {each.layer.name: each for each in mount.mount(str(file))}
    assert set(declared) == LAYERS[page]
    for name, each in declared.items():
        eager = tuple(variant for variant, said in each.layer.variants.items() if not said.compile)
        cell = Cell(each.layer, Point(name, sizes(each.facts, "cpu", {})[0], "float32", "cpu", ""), eager, {}, lambda stage, variant: None)
        assert cell.out == {}, name
