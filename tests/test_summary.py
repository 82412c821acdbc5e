"""The sentences and the win matrix, to the letter and the digit."""

import math

import pytest
from runs import CHECKED, FAILED, FOUR_ROUNDS, SKIPPED, at, layer, run, took

from layerbench.bench import summary
from layerbench.bench.frame import tidy
from layerbench.bench.record import Compiled, Measured, Record, Roof, Run
from layerbench.bench.summary import Cell, Row

STOCK = {"stock": took(2.0), "noise_floor": took(2.0)}


def said(whole: Run) -> str:
    return summary.verdict(whole, tidy(whole))


def rows(whole: Run) -> list[Row]:
    return summary.matrix(whole, tidy(whole))


def compiled(seconds: float, cold: float) -> Measured:
    return took(seconds, compiled=Compiled(cold, 1, (), 0))


def points(device: str = "cpu", **batches: dict[str, object]) -> list[list[Record]]:
    return [at(int(name[1:]), device=device, **outcomes) for name, outcomes in batches.items()]


def test_a_variant_that_wins() -> None:
    # 2 x, 2 x and 0.5 x: their geometric mean is 2^(1/3) = 1.26
    fast, slow = {**STOCK, "triton": took(1.0)}, {**STOCK, "triton": took(4.0)}
    assert said(run(*points(b1=fast, b8=fast, b64=slow))) == (
        "triton wins 2 of 3 points on cpu (geometric mean 1.26x as fast as stock, interval 1.26-1.26, n = 3)."
    )


def test_the_interval_of_the_mean_is_over_the_points_where_the_winner_was_measured() -> None:
    fast = {"stock": took(3.0), "noise_floor": took(3.0), "triton": took(2.0, wobble=0.02)}
    half = 0.02 * FOUR_ROUNDS / math.sqrt(2)  # two points with the same error
    low, high = 1.5 * math.exp(-half), 1.5 * math.exp(half)
    assert (f"{low:.2f}", f"{high:.2f}") == ("1.44", "1.57")
    assert said(run(*points(b1=fast, b8=fast, b64=STOCK | {"triton": SKIPPED, "compile": took(3.0)}))) == (
        "triton wins 2 of 3 points on cpu (geometric mean 1.50x as fast as stock, interval 1.44-1.57, n = 2). "
        "Of 7 measurements, 1 was skipped."
    )


def test_nothing_beats_the_reference() -> None:
    slow, same = {**STOCK, "triton": took(2.4)}, {**STOCK, "triton": took(2.0)}
    assert said(run(*points(b1=slow, b8=same))) == "Nothing beats stock on 2 of 2 points on cpu."
    assert said(run(*points(b1=slow))) == "Nothing beats stock on 1 of 1 point on cpu."


def test_the_reference_is_unbeaten_on_most_points_or_on_as_many_as_any_other() -> None:
    triton, compile_ = {**STOCK, "triton": took(1.0)}, {**STOCK, "compile": took(1.0)}
    slow = {**STOCK, "triton": took(2.4), "compile": took(2.4)}
    assert said(run(*points(b1=slow, b2=slow, b3=slow, b4=triton, b5=compile_))) == (
        "Nothing beats stock on 3 of 5 points on cpu; another variant is faster on 2."
    )
    assert said(run(*points(b1=slow, b2=triton))) == "Nothing beats stock on 1 of 2 points on cpu; another variant is faster on 1."


def test_references_of_several_names_count_together() -> None:
    layers = (layer("softmax"), layer("gelu", ("plain", "stock")))
    plain = {"plain": took(2.0), "noise_floor": took(2.0)}
    unbeaten = run(at(**STOCK, triton=took(3.0)), at(layer="gelu", **plain, stock=took(3.0)), layers=layers)
    assert said(unbeaten) == "Nothing beats the reference on 2 of 2 points on cpu."
    # gelu's variant `stock` bears the name of softmax's reference, and still wins
    won = run(*(at(batch, layer="gelu", **plain, stock=took(1.0)) for batch in (1, 8)), layers=layers)
    assert said(won) == "stock wins 2 of 2 points on cpu (geometric mean 2.00x as fast as the reference, interval 2.00-2.00, n = 2)."


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
        "Nothing beats stock on 3 of 3 points on cpu. "
        "Of 9 measurements, 2 failed and are not ranked, 1 was proved equivalent but not timed here."
    )
    many = [at(batch, **STOCK, triton=CHECKED, compile=SKIPPED) for batch in (1, 8)]
    assert said(run(*many)) == (
        "Nothing was compared on cpu: only stock was timed. Of 6 measurements, 2 were skipped, 2 were proved equivalent but not timed here."
    )


def test_a_failed_second_copy_of_the_reference_is_said() -> None:
    assert said(run(at(stock=took(2.0), noise_floor=FAILED, triton=took(2.0)))) == (
        "Nothing beats stock on 1 of 1 point on cpu. Of 3 measurements, 1 failed and is not ranked."
    )


def test_each_device_has_its_sentence() -> None:
    cpu = points("cpu", b1={**STOCK, "triton": CHECKED, "compile": took(1.6)})
    cuda = points("cuda", b1={**STOCK, "triton": took(1.0), "compile": took(1.6)}, b8={**STOCK, "triton": took(1.0)})
    assert said(run(*cpu, *cuda)) == (
        "compile wins 1 of 1 point on cpu (geometric mean 1.25x as fast as stock, interval 1.25-1.25, n = 1). "
        "triton wins 2 of 2 points on cuda (geometric mean 2.00x as fast as stock, interval 2.00-2.00, n = 2). "
        "Of 8 measurements, 1 was proved equivalent but not timed here."
    )


def test_when_compiling_pays_back() -> None:
    # 0.5 s saved per call: 31 s after 62 calls; never where it is slower
    gain, loss = {**STOCK, "compile": compiled(1.5, 31.0)}, {**STOCK, "compile": compiled(2.5, 31.0)}
    assert said(run(*points(b1=gain))).endswith("n = 1). Compiling pays back after 62 calls at the earliest.")
    assert said(run(*points(b1=gain, b8=gain, b64=loss))).endswith(
        "n = 3). Compiling pays back after 62 calls at the earliest, and never in 1 of 3 cases."
    )
    assert said(run(*points(b1=loss))) == "Nothing beats stock on 1 of 1 point on cpu. Compiling never pays back."


@pytest.mark.parametrize(
    ("cold", "words"),
    [(0.2, "1 call"), (0.5, "1 call"), (1.0, "2 calls"), (1567.0, "3 100 calls"), (49.9, "100 calls"), (617_000.0, "1 200 000 calls")],
)
def test_calls_are_rounded_to_two_digits(cold: float, words: str) -> None:
    assert f"Compiling pays back after {words} at the earliest." in said(run(at(**STOCK, compile=compiled(1.5, cold))))


def test_payback() -> None:
    assert summary.payback(3.0, 2e-3, 1.5, "faster") == pytest.approx(3000)  # 1 ms saved per call
    assert [summary.payback(3.0, 2e-3, 1.5, word) for word in ("unclear", "same", "slower")] == [math.inf] * 3


def test_winners_point_by_point() -> None:
    both = {**STOCK, "triton": took(1.5), "compile": took(1.0)}
    whole = run(*points(b1=both, b8={**STOCK, "triton": took(3.0)}, b64=STOCK))
    won = summary.winners(tidy(whole), {"softmax": "stock"})
    assert won.to_dict("list") == {
        "point": ["softmax-forward-cpu-float32-batch1", "softmax-forward-cpu-float32-batch8"],
        "layer": ["softmax", "softmax"],
        "device": ["cpu", "cpu"],
        "winner": ["compile", "stock"],
    }


def test_variants_in_the_order_of_the_layers_with_the_declared_absences() -> None:
    layers = (layer("softmax", ("stock", "triton", "compile")), layer("gelu", ("stock", "function", "compile"), triton="pointwise"))
    whole = run(at(**STOCK, compile=took(1.0)), at(layer="gelu", **STOCK, function=took(1.0)), layers=layers)
    assert summary.variants(whole) == ["stock", "triton", "compile", "function"]


def test_the_win_matrix_has_a_row_per_layer_step_and_device() -> None:
    whole = run(at(**STOCK), at(step="backward", **STOCK), at(device="cuda", **STOCK), at(8, **STOCK))
    assert [(row.layer, row.step, row.device, row.noise_floor) for row in rows(whole)] == [
        ("softmax", "forward", "cpu", 0.01),
        ("softmax", "backward", "cpu", 0.01),
        ("softmax", "forward", "cuda", 0.01),
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
    assert (mixed.state, mixed.points, mixed.faster, mixed.slower) == ("same", 2, 1, 1)


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
    assert "The machine was too noisy to tell on 1 of 2 points: a noise floor above 10 %." in summary.verdict(whole, tidy(whole))


def test_times_that_cannot_be_true_are_counted_and_not_ranked() -> None:
    roof = Roof("cpu", "float32", 1e9, 1e9, 1e9, 1e-3)
    fast = {**STOCK, "triton": took(1e-4), "compile": took(2.0)}
    whole = run(at(8, **fast), at(64, **{**STOCK, "triton": took(1.0), "compile": took(2.0)}), roofs=(roof,))
    assert said(whole) == (
        "Nothing beats stock on 1 of 2 points on cpu; another variant is faster on 1. Of 6 measurements, 1 is invalid and is not ranked."
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
        "triton wins 1 of 1 point on cpu (geometric mean 2.00x as fast as stock, interval 2.00-2.00, n = 1). "
        "Other work wanted the same cores on 1 of 2 points: there nothing is ranked."
    )
    (row,) = rows(whole)
    cell = row.cells["triton"]
    assert (cell.state, cell.speedup.ratio, cell.points, cell.faster, cell.slower) == ("faster", pytest.approx(2.0), 1, 1, 0)
    assert (cell.reason, row.noise_floor) == ("1 of 2 points left out: other work wanted the same cores", pytest.approx(0.01))


def test_where_other_work_disturbed_everything_nothing_can_be_told() -> None:
    whole = run(*points(b1={"stock": took(2.0, others=BUSY), "triton": took(1.0, others=BUSY), "noise_floor": took(2.0, others=BUSY)}))
    assert said(whole) == "Nothing can be told on cpu. Other work wanted the same cores on 1 of 1 point: there nothing is ranked."
    cell = rows(whole)[0].cells["triton"]
    assert (cell.state, cell.speedup.ratio, cell.reason) == (
        "unclear",
        pytest.approx(2.0),
        "nothing can be told: other work wanted the same cores",
    )
