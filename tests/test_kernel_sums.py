"""The sum of the kernels against the clock, on events as a profiler records them: with all kernels, and without some."""

from collections.abc import Callable

import pytest
from msgspec import structs
from runs import at, run, took

from layerbench.bench import report
from layerbench.bench.analysis import sanity
from layerbench.bench.analysis.frame import by_clock, tidy
from layerbench.bench.data.profiled import Kernels
from layerbench.bench.data.record import Measured, OnDevice, Roof
from layerbench.bench.profiling import kernels, kineto, profile
from layerbench.bench.profiling.kineto import Events, Kernel, Span
from layerbench.bench.report import details, words
from layerbench.bench.timing.clock import Call

STEP_NS = 100_000
Launch = tuple[str, str, int]  # what the host calls, the kernel, its duration in ns
NORM: list[Launch] = [("cudaLaunchKernel", "norm", 4000), ("cuLaunchKernelEx", "triton", 3000), ("cudaMemcpyAsync", "Memcpy DtoD", 1000)]


def recorded(launches: list[Launch], calls: int = 5, lost: Callable[[int, int], bool] = lambda call, place: False) -> Events:
    """A pass over some calls; `lost` says of which launches the profiler has no kernel.  Kernels begin one after the other."""
    spans, found = [], []
    for call in range(calls):
        begin, at = call * STEP_NS, call * STEP_NS + 20_000
        spans.append(Span(kineto.STEP, begin, begin + STEP_NS - 10_000, 1, 900 + call))
        for place, (api, name, duration) in enumerate(launches):
            number = 10 * call + place + 1
            spans.append(Span("aten::op", begin + 1000 * place, begin + 1000 * place + 900, 1, 500 + number))
            spans.append(Span(api, begin + 1000 * place + 100, begin + 1000 * place + 200, 1, number))
            if not lost(call, place):
                found.append(Kernel(name, duration, 500 + number, at, 7, number))
            at += duration + 500
    spans.append(Span("cudaLaunchKernel", calls * STEP_NS, calls * STEP_NS + 50, 1, 499))  # behind the last step: not of it
    found.append(Kernel("elsewhere", 9000, 0, calls * STEP_NS, 7, 499))
    return Events(sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)), found, [])


def counted(events: Events, mhz: int = 1980) -> Kernels:
    return kernels.count(events, kineto.ranges(events, kineto.STEP), mhz)


# --- does the profiler have all of them? -----------------------------------------------------------------------------------------


def test_each_call_has_the_kernels_that_it_launched_and_no_others() -> None:
    assert counted(recorded(NORM)) == Kernels(count=3, seconds=8e-6, launches=3, graphs=0, overlap=False, mhz=1980)


def test_a_call_that_lacks_a_kernel_is_left_out_of_the_sum() -> None:
    """As at the start of a session: the first call has lost all, the second one."""
    assert counted(recorded(NORM, lost=lambda call, place: call < 1 or (call, place) == (1, 0))) == counted(recorded(NORM))


def test_where_most_calls_lack_kernels_the_sum_is_no_check_and_says_so() -> None:
    found = counted(recorded(NORM, lost=lambda call, place: call < 3 and place == 1))
    assert found.incomplete == "the profiler lost the kernels of 3 of 15 launches"
    everywhere = counted(recorded(NORM, lost=lambda call, place: place == 1))
    assert everywhere.incomplete == "the profiler lost the kernels of 5 of 15 launches"
    assert counted(recorded(NORM, calls=1)).incomplete == "the calls of the pass differ: 1 of 1 ran the same kernels"
    assert counted(recorded(NORM, lost=lambda call, place: True)).incomplete == "the profiler saw no kernel"


def test_calls_that_lost_a_launch_with_its_kernel_do_not_agree_with_the_others() -> None:
    """Nothing is missing in any of them, so only their sequences tell."""
    short = recorded(NORM[:2], calls=3)
    long = recorded(NORM, calls=6)
    cut = 3 * STEP_NS
    mixed = Events(
        [s for s in short.spans if s.start_ns < cut] + [s for s in long.spans if s.start_ns >= cut],
        [k for k in short.kernels if k.start_ns < cut] + [k for k in long.kernels if k.start_ns >= cut],
        [],
    )
    assert counted(mixed).incomplete == "the calls of the pass differ: 3 of 6 ran the same kernels"


def test_without_a_launch_there_is_no_check() -> None:
    events = recorded([("urEnqueue", "kernel", 1000)])  # a driver whose names nobody here knows
    assert counted(events).incomplete == "the profiler saw no kernel"


def test_a_graph_is_one_launch_of_many_kernels() -> None:
    events = recorded([("cudaGraphLaunch", "first", 4000), ("cudaLaunchKernel", "after", 1000)])
    inside = [Kernel("second", 2000, 0, kernel.start_ns + 4100, 7, kernel.launch) for kernel in events.kernels if kernel.name == "first"]
    found = counted(
        Events(events.spans, [k._replace(start_ns=k.start_ns + 9000) if k.name == "after" else k for k in events.kernels] + inside, [])
    )
    assert found == Kernels(count=3, seconds=7e-6, launches=1, graphs=1, overlap=False, mhz=1980)


@pytest.mark.parametrize("change", [{"stream": 8}, {"start_ns": 21_000}])
def test_kernels_at_the_same_time_are_seen(change: dict[str, int]) -> None:
    """On another stream, or from the middle of the one before on."""
    events = recorded(NORM)
    moved = [
        k._replace(**{name: value + (k.start_ns // STEP_NS * STEP_NS if name == "start_ns" else 0) for name, value in change.items()})
        if k.name == "triton"
        else k
        for k in events.kernels
    ]
    assert counted(Events(events.spans, moved, [])).overlap


def test_a_range_of_the_host_that_is_drawn_on_the_device_is_no_kernel() -> None:
    class Event:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def activity_type(self) -> str:
            return self.kind

    assert [kineto._annotates(Event(kind)) for kind in ("kernel", "gpu_memcpy", "gpu_user_annotation")] == [False, False, True]
    assert not kineto._annotates(object())  # of a torch that does not tell


def test_on_an_accelerator_a_long_step_is_profiled_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SECONDS", 0.0)
    call = Call("stock", None, lambda _: None)
    assert (profile._calls(call, 1), profile._calls(call, profile.FEWEST)) == (1, 3)


def test_a_profile_on_the_cpu_counts_no_kernels() -> None:
    assert profile.profile(Call("stock", None, lambda _: None), "cpu", None).kernels is None


# --- the clock against them ------------------------------------------------------------------------------------------------------

KERNELS = Kernels(3, 100e-6, 3, 0, overlap=False, mhz=1980)


def timed(seconds: float, found: Kernels | None = KERNELS, mhz: int = 1980, clock: str = "device") -> Measured:
    made = took(seconds)
    timing = structs.replace(made.timing, clock=clock, device=OnDevice((1e-5,) * 4, (seconds,) * 4, mhz=(mhz,) * 4))
    return structs.replace(made, timing=timing, profile=structs.replace(made.profile, kernels=found))


WHY = "us under the profiler; the clock missed some of the work, or the work was not done"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (timed(104e-6), ""),
        (timed(98.5e-6), ""),  # as much as was seen
        (timed(91e-6), ""),
        (timed(89e-6), f"89.0 us on the device: its 3 kernels take 100.0 {WHY}"),
        (timed(89e-6, structs.replace(KERNELS, count=1)), f"89.0 us on the device: its kernel takes 100.0 {WHY}"),
        (timed(89e-6, structs.replace(KERNELS, mhz=1500)), ""),  # the power limit held the profiled calls
        (timed(67e-6, structs.replace(KERNELS, mhz=1500)), f"67.0 us on the device: its 3 kernels take 100.0 {WHY}"),
        (timed(89e-6, KERNELS, mhz=1500), f"89.0 us on the device: its 3 kernels take 100.0 {WHY}"),  # the timed ones: no excuse
        (timed(89e-6, structs.replace(KERNELS, mhz=0)), ""),  # nobody knows
        (timed(44e-6, structs.replace(KERNELS, mhz=0)), f"44.0 us on the device: its 3 kernels take 100.0 {WHY}"),
        (timed(10e-6, structs.replace(KERNELS, overlap=True)), ""),
        (timed(10e-6, structs.replace(KERNELS, incomplete="lost")), ""),
        (timed(10e-6, None), ""),
        (timed(10e-6, clock="graph"), f"10.0 us on the device: its 3 kernels take 100.0 {WHY}"),  # a graph runs them all, too
    ],
)
def test_a_time_below_the_sum_of_the_kernels_missed_some(outcome: Measured, told: str) -> None:
    assert sanity.impossible(outcome, None) == told


def test_such_a_time_is_invalid_in_the_table_and_not_of_what_a_caller_sees() -> None:
    made = run(at(8, device="cuda", stock=timed(104e-6), triton=timed(50e-6)), roofs=(Roof("cuda", "float32", 1e15, 1e13, 1e13, 1e-6),))
    assert list(tidy(made).outcome) == ["measured", "invalid"]
    assert list(tidy(by_clock(made, "called")).outcome) == ["measured", "measured"]


# --- what is said ----------------------------------------------------------------------------------------------------------------


def test_the_details_of_a_point_say_how_busy_the_device_is_or_why_nobody_knows() -> None:
    assert words.kernels(KERNELS, 120e-6) == (
        "A call runs 3 kernels in 3 launches, 100 µs together under the profiler: busy 83\u00a0% of its time on the device."
    )
    one = structs.replace(KERNELS, count=1, launches=1)
    assert words.kernels(one, 98e-6).startswith("A call runs 1 kernel in 1 launch, 100 µs together under the profiler: busy 100\u00a0% ")
    graph = structs.replace(KERNELS, count=9, launches=1, graphs=1)
    assert words.kernels(graph, 120e-6).startswith("A call runs 9 kernels in 1 launch and 1 graph, ")
    assert words.kernels(structs.replace(KERNELS, count=9, launches=0, graphs=2), 1.0).startswith("A call runs 9 kernels in 2 graphs, ")
    assert words.kernels(structs.replace(KERNELS, overlap=True), 1.0).endswith("some of them at the same time, so the sum checks nothing.")
    lost = structs.replace(KERNELS, incomplete="the profiler lost the kernels of 3 of 15 launches")
    assert words.kernels(lost, 1.0) == "Kernels: no check of the time, the profiler lost the kernels of 3 of 15 launches."
    assert words.kernels(None, 1.0) == ""


def test_the_page_carries_that_sentence_for_every_variant_timed_on_a_device() -> None:
    made = run(at(8, device="cuda", stock=timed(120e-6), triton=took(1.0)))
    stock, triton = details.details(made)["points"][0]["variants"]
    assert stock["kernels"] == words.kernels(KERNELS, 120e-6) and "kernels" not in triton
    assert 'one.kernels) part.append(element("p", one.kernels' in report.render(made)
