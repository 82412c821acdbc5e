"""Runs on a GPU with both times: who is bound by launches where, what ranks by which clock, and what the clock cannot resolve."""

import io
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console
from runs import at, layer, run, took

from layerbench.bench import report
from layerbench.bench.analysis import launches, ranking, summary
from layerbench.bench.analysis.frame import by_clock, tidy
from layerbench.bench.data.record import Measured, OnDevice, Roof, Run
from layerbench.bench.terminal import overview


def on_gpu(device: float, issuing: float, called: float) -> Measured:
    """Seconds of the device, to issue, and as called."""
    made = took(device)
    return structs.replace(made, timing=structs.replace(made.timing, clock="device", device=OnDevice((issuing,) * 4, (called,) * 4)))


def sweep() -> Run:
    """Triton is bound by its launches at 1 and 8, and not at 64; stock at 1 alone."""
    points = []
    for batch, stock, triton in ((1, 5e-6, 4e-6), (8, 40e-6, 30e-6), (64, 320e-6, 240e-6)):
        outcomes = {"stock": on_gpu(stock, 20e-6, max(20e-6, stock)), "triton": on_gpu(triton, 190e-6, max(190e-6, triton))}
        points.append(at(batch, device="cuda", **outcomes, noise_floor=outcomes["stock"]))
    return run(*points, roofs=(Roof("cuda", "float32", 1e15, 1e13, 1e13, 1.3e-6),))


def test_the_size_from_which_on_a_variant_is_no_longer_bound_by_launches() -> None:
    stock, triton = launches.bounds(tidy(sweep()))
    assert (stock.variant, stock.bound, stock.free) == ("stock", ("batch=1",), ("batch=8", "batch=64"))
    assert (triton.variant, triton.bound, triton.free) == ("triton", ("batch=1", "batch=8"), ("batch=64",))
    found = (triton.speedup, triton.called_speedup, triton.issuing, triton.seconds)
    assert found == pytest.approx((4 / 3, 40 / 190, 190e-6, 30e-6))


def test_a_terminal_is_told_only_where_the_two_times_disagree() -> None:
    (found,) = launches.contradictions(tidy(sweep()))
    assert (found.variant, found.bound[-1]) == ("triton", "batch=8")
    assert launches.contradictions(tidy(run(at(stock=took(2.0), triton=took(1.0))))) == []
    to = Console(file=io.StringIO(), width=80)
    overview.print_run(to, sweep(), tidy(sweep()))
    assert isinstance(to.file, io.StringIO)
    lines = [" ".join(line.split()) for line in to.file.getvalue().splitlines()]
    assert "softmax forward triton batch=8 1.33x 0.21x 190 us 30 us" in lines


def test_the_page_has_both_times_and_what_they_say_together(tmp_path: Path) -> None:
    text = report.write(sweep(), tmp_path / "index.html").read_text()
    cells = ("forward", "float32", "triton", "batch=8")
    assert "<tr>" + "".join(f"<td>{cell}" for cell in cells) + "<td class=n>190 µs<td class=n>30.0 µs<td class=n>1.33×" in text
    assert "<td>batch=64" in text and "% on a GPU)" in text
    assert "times faster as called" not in report.render(run(at(stock=took(2.0), triton=took(1.0))))


def test_the_clock_chooses_what_ranks() -> None:
    table = tidy(sweep())
    assert list(table[table.variant == "triton"].verdict) == ["faster"] * 3
    called = tidy(by_clock(sweep(), "called"))
    assert list(called[called.variant == "triton"].verdict) == ["slower", "slower", "faster"]
    assert called[called.variant == "triton"].seconds.tolist() == pytest.approx([190e-6, 190e-6, 240e-6])
    assert by_clock(run(at(stock=took(2.0))), "called") == run(at(stock=took(2.0)))  # a host's time is as called


def test_what_the_clock_cannot_resolve_ranks_nobody() -> None:
    point = at(1, device="cuda", stock=on_gpu(5e-6, 2e-5, 2e-5), triton=on_gpu(3e-6, 2e-5, 2e-5), noise_floor=on_gpu(5e-6, 2e-5, 2e-5))
    short = run(point, layers=(layer(),), roofs=(Roof("cuda", "float32", 1e15, 1e13, 1e13, 1.3e-6),))
    table = tidy(short)
    row = table[table.variant == "triton"].iloc[0]
    assert (row.verdict, row.unresolved) == ("unclear", "3.0 us on the device: its clock reads 1.3 us of a call that does nothing")
    assert ranking.points(table).state.tolist() == ["undecided"]
    assert "The device's clock cannot resolve the times on 1 of 1 point: larger sizes, or  --clock called,  tell more." in summary.verdict(
        short, table
    )
    assert tidy(by_clock(short, "called")).unresolved.isna().all()
