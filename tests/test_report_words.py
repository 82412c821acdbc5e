"""Numbers as the page writes them, to the last digit."""

import math
import shlex

import fixture_run
import pytest

from layerbench.bench.data.record import Point
from layerbench.bench.plan import planning
from layerbench.bench.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.8923e-6, "4.89 µs"),
        (9.999e-6, "10.0 µs"),
        (0.99996e-3, "1.00 ms"),
        (0.1234, "123 ms"),
        (75.0, "75.0 s"),
        (4e-10, "0.400 ns"),
        (0.0, "0 ns"),
        (None, ""),
        (math.nan, ""),
    ],
)
def test_seconds_have_three_significant_digits_and_nothing_is_not_zero(value, text):
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (4_194_304, "4.19 MB"), (8.5e10, "85.0 GB"), (None, "")]
)
def test_bytes_are_decimal(value, text):
    assert words.count_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.4249, "1.42×"),
        (9.994, "9.99×"),
        (9.996, "10.0×"),
        (123.4, "123×"),
        (0.0346, "0.035×"),
        (0.0123, "0.012×"),
        (1 / 102, "1/102×"),
        (1 / 1024, "1/1024×"),
        (None, ""),
    ],
)
def test_ratios_show_what_is_significant(value, text):
    assert words.times(value) == text


def test_an_interval_without_bounds_is_unknown_and_a_missing_one_is_empty():
    assert words.span(1.311, 1.549) == "1.31–1.55"
    assert words.span(0.0, math.inf) == "unknown"
    assert words.span(None, None) == words.span(math.nan, math.nan) == ""


def test_small_percentages_keep_a_decimal():
    assert [words.percent(v) for v in (0.0123, 0.0994, 0.0996, 0.33)] == ["1.2\u00a0%", "9.9\u00a0%", "10\u00a0%", "33\u00a0%"]


def test_payback_is_rounded_to_two_digits_or_never():
    assert [words.calls(v) for v in (0.2, 7.4, 5438.0, math.inf)] == ["1", "7", "5\u202f400", "never"]


def test_errors_have_two_digits():
    assert [words.error(v) for v in (1.234e-7, 0.0, 3.0, 2.5e12)] == ["1.2e-7", "0", "3.0e0", "2.5e12"]


def test_run_lengths():
    assert [words.duration(v) for v in (41.6, 312, 7512)] == ["42 s", "5 min 12 s", "2 h 5 min"]


def test_axis_ticks_lose_their_zeros():
    assert [words.whole_tick(t) for t in ("30.0 µs", "5.00 ms", "100 kB", "0.50×", "1.25×")] == ["30 µs", "5 ms", "100 kB", "0.5×", "1.25×"]


def test_numbers_of_a_sentence_do_not_break_across_lines():
    assert words.sentence("It is 2x (interval 1.43-1.45).") == "It is 2x (interval 1.43\u2060–\u20601.45)."
    assert words.sentence("It needs 5 400 calls, not 12 000 000.") == "It needs 5\u202f400 calls, not 12\u202f000\u202f000."


def test_shares_of_bytes_are_readable_when_small():
    assert [words.share(v) for v in (0, 1 / 1024, 1 / 32, 0.25, 1.0, 12.5)] == ["0 B", "1/1024×", "1/32×", "0.25×", "1.00×", "12.5×"]


def test_the_command_measures_one_point_and_names_only_a_foreign_suite():
    point = Point("softmax", {"batch": 8, "width": 1024}, "float32", "cpu", "forward")
    run = fixture_run.make((), suite="layerbench.layers")
    size = "--set batch=8 --set width=1024 --dtype float32 --device cpu --step forward"
    tail = f"-k '^softmax-forward-cpu-float32-batch8-width1024' {size} --threads 1"
    assert words.command(run, point) == f"layerbench run {tail}"
    assert words.command(fixture_run.make((), suite="my suite/l.py"), point) == f"layerbench run --suite 'my suite/l.py' {tail}"


@pytest.mark.parametrize(
    ("typed", "end"),
    [
        ("run --budget 20m --all", " --budget 20m"),
        ("run --budget=1.5h", " --budget 1.5h"),
        ("run -k softmax", ""),
        ("again R.json --budget 90", " --budget 90s"),
    ],
)
def test_the_command_has_the_threads_and_the_budget_of_the_run(typed, end):
    point = Point("softmax", {"batch": 8}, "float32", "cpu", "forward")
    run = fixture_run.make((), command=f"layerbench {typed}", environment=fixture_run.environment(threads=2))
    assert words.command(run, point).endswith(f" --step forward --threads 2{end}")
    assert words.command(fixture_run.make((), interleaved=False), point).endswith(" --threads 1 --sequential")


def test_the_command_selects_its_point_and_no_other():
    layers = [fixture_run.facts(name, {"batch": (8,), "width": (64,)}) for name in ("add_rmsnorm", "rmsnorm", "rmsnorm-forward")]
    point = Point("rmsnorm", {"batch": 8, "width": 64}, "float32", "cpu", "forward")
    typed = shlex.split(words.command(fixture_run.make(tuple(layers)), point))
    expression = typed[typed.index("-k") + 1]
    tasks = planning.plan(layers, fixture_run.environment().devices, planning.Selection(expression, steps=("forward",)))
    assert [task.point for task in tasks] == [point]
    assert set(tasks[0].variants) == {variant.name for variant in layers[1].variants}


def test_the_seconds_of_a_run_by_stage_the_longest_first_with_what_lies_between() -> None:
    run = fixture_run.make((), seconds=60.0, stages={"make": 1.5, "time": 40.0})
    assert words.stages(run) == "time 40.0 s, starting, roofs and storing 18.5 s, make 1.50 s; 1 min 0 s in all"
