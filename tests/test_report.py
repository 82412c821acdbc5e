"""The page's text and data from synthetic runs.  What a browser makes of it is in test_report_browser.py."""

import html.parser
import random
import re
import time
from pathlib import Path

import fixture_run
import msgspec
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs_version
from runs import at, took
from runs import run as tiny

from layerbench.bench import report
from layerbench.bench.analysis import frame, win_matrix
from layerbench.bench.data.profiled import Operator, Profile
from layerbench.bench.data.record import (
    Accuracy,
    Checked,
    Compiled,
    Failed,
    Measured,
    Memory,
    Point,
    Record,
    Roof,
    Skipped,
    SweepGraphs,
    TensorError,
    Timing,
    Work,
)
from layerbench.bench.declare.layer import NOISE_FLOOR
from layerbench.bench.report import changes, details, figures, looks, panels, same, tables

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'<b>&amp;"


@pytest.fixture(scope="module")
def small():
    return fixture_run.small()


@pytest.fixture(scope="module")
def page(small):
    return report.render(small)


class Reader(html.parser.HTMLParser):
    """Collects tags, and the visible text by cell."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        if self.tags and self.tags[-1] not in ("script", "style"):
            self.text.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def packed(text: str, name: str):
    return details.unpack(re.search(f'id="data-{name}">([^<]*)<', text)[1])


def exact(order_of: int = 3, samples: int = 24, others: float | None = None):
    """A point whose variants differ by exactly known factors: stock 10 us, its copy the same, function 6.25 us."""

    def measured(seconds: float, place: int) -> Measured:
        times = Timing((seconds,) * samples, 100, tuple(i * order_of + place for i in range(samples)), "precision", "host", others)
        return fixture_run.measured(times, 1024, "stock")

    layer = fixture_run.facts("gelu", {"batch": (8,)}, ("stock", "function"))
    point = Point("gelu", {"batch": 8}, "float32", "cpu", "forward").id
    special = {(point, "stock"): measured(10e-6, 0), (point, NOISE_FLOOR): measured(10e-6, 1), (point, "function"): measured(6.25e-6, 2)}
    return fixture_run.make((layer,), steps=("forward",), special=special)


def test_vendored_plotly_is_plotlypys_own_version_and_keeps_its_licence():
    bundle = (Path(report.__file__).parent / report.BUNDLE).read_text(encoding="utf-8")
    assert f"plotly.js (basic - minified) v{get_plotlyjs_version()}" in bundle[:200]
    assert "Licensed under the MIT license" in bundle[:300]


def test_write_makes_folders_and_returns_the_path(tmp_path, small):
    path = report.write(small, tmp_path / "a" / "b.html")
    assert path == tmp_path / "a" / "b.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_first_screen_says_who_wins_by_how_much_and_on_what(page):
    text = " ".join("".join(read(page).text).split())
    assert (
        "24 points on cpu: a variant is faster than stock on 23 (compile wins 23), all are slower or the same on 0; 0 undecided, 1 failed."
        in text
    )
    for fact in ("AMD EPYC 7B13", "torch 2.13.0 · triton 3.7.0", "3f9c2b1d main", "1 of 2 cores", "interleaved", "none given"):
        assert fact in text
    assert (
        text.index("(compile wins 23)")
        < text.index("Noise floor")
        < text.index("checked, not timed")
        < text.index("How these numbers were made")
    )


def test_numbers_of_an_exact_run():
    text = report.render(exact())
    row = re.search(r"<tr><td>forward<td>8<td>function<td class=faster>▲ faster(.*)", text)[1]
    cells = [re.sub("<.*", "", cell) for cell in row.split("<td>")[1:]]
    assert cells[:4] == ["6.25 µs", "1.60×", "1.60–1.60", "1.0\u00a0%"]
    assert cells[4] == "24" and cells[8] == "33\u00a0%"
    assert '<td class="cell faster2 best"' in text


def test_what_other_work_disturbed_says_so_everywhere():
    text = report.render(exact(others=1.6))
    shown = " ".join("".join(read(text).text).split())
    assert "all are slower or the same on 0; 1 undecided, 0 failed. Other work wanted the same cores on 1 of 1 point" in shown
    assert "other work wanted the same cores on 1 point: nothing is ranked there" in shown  # in the strip, as a doubt about the threads
    assert "<td class=unclear>? unclear, other work" in text
    assert "no verdict is possible: other work wanted the same cores" in shown  # the matrix' notes
    assert '<td class="cell unclear' in text


def test_the_noise_floor_is_a_band_and_never_a_competitor(page, small):
    body = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert NOISE_FLOOR not in body
    (figure, *_) = packed(report.render(exact()), "figures")["charts"]
    assert figure["data"][0]["y"] == [0.9901, 0.9901, 1.01, 1.01]


def test_what_was_not_measured_has_a_reason_and_no_number(page, small):
    rows = re.findall(r"<tr><td>(\w+)<td>(\d+)<td>(\w+)<td class=(checked|skipped|failed)>([^<]*)<sup>(\d)</sup><td colspan=9><td>", page)
    assert len(rows) == sum(not isinstance(record.outcome, Measured) for record in small.records) == 14
    assert ("training", "512", "function", "skipped", "skipped", "1") in rows
    assert "skipped at time (training, batch 512): out of memory at batch 64" in page
    assert "failed at verify (forward, batch 512): weight grad is off by 3.1e-3, allowed 4.8e-7" in page
    assert page.count("checked, not timed (every batch): Triton needs a GPU") == 1
    assert "<b>triton</b> there is none: pointwise: compile writes it" in page


def test_figures_have_gaps_not_zeros(small):
    table = frame.tidy(small)
    softmax, gelu = panels.panels(small, table)
    charts = {(kind, title): figure for kind, title, figure, _ in figures.charts(softmax, panels.names(small))}
    function = charts["speedup", "training"]["data"][4]
    assert function["y"][3] is None and None not in function["y"][:3]
    assert charts["speedup", "forward"]["layout"]["xaxis"]["tickvals"] == [1, 8, 64, 512]
    assert charts["speedup", "forward"]["layout"]["yaxis"]["title"]["text"] == "times faster than stock<br>ratio &gt; 1 is faster"
    assert charts["time", "forward"]["data"][2] == {"visible": False}
    assert [title for kind, title in charts if kind == "memory"] == ["held for backward", "peak in forward", "peak in backward"]
    assert {kind for kind, *_ in figures.charts(gelu, panels.names(small))} == {"speedup", "time", "memory", "split"}


def test_plotly_accepts_every_kind_of_figure(small):
    names = panels.names(small)
    templates = looks.templates(names)
    for panel in panels.panels(small, frame.tidy(small)):
        for kind, _, figure, _ in figures.charts(panel, names):
            for theme in ("light", "dark"):
                template = {"data": {"scatter": templates["traces"][kind]}, "layout": templates["layouts"][theme][kind]}
                traces = [{"type": "scatter", **trace} for trace in figure["data"]]
                drawn = go.Figure(data=traces, layout=figure["layout"] | {"template": template})
                assert drawn.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"
                assert len(figure["data"]) <= len(templates["traces"][kind])


def test_colours_dashes_and_markers_are_fixed_to_the_variant(small):
    slots = looks.templates(("stock", "function", "triton"))["traces"]
    assert [trace["line"]["color"] for trace in slots["time"]] == list(looks.COLOURS[:3])
    assert [slots["speedup"][i]["line"]["dash"] for i in (2, 4, 6)] == ["solid", "solid", "dash"]
    assert [slots["speedup"][i]["marker"]["symbol"] for i in (2, 4, 6)] == ["circle", "square", "diamond"]


def test_log_ticks_are_round_and_few():
    assert figures.log_ticks(3e-6, 6e-4) == [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4]
    assert figures.log_ticks(2e3, 2.1e6) == [3e3, 1e4, 3e4, 1e5, 3e5, 1e6]
    assert figures.log_ticks(0.86, 1.84) == [1.0, 1.2, 1.4, 1.6, 1.8]
    assert figures.log_ticks(9e5, 1.6e6) == [1e6, 1.2e6, 1.4e6, 1.6e6]


def test_a_measured_zero_is_said_where_a_log_axis_cannot_show_it():
    figure = {"data": [{"x": [1, 8], "y": [0, 4096]}, {"visible": False}, {"x": [1, 8], "y": [0, 0]}]}
    assert figures.zeros(figure, ("stock", "function", "triton")) == "0, which a log axis cannot show: stock at 1; triton"


def test_a_chart_of_nothing_but_zeros_is_a_sentence():
    run = exact()
    free = [msgspec.structs.replace(r.outcome, memory=Memory(8, 0, 16, 0)) for r in run.records]
    run = msgspec.structs.replace(run, records=tuple(Record(r.point, r.variant, o) for r, o in zip(run.records, free, strict=True)))
    text = report.render(run)
    assert "<figcaption>held for backward <small>is 0 for every variant at every batch</small></figcaption></figure>" in text
    assert "<figcaption>peak in forward</figcaption><div" in text


def test_layers_without_a_point_are_named_and_sizes_are_those_of_the_run():
    other = fixture_run.facts("conv", {"batch": (1, 2)})
    run = exact()
    declared = msgspec.structs.replace(run.layers[0], sweep={"batch": (1, 16)})
    text = report.render(msgspec.structs.replace(run, layers=(declared, other)))
    assert "<b>Not in this run:</b> conv" in text
    assert "· batch 8 · reference: stock" in text


def test_a_band_breaks_where_nothing_was_measured():
    class Row:
        speedup, speedup_low, speedup_high, verdict = 2.0, 1.9, 2.1, "faster"

    band, line = figures._banded([1, 8, 64], {1: Row, 64: Row})
    assert None in band["y"] and len(band["x"]) == 9
    assert line["y"] == [2.0, None, 2.0]
    assert line["text"][0] == "2.00× (1.90–2.10) faster"


def test_details_carry_samples_in_time_order_operators_and_the_command(small):
    point = packed(report.render(exact()), "details")["points"][0]
    words = packed(report.render(exact()), "details")["words"]
    stock, function, again = point["variants"]
    assert words[again["variant"]] == NOISE_FLOOR and "operators" not in again
    assert stock["ns"] == [10000] * 24 and stock["order"][:3] == [0, 3, 6]
    assert words[stock["how"]] == "24 samples of 100 calls, until every ratio of the point was known to 1\u00a0%"
    name, calls, cpu, device, allocated = function["operators"][0]
    assert (words[name], calls, cpu, device, allocated) == ("aten::native_layer_norm", 1, 2500, 0, 4096)
    assert [words[function["accuracy"][0][0]], *function["accuracy"][0][1:]] == ["output", "1.2e-7", "4.8e-7", "25\u00a0%"]
    tail = "--set batch=8 --dtype float32 --device cpu --step forward --threads 1"
    assert point["command"] == f"layerbench run -k '^gelu-forward-cpu-float32-batch8' {tail}"


def test_samples_and_operators_are_capped_and_the_page_says_so():
    long = exact(samples=1000)
    text = report.render(long)
    stock = packed(text, "details")["points"][0]["variants"][0]
    assert stock["samples"] == 1000 and len(stock["ns"]) == 400 and stock["order"][0] == 0 and stock["order"][-1] == 2997
    assert "at most 400 samples" in text and "The run file has them all" in text
    assert list(details.spread(10, 4)) == [0, 3, 6, 9] and list(details.spread(3, 8)) == [0, 1, 2]


def test_compile_cost_and_payback(small):
    table = frame.tidy(small)
    rows = tables.compiling([panel for panel in panels.panels(small, table) if panel.layer.name == "gelu"])
    assert [row.where for row in rows] == [f"cpu, float32, batch {b}, width 1024" for b in (1, 8, 64, 512)]
    assert (rows[0].cold, rows[0].graphs, rows[0].breaks, rows[0].recompiles) == ("3.20 s", "2", "0", "0")
    assert set(rows[0].payback) == {"forward", "backward", "training"} and "forward" not in rows[3].payback


def test_accuracy_shows_the_worst_place_of_every_tensor(small):
    rows = tables.accuracy(small, small.layers[0])
    first = rows[0]
    assert (first.variant, first.tensor, first.error, first.allowed, first.share) == ("stock", "output", "1.2e-7", "4.8e-7", "25\u00a0%")
    assert any(row.variant == "triton" and row.share == "50\u00a0%" for row in rows)


def test_doubts_are_said():
    run = fixture_run.rich()
    text = report.render(run)
    assert "uncommitted changes: the commit alone does not give these numbers" in text
    assert "load 1.9 when the run began: other work may have been going on" in text
    assert "interrupted after 300 s" in text
    assert "the fastest variant on cuda against the fastest on cpu" in text


def test_changes_show_what_moved_and_count_the_rest():
    run = fixture_run.small()
    compared = fixture_run.changes(run)
    shown = changes.compare(compared)
    assert [row.verdict for row in shown.moved] == ["slower", "faster", "larger", "missing"]
    assert (shown.moved[0].ratio, shown.moved[0].span, shown.moved[2].span) == ("1.08×", "1.07–1.09", "exact")
    assert shown.moved[3].old == shown.moved[3].ratio == ""
    text = report.render(run, compared)
    assert f"4 of {len(compared)} comparisons moved" in text
    assert f"Show {len(compared) - 4} rows that did not move" in text


def test_a_run_without_a_single_time_still_makes_a_page():
    layer = fixture_run.facts("gelu", {"batch": (1,)}, ("stock",))
    point = Point("gelu", {"batch": 1}, "float32", "cpu", "forward")
    special = {(point.id, "stock"): Failed("make", "no memory"), (point.id, NOISE_FLOOR): Skipped("make", "no reference")}
    text = report.render(fixture_run.make((layer,), steps=("forward",), special=special))
    assert "Nothing was measured." in text and "No time was measured here" in text and "failed at make (every batch): no memory" in text
    assert "Nothing was measured." in report.render(fixture_run.make((), notes=("empty",)))


def hostile():
    layer = fixture_run.facts(EVIL, {EVIL: (1, 8)}, ("stock", EVIL), about=EVIL, file=EVIL, absent={EVIL + "2": EVIL})
    point = Point(EVIL, {EVIL: 1}, "float32", "cpu", "forward")
    timing = Timing((1e-5,) * 24, 10, tuple(range(24)), "precision", EVIL)
    bad = fixture_run.measured(timing, 64, "stock")
    accuracy = Accuracy((TensorError(EVIL, 1e-7, 2e-7),), (EVIL,))
    profile = Profile(1, 1e-4, (Operator(EVIL, 1, 1e-6, 1e-6, 8),), EVIL)
    outcome = Measured(timing, bad.memory, accuracy, profile, fixture_run.Compiled(1.0, 1, (EVIL,), 0), (EVIL,))
    other = Point(EVIL, {EVIL: 8}, "float32", "cpu", "forward")
    special = {(point.id, EVIL): outcome, (other.id, EVIL): Checked(accuracy, EVIL), (other.id, "stock"): Failed(EVIL, EVIL)}
    machine = fixture_run.environment(machine=EVIL, cpu=EVIL, branch=EVIL, commit=EVIL, versions={"torch": EVIL}, flags={EVIL: EVIL})
    words = {"name": EVIL, "suite": EVIL, "command": EVIL, "started": EVIL, "notes": (EVIL,), "environment": machine}
    return fixture_run.make((layer,), steps=("forward",), special=special, **words)


def test_hostile_names_stay_text():
    run = hostile()
    text = report.render(run, fixture_run.changes(run))
    reader = read(text)
    assert "img" not in reader.tags and "onerror" not in reader.attributes
    assert reader.tags.count("script") == 7
    assert "window.hacked=1</script>" not in text


def test_the_policy_allows_only_our_scripts(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert policy.count("sha256-") == 4 and "unsafe-eval" not in policy and "http" not in policy
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", re.sub(r"<script>.*?</script>", "", page, flags=re.S))


def test_a_hundred_curves_weigh_at_most_two_megabytes():
    run = fixture_run.hundred_curves()
    text = report.render(run)
    curves = sum(len(panel.steps) * len(panel.variants) for panel in panels.panels(run, frame.tidy(run)))
    assert curves >= 100
    assert len(text.encode()) <= 2_000_000


def test_ten_thousand_records_weigh_at_most_five_megabytes_and_take_ten_seconds():
    run = fixture_run.large(10_000)
    assert len(run.records) >= 10_000
    begin = time.process_time()
    text = report.render(run)
    seconds = time.process_time() - begin
    print(f"10,000 records: {seconds:.1f} s of CPU time, {len(text.encode()) / 1e6:.2f} MB")
    assert seconds <= 10
    assert len(text.encode()) <= 5_000_000


def test_a_time_that_cannot_be_true_has_its_reason_and_no_number():
    roof = Roof("cpu", "float32", 100e9, 20e9, 50e9, 30e-6)  # 6.25 us are less than a quarter of it; 10 us are not
    text = report.render(msgspec.structs.replace(exact(), roofs=(roof,)))
    told = "6.25e+03 ns per call: calling a module that does nothing takes 3e+04 ns here"
    assert f'<li class="invalid"><sup>1</sup> <b>function</b> invalid, its time cannot be true (every batch): {told}' in text
    assert "<td>function<td class=invalid>invalid<sup>1</sup><td colspan=9>" in text
    assert '<td class="cell invalid"' in text
    assert "cpu float32: 100 GFLOP/s, copies at 20.0 GB/s from memory and 50.0 GB/s from cache, 30.0 µs per empty call." in text


def test_rates_are_in_the_details_and_graphs_over_the_sweep_in_the_table():
    run = exact()
    worked = [msgspec.structs.replace(r.outcome, work=Work(2_000_000, 60_000, 40_000)) for r in run.records]
    compiled = Compiled(3.2, 2, (), 0, SweepGraphs("batch", (1, 8), 2))
    worked[-1] = msgspec.structs.replace(worked[-1], compiled=compiled)
    run = msgspec.structs.replace(run, records=tuple(Record(r.point, r.variant, o) for r, o in zip(run.records, worked, strict=True)))
    text = report.render(run)
    stock, function, _ = packed(text, "details")["points"][0]["variants"]
    assert (stock["rates"], function["rates"]) == ("200 GFLOP/s, 10.0 GB/s", "320 GFLOP/s, 16.0 GB/s")
    assert "<td class=n>2<td class=n>0<td class=n>0<td class=n>2" in text


def test_each_layer_says_whether_it_is_the_same_and_what_it_holds_for_backward(small):
    softmax, gelu = same.rows(small, frame.tidy(small), ["stock", "function", "triton", "compile"])
    assert (softmax.layer, softmax.device) == ("softmax", "cpu")
    assert [(cell.look, cell.word, cell.held) for cell in softmax.cells] == [
        ("verified", "✓ 33\u00a0%", "4.10 kB – 2.10 MB"),
        ("verified", "✓ 33\u00a0%", "0.50×"),  # of the points that were measured
        ("checked", "✓ 50\u00a0%", ""),
        ("verified", "✓ 33\u00a0%", "0.75×"),
    ]
    assert [(cell.look, cell.word, cell.note) for cell in gelu.cells[2:]] == [
        ("absent", "no variant", "pointwise: compile writes it"),
        ("failed", "✗ failed", "failed at verify: weight grad is off by 3.1e-3, allowed 4.8e-7"),
    ]


def test_memory_where_the_reference_holds_none_is_in_bytes():
    layer = fixture_run.facts("embedding", {"batch": (8,)}, ("stock", "function", "compile"))
    point = Point("embedding", {"batch": 8}, "float32", "cpu", "forward")
    none, some = ({"memory": Memory(100, saved, 300, 400)} for saved in (0, 64))
    special = {
        (point.id, name): msgspec.structs.replace(fixture_run.measured(fixture_run.timing(random.Random(1), 1e-3, 24), 8, name), **held)
        for name, held in {"stock": none, "function": some, "compile": none}.items()
    }
    run = fixture_run.make((layer,), steps=("forward",), special=special)
    (row,) = same.rows(run, frame.tidy(run), ["stock", "function", "compile"])
    assert [cell.held for cell in row.cells] == ["0 B", "64 B", "0 B"]


def cut_short(run, rounds: int):
    """The same run, ended by the budget after so many rounds."""
    timings = [msgspec.structs.replace(r.outcome.timing, stopped="budget", seconds=r.outcome.timing.seconds[:rounds]) for r in run.records]
    outcomes = [msgspec.structs.replace(r.outcome, timing=timing) for r, timing in zip(run.records, timings, strict=True)]
    return msgspec.structs.replace(
        run, records=tuple(Record(r.point, r.variant, o) for r, o in zip(run.records, outcomes, strict=True)), command="run --budget 90s"
    )


def test_a_point_that_the_budget_ended_says_so_and_what_mends_it():
    run = cut_short(exact(), 6)
    text = report.render(run)
    point, said = packed(text, "details")["points"][0], packed(text, "details")["words"]
    assert point["ended"] == (
        "The time budget ended this point after only 6 rounds, which say little, before every ratio was known to 1\u00a0%. "
        "A longer --budget narrows the intervals."
    )
    assert point["command"].endswith(" --threads 1 --budget 90s")
    assert said[point["variants"][0]["how"]] == (
        "6 samples of 100 calls, then the time budget was used up, before every ratio of the point was known to 1\u00a0%"
    )
    assert "<td class=faster>▲ faster, 6 samples only<td>" in text
    assert "here it was used up on 1 of 1 point." in text
    assert (
        "The time budget ended 1 of 1 point before every ratio was known to 1 %: a longer --budget narrows the intervals. 1 point has fewer"
        in text
    )
    precise = report.render(exact())
    assert packed(precise, "details")["points"][0]["ended"] == "" and "samples only" not in precise
    assert "here it was used up on 0 of 1 point." in precise and "narrows the intervals" not in precise
    assert "after 12 rounds before" in packed(report.render(cut_short(exact(), 12)), "details")["points"][0]["ended"]


def shown_of(cell_of: dict[str, float], *more: dict[str, float]):
    """The only row of the matrix of a run in which variants took so many seconds, point by point."""
    points = [
        at(8**place, stock=took(2.0), noise_floor=took(2.0), **{n: took(s) for n, s in one.items()})
        for place, one in enumerate((cell_of, *more))
    ]
    run = tiny(*points)
    return tables.matrix(win_matrix.matrix(run, frame.tidy(run)))[0], report.render(run)


def test_a_cell_of_the_matrix_that_hides_a_crossing_says_where_the_variant_wins():
    row, text = shown_of({"triton": 4.0}, {"triton": 1.0}, {"triton": 1.0})
    cell = row.cells[1]
    assert (cell.look, cell.arrow, cell.ratio, cell.span) == ("mixed", "↕", "1.26×", "wins from batch 8")
    assert cell.note.startswith("mixed: geometric mean over 3 points: 2 faster, 1 slower, beyond the noise floor, interval 1.26–1.26")
    assert not any(cell.best for cell in row.cells)
    assert "1 row of 1 is undecided and has none" in text and "↕ wins at some sizes, loses at others" in text


def test_the_outline_is_the_reference_only_where_all_others_are_slower_or_the_same():
    row, text = shown_of({"triton": 2.4, "compile": 2.0})
    assert [cell.best for cell in row.cells] == [True, False, False]
    assert "undecided and" not in re.sub(r".*<section id=.matrix.>|<section id=.same.>.*", "", text, flags=re.S)


def test_words_that_a_small_run_would_make_false_are_not_there(page):
    _, text = shown_of({"triton": 1.0})
    shown = " ".join("".join(read(text).text).split())
    assert "compile" not in shown  # declared by the layer, and not in the run: no column, no button, no cost of it
    for word in ("variants look alike", "geometric mean over sizes", "Over all sizes", "▼ slower", "Checked, not timed", "Compile cost"):
        assert word not in shown, word
    for word in ("Backward is timed", "Training is", "Not in this page", "Outlined: the best of its row; "):
        assert word not in shown, word
    assert "Times faster than the reference, with 95 % interval." in shown and "▲ faster" in shown
    full = " ".join("".join(read(page).text).split())
    for word in ("geometric mean over sizes,", "Checked, not timed", "Compile cost", "Backward is timed", "Training is"):
        assert word in full, word
    assert "geometric mean over sizes and dtypes" in report.render(fixture_run.rich())


def test_what_is_held_for_backward_is_called_so_and_a_small_share_is_one_over_a_number(page):
    assert not re.search(r"\bsaved\b", "".join(read(page).text))
    held = {
        name: took(2.0, memory=(100, saved, 300, 400)) for name, saved in {"stock": 262144, "noise_floor": 262144, "triton": 256}.items()
    }
    run = tiny(at(8, **held))
    (row,) = same.rows(run, frame.tidy(run), ["stock", "triton"])
    assert [cell.held for cell in row.cells] == ["262 kB", "1/1024×"]
