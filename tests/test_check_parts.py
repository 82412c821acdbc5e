"""The parts of the check that need no worker: pairing, exact numbers, verdicts, rounds with scripted executor, imports that are moved."""

import importlib
import math
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from check_example import row as example_row
from runs import layer

from layerbench.bench.analysis import exact
from layerbench.bench.check import executors, pairing, reference_change, rounds, unit, verdicts
from layerbench.bench.check.executors import Fault
from layerbench.bench.check.pairing import Benchmark
from layerbench.bench.check.rounds import Track
from layerbench.bench.check.side import timing
from layerbench.bench.check.side.redirect import Moved, by_plain_name
from layerbench.bench.check.unit import Until
from layerbench.bench.check.verdicts import Timed
from layerbench.bench.cli import commands, main
from layerbench.bench.data.check_record import Facts, Row, Unit, compared
from layerbench.bench.data.record import Compiled, Device, Failed, LayerFacts, Memory, Point, Skipped, SweepGraphs, VariantFacts
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.plan.planning import Selection
from layerbench.bench.process.check_messages import Examine, Examined, Prepare, Prepared, Sketch, Sketched, SketchReference, TimeBlock
from layerbench.bench.process.handle import WorkerBroke, WorkerDied
from layerbench.bench.process.protocol import Answer, Request
from layerbench.bench.stats.sequential import Rule
from layerbench.bench.timing.clock import Call, FakeClock

CPU = Device("cpu", "a processor", 2**30, ("float32",))
POINT = Point("silu", {"batch": 4}, "float32", "cpu", "forward")
BACKWARD = Point("silu", {"batch": 4}, "float32", "cpu", "backward")
UPDATE = Point("silu", {"batch": 4}, "float32", "cpu", "update_adam")
FLAT = Facts(Memory(100, 0, 300, 300), None, differentiable=False)
FIXED = Facts(Memory(100, 0, 300, 300), None, learns=False)
RULE = Rule(0.05, 0.005, 2)

# --- one unit ------------------------------------------------------------------------------------------------------------------------


def test_a_unit_alternates_in_mirrored_order_and_drift_falls_on_both_alike() -> None:
    now, order = [0.0], []

    def block(side: str, seconds: float) -> Callable[[int], float]:
        def timed(calls: int) -> unit.Timed:
            order.append(side)
            now[0] += calls * seconds
            return unit.Timed(seconds * math.exp(0.5 * now[0]))  # the machine slows down steadily

        return timed

    found = unit.measure(block("A", 1e-3), block("B", 1.1e-3), 2, unit.Until(0.2), lambda: now[0], random.Random(1), 7)
    turns = ["".join(order[start : start + 8]) for start in range(0, len(order), 8)]
    assert set(turns) == {"ABBABAAB", "BAABABBA"}
    assert found.difference == pytest.approx(math.log(1.1), rel=1e-3)
    assert (found.cycles, found.calls, found.process) == (len(turns), 2, 7)
    assert found.cycles == math.ceil(0.2 / (8 * 2.1e-3))


def test_a_slow_call_still_gets_three_super_cycles_and_bursts_stay_out_of_the_mean() -> None:
    blocks = map(unit.Timed, [1.0] * 8 + [1.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0] + [1.0] * 64, [0, 2, 1] + [0] * 77)
    found = unit.measure(lambda _: next(blocks), lambda _: next(blocks), 1, unit.Until(0.0), lambda: 0.0, random.Random(0))
    assert (found.cycles, found.base_seconds, found.again) == (3, 1.0, 3)
    assert unit.trimmed([0.0, 0.01, 0.02, 0.03, 9.0]) == pytest.approx(0.02)


def test_a_unit_ends_early_where_its_error_is_small_whichever_side_is_faster() -> None:
    def cycles(noise: float, ratio: float) -> int:
        dice, now = random.Random(3), [0.0]

        def block(side: float) -> Callable[[int], unit.Timed]:
            def timed(calls: int) -> unit.Timed:
                now[0] += 2e-3
                return unit.Timed(side * math.exp(dice.gauss(0, noise)))

            return timed

        return unit.measure(block(1.0), block(ratio), 1, Until(0.5, 0.0025), lambda: now[0], random.Random(1)).cycles

    assert cycles(0.001, 1.0) == cycles(0.001, 1.2) == cycles(0.001, 0.8) == unit.QUICK
    assert unit.QUICK < cycles(0.015, 1.0) == cycles(0.015, 1.2) < 0.5 / 0.016
    assert cycles(0.1, 1.0) == math.ceil(0.5 / 0.016)
    assert unit.until("cpu", 0.02) == (unit.SECONDS, 0.002)


def test_the_error_of_a_units_mean_is_that_of_many_units() -> None:
    dice = random.Random(7)
    samples = [[dice.gauss(0, 0.01) for _ in range(20)] for _ in range(2000)]
    spread = statistics.stdev(unit.trimmed(sample) for sample in samples)
    assert statistics.fmean(map(unit.error, samples)) == pytest.approx(spread, rel=0.1)


class Busy(FakeClock):
    """A host whose scheduler gives the core away in the stretches named, by their numbers."""

    def __init__(self, cut: set[int]) -> None:
        super().__init__(lambda variant, number: 0.002)
        self.cut, self.taken = cut, 0
        self.lost = 0.0

    def held(self) -> float:
        return self.now() - self.lost

    def block(self) -> float:
        seconds = self.time(Call("stock", None, lambda _: None), 1)
        self.lost += 0.001 if self.taken in self.cut else 0.0
        self.taken += 1
        return seconds


@pytest.mark.parametrize(("cut", "again"), [(set(), 0), ({0, 1}, 2), ({1, 2, 3, 4}, 0), (set(range(9)), 3)])
def test_a_block_that_lost_its_core_is_taken_again_up_to_three_times(cut: set[int], again: int) -> None:
    clock = Busy(cut)
    taken = timing.undisturbed(clock.block, clock)
    assert (taken.seconds, taken.again, clock.taken) == (0.002, again, again + 1)


# --- a worker that dies ---------------------------------------------------------------------------------------------------------------


class Dying:
    """A worker that dies so many times, with that variant in hand."""

    def __init__(self, deaths: int, variant: str) -> None:
        self.deaths, self.variant, self.asked = deaths, variant, 0

    def answer(self, request: object) -> Prepared:
        self.asked += 1
        if self.asked <= self.deaths:
            raise WorkerDied("make head" if self.variant else "idle", self.variant, "the worker process died: SIGKILL")
        return Prepared(7)


def test_a_fault_of_ours_is_no_sides() -> None:
    class Broken:
        def answer(self, request: object) -> Prepared:
            raise WorkerBroke("make head", "plain", "a fault of layerbench itself")

    with pytest.raises(WorkerBroke):
        executors._asked(Broken(), Prepare("head", POINT, "plain", 0), "head")  # type: ignore[arg-type]  # it has what is asked of one


@pytest.mark.parametrize(
    ("deaths", "variant", "request_", "answer", "asked"),
    [
        (1, "", Prepare("base", POINT, "plain", 0), Prepared(7), 2),
        (2, "", Prepare("base", POINT, "plain", 0), Fault("base", "the worker process died: SIGKILL"), 2),
        (1, "plain", Prepare("base", POINT, "plain", 0), Fault("head", "the worker process died: SIGKILL", "plain"), 1),
        (1, "", TimeBlock(3), Fault("base", "the worker process died: SIGKILL"), 1),
    ],
)
def test_a_death_with_nothing_in_hand_is_tried_once_more_unless_something_was_lost(
    deaths: int, variant: str, request_: Request, answer: Answer | Fault, asked: int
) -> None:
    worker = Dying(deaths, variant)
    assert (executors._asked(worker, request_, "base"), worker.asked) == (answer, asked)  # type: ignore[arg-type]  # it has what is asked of one


# --- what is measured ----------------------------------------------------------------------------------------------------------------


PAIR = (VariantFacts("stock", False, "any"), VariantFacts("plain", False, "any"))


def paired(
    head: tuple[LayerFacts, ...], base: tuple[LayerFacts, ...], changed: set[str], expression: str = "", missing: bool = False
) -> pairing.Plan:
    places = {each.name: f"layers/{each.name}.py" for each in (*head, *base)}
    return pairing.pair(head, base, [CPU], Selection(expression, steps=("forward",)), places, changed, missing)


def silu(*batches: int, variants: tuple[VariantFacts, ...] = PAIR) -> LayerFacts:
    return LayerFacts("silu", "", "silu.py", 3, {"batch": batches}, variants, {})


def words(found: pairing.Plan) -> dict[str, str]:
    return {row.id: row.verdict for row in found.settled}


def test_sizes_variants_and_layers_that_only_one_side_has() -> None:
    both = (VariantFacts("stock", False, "any"),)
    found = paired((silu(1, 2, variants=both),), (silu(2, 4),), {"silu"})
    assert [each.id for each in found.measured] == ["silu-forward-cpu-float32-batch2-stock"]
    assert words(found) == {
        "silu-forward-cpu-float32-batch2-plain": "missing",
        "silu-forward-cpu-float32-batch4-stock": "missing",
        "silu-forward-cpu-float32-batch4-plain": "missing",
        "silu-forward-cpu-float32-batch1-stock": "new",
    }
    allowed = paired((silu(2, variants=both),), (silu(2),), {"silu"}, missing=True)
    assert [(row.verdict, row.reason) for row in allowed.settled] == [("skipped", "only the base has it; --allow-missing")]


def test_what_has_not_changed_serves_as_control() -> None:
    found = paired((silu(1, 2), layer("relu", ("stock",))), (silu(1, 2), layer("relu", ("stock",))), {"relu"})
    assert {each.point.layer for each in found.measured} == {"relu"}
    assert set(words(found).values()) == {"unchanged"}
    assert [each.id for each in found.control] == ["silu-forward-cpu-float32-batch1-stock", "silu-forward-cpu-float32-batch2-plain"]


def test_k_selects_variants_without_dragging_the_reference_along() -> None:
    found = paired((silu(1),), (silu(1),), {"silu"}, "plain")
    assert [each.variant for each in found.measured] == ["plain"]
    with pytest.raises(Mistake, match="-k: nothing is called 'gone'"):
        paired((silu(1),), (silu(1),), {"silu"}, "gone")


def test_a_size_may_be_set_for_a_dimension_that_one_side_alone_has() -> None:
    wide = LayerFacts("wide", "", "wide.py", 3, {"width": (8,)}, PAIR, {})
    places = {"silu": "silu.py", "wide": "wide.py"}
    selection = Selection(steps=("forward",), sizes={"width": (16,)})
    found = pairing.pair((silu(1), wide), (silu(1),), [CPU], selection, places, set(), False)
    new = [row.id for row in found.settled if row.verdict == "new"]
    assert new == ["wide-forward-cpu-float32-width16-stock", "wide-forward-cpu-float32-width16-plain"]
    with pytest.raises(Mistake, match="no layer of the suite has that dimension"):
        pairing.pair((silu(1),), (silu(1),), [CPU], selection, places, set(), False)


def test_a_variant_for_gpus_is_proved_and_a_compiled_one_is_no_control() -> None:
    variants = (VariantFacts("stock", False, "any"), VariantFacts("triton", False, "gpu"), VariantFacts("compile", True, "any"))
    found = paired((silu(1, variants=variants),), (silu(1, variants=variants),), {"silu"})
    assert [each.variant for each in found.proved] == ["triton"]
    assert [each.variant for each in found.measured] == ["stock", "compile"]
    assert [each.variant for each in found.control] == ["stock"]


# --- numbers that need no statistics -------------------------------------------------------------------------------------------------


def facts(saved: int = 10_000, graphs: int = 1, breaks: int = 0, sweep: int = 2) -> Facts:
    return Facts(Memory(100, saved, 300, 400), Compiled(1.0, graphs, ("why",) * breaks, 0, SweepGraphs("batch", (1, 2), sweep)))


def worse(base: Facts, head: Facts, step: str = "backward") -> list[str]:
    return [each.metric for each in exact.compare(base, head, step) if each.worse]


def test_one_percent_more_memory_and_one_more_graph_break_are_always_found() -> None:
    assert worse(facts(), facts()) == []
    assert worse(facts(saved=10_000), facts(saved=10_100)) == ["saved_bytes"]
    assert worse(facts(saved=10_000), facts(saved=10_064)) == []  # an allocation is rounded up to so much
    assert worse(facts(saved=10_000_000), facts(saved=10_020_001)) == ["saved_bytes"]
    assert worse(facts(), facts(breaks=1)) == ["breaks"]
    assert worse(facts(), facts(graphs=2)) == ["graphs"]
    assert worse(facts(), facts(sweep=3)) == ["sweep_graphs"]
    longer = Facts(facts().memory, Compiled(1.0, 1, (), 0, SweepGraphs("batch", (1, 2, 4), 3)))
    assert worse(facts(), longer) == []  # another sweep: its graphs say nothing
    assert worse(facts(saved=10_100, breaks=1), facts()) == []


def test_a_forward_says_nothing_of_backwards_peak() -> None:
    more = Facts(Memory(100, 10_000, 300, 900), None)
    assert worse(facts(), more, "forward") == []
    assert worse(facts(), more) == ["peak_backward_bytes"]


def test_references_are_compared_by_projections() -> None:
    one = Sketched("(randn)", {"output": Sketch((2, 2), 3.0, (1.0, -2.0))})
    assert reference_change.difference(one, one) == ""
    assert reference_change.difference(one, Sketched("(randn)", {"output": Sketch((2, 2), 3.0, (1.0 + 1e-12, -2.0))})) == ""
    off = Sketched("(randn)", {"output": Sketch((2, 2), 3.0, (1.0 + 1e-6, -2.0))})
    assert reference_change.difference(one, off) == "its reference computes something else than the base's: output differs"
    nan = Sketched("(randn)", {"output": Sketch((2, 2), math.nan, (math.nan, math.nan))})
    assert (reference_change.difference(nan, nan), bool(reference_change.difference(one, nan))) == ("", True)
    assert reference_change.difference(one, Sketched("(integers)", one.tensors)) == "its inputs are declared differently on the base"
    assert reference_change.difference(one, Sketched("(randn)", {})) == "only the base has output"
    shape = Sketched("(randn)", {"output": Sketch((4,), 3.0, (1.0, -2.0))})
    assert reference_change.difference(one, shape) == "output has shape (4,), and (2, 2) on the base"


# --- rounds --------------------------------------------------------------------------------------------------------------------------


class Scripted:
    """Gives units of the difference it is told for a variant, with a little noise; a side that fails, where it is told so."""

    per_confirmation = 2

    def __init__(self, differences: dict[str, float], faults: dict[str, Fault] | None = None) -> None:
        self.differences, self.faults, self.asked = differences, faults or {}, []
        self.starts, self._dice = 0, random.Random(4)

    def examine(self, request: Examine) -> Examined | Fault:
        raise AssertionError("rounds examine nothing")

    def sketch(self, request: SketchReference) -> Sketched | Fault:
        raise AssertionError("rounds sketch nothing")

    def unit(self, point: Point, variant: str, sides: tuple[str, str], number: int, until: Until) -> Unit | Fault:
        self.asked.append((variant, sides, number))
        if variant in self.faults:
            return self.faults[variant]
        difference = self.differences[variant] if sides == ("base", "head") else self.differences.get("control", 0.0)
        return Unit(difference + self._dice.gauss(0, 0.003), 1e-3, 1e-3, 9, 4, self.starts)

    def renew(self, number: int) -> None:
        self.starts += number % 4 == 3

    def restart(self) -> None:
        self.starts += 1


def searched(executors: Scripted, variants: tuple[str, ...], in_time: Callable[[], bool] = lambda: True) -> rounds.Found:
    tracks = [Track(POINT, variant) for variant in variants]
    return rounds.search(tracks, [Track(POINT, variants[0], True)], executors, RULE, in_time, lambda left: None)


def test_benchmarks_are_asked_for_in_turn_until_each_is_decided() -> None:
    executors = Scripted({"same": 0.0, "slow": 0.06})
    found = searched(executors, ("same", "slow"))
    assert {track.variant: verdict for track, verdict in found.decided.items()} == {"same": "clear", "slow": "slower"}
    assert [variant for variant, sides, number in executors.asked if number == 0] == ["same", "slow", "same"]
    assert {len(units) for units in found.units.values()} == {4}
    assert [unit.process for unit in found.units[Track(POINT, "same")]] == [0, 0, 0, 1]


def test_a_flag_is_confirmed_by_new_units_alone() -> None:
    executors = Scripted({"slow": 0.06})
    found = searched(executors, ("slow",))
    executors.differences["slow"] = 0.0  # it was luck
    units, sure = rounds.confirm(list(found.decided), executors, RULE, found)
    assert (sure, [len(each) for each in units.values()]) == (set(), [16])
    executors.differences["slow"] = 0.06
    units, sure = rounds.confirm(list(found.decided), executors, RULE, found)
    assert (sure, [len(each) for each in units.values()]) == (set(found.decided), [4])
    assert [unit.process for unit in units[Track(POINT, "slow")]] == [10, 10, 11, 11]
    assert {number for variant, sides, number in executors.asked[-4:]} == {1000, 1001, 1002, 1003}


def test_a_head_that_fails_while_a_flag_is_confirmed_is_wrong() -> None:
    executors = Scripted({"slow": 0.06})
    found = searched(executors, ("slow",))
    executors.faults["slow"] = Fault("head", "SIGSEGV")
    units, sure = rounds.confirm(list(found.decided), executors, RULE, found)
    row = verdicts.timed_row(Benchmark(POINT, "slow", "silu.py", 3), facts(), facts(), Timed(found, units, frozenset(sure), RULE))
    assert (row.verdict, row.reason) == ("wrong", "head failed while it was timed: SIGSEGV")


def test_when_the_time_is_up_what_is_open_stays_inconclusive() -> None:
    asked = iter([True] * 5 + [False] * 100)
    executors = Scripted({"same": 0.0, "other": 0.0})
    found = searched(executors, ("same", "other"), lambda: next(asked))
    assert (found.late, found.decided) == (True, {})
    benchmark = Benchmark(POINT, "same", "silu.py", 3)
    row = verdicts.timed_row(benchmark, facts(), facts(), Timed(found, {}, frozenset(), RULE))
    assert (row.verdict, row.reason) == ("inconclusive", "undecided after 2 units: the budget was used up")
    assert (row.estimate, compared(row)) == (None, False)  # so a check that comes no further has compared nothing


def test_a_side_that_fails_while_it_is_timed_takes_no_other_with_it() -> None:
    executors = Scripted({"same": 0.0}, {"bad": Fault("head", "SIGSEGV"), "old": Fault("base", "SIGSEGV")})
    timed = Timed(searched(executors, ("same", "bad", "old")), {}, frozenset(), RULE)
    rows = [verdicts.timed_row(Benchmark(POINT, name, "silu.py", 3), facts(), facts(), timed) for name in ("same", "bad", "old")]
    assert [(row.verdict, row.reason) for row in rows] == [
        ("clear", ""),
        ("wrong", "head failed while it was timed: SIGSEGV"),
        ("not compared", "base failed while it was timed: SIGSEGV"),
    ]


def test_a_base_that_differs_from_itself_makes_the_machine_unreliable() -> None:
    executors = Scripted({"slow": 0.06, "control": 0.04})
    found = searched(executors, ("slow",))
    timed = Timed(found, {}, frozenset(), RULE)
    (shown,) = found.alarms.values()
    assert verdicts.unreliable(timed) == f"the base against itself differs by {math.expm1(shown):+.1%}"
    assert shown == pytest.approx(0.04, abs=0.005)
    row = verdicts.timed_row(Benchmark(POINT, "slow", "silu.py", 3), facts(), facts(), timed)
    assert verdicts.without_time(row).verdict == "inconclusive"
    larger = verdicts.timed_row(Benchmark(POINT, "slow", "silu.py", 3), facts(), facts(saved=20_000), timed)
    assert verdicts.without_time(larger).verdict == "larger"


def test_where_nothing_is_open_the_control_is_not_measured_either() -> None:
    found = rounds.search([], [Track(POINT, "stock", True)], Scripted({"stock": 0.0}), RULE, lambda: True, lambda left: None)
    assert [len(units) for units in found.units.values()] == [0]


def test_what_is_known_before_timing() -> None:
    benchmark = Benchmark(POINT, "plain", "silu.py", 3)
    assert verdicts.before_timing(benchmark, facts(), facts(), "") is None
    said = {
        name: (row.verdict, row.reason)
        for name, row in {
            "wrong": verdicts.before_timing(benchmark, facts(), Failed("verify", "output: off"), ""),
            "died": verdicts.before_timing(benchmark, facts(), Fault("head", "SIGSEGV"), ""),
            "base": verdicts.before_timing(benchmark, Failed("verify", "output: off"), facts(), ""),
            "skipped": verdicts.before_timing(benchmark, facts(), Skipped("compile", "no compiler"), ""),
            "alone": verdicts.before_timing(benchmark, facts(), Skipped("verify", "the reference 'stock' failed"), ""),
            "flat": verdicts.before_timing(Benchmark(BACKWARD, "plain", "silu.py", 3), facts(), FLAT, ""),
            "fixed": verdicts.before_timing(Benchmark(UPDATE, "plain", "silu.py", 3), facts(), FIXED, ""),
            "other": verdicts.before_timing(benchmark, facts(), facts(), "it computes something else"),
        }.items()
        if row
    }
    assert said == {
        "wrong": ("wrong", "head failed at verify: output: off"),
        "died": ("wrong", "head failed: SIGSEGV"),
        "base": ("not compared", "base failed at verify: output: off"),
        "skipped": ("skipped", "no compiler"),
        "alone": ("wrong", "the reference 'stock' failed"),
        "flat": ("skipped", "no output of this layer has a gradient, so there is no backward to time"),
        "fixed": ("skipped", "this layer has no parameters, so an optimizer has nothing to update"),
        "other": ("different", "it computes something else"),
    }


def test_ctrl_c_ends_without_a_verdict_and_not_as_a_regression(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(order: object, say: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.check_command, "check", interrupted)
    monkeypatch.setattr(sys, "argv", ["layerbench", "check", "--against", "HEAD"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "layerbench: interrupted before there was a verdict; nothing was written\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", "soon"), "--threshold soon: give a percentage from 0.1% to 10000%, as --threshold 5%"),
        (("--threshold", "0.01%"), "--threshold 0.01%: give a percentage from 0.1% to 10000%, as --threshold 5%"),
        (("--threshold", "5%", "--tolerance", "6%"), "--tolerance 6%: it must be below the threshold, which is 5%"),
    ],
)
def test_percentages_that_make_no_sense(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["layerbench", "check", "--against", "HEAD", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, f"layerbench: {said}\n")


# --- imports by plain name -----------------------------------------------------------------------------------------------------------


def test_modules_of_the_working_tree_are_taken_from_the_base_and_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = (tmp_path / side for side in ("head", "base"))
    for root, value in ((here, "'head'"), (there, "'base'")):
        (root / "movedpkg").mkdir(parents=True)
        (root / "movedpkg/__init__.py").write_text(f"SIDE = {value}\n")
        (root / "movedpkg/part.py").write_text(f"SIDE = {value}\n")
    (here / "movedpkg/late.py").write_text("")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setattr(sys, "meta_path", [Moved(here, there), *sys.meta_path])
    try:
        assert importlib.import_module("movedpkg").SIDE == "base"
        assert importlib.import_module("movedpkg.part").SIDE == "base"
        with pytest.raises(ModuleNotFoundError, match=r"No module named 'movedpkg\.late'"):
            importlib.import_module("movedpkg.late")
        assert by_plain_name([str(there)], []) == ["movedpkg", "movedpkg.part"]
        assert by_plain_name([str(there)], [str(there / "movedpkg")]) == []  # as the files of a suite's own folder
        assert by_plain_name([str(here)], []) == []
    finally:
        for name in [name for name in sys.modules if name.startswith("movedpkg")]:
            del sys.modules[name]


def test_a_backward_beside_a_slower_forward_is_told_what_forward_may_have_left_it() -> None:
    def of(step: str, verdict: str, variant: str = "function", batch: int = 8) -> Row:
        return example_row(verdict, step=step, variant=variant, batch=batch)

    rows = [
        of("forward", "slower"),
        of("backward", "slower"),
        of("backward", "slower", batch=64),
        of("backward", "slower", variant="other"),
        of("forward", "clear", variant="other"),
        of("backward", "clear"),
    ]
    told = verdicts.with_what_forward_left(rows)
    assert [row.reason != "" for row in told] == [False, True, False, False, False, False]
    assert told[1].verdict == "slower"
    assert "caches" in told[1].reason
