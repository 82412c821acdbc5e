"""Hardware counters: from ncu's table to each variant's kernels, to the digit, and what a terminal shows of them."""

import io
import math

import pytest
from ncu_table import BACKWARD, COLUMNS, FORWARD, LINEAR, LINEAR_AGAIN, MARK, NORM, NORM_BACKWARD, UNITS, Row, other, table
from rich.console import Console

from layerbench.bench.analysis import counters
from layerbench.bench.analysis.counters import Counts
from layerbench.bench.data.record import Work
from layerbench.bench.declare.mistake import NoCounters
from layerbench.bench.terminal import counters as shown

STEP = table(MARK, NORM, NORM_BACKWARD, MARK, FORWARD, BACKWARD)
WORK = Work(0, 402_653_184, 268_435_456)


def one(row: Row) -> Counts:
    (found,) = counters.by_variant(table(MARK, row), ("stock",))["stock"]
    return found


def printed(width: int, found: dict[str, list[Counts]], work: Work | None = WORK) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    shown.print_counters(console, found, work)
    return console.file.getvalue().splitlines()


def test_a_kernel_has_what_its_row_says() -> None:
    assert one(NORM) == Counts(
        kernel=NORM[1],
        launches=1,
        seconds=pytest.approx(79.328e-6),
        read_bytes=136_765_184,
        written_bytes=113_788_416,
        l2_bytes=513_377_664,
        l1_hits=pytest.approx(0.6046),
        l2_hits=pytest.approx(0.5985),
        warps=pytest.approx(0.9244),
        tensor=pytest.approx(0.0033),
    )
    assert one(NORM).dram_bytes == 250_553_600
    assert one(NORM).bytes_per_second == pytest.approx(250_553_600 / 79.328e-6)


def test_kernels_belong_to_the_variant_whose_marker_they_follow_those_of_backward_too() -> None:
    found = counters.by_variant(STEP, ("stock", "triton"))
    assert {name: [row.kernel for row in rows] for name, rows in found.items()} == {
        "stock": [NORM_BACKWARD[1], NORM[1]],  # the longest first
        "triton": [BACKWARD[1], FORWARD[1]],
    }


def test_a_variant_without_kernels_is_there_with_none() -> None:
    assert counters.by_variant(table(MARK, MARK, FORWARD), ("stock", "triton"))["stock"] == []


def test_nothing_is_guessed_where_the_markers_do_not_match() -> None:
    with pytest.raises(NoCounters, match="saw 1 marker kernels for 2 steps, so whose kernels are whose is not known"):
        counters.by_variant(table(MARK, FORWARD, BACKWARD), ("stock", "triton"))
    with pytest.raises(NoCounters, match="saw 2 marker kernels for 1 steps"):
        counters.by_variant(table(MARK, FORWARD, MARK), ("stock",))  # a layer that launches the marker's own kernel


def test_launches_of_one_kernel_are_one_row() -> None:
    (row,) = counters.by_variant(table(MARK, LINEAR, LINEAR_AGAIN), ("stock",))["stock"]
    assert (row.launches, row.seconds) == (2, pytest.approx((345_952 + 344_128) * 1e-9))
    assert (row.read_bytes, row.written_bytes, row.l2_bytes) == (592_852_224, 123_456_000, 4_361_079_776)
    assert row.tensor == pytest.approx((345_952 * 0.9486 + 344_128 * 0.9506) / (345_952 + 344_128))
    assert row.l2_hits == pytest.approx((2_185_381_984 * 0.7353 + 2_175_697_792 * 0.7272) / 4_361_079_776)


def test_a_kernel_that_moved_nothing_has_no_share_in_a_mean_of_hits() -> None:
    idle = other(LINEAR, lts__t_bytes="0", lts__t_sector_hit_rate="nan")
    (row,) = counters.by_variant(table(MARK, LINEAR_AGAIN, idle), ("stock",))["stock"]
    assert row.l2_hits == pytest.approx(0.7272)
    assert math.isnan(one(idle).l2_hits)


@pytest.mark.parametrize("cell", ["nan", "n/a", "", "-nan", "inf", "(!) n/a", "136.765.184"])
def test_what_is_no_number_is_missing_and_so_is_a_sum_with_it(cell: str) -> None:
    holed = other(NORM, dram__bytes_read=cell, sm__warps_active=cell)
    assert math.isnan(one(holed).read_bytes) and math.isnan(one(holed).warps) and math.isnan(one(holed).dram_bytes)
    assert one(holed).written_bytes == 113_788_416
    total = counters.add("all", counters.by_variant(table(MARK, holed, NORM_BACKWARD), ("stock",))["stock"])
    assert math.isnan(total.read_bytes) and math.isnan(total.warps)
    assert total.written_bytes == 113_788_416 + 121_443_072


def test_a_column_that_is_not_there_or_has_another_unit_is_missing() -> None:
    columns = tuple(column.replace("lts__t_bytes", "lts__something") for column in COLUMNS)
    units = tuple(unit.replace("ns", "ms") for unit in UNITS)
    (row,) = counters.by_variant(table(MARK, FORWARD, columns=columns, units=units), ("stock",))["stock"]
    assert math.isnan(row.l2_bytes) and math.isnan(row.seconds)
    assert row.read_bytes == 134_249_984


def test_a_kernel_without_a_time_comes_last() -> None:
    untimed = other(NORM_BACKWARD, gpu__time_duration="nan")
    rows = counters.by_variant(table(MARK, untimed, NORM), ("stock",))["stock"]
    assert [row.kernel for row in rows] == [NORM[1], NORM_BACKWARD[1]]


@pytest.mark.parametrize(
    "text", ["", "==PROF== Connected\n", table(MARK, columns=("ID", *["x"] * 10))], ids=["empty", "no table", "no names"]
)
def test_a_table_without_names_is_said_to_be_strange(text: str) -> None:
    with pytest.raises(NoCounters, match="has no column 'Kernel Name'; it may be of a version that layerbench does not know"):
        counters.by_variant(text, ("stock",))


NAMES = {
    NORM[1]: "vectorized_layer_norm_kernel<BFloat16, float, 1>",
    "_forward_kernel": "_forward_kernel",
    "void at::reduce_kernel<512, 1, at::ReduceOp<float, at::MeanOps<float, float>, unsigned int>>(T3)": "reduce_kernel<512, 1, "
    "ReduceOp<float, MeanOps<float, float>, unsigned int>>",
    "void at::vectorized_elementwise_kernel<4, void at::<unnamed>::pow_impl<float, float>(at::TensorIteratorBase &, T2)::[lambda(float) "
    "(instance 1)], std::array<char *, 2>>(int, T2, T3)": "vectorized_elementwise_kernel<4, pow_impl<float, float>(TensorIteratorBase &, "
    "T2)::[lambda(float) (instance 1)], array<char *, 2>>",
    "at::cuda::(anonymous namespace)::spin_kernel(long)": "spin_kernel",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_short_name_says_what_kernel_it_is(name: str) -> None:
    assert counters.short(name) == NAMES[name]


# --- in a terminal -----------------------------------------------------------------------------------------------------------------


def test_what_is_printed() -> None:
    lines = printed(160, counters.by_variant(STEP, ("stock", "triton")))
    rows = [line.split() for line in lines]
    assert lines[0] == "stock: 2 kernels in a step"
    assert lines[1].split("  ")[0] == "kernel"
    assert lines[2].startswith("layer_norm_grad_input_kernel_vectorized<BFloat16, float, 1>")
    assert rows[2][-10:] == ["1", "127.6", "373.2", "121.4", "3,876", "928.7", "30.6", "38.4", "91.2", "0.2"]
    assert lines[4] == "triton: 2 kernels in a step"
    assert lines[8] == "all kernels together"
    assert rows[10] == ["stock", "2", "206.9", "509.9", "235.2", "3,601", "1,442", "42.0", "46.0", "91.7", "0.3"]
    assert rows[11] == ["triton", "2", "183.7", "402.8", "231.9", "3,454", "1,034", "12.4", "41.5", "48.0", "0.0"]
    assert rows[12] == ["at", "least", "-", "-", "402.7", "268.4", "-", "-", "-", "-", "-", "-"]
    assert lines[13:16] == [
        "The step must move 671.1 MB at least.",
        "stock: moved 1.11 times that",
        "triton: moved 0.95 times that",
    ]


def test_operations_are_beside_the_time_of_the_kernels() -> None:
    found = counters.by_variant(table(MARK, LINEAR), ("stock",))
    lines = printed(160, found, Work(274_877_906_944, 167_772_160, 67_108_864))
    must = lines.index("The step must move 234.9 MB at least, and do 274.9 GFLOP in products, convolutions and attention.")
    assert lines[must + 1] == "stock: moved 1.52 times that; 794.6 TFLOP/s while its kernels ran"


def test_what_is_missing_is_a_dash_and_never_0() -> None:
    gone = other(LINEAR, **{column.partition(".")[0]: "nan" for column in COLUMNS[3:]})
    lines = printed(160, counters.by_variant(table(MARK, gone), ("stock",)), Work(100, 2, 1))
    assert lines[2].split()[1:] == ["1", *["-"] * 9]
    assert "stock: how much it moved was not counted" in lines


def test_an_update_has_no_work_to_stand_beside() -> None:
    lines = printed(160, counters.by_variant(STEP, ("stock", "triton")), None)
    assert "What the step must move and compute at least is not known: it is counted for forward, backward and training." in lines
    assert not any(line.startswith("at least") for line in lines)


def test_more_kernels_than_are_shown_are_one_row_and_all_are_in_the_sum() -> None:
    many = [other((*FORWARD,), gpu__time_duration=str(1000 * n), **{"Kernel Name": f"kernel_{n}"}) for n in range(1, 26)]
    lines = printed(160, counters.by_variant(table(MARK, *many), ("stock",)))
    assert lines[0] == "stock: 25 kernels in a step"
    assert lines[2].split()[:3] == ["kernel_25", "1", "25.0"]
    assert lines[22].split()[:5] == ["5", "more", "kernels", "5", "15.0"]
    assert lines[25].split()[:3] == ["stock", "25", "325.0"]


@pytest.mark.parametrize("width", (80, 100, 120, 160))
def test_at_no_width_a_number_is_cut(width: int) -> None:
    large = other(NORM_BACKWARD, dram__bytes_read="999,888,777,666", gpu__time_duration="123,456,789")
    lines = printed(width, counters.by_variant(table(MARK, NORM, large, MARK, FORWARD), ("stock", "triton")))
    assert max(map(len, lines)) <= width
    assert all("…" not in line or line.startswith(("vectorized_", "layer_norm_")) for line in lines)
    for number in ("999,889", "123,457", "928.7", "30.6", "91.2", "113.8"):
        assert any(number in line for line in lines), number
