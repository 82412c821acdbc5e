"""`layerbench run` from command line to page with invented times: verdicts, texts and exit codes to the digit."""

from pathlib import Path

import inprocess
import pytest

from layerbench.bench.analysis import frame
from layerbench.bench.data.record import Failed, Measured, Roof, Run, Work
from layerbench.bench.profiling import compiling
from layerbench.bench.storage import run_file

SUITE = '''
"""Adding one, three times over."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Stock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
    def forward(self, x):
        return x * self.weight

class Fast(Stock):
    pass

class Slow(Stock):
    pass

class Wrong(Stock):
    def forward(self, x):
        return x * self.weight + 1

class Alike(Stock):
    pass

scale = Layer("scale", {"batch": (2, 4)}, (randn("batch", 8),), lambda module, size: module(8),
    {"stock": Variant(Stock), "fast": Variant(Fast), "slow": Variant(Slow), "alike": Variant(Alike)})
'''

COST = {"stock": 1e-3, "noise_floor": 1.02e-3, "fast": 0.5e-3, "slow": 1.25e-3, "alike": 1.01e-3, "wrong": 1e-3}


def cost(variant: str, number: int) -> float:
    return COST[variant]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scale.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path, cost)
    return tmp_path


def newest(folder: Path) -> Run:
    return run_file.read(run_file.newest(folder / "results"))


def test_verdicts_and_ratios_follow_from_the_times(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "forward") == 0
    table = frame.tidy(newest(folder)).set_index(["variant", "point"])
    for point in ("scale-forward-cpu-float32-batch2", "scale-forward-cpu-float32-batch4"):
        rows = {variant: table.loc[variant, point] for variant in COST if variant != "wrong"}
        assert rows["stock"].isna().verdict
        assert {variant: row.verdict for variant, row in rows.items() if variant != "stock"} == {
            "fast": "faster",
            "slow": "slower",
            "alike": "same",
            "noise_floor": "same",
        }
        assert rows["fast"].speedup == pytest.approx(2)
        assert (rows["slow"].speedup_low, rows["slow"].speedup_high) == pytest.approx((0.8, 0.8))
        assert rows["alike"].noise_floor == pytest.approx(0.02)
        assert rows["stock"].seconds == pytest.approx(1e-3)


def test_the_terminal_says_who_won_in_a_sentence_and_a_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "forward", "--step", "training") == 0
    lines = capsys.readouterr().out.splitlines()
    headline = "4 points on cpu: a variant is faster than stock on 4 (fast wins 4), all are slower or the same on 0; 0 undecided, 0"
    assert lines[0].startswith(headline)
    (head,) = (number for number, line in enumerate(lines) if line.startswith("layer "))
    assert "fast is 2.00x as fast as stock on cpu" in " ".join(" ".join(lines[:head]).split())
    assert lines[head].split() == ["layer", "step", "device", "noise", "stock", "fast", "slow", "alike"]
    assert lines[head + 1].split() == [
        *("scale", "forward", "cpu", "2.0%", "reference"),
        *("2.00x", "(2.00-2.00)", "▲", "0.80x", "(0.80-0.80)", "▼", "0.99x", "(0.99-0.99)", "="),
    ]
    assert lines[-2].startswith("results: results/")
    assert lines[-1].startswith("page:    reports/")


def test_the_page_is_written_and_holds_the_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "forward")
    run = newest(folder)
    page = (folder / "reports" / run.name / "index.html").read_text()
    assert "2 points on cpu: a variant is faster than stock on 2 (fast wins 2)" in page
    assert not list((folder / "results").glob("*.journal"))


def test_one_wrong_variant_makes_the_exit_code_1_and_the_rest_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "scale.py").write_text(SUITE.replace('"alike": Variant(Alike)', '"wrong": Variant(Wrong)'))
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "forward") == 1
    assert "FAILED scale wrong, 2 points, at verify: output: off by" in capsys.readouterr().out
    assert sum(isinstance(record.outcome, Measured) for record in newest(folder).records) == 2 * 4


def test_compare_tells_a_slower_run_from_a_same_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for slowdown in (1.0, 1.2):
        inprocess.install(monkeypatch, folder, lambda variant, number, s=slowdown: COST[variant] * (s if variant == "fast" else 1))
        inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "forward")
    old, new = sorted(map(str, (folder / "results").glob("*.json")), key=lambda path: (len(path), path))
    capsys.readouterr()
    assert inprocess.layerbench(monkeypatch, "compare", old, new) == 1
    out = capsys.readouterr().out
    assert ["scale-forward-cpu-float32-batch2", "fast", "speedup", "2", "1.667", "1.200", "slower"] in [
        line.split() for line in out.splitlines()
    ]
    assert inprocess.layerbench(monkeypatch, "compare", old, new, "--out", "elsewhere") == 1
    assert (folder / "elsewhere" / "reports" / ".gitignore").read_text() == "*\n"
    assert inprocess.layerbench(monkeypatch, "compare", old, old) == 0
    assert inprocess.layerbench(monkeypatch, "compare", new, old) == 0


def test_ctrl_c_keeps_what_was_finished(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = {"made": 0}

    def interrupted(variant: str, number: int) -> float:
        calls["made"] += 1
        if calls["made"] > 600:
            raise KeyboardInterrupt
        return COST[variant]

    inprocess.install(monkeypatch, folder, interrupted)
    assert inprocess.layerbench(monkeypatch, "run", "--quiet", "--suite", "scale.py", "--step", "forward") == 130
    run = newest(folder)
    assert run.notes == ("interrupted: the points after this were not measured",)
    assert {record.point.id for record in run.records} == {"scale-forward-cpu-float32-batch2"}
    told = capsys.readouterr()
    assert "note: interrupted" in told.out
    assert told.err == f"layerbench: interrupted; to go on type  layerbench run --resume results/{run.name}.journal\n"
    assert (folder / "results" / f"{run.name}.journal").exists()


def test_sequential_is_recorded_and_said(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "forward", "--sequential") == 0
    assert capsys.readouterr().out.startswith("2 points on cpu: a variant is faster than stock on 2 (fast wins 2)")
    run = newest(folder)
    orders = {r.variant: r.outcome.timing.order for r in run.records if isinstance(r.outcome, Measured) and r.point.size == {"batch": 2}}
    assert not run.interleaved
    assert [place for name in ("stock", "fast", "slow", "alike", "noise_floor") for place in orders[name]] == list(
        range(sum(map(len, orders.values())))
    )
    page = (folder / "reports" / run.name / "index.html").read_text()
    assert "variants were not interleaved: drift of the machine is not cancelled" in page
    assert "samples are not paired, and drift between the two is not in it" in page


def test_a_run_carries_its_roofs_and_the_work_of_its_points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "training", "--set", "batch=2")
    run = newest(folder)
    assert [(roof.device, roof.dtype) for roof in run.roofs] == [("cpu", "float32")]
    # x 2x8 and the weight of 8 come in, y goes out; then y's gradient comes in and those of x and the weight go out
    work = {r.outcome.work for r in run.records if isinstance(r.outcome, Measured)}
    assert work == {Work(0, 4 * (16 + 8) + 4 * 16, 4 * 16 + 4 * (16 + 8))}


LSTM = '''
"""An LSTM, and torch.compile of it."""
from torch import nn
from layerbench.bench import Layer, Variant, randn

lstm = Layer("lstm", {"batch": (2,)}, (randn(5, "batch", 4),), lambda module, size: module(4, 3),
    {"stock": Variant(nn.LSTM), "compile": Variant(nn.LSTM, compile=True)})
'''


@pytest.mark.skipif(bool(compiling.missing_compiler()), reason=compiling.missing_compiler())
def test_lstm_which_torch_compile_gives_up_on_is_said_in_terminal_and_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "lstm.py").write_text(LSTM)
    inprocess.install(monkeypatch, folder)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "lstm.py", "--step", "forward") == 1
    told = "torch.compile compiled nothing and fell back to eager"
    out = capsys.readouterr().out
    assert f"FAILED lstm compile, 1 point, at compile: {told}" in out
    assert "Of 2 measurements, 1 failed and is not ranked." in " ".join(out.split())
    run = newest(folder)
    page = (folder / "reports" / run.name / "index.html").read_text()
    assert f"<b>compile</b> failed at compile (every batch): {told}" in page
    (outcome,) = (record.outcome for record in run.records if record.variant == "compile")
    assert isinstance(outcome, Failed)


def test_a_time_that_cannot_be_true_is_told_and_makes_the_exit_code_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_machine = Roof("cpu", "float32", 1e30, 1e30, 1e30, 2.4e-3)  # its empty call takes 2.4 ms, and `fast` took 0.5
    monkeypatch.setattr(inprocess, "no_roof", lambda device, dtype, clock: slow_machine)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "scale.py", "--step", "forward") == 1
    out = capsys.readouterr().out
    first = " ".join(out.split()).partition(" layer step ")[0]
    assert first.startswith("2 points on cpu: a variant is faster than stock on 0, all are slower or the same on 0; 0 undecided, 2 failed.")
    assert "Of 8 measurements, 2 are invalid and are not ranked." in first
    told = "5e+05 ns per call: calling a module that does nothing takes 2.4e+06 ns here"
    assert f"INVALID scale fast, 2 points: {told} (scale-forward-cpu-float32-batch2)" in out
