"""One row per record: what was measured has a number, what was not has none, and a zero is a measured zero."""

import math

import msgspec
import pytest
from runs import CHECKED, FAILED, FOUR_ROUNDS, SKIPPED, at, run, took

from layerbench.bench.analysis.frame import COLUMNS, by_point, measured, tidy
from layerbench.bench.data.record import Accuracy, Compiled, Measured, Roof, SweepGraphs, TensorError, Work

NUMBERS = [name for name, kind in COLUMNS.items() if kind is float]


def test_a_row_for_each_record_in_the_order_of_the_run() -> None:
    table = tidy(run(at(1, stock=took(2.0), noise_floor=took(2.0), triton=CHECKED), at(8, step="backward", stock=FAILED, triton=SKIPPED)))
    assert list(table.columns) == list(COLUMNS)
    assert list(table.id) == [
        *(f"softmax-forward-cpu-float32-batch1-{name}" for name in ("stock", "noise_floor", "triton")),
        *(f"softmax-backward-cpu-float32-batch8-{name}" for name in ("stock", "triton")),
    ]
    assert list(table.point.unique()) == ["softmax-forward-cpu-float32-batch1", "softmax-backward-cpu-float32-batch8"]
    assert list(table.outcome) == ["measured", "measured", "checked", "failed", "skipped"]
    row = table.iloc[2]
    columns = ["layer", "variant", "step", "device", "dtype", "size"]
    assert list(row[columns]) == ["softmax", "triton", "forward", "cpu", "float32", {"batch": 1}]


def test_what_was_measured() -> None:
    half = Accuracy((TensorError("output", 1e-7, 4e-7), TensorError("weight grad", 3e-7, 4e-7), TensorError("bias grad", 0.0, 0.0)))
    compiled = Compiled(3.5, 2, ("print", "print"), 1, SweepGraphs("batch", (1, 8, 64), 3))
    fast = took(1.0, compiled=compiled, memory=(400, 0, 100, 300), accuracy=half)
    row = tidy(run(at(stock=took(2.0), noise_floor=took(2.0), compile=fast))).iloc[2]
    on_a_device = {"issuing", "called", "called_speedup", "called_low", "called_high"}
    assert row[list(on_a_device)].isna().all()
    assert {name: row[name] for name in NUMBERS if name not in on_a_device} == {
        "seconds": 1.0,
        "samples": 4.0,
        "speedup": pytest.approx(2.0),
        "speedup_low": pytest.approx(2.0),
        "speedup_high": pytest.approx(2.0),
        "noise_floor": 0.01,
        "slack": pytest.approx(0.75),
        "live_bytes": 400.0,
        "saved_bytes": 0.0,
        "peak_forward_bytes": 100.0,
        "peak_backward_bytes": 300.0,
        "cold_seconds": 3.5,
        "graphs": 2.0,
        "breaks": 2.0,
        "recompiles": 1.0,
        "sweep_graphs": 3.0,
    }
    assert (row.outcome, row.verdict, row.stopped) == ("measured", "faster", "precision")
    assert row[["stage", "reason"]].isna().all()


@pytest.mark.parametrize(
    ("outcome", "stage", "reason"),
    [(CHECKED, "verify", CHECKED.reason), (SKIPPED, "time", SKIPPED.reason), (FAILED, "verify", FAILED.reason)],
)
def test_what_was_not_measured_has_a_reason_and_no_number(outcome: object, stage: str, reason: str) -> None:
    row = tidy(run(at(stock=took(2.0), noise_floor=took(2.0), triton=outcome))).iloc[2]
    assert (row.stage, row.reason) == (stage, reason)
    assert row[[*(name for name in NUMBERS if name != "slack"), "verdict", "stopped"]].isna().all()
    assert row.slack == outcome.accuracy.slack if outcome is CHECKED else math.isnan(row.slack)  # values proved, though not timed


def test_the_reference_has_a_time_and_no_ratio() -> None:
    row = tidy(run(at(stock=took(2.0), noise_floor=took(2.0)))).iloc[0]
    assert row.seconds == 2.0
    assert row[["speedup", "speedup_low", "speedup_high", "noise_floor", "verdict"]].isna().all()


def test_an_eager_variant_has_no_compile_figures() -> None:
    row = tidy(run(at(stock=took(2.0), triton=took(1.0)))).iloc[1]
    assert row[["cold_seconds", "graphs", "breaks", "recompiles", "sweep_graphs"]].isna().all()


def test_the_ratio_is_taken_round_by_round_and_has_an_interval() -> None:
    row = tidy(run(at(stock=took(3.0, wobble=0.02), noise_floor=took(3.0), triton=took(2.0, wobble=0.01)))).iloc[2]
    assert row.speedup == pytest.approx(1.5)
    assert row.speedup_low == pytest.approx(1.5 * math.exp(-0.01 * FOUR_ROUNDS))  # the wobbles are alike and all but cancel
    assert row.speedup_high == pytest.approx(1.5 * math.exp(0.01 * FOUR_ROUNDS))
    assert row.seconds == pytest.approx(2.0 * math.cosh(0.01))  # the median of two up and two down


def test_the_noise_floor_of_the_point_decides() -> None:
    floor = math.exp(0.05 * FOUR_ROUNDS) - 1  # 16 %
    loud = tidy(run(at(stock=took(2.0), noise_floor=took(2.0, wobble=0.05), triton=took(1.8), compile=took(1.5))))
    assert list(loud.noise_floor[1:]) == [pytest.approx(floor)] * 3
    assert list(loud.verdict[1:]) == ["unclear", "unclear", "faster"]
    calm = tidy(run(at(stock=took(2.0), noise_floor=took(2.0), triton=took(1.8), compile=took(1.99))))
    assert list(calm.verdict[1:]) == ["same", "faster", "same"]


def test_without_a_second_copy_there_is_no_floor_and_no_verdict() -> None:
    row = tidy(run(at(stock=took(2.0), noise_floor=FAILED, triton=took(1.0)))).iloc[2]
    assert math.isnan(row.noise_floor)
    assert (row.speedup, row.verdict) == (2.0, "unclear")


def test_the_time_is_the_median_sample() -> None:
    burst = took(1.0)
    burst = msgspec.structs.replace(burst, timing=msgspec.structs.replace(burst.timing, seconds=(1.0, 2.0, 900.0)))
    assert tidy(run(at(stock=burst))).iloc[0].seconds == 2.0


def test_without_the_reference_there_is_no_ratio() -> None:
    row = tidy(run(at(stock=FAILED, noise_floor=SKIPPED, triton=took(1.0)))).iloc[2]
    assert row.seconds == 1.0
    assert row[["speedup", "noise_floor", "verdict"]].isna().all()


def test_a_run_without_records() -> None:
    assert tidy(run()).shape == (0, len(COLUMNS))


def test_records_by_point_and_those_with_numbers() -> None:
    first, second = at(1, stock=took(2.0), triton=CHECKED), at(8, stock=took(3.0), triton=FAILED)
    assert by_point([first[0], second[0], first[1], second[1]]) == [first, second]
    assert measured(run(first, second)) == [first[0], second[0]]
    assert all(isinstance(record.outcome, Measured) for record in measured(run(first, second)))


ROOF = Roof("cpu", "float32", 100e9, 20e9, 50e9, 1e-6)


def test_a_time_that_cannot_be_true_is_invalid_and_takes_no_part() -> None:
    work = Work(1_000_000_000, 0, 0)
    records = [(name, msgspec.structs.replace(took(s), work=work)) for name, s in (("stock", 0.1), ("noise_floor", 0.1), ("triton", 1e-3))]
    table = tidy(run(at(**dict(records)), roofs=(ROOF,))).set_index("variant")
    assert list(table.outcome) == ["measured", "measured", "invalid"]
    row = table.loc["triton"]
    assert row.reason.startswith("1e+03 GFLOP/s: a large float32 matrix product reaches 100 here")
    assert (row.stage, row.isna().speedup, row.isna().verdict, row.isna().seconds) == ("time", True, True, True)


def test_without_a_valid_reference_there_is_no_ratio() -> None:
    table = tidy(run(at(stock=took(1e-7), noise_floor=took(2.0), triton=took(2.0)), roofs=(ROOF,))).set_index("variant")
    assert list(table.outcome) == ["invalid", "measured", "measured"]
    assert table.loc["stock"].reason == "100 ns per call: calling a module that does nothing takes 1e+03 ns here"
    assert table.speedup.isna().all()


def test_sequential_samples_are_not_paired() -> None:
    # the wobble is the same in every round of both: paired it cancels, one after the other it does not
    point = at(stock=took(2.0, wobble=0.1), noise_floor=took(2.0, wobble=0.1), triton=took(1.0, wobble=0.1))
    paired, unpaired = (tidy(run(point, interleaved=which)).iloc[2] for which in (True, False))
    assert (paired.speedup_low, paired.speedup_high) == pytest.approx((2, 2))
    # two errors of 0.1 sqrt(1/2), two degrees of freedom each: Welch gives four
    half = 2.776445105 * 0.1
    assert (unpaired.speedup, unpaired.speedup_low, unpaired.speedup_high) == pytest.approx((2, 2 * math.exp(-half), 2 * math.exp(half)))
