"""Stored runs against each other: every verdict, the mirror image when the two are exchanged, and which changes fail a check."""

import math

import pytest
from fixture_run import environment
from runs import CHECKED, FAILED, FOUR_ROUNDS, SKIPPED, at, layer, run, took

from layerbench.bench.analysis.compare import compare, differences, failures
from layerbench.bench.data.change import Change
from layerbench.bench.data.record import Compiled, Memory, Outcome, Run

STOCK = {"stock": took(2.0), "noise_floor": took(2.0)}
MIRROR = {"slower": "faster", "faster": "slower", "larger": "smaller", "smaller": "larger", "same": "same", "unclear": "unclear"}


def a_run(triton: Outcome, **changes: object) -> Run:
    return run(at(**STOCK, triton=triton), **changes)


def metric(old: Run, new: Run, name: str, variant: str = "triton") -> Change:
    (change,) = (each for each in compare(old, new) if (each.metric, each.variant) == (name, variant))
    return change


def verdicts(old: Run, new: Run) -> list[tuple[str, str, str]]:
    return [(change.variant, change.metric, change.verdict) for change in compare(old, new)]


SAME = [(name, "same") for name in ("saved_bytes", "peak_forward_bytes", "peak_backward_bytes")]


def test_a_run_against_itself() -> None:
    whole = a_run(took(1.0))
    assert verdicts(whole, whole) == [
        *(("stock", name, word) for name, word in SAME),
        *(("triton", name, word) for name, word in [("speedup", "same"), *SAME]),
    ]
    assert failures(compare(whole, whole)) == []


@pytest.mark.parametrize(
    ("was", "now", "wobble", "word"),
    [
        (1.0, 1.2, 0.0, "slower"),
        (1.2, 1.0, 0.0, "faster"),
        (1.0, 1.04, 0.0, "same"),  # below the threshold of 5 %
        (1.0, 1.06, 0.0, "slower"),
        (1.0, 1.06, 0.01, "unclear"),  # the interval reaches over the threshold
        (1.0, 1.2, 0.01, "slower"),
        (1.0, 1.2, 0.05, "unclear"),
    ],
)
def test_the_ratio_to_the_reference_and_its_mirror_image(was: float, now: float, wobble: float, word: str) -> None:
    old, new = a_run(took(was)), a_run(took(now, wobble))
    change, back = metric(old, new, "speedup"), metric(new, old, "speedup")
    half = wobble * FOUR_ROUNDS
    assert change.verdict == word
    assert (change.old, change.new, change.ratio) == pytest.approx((2 / was, 2 / now, now / was))
    assert (change.low, change.high) == pytest.approx((now / was * math.exp(-half), now / was * math.exp(half)))
    assert back.verdict == MIRROR[word]
    assert (back.ratio, back.low, back.high) == pytest.approx((1 / change.ratio, 1 / change.high, 1 / change.low))


def test_a_slower_machine_is_no_change() -> None:
    old, new = a_run(took(1.0)), run(at(stock=took(6.0), noise_floor=took(6.0), triton=took(3.0)))
    assert metric(old, new, "speedup").verdict == "same"
    assert metric(old, new, "speedup").ratio == pytest.approx(1.0)


def test_the_intervals_of_both_runs_join() -> None:
    change = metric(a_run(took(1.0, 0.03)), a_run(took(1.0, 0.04)), "speedup")
    assert change.high == pytest.approx(math.exp(0.05 * FOUR_ROUNDS))  # 3, 4, 5


def test_a_noise_floor_above_the_threshold_takes_its_place() -> None:
    loud = run(at(stock=took(2.0), noise_floor=took(2.0, 0.05), triton=took(1.1)))  # a floor of 16 %
    assert metric(a_run(took(1.0)), loud, "speedup").verdict == "same"
    assert metric(loud, a_run(took(1.0)), "speedup").verdict == "same"
    assert compare(a_run(took(1.0)), a_run(took(1.1)), threshold=0.2)[3].verdict == "same"


@pytest.mark.parametrize(
    ("now", "ratio", "word"), [(1536, 1.5, "larger"), (512, 0.5, "smaller"), (1100, 1100 / 1024, "larger"), (1024, 1.0, "same")]
)
def test_bytes_are_compared_exactly(now: int, ratio: float, word: str) -> None:
    change = metric(a_run(took(1.0)), a_run(took(1.0, memory=(4096, now, 2048, 3072))), "saved_bytes")
    assert (change.old, change.new, change.verdict) == (1024.0, now, word)
    assert (change.ratio, change.low, change.high) == (ratio, ratio, ratio)


def test_bytes_from_and_to_zero() -> None:
    nothing, some = a_run(took(1.0, memory=(4096, 0, 2048, 3072))), a_run(took(1.0))
    assert (metric(nothing, some, "saved_bytes").ratio, metric(nothing, some, "saved_bytes").verdict) == (math.inf, "larger")
    assert (metric(some, nothing, "saved_bytes").ratio, metric(some, nothing, "saved_bytes").verdict) == (0.0, "smaller")
    assert (metric(nothing, nothing, "saved_bytes").ratio, metric(nothing, nothing, "saved_bytes").verdict) == (1.0, "same")


def test_live_bytes_are_no_price_of_a_variant() -> None:
    more = a_run(took(1.0, memory=(8192, 1024, 2048, 3072)))
    assert {change.verdict for change in compare(a_run(took(1.0)), more)} == {"same"}


def test_what_compiling_did() -> None:
    old = run(at(**STOCK, compile=took(1.0, compiled=Compiled(3.0, 1, (), 0))))
    new = run(at(**STOCK, compile=took(1.0, compiled=Compiled(9.0, 2, ("print",), 0))))
    found = {each.metric: each.verdict for each in compare(old, new) if each.variant == "compile"}
    assert found == {"speedup": "same", **dict(SAME), "graphs": "larger", "breaks": "larger", "recompiles": "same"}
    eager = run(at(**STOCK, compile=took(1.0)))
    gone = {each.metric: (each.verdict, math.isnan(each.ratio)) for each in compare(old, eager) if each.metric == "graphs"}
    assert gone == {"graphs": ("missing", True)}  # it was compiled before: silence must not pass
    assert "graphs" not in {each.metric for each in compare(eager, old)}


@pytest.mark.parametrize(
    ("was", "now", "word"),
    [
        (took(1.0), FAILED, "failed"),
        (took(1.0), SKIPPED, "missing"),
        (took(1.0), CHECKED, "missing"),
        (CHECKED, CHECKED, "same"),
        (SKIPPED, SKIPPED, "same"),
        (FAILED, FAILED, "failed"),
        (CHECKED, FAILED, "failed"),
        (CHECKED, took(1.0), "new"),
        (FAILED, took(1.0), "new"),
        (FAILED, CHECKED, "new"),
    ],
)
def test_outcomes(was: Outcome, now: Outcome, word: str) -> None:
    change = metric(a_run(was), a_run(now), "outcome")
    assert change.verdict == word
    assert all(math.isnan(value) for value in (change.old, change.new, change.ratio, change.low, change.high))


def test_what_only_one_run_has_and_the_order_of_both() -> None:
    old = run(at(1, **STOCK, triton=took(1.0)), at(8, **STOCK))
    new = run(at(8, **STOCK, triton=took(1.0), compile=FAILED), at(64, **STOCK))
    found = [(c.point.size["batch"], c.variant, c.metric, c.verdict) for c in compare(old, new) if c.metric == "outcome"]
    assert found == [
        (8, "triton", "outcome", "new"),
        (8, "compile", "outcome", "failed"),
        (64, "stock", "outcome", "new"),
        (1, "stock", "outcome", "missing"),
        (1, "triton", "outcome", "missing"),
    ]


def test_ratios_to_another_reference_are_not_compared() -> None:
    old = run(at(**STOCK, triton=took(1.0), compile=took(1.0)))
    records = at(stock=took(2.0), triton=took(1.0), noise_floor=took(1.0), compile=took(1.0))
    new = run(records, layers=(layer("softmax", ("triton", "stock", "compile")),))
    speedups = [(c.variant, c.verdict, math.isnan(c.ratio)) for c in compare(old, new) if c.metric == "speedup"]
    assert speedups == [("triton", "missing", True), ("compile", "missing", True)]
    assert differences(old, new) == ["reference of softmax: stock before, triton now"]


def test_an_interval_without_end_is_unclear() -> None:
    def one_round(seconds: float) -> Outcome:
        whole = took(seconds)
        timing = type(whole.timing)((seconds,), 10, (0,), "budget", "host")
        return type(whole)(timing, Memory(1, 1, 1, 1), whole.accuracy, whole.profile)

    once = run(at(stock=one_round(2.0), triton=one_round(1.0)))
    change = metric(once, once, "speedup")
    assert (change.ratio, change.low, change.high, change.verdict) == (1.0, 0.0, math.inf, "unclear")


def test_only_what_got_worse_fails() -> None:
    words = ("slower", "faster", "larger", "smaller", "same", "unclear", "missing", "failed", "new")
    point = at(**STOCK)[0].point
    changes = [Change(point, "triton", "speedup", 1.0, 1.0, 1.0, 1.0, 1.0, word) for word in words]
    assert [change.verdict for change in failures(changes)] == ["slower", "larger", "missing", "failed"]


def test_differences_of_the_environment() -> None:
    old = a_run(took(1.0))
    assert differences(old, a_run(took(1.0), environment=environment(load=9.0, commit="other", dirty=True))) == []
    elsewhere = environment(
        machine="other",
        cpu="Xeon",
        threads=8,
        python="3.14.0",
        versions={"layerbench": "0.1.0", "torch": "2.14.0", "helion": "1.0"},
        flags={"matmul_precision": "high", "governor": "performance"},
    )
    assert differences(old, a_run(took(1.0), environment=elsewhere)) == [
        "machine: AMD EPYC 7B13 (amd-epyc-2c-6f1c) before, Xeon (other) now",
        "threads: 1 before, 8 now",
        "python: 3.11.7 before, 3.14.0 now",
        "torch: 2.13.0 before, 2.14.0 now",
        "triton: 3.7.0 before, none now",
        "helion: none before, 1.0 now",
        "matmul_precision: highest before, high now",
    ]


def test_what_other_work_disturbed_is_unclear() -> None:
    calm = run(at(stock=took(2.0), triton=took(1.0), noise_floor=took(2.0)))
    busy = run(at(stock=took(2.0, others=1.4), triton=took(4.0, others=1.4), noise_floor=took(2.0, others=1.4)))
    for old, new in ((calm, busy), (busy, calm)):
        assert [change.verdict for change in compare(old, new) if change.variant == "triton" and change.metric == "speedup"] == ["unclear"]


def test_bytes_within_the_slack_of_the_check_are_the_same() -> None:
    def held(saved: int) -> Run:
        return run(at(8, **STOCK, triton=took(1.0, memory=(4096, saved, 2048, 3072))))

    def verdict(before: int, after: int) -> list[str]:
        return [each.verdict for each in compare(held(before), held(after)) if each.variant == "triton" and each.metric == "saved_bytes"]

    assert verdict(524_288, 524_288 + 256) == ["same"]  # less than 0.2 %
    assert verdict(100, 164) == ["same"]  # 64 bytes: what an allocation is rounded up to
    assert verdict(524_288, 524_288 + 1100) == ["larger"]
    assert verdict(524_288 + 1100, 524_288) == ["smaller"]


@pytest.mark.parametrize(("seconds", "word"), [(5e-6, "same"), (5e-3, "slower")])
def test_two_launches_of_a_short_operation_differ_by_more(seconds: float, word: str) -> None:
    def launched(factor: float) -> Run:
        return run(at(8, stock=took(seconds), noise_floor=took(seconds), triton=took(factor * seconds, 1e-4)))

    assert metric(launched(1.0), launched(1.07), "speedup").verdict == word
    assert metric(launched(1.0), launched(1.12), "speedup").verdict == "slower"
