"""The sentences and the win matrix, to the letter and the digit."""

import math

import msgspec
import pytest
from runs import CHECKED, FAILED, FOUR_ROUNDS, SKIPPED, at, layer, run, took

from layerbench.bench.analysis import ranking, summary, win_matrix
from layerbench.bench.analysis.frame import tidy
from layerbench.bench.analysis.win_matrix import Cell, Row
from layerbench.bench.data.record import Compiled, Measured, Point, Record, Roof, Run
from layerbench.bench.timing import measure

STOCK = {"stock": took(2.0), "noise_floor": took(2.0)}


def said(whole: Run) -> str:
    return summary.verdict(whole, tidy(whole))


def rows(whole: Run) -> list[Row]:
    return win_matrix.matrix(whole, tidy(whole))


def compiled(seconds: float, cold: float) -> Measured:
    return took(seconds, compiled=Compiled(cold, 1, (), 0))


def points(device: str = "cpu", **batches: dict[str, object]) -> list[list[Record]]:
    return [at(int(name[1:]), device=device, **outcomes) for name, outcomes in batches.items()]


def four(points: int, faster: int, slower: int, undecided: int, failed: int, wins: str = "", device: str = "cpu", to: str = "stock") -> str:
    """The headline.  Its four numbers add up to the points, whatever a test expects."""
    assert faster + slower + undecided + failed == points
    most = f" ({wins})" if wins else ""
    return (
        f"{points} point{'s' * (points > 1)} on {device}: a variant is faster than {to} on {faster}{most}, "
        f"all are slower or the same on {slower}; {undecided} undecided, {failed} failed."
    )


def test_a_variant_that_wins() -> None:
    # 2 x, 2 x and 0.5 x: their geometric mean is 2^(1/3) = 1.26
    fast, slow = {**STOCK, "triton": took(1.0)}, {**STOCK, "triton": took(4.0)}
    assert said(run(*points(b1=fast, b8=fast, b64=slow))) == (
        "3 points on cpu: a variant is faster than stock on 2 (triton wins 2), all are slower or the same on 1; 0 undecided, 0 failed. "
        "triton is 1.26x as fast as stock on cpu (geometric mean over 3 points, interval 1.26-1.26)."
    )


def test_the_interval_of_the_mean_is_over_the_points_where_the_winner_was_measured() -> None:
    fast = {"stock": took(3.0), "noise_floor": took(3.0), "triton": took(2.0, wobble=0.02)}
    half = 0.02 * FOUR_ROUNDS / math.sqrt(2)  # two points with the same error
    low, high = 1.5 * math.exp(-half), 1.5 * math.exp(half)
    assert (f"{low:.2f}", f"{high:.2f}") == ("1.44", "1.57")
    assert said(run(*points(b1=fast, b8=fast, b64=STOCK | {"triton": SKIPPED, "compile": took(3.0)}))) == (
        f"{four(3, 2, 1, 0, 0, 'triton wins 2')} "
        "triton is 1.50x as fast as stock on cpu (geometric mean over 2 points, interval 1.44-1.57). "
        "Of 7 measurements, 1 was skipped."
    )


def test_nothing_beats_the_reference() -> None:
    slow, same = {**STOCK, "triton": took(2.4)}, {**STOCK, "triton": took(2.0)}
    assert said(run(*points(b1=slow, b8=same))) == four(2, 0, 2, 0, 0)
    assert said(run(*points(b1=slow))) == (
        "1 point on cpu: a variant is faster than stock on 0, all are slower or the same on 1; 0 undecided, 0 failed."
    )


def test_faster_slower_undecided_and_failed_are_four_numbers_that_add_up() -> None:
    fast, slow = {"triton": took(1.0)}, {"triton": took(2.4)}
    unclear, bad = {"compile": took(1.9, wobble=0.05)}, {"compile": FAILED}
    whole = run(
        at(1, **STOCK, **fast, compile=took(1.5)),
        at(2, **STOCK, **fast, **unclear),  # one that is faster decides
        at(3, **STOCK, **fast, **bad),
        at(4, **STOCK, **slow, compile=took(2.0)),
        at(5, **STOCK, **slow, **unclear),  # not stock's: nobody knows whether compile is faster
        at(6, **STOCK, **slow, **bad),
        at(7, **STOCK, **unclear, triton=FAILED),
        at(8, stock=FAILED, triton=SKIPPED, compile=SKIPPED),
        at(9, **STOCK, triton=CHECKED),  # nothing was compared: in none of the four
    )
    assert said(whole).startswith(four(8, 3, 1, 1, 3, "triton wins 3") + " ")


def test_the_fastest_wins_and_the_mean_is_over_all_points_where_it_was_compared() -> None:
    triton, compile_ = {**STOCK, "triton": took(1.0)}, {**STOCK, "compile": took(1.0)}
    slow = {**STOCK, "triton": took(2.4), "compile": took(2.4)}
    assert said(run(*points(b1=slow, b2=slow, b3=slow, b4=triton, b5=compile_))) == (
        f"{four(5, 2, 3, 0, 0, 'triton wins 1')} "
        "triton is 1.04x as fast as stock on cpu (geometric mean over 4 points, interval 1.04-1.04)."
    )


def test_references_of_several_names_count_together() -> None:
    layers = (layer("softmax"), layer("gelu", ("plain", "stock")))
    plain = {"plain": took(2.0), "noise_floor": took(2.0)}
    unbeaten = run(at(**STOCK, triton=took(3.0)), at(layer="gelu", **plain, stock=took(3.0)), layers=layers)
    assert said(unbeaten) == four(2, 0, 2, 0, 0, to="the reference")
    # gelu's variant `stock` bears the name of softmax's reference, and still wins
    won = run(*(at(batch, layer="gelu", **plain, stock=took(1.0)) for batch in (1, 8)), layers=layers)
    assert said(won) == (
        f"{four(2, 2, 0, 0, 0, 'stock wins 2', to='plain')} "
        "stock is 2.00x as fast as plain on cpu (geometric mean over 2 points, interval 2.00-2.00)."
    )


def test_nothing_was_measured() -> None:
    assert said(run()) == "Nothing was measured."
    assert said(run(at(stock=FAILED, noise_floor=SKIPPED, triton=SKIPPED))) == (
        "Nothing was measured. Of 2 measurements, 1 failed and is not ranked, 1 was skipped."
    )


def test_only_the_reference_was_timed() -> None:
    assert said(run(at(**STOCK, triton=CHECKED))) == (
        "Nothing was compared on cpu: only stock was timed. Of 2 measurements, 1 was proved equivalent but not timed here."
    )


def test_what_is_missing_is_counted() -> None:
    bad = {**STOCK, "triton": FAILED, "compile": took(2.0)}
    assert said(run(*points(b1=bad, b8=bad, b64=STOCK | {"triton": CHECKED, "compile": took(2.0)}))) == (
        f"{four(3, 0, 1, 0, 2)} Of 9 measurements, 2 failed and are not ranked, 1 was proved equivalent but not timed here."
    )
    many = [at(batch, **STOCK, triton=CHECKED, compile=SKIPPED) for batch in (1, 8)]
    assert said(run(*many)) == (
        "Nothing was compared on cpu: only stock was timed. Of 6 measurements, 2 were skipped, 2 were proved equivalent but not timed here."
    )


def test_a_failed_second_copy_of_the_reference_is_said() -> None:
    assert said(run(at(stock=took(2.0), noise_floor=FAILED, triton=took(2.0)))) == (
        f"{four(1, 0, 0, 1, 0)} Of 3 measurements, 1 failed and is not ranked."
    )


def test_each_device_has_its_sentence() -> None:
    cpu = points("cpu", b1={**STOCK, "triton": CHECKED, "compile": took(1.6)})
    cuda = points("cuda", b1={**STOCK, "triton": took(1.0), "compile": took(1.6)}, b8={**STOCK, "triton": took(1.0)})
    assert said(run(*cpu, *cuda)) == (
        f"{four(1, 1, 0, 0, 0, 'compile wins 1')} {four(2, 2, 0, 0, 0, 'triton wins 2', device='cuda')} "
        "compile is 1.25x as fast as stock on cpu (geometric mean over 1 point, interval 1.25-1.25). "
        "triton is 2.00x as fast as stock on cuda (geometric mean over 2 points, interval 2.00-2.00). "
        "Of 8 measurements, 1 was proved equivalent but not timed here."
    )


def test_when_compiling_pays_back() -> None:
    # 0.5 s or 1 s saved per call: 31 s after 62 or 31 calls; never where it is slower
    gain, loss = {**STOCK, "compile": compiled(1.5, 31.0)}, {**STOCK, "compile": compiled(2.5, 31.0)}
    assert said(run(*points(b1=gain))).endswith("). Compiling saves time in 1 of 1 case; it needs 62 calls to make up for the compilation.")
    more = {**STOCK, "compile": compiled(1.0, 31.0)}
    assert said(run(*points(b1=gain, b8=more, b64=loss))).endswith(
        "). Compiling saves time in 2 of 3 cases; the best of them needs 31 calls to make up for the compilation."
    )
    assert said(run(*points(b1=loss))) == f"{four(1, 0, 1, 0, 0)} Compiling saves time in 0 of 1 case."


@pytest.mark.parametrize(
    ("cold", "words"),
    [(0.2, "1 call"), (0.5, "1 call"), (1.0, "2 calls"), (1567.0, "3 100 calls"), (49.9, "100 calls"), (617_000.0, "1 200 000 calls")],
)
def test_calls_are_rounded_to_two_digits(cold: float, words: str) -> None:
    assert f"it needs {words} to make up for the compilation." in said(run(at(**STOCK, compile=compiled(1.5, cold))))


def test_payback() -> None:
    assert summary.payback(3.0, 2e-3, 1.5, "faster") == pytest.approx(3000)  # 1 ms saved per call
    assert [summary.payback(3.0, 2e-3, 1.5, word) for word in ("unclear", "same", "slower")] == [math.inf] * 3


def test_winners_point_by_point() -> None:
    both = {**STOCK, "triton": took(1.5), "compile": took(1.0)}
    whole = run(*points(b1=both, b8={**STOCK, "triton": took(3.0)}, b64=STOCK))
    assert ranking.points(tidy(whole)).to_dict("list") == {
        "point": ["softmax-forward-cpu-float32-batch1", "softmax-forward-cpu-float32-batch8"],
        "layer": ["softmax", "softmax"],
        "device": ["cpu", "cpu"],
        "state": ["faster", "slower"],
        "winner": ["compile", ""],
    }


def test_variants_in_the_order_of_the_layers_and_none_that_no_layer_of_the_run_has() -> None:
    layers = (layer("softmax", ("stock", "triton", "compile")), layer("gelu", ("stock", "function", "compile"), triton="pointwise"))
    whole = run(at(**STOCK, compile=took(1.0)), at(layer="gelu", **STOCK, function=took(1.0)), layers=layers)
    assert win_matrix.variants(whole) == ["stock", "compile", "function"]
    assert list(rows(whole)[0].cells) == ["stock", "compile", "function"]


def test_the_win_matrix_has_a_row_per_layer_step_and_device() -> None:
    whole = run(at(**STOCK), at(step="backward", **STOCK), at(device="cuda", **STOCK), at(8, **STOCK))
    assert [(row.layer, row.step, row.device, row.noise_floor) for row in rows(whole)] == [
        ("softmax", "forward", "cpu", 0.01),
        ("softmax", "backward", "cpu", 0.01),
        ("softmax", "forward", "cuda", 0.02),
    ]
    assert rows(run()) == []


def cells(*batches: dict[str, object], **absent: str) -> dict[str, Cell]:
    whole = run(*(at(2**place, **batch) for place, batch in enumerate(batches)), layers=(layer(**absent),))
    (row,) = rows(whole)
    return row.cells


@pytest.mark.parametrize(("seconds", "state"), [(1.0, "faster"), (4.0, "slower"), (2.0, "same")])
def test_the_cell_of_a_measured_variant(seconds: float, state: str) -> None:
    cell = cells({**STOCK, "triton": took(seconds)}, {**STOCK, "triton": took(seconds)})["triton"]
    assert cell.speedup == pytest.approx((2 / seconds,) * 3)
    assert (cell.state, cell.points, cell.faster, cell.slower, cell.reason) == (state, 2, 2 * (seconds == 1), 2 * (seconds == 4), "")


def test_the_cell_of_an_unclear_variant_and_of_one_that_wins_here_and_loses_there() -> None:
    assert cells({**STOCK, "triton": took(1.9, wobble=0.05)})["triton"].state == "unclear"
    mixed = cells({**STOCK, "triton": took(1.0)}, {**STOCK, "triton": took(4.0)})["triton"]
    assert (mixed.state, mixed.points, mixed.faster, mixed.slower, mixed.where) == ("mixed", 2, 1, 1, "wins up to batch 1")


@pytest.mark.parametrize(
    ("seconds", "where"),
    [
        ((4.0, 1.0, 1.0), "wins from batch 2"),
        ((4.0, 4.0, 1.9), "wins from batch 4"),
        ((1.0, 4.0, 4.0), "wins up to batch 1"),
        ((4.0, 1.0, 4.0), "wins at batch 2"),
        ((4.0, 1.0, 2.0), "wins at batch 2"),  # the same at 4: it does not win from 2 on
        ((1.0, 4.0, 1.0), "wins at batch 1, 4"),
    ],
)
def test_a_mean_that_hides_a_crossing_says_where_the_variant_wins(seconds: tuple[float, ...], where: str) -> None:
    cell = cells(*({**STOCK, "triton": took(one)} for one in seconds))["triton"]
    assert (cell.state, cell.where) == ("mixed", where)


def test_a_crossing_along_another_dimension_or_along_none_is_told_too() -> None:
    def where(fast: set[tuple[int, int]]) -> str:
        places = [(batch, width) for batch in (1, 8) for width in (16, 64)]
        records = []
        for batch, width in places:
            point = Point("softmax", {"batch": batch, "width": width}, "float32", "cpu", "forward")
            found = {**STOCK, "triton": took(1.0 if (batch, width) in fast else 4.0)}
            records.append([Record(point, name, outcome) for name, outcome in found.items()])
        return rows(run(*records))[0].cells["triton"].where

    assert where({(1, 64), (8, 64)}) == "wins from width 64"
    assert where({(8, 16), (8, 64)}) == "wins from batch 8"
    assert where({(1, 16), (8, 64)}) == "wins on 2 of 4"


def test_a_single_win_under_a_mean_that_is_slower_is_mixed_and_a_single_loss_under_a_mean_that_is_faster() -> None:
    unclear = [{**STOCK, "triton": took(2.35, wobble=0.06)}] * 6
    cell = cells({**STOCK, "triton": took(1.9)}, *unclear)["triton"]
    assert (cell.faster, cell.slower, cell.state, cell.where) == (1, 0, "mixed", "wins up to batch 1")
    unclear = [{**STOCK, "triton": took(1.7, wobble=0.06)}] * 6
    cell = cells({**STOCK, "triton": took(2.1)}, *unclear)["triton"]
    assert (cell.faster, cell.slower, cell.state, cell.where) == (0, 1, "mixed", "slower on 1 of 7")
    assert cells(*unclear)["triton"].state == "faster"


def best(*batches: dict[str, object]) -> str:
    return rows(run(*(at(2**place, **batch) for place, batch in enumerate(batches))))[0].best


def test_the_reference_is_the_best_of_a_row_only_where_every_other_is_slower_or_the_same() -> None:
    slow, unclear = {"triton": took(2.4)}, took(1.9, wobble=0.05)
    assert best({**STOCK, **slow, "compile": took(2.0)}) == "stock"
    assert best({**STOCK, **slow, "compile": CHECKED}) == "stock"
    assert best({**STOCK, **slow, "compile": unclear}) == ""
    assert best({**STOCK, **slow, "compile": FAILED}) == ""
    assert best({**STOCK, **slow, "compile": took(1.0)}, {**STOCK, **slow, "compile": took(4.0)}) == ""
    assert best({**STOCK, "compile": unclear, "triton": took(1.5)}) == "triton"
    assert best(STOCK) == best({**STOCK, "triton": CHECKED}) == ""


def ended(outcome: Measured, by: str, rounds: int) -> Measured:
    timing = msgspec.structs.replace(outcome.timing, stopped=by, seconds=outcome.timing.seconds[:1] * rounds, order=tuple(range(rounds)))
    return msgspec.structs.replace(outcome, timing=timing)


def test_points_that_the_budget_ended_are_counted_with_what_mends_it() -> None:
    def point(batch: int, by: str, rounds: int) -> list[Record]:
        return at(batch, **{name: ended(outcome, by, rounds) for name, outcome in {**STOCK, "triton": took(4.0)}.items()})

    headline = four(3, 0, 3, 0, 0)
    assert said(run(point(1, "budget", 6), point(2, "budget", 48), point(3, "precision", 48))) == (
        f"{headline} The time budget ended 2 of 3 points before every ratio was known to 1 %: a longer --budget narrows the intervals. "
        "1 point has fewer than 12 rounds."
    )
    assert said(run(*(point(batch, "precision", 48) for batch in (1, 2, 3)))) == headline
    assert (measure.Limit(1.0).precision, measure.FIRST_LOOK) == (summary.PRECISION, summary.FEW)


def test_a_mean_is_judged_against_the_noise_of_the_mean() -> None:
    # one point's floor is 16 %; the mean of two has 8 %, and 1.11 lies beyond it, 1.05 does not
    for seconds, state in ((1.8, "faster"), (1.9, "same")):
        loud = {"stock": took(2.0), "noise_floor": took(2.0, wobble=0.05), "triton": took(seconds)}
        calm = {**STOCK, "triton": took(seconds)}
        assert (cells(calm, loud)["triton"].state, cells(calm, loud)["triton"].faster) == (state, 1)


def test_the_cell_of_the_reference() -> None:
    assert cells(STOCK, STOCK)["stock"] == Cell("reference", None, 2, 0, 0, "every ratio is taken against this one")
    failed = cells(STOCK, {"stock": FAILED, "noise_floor": SKIPPED, "triton": SKIPPED})
    assert failed["stock"] == Cell("failed", None, 0, 0, 0, "failed at verify: output: off by 0.01, allowed 1e-6")


def test_the_cells_of_what_was_not_measured() -> None:
    found = cells({**STOCK, "triton": CHECKED, "compile": SKIPPED}, {**STOCK, "triton": CHECKED, "compile": SKIPPED})
    assert found["triton"] == Cell("checked", None, 0, 0, 0, "checked at verify: Triton needs a GPU")
    assert found["compile"] == Cell("skipped", None, 0, 0, 0, "skipped at time: no output has a gradient")


def test_one_failure_takes_the_ranking_away_and_one_skip_does_not() -> None:
    fast = {**STOCK, "triton": took(1.0), "compile": took(1.0)}
    found = cells(fast, {**STOCK, "triton": FAILED, "compile": SKIPPED})
    assert found["triton"] == Cell("failed", None, 1, 0, 0, "failed at verify: output: off by 0.01, allowed 1e-6")
    assert (found["compile"].state, found["compile"].points, found["compile"].reason) == (
        *("faster", 1),
        "skipped at time: no output has a gradient",
    )


def test_the_cell_of_a_variant_without_its_reference() -> None:
    found = cells({"stock": FAILED, "triton": took(1.0)})
    assert found["triton"] == Cell("skipped", None, 0, 0, 0, "the reference was not measured, so there is no ratio")


def test_the_cell_of_a_variant_that_the_layer_does_not_have() -> None:
    layers = (layer("softmax", ("stock", "triton")), layer("gelu", ("stock",), triton="pointwise: compile writes it"))
    whole = run(at(**STOCK, triton=took(1.0)), at(layer="gelu", **STOCK), at(step="backward", **STOCK), layers=layers)
    assert [row.cells["triton"].state for row in rows(whole)] == ["faster", "absent", "absent"]
    assert [row.cells["triton"].reason for row in rows(whole)][1:] == ["pointwise: compile writes it", "not in this run"]


def test_the_noise_floor_of_a_row_is_that_of_the_mean_over_its_points() -> None:
    whole = run(at(1, **STOCK), at(8, stock=took(2.0), noise_floor=took(2.0, wobble=0.05)))
    assert rows(whole)[0].noise_floor == pytest.approx(math.exp(0.05 * FOUR_ROUNDS / 2) - 1)
    assert rows(run(at(stock=FAILED)))[0].noise_floor is None


def test_points_too_noisy_to_tell_are_said() -> None:
    loud = {"stock": took(2.0), "noise_floor": took(2.0, wobble=0.05), "triton": took(1.9)}
    whole = run(at(1, **loud), at(8, **{**STOCK, "triton": took(1.0)}))
    told = "The noise floor is above 10 % on 1 of 2 points: the command `again` measures these points again, on a quieter machine."
    assert told in summary.verdict(whole, tidy(whole))


def test_times_that_cannot_be_true_are_counted_and_not_ranked() -> None:
    roof = Roof("cpu", "float32", 1e9, 1e9, 1e9, 1e-3)
    fast = {**STOCK, "triton": took(1e-4), "compile": took(2.0)}
    whole = run(at(8, **fast), at(64, **{**STOCK, "triton": took(1.0), "compile": took(2.0)}), roofs=(roof,))
    assert said(whole) == (
        f"{four(2, 1, 0, 0, 1, 'triton wins 1')} "
        "triton is 2.00x as fast as stock on cpu (geometric mean over 1 point, interval 2.00-2.00). "
        "Of 6 measurements, 1 is invalid and is not ranked."
    )
    cell = rows(whole)[0].cells["triton"]
    assert (cell.state, cell.points) == ("faster", 1)
    assert cell.reason == "invalid at time: 1e+05 ns per call: calling a module that does nothing takes 1e+06 ns here"
    (row,) = rows(run(at(8, **fast), roofs=(roof,)))
    assert (row.cells["triton"].state, row.cells["triton"].speedup) == ("invalid", None)


BUSY = 1.4  # of two cores, and one thread is timed


def test_what_other_work_disturbed_is_not_ranked_and_left_out_of_the_mean() -> None:
    fast = {**STOCK, "triton": took(1.0)}
    disturbed = {"stock": took(2.0, others=BUSY), "triton": took(8.0, others=BUSY), "noise_floor": took(3.0, others=BUSY)}
    whole = run(*points(b1=fast, b8=disturbed))
    assert said(whole) == (
        f"{four(2, 1, 0, 1, 0, 'triton wins 1')} "
        "triton is 2.00x as fast as stock on cpu (geometric mean over 1 point, interval 2.00-2.00). "
        "Other work wanted the same cores on 1 of 2 points: there nothing is ranked."
    )
    (row,) = rows(whole)
    cell = row.cells["triton"]
    assert (cell.state, cell.speedup.ratio, cell.points, cell.faster, cell.slower) == ("faster", pytest.approx(2.0), 1, 1, 0)
    assert (cell.reason, row.noise_floor) == ("1 of 2 points left out: other work wanted the same cores", pytest.approx(0.01))


def test_where_other_work_disturbed_everything_nothing_can_be_told() -> None:
    whole = run(*points(b1={"stock": took(2.0, others=BUSY), "triton": took(1.0, others=BUSY), "noise_floor": took(2.0, others=BUSY)}))
    assert said(whole) == f"{four(1, 0, 0, 1, 0)} Other work wanted the same cores on 1 of 1 point: there nothing is ranked."
    cell = rows(whole)[0].cells["triton"]
    assert (cell.state, cell.speedup.ratio, cell.reason) == (
        "unclear",
        pytest.approx(2.0),
        "no verdict is possible: other work wanted the same cores",
    )
