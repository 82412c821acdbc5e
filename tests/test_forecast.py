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
    assert forecast.warning(TASKS, [LAYER], 22.0) == ""  # 26.2 s, within a fifth
    assert forecast.warning(TASKS, [LAYER], 20.0) == (
        "4 points take about 27 s at least, however short each is timed: more than --budget 20s.  "
        "Write  --budget 30s,  or choose fewer points:  layerbench run --dry-run  lists them"
    )
