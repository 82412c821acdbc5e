"""The one loop with a scripted worker: a death falls on the variant that caused it, and on no other."""

from layerbench.bench.data.record import Accuracy, Checked, Failed, LayerFacts, Outcome, Point, Record, Skipped, VariantFacts
from layerbench.bench.plan.planning import Task
from layerbench.bench.process.handle import WorkerDied
from layerbench.bench.process.protocol import Answer, Finished, Measure, Prove, Request
from layerbench.bench.run.loop import run

VARIANTS = {"stock": "any", "good": "any", "bad": "any", "gpu": "gpu"}
FACTS = LayerFacts("layer", "", "f.py", 1, {"batch": (1, 2)}, tuple(VariantFacts(n, False, d) for n, d in VARIANTS.items()), {})
DONE = Skipped("time", "scripted")  # any outcome will do: the loop hands it on


class Patient:
    """A budget of one second a point.  Notes how long points say they were timed."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def seconds(self, left: int) -> float:
        return 1.0

    def timed(self, seconds: float) -> None:
        self.told.append(seconds)


class Scripted:
    """Dies at the variants it is told to; answers for all others.  Notes what it was asked."""

    def __init__(self, dies: dict[str, str]) -> None:
        self.dies, self.asked = dies, []

    def answer(self, request: Request) -> Answer:
        assert isinstance(request, Measure | Prove)
        self.asked.append(request.variants)
        for variant in request.variants:
            if variant in self.dies:
                raise WorkerDied(self.dies[variant], variant, "the worker process died: SIGSEGV")
        if isinstance(request, Prove):
            point, outcome = Point("layer", {}, request.dtype, "cpu", ""), Checked(Accuracy(()), "proved")
            return Finished(tuple(Record(point, variant, outcome) for variant in request.variants))
        records = tuple(Record(request.point, variant, DONE) for variant in (*request.variants, "noise_floor"))
        return Finished(records, {"make": 0.5, "time": 0.75})


def task(batch: int, step: str = "forward", device: str = "cpu") -> Task:
    return Task(Point("layer", {"batch": batch}, "float32", device, step), tuple(VARIANTS))


def outcomes(tasks: list[Task], worker: Scripted, prover: Scripted) -> list[dict[str, Outcome]]:
    rounds = run(tasks, [FACTS], worker, prover, Patient(), "")
    return [{record.variant: record.outcome for record in found.records} for found in rounds]


def test_all_variants_come_back_in_order_and_the_gpu_one_is_proved() -> None:
    worker, prover = Scripted({}), Scripted({})
    (found,) = outcomes([task(1)], worker, prover)
    assert list(found) == ["stock", "good", "bad", "gpu", "noise_floor"]
    assert found["gpu"] == Checked(Accuracy(()), "proved")
    assert (worker.asked, prover.asked) == ([("stock", "good", "bad")], [("gpu",)])


def test_a_proof_is_asked_for_once_and_serves_every_point() -> None:
    prover = Scripted({})
    found = outcomes([task(1), task(1, "backward"), task(2)], Scripted({}), prover)
    assert [each["gpu"] for each in found] == [Checked(Accuracy(()), "proved")] * 3
    assert prover.asked == [("gpu",)]


def test_a_variant_that_kills_the_worker_is_failed_and_the_point_is_repeated_without_it() -> None:
    worker = Scripted({"bad": "verify"})
    (found,) = outcomes([task(1)], worker, Scripted({}))
    assert found["bad"] == Failed("verify", "the worker process died: SIGSEGV")
    assert (found["stock"], found["good"]) == (DONE, DONE)
    assert worker.asked == [("stock", "good", "bad"), ("stock", "good")]


def test_at_the_next_step_of_the_same_cell_it_is_not_tried_again() -> None:
    worker = Scripted({"bad": "verify"})
    found = outcomes([task(1), task(1, "backward"), task(2)], worker, Scripted({}))
    assert all(each["bad"] == Failed("verify", "the worker process died: SIGSEGV") for each in found)
    assert worker.asked == [("stock", "good", "bad"), ("stock", "good"), ("stock", "good"), ("stock", "good", "bad"), ("stock", "good")]


def test_without_the_reference_the_others_are_skipped_with_the_reason() -> None:
    (found,) = outcomes([task(1)], Scripted({"stock": "make"}), Scripted({}))
    assert found["stock"] == Failed("make", "the worker process died: SIGSEGV")
    told = Skipped("verify", "the reference 'stock' failed, so there is nothing to compare with")
    assert (found["good"], found["bad"]) == (told, told)


def test_a_death_of_the_prover_fails_that_variant_alone() -> None:
    (found,) = outcomes([task(1)], Scripted({}), Scripted({"gpu": "verify"}))
    assert found["gpu"] == Failed("verify", "the worker process died: SIGSEGV")
    assert found["good"] == DONE


def test_a_cpu_only_variant_on_a_gpu_says_why_it_is_not_there() -> None:
    facts = LayerFacts(
        "layer", "", "f.py", 1, {"batch": (1,)}, (VariantFacts("stock", False, "any"), VariantFacts("host", False, "cpu")), {}
    )
    point = Task(Point("layer", {"batch": 1}, "float32", "cuda", "forward"), ("stock", "host"))
    (finished,) = run([point], [facts], Scripted({}), Scripted({}), Patient(), "")
    found = {record.variant: record.outcome for record in finished.records}
    assert found["host"] == Skipped("make", "declared for devices='cpu', and this point is on cuda")


class DiesIdle(Scripted):
    """Dies so many times while it has no variant in hand."""

    def __init__(self, times: int) -> None:
        super().__init__({})
        self.times = times

    def answer(self, request: Request) -> Answer:
        self.times -= 1
        if self.times >= 0:
            raise WorkerDied("idle", "", "the worker process died: SIGKILL")
        return super().answer(request)


def test_a_death_with_no_variant_in_hand_is_nobodys_the_first_time() -> None:
    (found,) = outcomes([task(1)], DiesIdle(1), Scripted({}))
    assert [found[variant] for variant in ("stock", "good", "bad", "noise_floor")] == [DONE] * 4
    (found,) = outcomes([task(1)], DiesIdle(2), Scripted({}))
    assert found["stock"] == Failed("idle", "the worker process died: SIGKILL")
    told = Skipped("verify", "the reference 'stock' failed, so there is nothing to compare with")
    assert [found[variant] for variant in ("good", "bad", "noise_floor")] == [told] * 3


def test_two_deaths_of_the_reference_skip_the_rest_of_the_layer_and_say_so() -> None:
    worker = Scripted({"stock": "make"})
    found = outcomes([task(1), task(2), task(4)], worker, Scripted({}))
    why = "it ended the worker at 2 cells of this layer and is not tried again; the worker process died: SIGSEGV"
    assert found[2]["stock"] == Skipped("make", why)
    assert found[2]["good"] == Skipped("verify", "the reference 'stock' was skipped, so there is nothing to compare with")
    assert len(worker.asked) == 2


def test_what_earlier_records_teach_counts_from_the_first_point_on() -> None:
    starved = Record(task(1).point, "bad", Failed("make", "out of memory: 9.0 GB were asked for at once"))
    rounds = run([task(2)], [FACTS], Scripted({}), Scripted({}), Patient(), "", known=[starved])
    found = {record.variant: record.outcome for record in next(rounds).records}
    assert found["bad"] == Skipped("make", "out of memory at batch=1; larger sizes are skipped")
    assert found["good"] == DONE


def test_the_budget_hears_how_long_a_point_was_timed_and_the_seconds_by_stage_come_with_the_records() -> None:
    budget = Patient()
    rounds = run([task(1), task(2)], [FACTS], Scripted({}), Scripted({}), budget, "")
    first, second = (found.seconds for found in rounds)
    assert budget.told == [0.75, 0.75]
    assert list(first) == ["make", "time", "prove"]  # the variant that needs a GPU was proved once
    assert list(second) == ["make", "time"]
