"""Where a GPU begins to win: told where it and the CPU measured the same size, dtype and step, and of the fastest variants alone."""

import io

import fixture_run
import pandas as pd
from msgspec import structs
from rich.console import Console

from layerbench.bench import report
from layerbench.bench.analysis.devices import crossings
from layerbench.bench.analysis.frame import tidy
from layerbench.bench.report import panels
from layerbench.bench.terminal import overview

Seconds = dict[int, float]


def table(cpu: Seconds, cuda: Seconds, **changes: object) -> pd.DataFrame:
    """Two variants, the second of twice the time, and a noise floor that would be the fastest."""
    rows = [
        {"layer": "softmax", "step": "forward", "dtype": "float32", "device": device, "size": {"batch": batch, "width": 8}}
        | {"variant": variant, "outcome": "measured", "seconds": factor * seconds}
        | (changes if device == "cuda" else {})
        for device, times in (("cpu", cpu), ("cuda", cuda))
        for batch, seconds in times.items()
        for variant, factor in (("stock", 2.0), ("triton", 1.0), ("noise_floor", 0.1))
    ]
    return pd.DataFrame(rows)


def said(cpu: Seconds, cuda: Seconds, **changes: object) -> list[str]:
    return [each.sentence(lambda gain: f"{gain:g}x") for each in crossings(table(cpu, cuda, **changes))]


def test_where_a_gpu_begins_to_win() -> None:
    start = "float32, width 8, forward: the fastest variant on cuda against the fastest on cpu is"
    assert said({1: 1.0, 8: 4.0, 64: 9.0}, {64: 3.0, 8: 2.0, 1: 2.0, 4096: 9.0}) == [f"{start} faster from batch 8 up; 3x at 64."]
    assert said({1: 4.0, 8: 4.0}, {1: 2.0, 8: 1.0}) == [f"{start} faster at every batch that both have; 4x at 8."]
    assert said({1: 1.0, 8: 1.0}, {1: 2.0, 8: 1.0}) == [f"{start} slower at every batch that both have."]
    assert said({1: 4.0, 8: 4.0, 64: 4.0}, {1: 1.0, 8: 1.0, 64: 9.0}) == [f"{start} faster at batch 1, 8 only."]


def test_nothing_is_said_of_sizes_and_dtypes_that_only_one_of_them_has() -> None:
    assert said({1: 1.0}, {64: 1.0}) == []
    assert said({1: 1.0}, {1: 1.0}, dtype="bfloat16") == []
    assert said({1: 1.0}, {1: 1.0}, size={"batch": 1, "width": 4096}) == []
    assert said({1: 1.0}, {1: 1.0}, outcome="failed") == []
    assert said({1: 1.0}, {}) == []


def test_the_terminal_says_it_too_and_that_a_mean_is_over_dtypes() -> None:
    run, to = fixture_run.rich(), Console(file=io.StringIO(), width=200)
    overview.print_run(to, run, tidy(run))
    assert isinstance(to.file, io.StringIO)
    text = to.file.getvalue()
    lines = [line for line in text.splitlines() if line.startswith("linear float32, width 256, forward: the fastest variant on cuda")]
    assert len(lines) == 1
    assert "geometric mean over the sizes and dtypes" in text


def test_the_page_tells_sizes_by_device_where_they_differ() -> None:
    run = fixture_run.rich()
    (same,) = {tuple(panels.sizes(parts)) for _, parts in panels.by_layer(run, panels.panels(run, tidy(run)))}
    assert same == ("",)
    large = tuple(record for record in run.records if record.point.device == "cpu" or record.point.size["batch"] > 8)
    text = report.render(structs.replace(run, records=large))
    assert "· cpu: batch 1, 8, 64, 512 · width 256, 1024 · cuda: batch 64, 512 · width 256, 1024 · reference: stock" in text
