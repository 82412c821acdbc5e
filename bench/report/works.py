"""The table "Works in": what each variant does in use beside being the same layer.  Plain rows of words; no markup."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..analysis.in_use import InUse, in_use
from ..data.record import LayerFacts, Run

SAME = "same"


@dataclass(frozen=True)
class Fact:
    look: str  # same | no | none
    word: str
    note: str


@dataclass(frozen=True)
class Row:
    layer: str
    first: bool  # the layer's first row: its name is written once
    device: str
    variant: str
    ways: str  # in how many ways it does what the reference does, of how many
    facts: tuple[Fact, ...]  # as `facts`
    limits: tuple[tuple[str, str], ...]  # ways, and what it does there


def facts(run: Run) -> list[str]:
    """The names of the columns of facts, in the order in which they were found."""
    return list(dict.fromkeys(name for each in in_use(run.records) for name in each.facts))


def rows(run: Run) -> list[Row]:
    layers = {layer.name: layer for layer in run.layers}
    names, result = facts(run), list[Row]()
    for each in in_use(run.records):
        first = not result or result[-1].layer != each.layer
        cells = tuple(_fact(each, name) for name in names)
        result.append(Row(each.layer, first, each.device, each.variant, _ways(layers[each.layer], each), cells, _limits(each)))
    return result


def _limits(each: InUse) -> tuple[tuple[str, str], ...]:
    """Ways in which the same is done are named together."""
    together: dict[str, list[str]] = {}
    for way, what in each.limits.items():
        together.setdefault(what, []).append(way)
    return tuple((", ".join(ways), what) for what, ways in together.items())


def _ways(layer: LayerFacts, each: InUse) -> str:
    if each.variant == layer.reference:
        return "reference"
    done = f"{each.tried - len(each.limits)} of {each.tried}"
    compiled = any(variant.compile for variant in layer.variants if variant.name == each.variant)
    return f"{done}, uncompiled" if compiled else done


def _fact(each: InUse, name: str) -> Fact:
    found = each.facts.get(name)
    if found is None:
        return Fact("none", "–", "does not apply, or was not asked")
    return Fact(SAME, SAME, "") if found == SAME else Fact("no", "not the same", found.removeprefix("no: "))


def refused(run: Run) -> Sequence[tuple[str, str, str]]:
    """(layer, way or size, why) of what the reference itself does not do, and was asked of nobody."""
    return [(each.layer, way, why) for each in in_use(run.records) for way, why in each.refused.items()]
