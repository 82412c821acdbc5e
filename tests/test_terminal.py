"""What is printed, to the letter, on a terminal 120 wide without colour."""

import io
import math

import pytest
from msgspec.structs import replace
from rich.console import Console
from runs import ACCURATE, CHECKED, FAILED, SKIPPED, at, layer, run, took

from layerbench.bench.analysis import explain, win_matrix
from layerbench.bench.analysis.compare import compare
from layerbench.bench.analysis.frame import tidy
from layerbench.bench.analysis.win_matrix import Cell
from layerbench.bench.data.change import Change
from layerbench.bench.data.profiled import Operator, Profile
from layerbench.bench.data.record import Accuracy, Compiled, Failed, Run, Skipped, VariantFacts
from layerbench.bench.stats.estimates import Interval
from layerbench.bench.terminal import overview, side_by_side
from layerbench.bench.text.ratio import ratio

STOCK = {"stock": took(2.0), "noise_floor": took(2.0)}
EVIL = "[red]x[/] [/bold] :warning: \\[b]"


def console(**changes: object) -> Console:
    return Console(**({"file": io.StringIO(), "width": 120, "color_system": None, "legacy_windows": False} | changes))


def text(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return "\n".join(line.rstrip() for line in to.file.getvalue().splitlines())


def printed(whole: Run) -> str:
    to = console()
    overview.print_run(to, whole, tidy(whole))
    return text(to)


def test_a_run() -> None:
    fast = took(1.0, 0.01, compiled=Compiled(31.0, 1, (), 0))
    whole = run(
        at(8, **STOCK, triton=CHECKED, compile=fast),
        at(64, **STOCK, triton=CHECKED, compile=SKIPPED),
        at(8, step="backward", **STOCK, triton=FAILED, compile=took(2.5)),
        at(64, step="backward", **STOCK, triton=FAILED, compile=took(1.9, 0.05)),
        at(8, layer="gelu", **STOCK, compile=took(2.0)),
        layers=(layer(), layer("gelu", ("stock", "compile"), triton="pointwise")),
        notes=("interrupted: the points after this were not measured",),
    )
    assert (
        printed(whole)
        == """\
4 points on cpu: a variant is faster than stock on 1 (compile wins 1), all are slower or the same on 1; 0 undecided, 2
failed. compile is 1.14x as fast as stock on cpu (geometric mean over 4 points, interval 1.10-1.18). Compiling saves
time in 1 of 1 case; it needs 31 calls to make up for the compilation. Of 14 measurements, 2 failed and are not ranked,
1 was skipped, 2 were proved equivalent but not timed here.
note: interrupted: the points after this were not measured
layer    step      device  noise      stock   triton              compile
softmax  forward   cpu      1.0%  reference  checked  2.00x (1.94-2.06) ▲
softmax  backward  cpu      1.0%  reference   failed  0.92x (0.85-0.99) ?
gelu     forward   cpu      1.0%  reference   absent  1.00x (1.00-1.00) =
Times faster than the reference, geometric mean over the sizes, 95 % interval: ▲ faster, ▼ slower, = same, ? unclear.
checked: values proved without a GPU, so no time.
FAILED softmax triton, 2 points, at verify: output: off by 0.01, allowed 1e-6
skipped softmax compile, 1 point, at time: no output has a gradient"""
    )


def test_a_mean_that_hides_a_crossing_has_its_sign_and_a_line_that_says_where() -> None:
    whole = run(at(1, **STOCK, triton=took(4.0)), at(8, **STOCK, triton=took(1.0)))
    lines = printed(whole).splitlines()
    assert lines[3] == "softmax  forward  cpu      1.0%  reference  1.00x (1.00-1.00) ↕"
    assert "↕ mixed: faster at some sizes and slower at others, listed" in " ".join(lines)
    assert lines[-1] == "mixed softmax forward cpu triton: wins from batch 8; of 2 points 1 faster, 1 slower"
    assert "mixed" not in printed(run(at(1, **STOCK, triton=took(4.0))))


def test_what_a_reason_or_a_note_holds_is_printed_as_it_is() -> None:
    whole = run(at(**STOCK, triton=Failed("verify", EVIL)), at(64, **STOCK, triton=Skipped("time", EVIL)), notes=(EVIL,))
    lines = printed(whole).splitlines()
    assert f"note: {EVIL}" in lines
    assert lines[-2:] == [f"FAILED softmax triton, 1 point, at verify: {EVIL}", f"skipped softmax triton, 1 point, at time: {EVIL}"]


def test_colour_marks_the_verdict_and_nothing_else() -> None:
    to = console(color_system="standard", force_terminal=True, no_color=False)
    whole = run(at(**STOCK, triton=took(1.0)))
    overview.print_run(to, whole, tidy(whole))
    row = next(line for line in text(to).splitlines() if line.startswith("softmax"))
    assert "\x1b[1;36m2.00x (2.00-2.00) ▲\x1b[0m" in row
    assert row.count("\x1b[1;36m") == 1


def test_reasons_are_told_once_with_their_number_and_failures_first() -> None:
    whole = run(at(1, **STOCK, triton=SKIPPED), at(8, **STOCK, triton=FAILED), at(64, **STOCK, triton=SKIPPED, compile=CHECKED))
    assert overview.reasons(whole) == [
        "FAILED softmax triton, 1 point, at verify: output: off by 0.01, allowed 1e-6",
        "skipped softmax triton, 2 points, at time: no output has a gradient",
    ]


def changed(changes: list[Change], differences: list[str]) -> str:
    to = console()
    side_by_side.print_changes(to, changes, differences)
    return text(to)


def test_changes() -> None:
    old = run(at(**STOCK, triton=took(1.0), compile=took(1.0)), at(64, **STOCK))
    new = run(at(**STOCK, triton=took(1.25, 0.002, memory=(4096, 123456, 2048, 3072)), compile=took(1.06, 0.01)))
    shown = """\
environment differs: threads: 1 before, 8 now
point                                variant  what           old      new                ratio  verdict
softmax-forward-cpu-float32-batch8   triton   speedup          2      1.6  1.250 (1.242-1.258)  slower
softmax-forward-cpu-float32-batch8   triton   saved_bytes  1,024  123,456              120.562  larger
softmax-forward-cpu-float32-batch64  stock    outcome                                           missing
3 changed, 8 the same, 1 unclear."""
    assert changed(compare(old, new), ["threads: 1 before, 8 now"]) == shown


def test_no_changes() -> None:
    same = run(at(**STOCK, triton=took(1.0)))
    assert changed(compare(same, same), []) == "0 changed, 7 the same, 0 unclear."
    assert changed([], []) == "0 changed, 0 the same, 0 unclear."


def test_markup_in_a_foreign_file_is_printed_as_it_is() -> None:
    point = at(layer="[red]x[/]", **STOCK)[0].point
    change = Change(point, "[/b]", ":a:", 1.0, 2.0, 2.0, math.nan, math.nan, "larger")
    shown = changed([change], [f"flag: {EVIL}"])
    assert shown.startswith(f"environment differs: flag: {EVIL}\n")
    assert "[red]x[/]-forward-cpu-float32-batch8  [/b]     :a:     1    2" in shown


def test_layers() -> None:
    to = console()
    odd = layer("gelu", ("stock", "compile"))
    odd = type(odd)(odd.name, "", "[my]/layers/gelu.py", 7, {"batch": (1, 8), "width": (64,)}, (VariantFacts("stock", False, "any"),), {})
    overview.print_layers(to, [layer(), odd])
    assert (
        text(to)
        == """\
layer    variants                sweep               file
softmax  stock, triton, compile  batch=1,8,64        layers/softmax.py:12
gelu     stock                   batch=1,8 width=64  [my]/layers/gelu.py:7"""
    )


def test_layers_with_sizes_of_their_own_on_a_gpu() -> None:
    to = console()
    overview.print_layers(to, [replace(layer(), gpu_sweep={"batch": (64, 8192)})])
    assert (
        text(to)
        == """\
layer    variants                sweep               file
softmax  stock, triton, compile  batch=1,8,64        layers/softmax.py:12
                                 GPU: batch=64,8192"""
    )


def test_a_log_has_a_line_per_finished_point_and_none_where_it_is_to_be_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    to = console()
    for quiet in (False, True):
        with overview.watching(to, 2, quiet) as watch:
            watch.begin("softmax-forward")
            watch.waiting("verify", "triton")
            watch.done()
    assert isinstance(to.file, io.StringIO)
    assert to.file.getvalue() == ""
    assert capsys.readouterr().err == "1/2 softmax-forward, 0 s\n"


def test_progress_on_a_terminal_says_where_the_run_is() -> None:
    to = console(force_terminal=True)
    with overview.watching(to, 2) as watch:
        watch.begin("softmax-forward[/]")
        watch.waiting("verify", "triton")
        watch.done()
    last = text(to)
    assert "1/2" in last
    assert "softmax-forward[/] verify triton" in last


def test_a_very_small_ratio_is_not_shown_as_nothing() -> None:
    assert [ratio(value) for value in (1.234, 0.1, 0.0031, 0.0345, 0.0995)] == ["1.23", "0.10", "1/323", "0.035", "0.10"]


def test_an_interval_without_an_end_is_unknown() -> None:
    assert overview._cell(Cell("unclear", Interval(2.0, 0.0, math.inf), 1, 0, 0, "")).plain == "2.00x (unknown) ?"


WIDTHS = (80, 100, 120, 160)
MANY = ("stock", "function", "triton", "compile", "foreach", "fused", "rewritten")
LONG = "linear_crossentropy_with_a_name_that_does_not_end"


def wide_run(variants: tuple[str, ...]) -> Run:
    outcomes = {name: took(0.123 + index, 0.01) for index, name in enumerate(variants[1:])}
    points = [
        at(batch, layer=name, step=step, **STOCK, **outcomes)
        for batch in (8, 64)
        for name in ("gelu", LONG)
        for step in ("forward", "backward")
    ]
    return run(*points, layers=(layer("gelu", variants), layer(LONG, variants)))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variants", [MANY[:2], MANY[:4], MANY], ids=len)
def test_at_no_width_a_number_or_a_sign_is_cut(width: int, variants: tuple[str, ...]) -> None:
    to, whole = console(width=width), wide_run(variants)
    overview.print_run(to, whole, tidy(whole))
    lines = text(to).splitlines()
    assert max(map(len, lines)) <= width
    for line in lines:
        assert "…" not in line or line.startswith("linear_cros"), line
    table = tidy(whole)
    for row in win_matrix.matrix(whole, table):
        begins = row.layer if row.layer == "gelu" else "linear_cros"
        mine = [line for line in lines if line.startswith(begins)]
        for cell in row.cells.values():
            shown = overview._cell(cell).plain
            assert any(shown in line for line in mine), f"{shown} of {row.layer}"


@pytest.mark.parametrize("width", WIDTHS)
def test_at_no_width_a_change_is_cut(width: int) -> None:
    to = console(width=width)
    old, new = (run(at(8, layer=LONG, **STOCK, function=took(seconds, 0.001)), layers=(layer(LONG, MANY[:2]),)) for seconds in (1.0, 1.5))
    side_by_side.print_changes(to, compare(old, new), [])
    shown = text(to)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert "1.500 (1.4" in shown
    assert "slower" in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_at_no_width_an_explanation_loses_a_number(width: int) -> None:
    profile = Profile(1, 5e-3, (Operator("aten::a_very_long_name_of_an_operator_that_does_not_end", 12, 1.2345678e-3, 0.0, 123456789),), "")
    outcomes = {"stock": replace(took(5e-3), profile=profile), "rewritten": replace(took(7e-3), profile=profile)}
    whole = run(at(8, **outcomes), layers=(layer(variants=("stock", "rewritten")),))
    to = console(width=width)
    side_by_side.print_explanation(to, explain.explain(whole, whole.records[0].point, ("stock", "rewritten")))
    shown = text(to)
    assert max(map(len, shown.splitlines())) <= width
    assert all("…" not in line or line.startswith(("aten::", "outside")) for line in shown.splitlines())
    for number in ("1,234.57", "1,728.39", "+493.83", "123,456,789"):
        assert number in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_keeps_its_count_and_its_time_at_every_width(width: int) -> None:
    to = console(width=width, force_terminal=True)
    with overview.watching(to, 278) as watch:
        watch.begin(f"{LONG}-backward-cpu-float32-batch128-tokens1024-width4096")
        watch.waiting("measure", "rewritten")
        watch.done()
    frames = [line for line in text(to).splitlines() if "/278" in line]
    assert frames
    assert all("0:00:0" in line and " left " in line for line in frames)


def test_a_weak_check_is_said_below_the_ratios() -> None:
    weak = Accuracy(ACCURATE.tensors, ("output: zeros would pass",))
    whole = run(at(8, **STOCK, compile=took(1.0, accuracy=weak)), at(64, **STOCK, compile=took(1.0, accuracy=weak)))
    assert "weak check of softmax, 2 points: output: zeros would pass" in printed(whole)


def test_the_second_copy_of_the_reference_is_no_news_where_it_was_skipped() -> None:
    whole = run(at(1, stock=SKIPPED, noise_floor=SKIPPED), at(8, stock=FAILED, noise_floor=FAILED))
    assert [line.split(",")[0] for line in overview.reasons(whole)] == [
        "FAILED softmax stock",
        "FAILED softmax noise_floor",
        "skipped softmax stock",
    ]


def test_layers_with_other_variants_stand_apart_and_one_with_fewer_beside_them() -> None:
    """Three layers: two optimizers' variants, two kernels' variants, and one that has fewer of the latter."""
    kernels, loops = ("stock", "function", "triton"), ("stock", "foreach", "fused")
    points = [
        at(8, layer=name, **STOCK, **{each: took(1.0) for each in variants[1:]})
        for name, variants in (("gelu", kernels), ("adam", loops), ("lstm", kernels[:2]))
    ]
    whole = run(*points, layers=(layer("gelu", kernels), layer("adam", loops), layer("lstm", kernels[:2])))
    to = console(width=160)
    overview.print_run(to, whole, tidy(whole))
    lines = text(to).splitlines()
    headers = [line.split()[4:] for line in lines if line.startswith("layer ")]
    assert headers == [["stock", "function", "triton"], ["stock", "foreach", "fused"]]
    begins = [line.split()[0] for line in lines if line.startswith(("layer ", "gelu", "adam", "lstm"))]
    assert begins == ["layer", "gelu", "lstm", "layer", "adam"]
    assert sum("absent" in line for line in lines) == 1
