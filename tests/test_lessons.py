"""What one point teaches about the next, from records alone."""

import pytest

from layerbench.bench.data.record import Failed, Outcome, Point, Record, Skipped
from layerbench.bench.run.known_failures import KnownFailures

DIED = Failed("time", "the worker process died: SIGSEGV")
HUNG = Failed("time", "no sign of life for 300 s; the worker was ended")
STARVED = Failed("make", "out of memory: 1.1 GB were asked for at once, the worker may hold 18.0 GB in all")


def point(batch: int, width: int = 8, dtype: str = "float32", layer: str = "norm", step: str = "forward") -> Point:
    return Point(layer, {"batch": batch, "width": width}, dtype, "cpu", step)


def after(*found: tuple[Point, Outcome]) -> KnownFailures:
    return KnownFailures(Record(where, "kernel", outcome) for where, outcome in found)


@pytest.mark.parametrize(
    ("where", "skipped"),
    [
        (point(8, 8), False),  # the very size: another step of it may fit
        (point(8, 16), True),
        (point(16, 8), True),
        (point(64, 64), True),
        (point(4, 64), False),  # smaller in one dimension: nobody knows
        (point(16, 8, dtype="float16"), False),
        (point(16, 8, layer="linear"), False),
    ],
)
def test_out_of_memory_at_one_size_skips_the_larger_ones_of_that_variant_alone(where: Point, skipped: bool) -> None:
    failures = after((point(8), STARVED))
    told = Skipped("make", "out of memory at batch=8 width=8; larger sizes are skipped")
    assert failures.known(where, "kernel") == (told if skipped else None)
    assert failures.known(where, "other") is None


def test_a_death_counts_at_its_own_cell_whatever_the_step() -> None:
    failures = after((point(8), DIED))
    assert failures.known(point(8, step="backward"), "kernel") == DIED
    assert failures.known(point(16), "kernel") is None


@pytest.mark.parametrize("second", [DIED, HUNG])
def test_after_deaths_at_two_cells_a_variant_is_left_alone_for_the_rest_of_the_layer(second: Failed) -> None:
    failures = after((point(8), DIED), (point(16), second))
    told = "it ended the worker at 2 cells of this layer and is not tried again; the worker process died: SIGSEGV"
    assert failures.known(point(64), "kernel") == Skipped("make", told)
    assert failures.known(point(64, dtype="float16"), "kernel") == Skipped("make", told)
    assert failures.known(point(64, layer="linear"), "kernel") is None


def test_two_steps_of_one_cell_are_one_death_and_other_failures_teach_nothing() -> None:
    wrong = Failed("verify", "output: off by 0.01, allowed 1e-06")
    failures = after((point(8), DIED), (point(8, step="backward"), DIED), (point(16), wrong), (point(32), wrong))
    assert failures.known(point(64), "kernel") is None
