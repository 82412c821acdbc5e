"""What a run takes at least, told before it begins."""

import pytest
from fixture_run import facts
from msgspec import structs

from layerbench.bench.data.record import Point, VariantFacts
from layerbench.bench.plan import forecast
from layerbench.bench.plan.planning import Task

LAYER = structs.replace(
    facts("softmax", {"batch": (1, 8)}, ("stock", "compile")),
    variants=(VariantFacts("stock", False, "any"), VariantFacts("compile", True, "any")),
)
TASKS = [
    Task(Point("softmax", {"batch": n}, "float32", "cuda", step), ("stock", "compile")) for n in (1, 8) for step in ("forward", "backward")
]


def test_what_counts_is_the_start_the_layers_the_cells_the_compilations_and_the_points() -> None:
    plain = [Task(task.point, ("stock",)) for task in TASKS]
    assert forecast.least_seconds(plain, [LAYER]) == pytest.approx(8 + 1 + 2 * 0.5 + 4 * 0.8)
    assert forecast.least_seconds(TASKS, [LAYER]) == pytest.approx(18 + 1 + 2 * 2.0 + 4 * 0.8)


def test_a_budget_that_cannot_be_kept_is_told_with_what_to_type() -> None:
    assert list(forecast.warnings(TASKS, [LAYER], 22.0)) == []  # 26.2 s, within a fifth
    assert list(forecast.warnings(TASKS, [LAYER], 20.0)) == [
        "4 points take about 27 s at least, however short each is timed: more than --budget 20s.  "
        "Write  --budget 30s,  or choose fewer points:  layerbench run --dry-run  lists them"
    ]


def test_energy_counts_a_second_and_a_half_for_every_variant_and_the_second_copy_but_not_in_backward() -> None:
    assert forecast.least_seconds(TASKS, [LAYER], energy=True) == pytest.approx(18 + 1 + 2 * 2.0 + 4 * 0.8 + 2 * 3 * 1.5)
    assert forecast.beside(TASKS, [LAYER], energy=True) == pytest.approx(5.0 + 2 * 3 * 1.5 / 4)
    assert forecast.beside(TASKS, [LAYER], energy=False) == 5.0
    on_cpu = structs.replace(LAYER, variants=(VariantFacts("stock", False, "any"), VariantFacts("compile", True, "cpu")))
    assert forecast.beside(TASKS, [on_cpu], energy=True) == pytest.approx(5.0 + 2 * 2 * 1.5 / 4)
    assert [words.partition(" s at")[0] for words in forecast.warnings(TASKS, [LAYER], 22.0, energy=True)] == ["4 points take about 36"]


def test_energy_that_no_point_has_is_told_with_what_to_type() -> None:
    backward = [task for task in TASKS if task.point.step == "backward"]
    here = [Task(structs.replace(task.point, device="cpu"), task.variants) for task in TASKS]
    assert list(forecast.warnings(TASKS, [LAYER], 100.0, energy=True)) == []
    assert list(forecast.warnings(backward, [LAYER], 100.0, energy=True)) == [
        "--energy: no energy is measured of a backward alone: add  --step training"
    ]
    assert list(forecast.warnings(here, [LAYER], 100.0, energy=True)) == [
        "--energy: no point of this run is on a GPU, and only a GPU's energy is measured: leave it out, or add  --device gpu"
    ]
    assert forecast.beside(here, [LAYER], energy=True) == 5.0
