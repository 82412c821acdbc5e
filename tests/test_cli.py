"""Bad input, as a user gives it: one sentence that says what to type, exit code 2, no traceback, and nothing lost."""

import os
import subprocess
import sys
import webbrowser
from pathlib import Path

import inprocess
import pytest

from layerbench.bench.cli import options
from layerbench.bench.process import handle
from layerbench.bench.storage import output, run_file
from layerbench.bench.suite import mount
from layerbench.bench.text import invocation

SUITE = """
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Renamed(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.kernel = self.weight
        del self.weight
    def forward(self, x):
        return x @ self.kernel.T + self.bias

linear = Layer("linear", {"batch": (2, 4), "width": (8,)}, (randn("batch", "width"),), lambda module, size: module(8, 8),
    {"stock": Variant(nn.Linear), "again": Variant(nn.Linear)})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    return tmp_path


CORES = os.cpu_count() or 1
BAD = {
    "unknown layer": (["-k", "linera"], "-k: nothing is called 'linera' (did you mean 'linear'?); layers: linear; variants: stock, again"),
    "unknown variant": (
        ["-k", "linear and agian"],
        "-k: nothing is called 'agian' (did you mean 'again'?); layers: linear; variants: stock, again",
    ),
    "unknown device": (["--device", "tpu"], "--device tpu: not on this machine; it has cpu"),
    "unknown dtype": (["--dtype", "float8"], "--dtype float8: unknown; choose from float32, bfloat16, float16"),
    "unknown step": (["--step", "sideways"], "--step sideways: unknown; choose from forward, backward, training, update, inference"),
    "unknown optimizer": (
        ["--step", "update", "--optimizer", "lion"],
        "--optimizer lion: unknown; choose from sgd, adam, adamw, rmsprop",
    ),
    "optimizer without an update": (["--optimizer", "adam"], "--optimizer adam: only the step update has an optimizer; add  --step update"),
    "unknown size": (
        ["--set", "bacth=1"],
        "--set bacth=...: no layer of the suite has that dimension (did you mean 'batch'?); they have batch, width",
    ),
    "size without a value": (["--set", "batch"], "--set batch: write a dimension and its values, as --set batch=1,8,64"),
    "size zero": (["--set", "batch=0"], "--set batch=...: sizes are whole numbers from 1 up, as batch=1,8,64"),
    "budget": (["--budget", "soon"], "--budget soon: not a duration; write for example 90s, 5m or 1h"),
    "threads": (["--threads", "-1"], "--threads -1: give 1 or more"),
    "more threads than a machine can start": (
        ["--threads", "100000"],
        f"--threads 100000: at most {max(options.MOST_THREADS, 4 * CORES)} are started here; this machine has {CORES} cores: "
        f"write  --threads {CORES}",
    ),
    "a budget without a unit": (["--budget", "5"], "--budget 5: seconds, minutes or hours?  Write 5s, 5m or 5h"),
    "a hang limit that is no number": (["--hang-limit", "nan"], "--hang-limit nan: give seconds above 0, as --hang-limit 300"),
    "hang limit": (["--hang-limit", "0"], "--hang-limit 0: give seconds above 0, as --hang-limit 300"),
    "a journal alone": (["x.journal"], "x.journal: a journal is given with --resume; type  layerbench run --resume x.journal"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_word_is_answered_with_the_right_ones(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, told = BAD[name]
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py", *arguments) == 2
    assert capsys.readouterr().err == f"layerbench: {told}\n"
    assert not (folder / "results").exists()


@pytest.mark.parametrize("command", ["bench-gpu", "gpu"])
def test_no_gpu_says_what_was_found_and_what_to_type(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py", "--device", "gpu") == 2
    told = "--device gpu: torch finds no GPU on this machine, only cpu; type  layerbench run --device cpu  (or nox -s bench-cpu)"
    assert told in capsys.readouterr().err


def test_a_layer_file_that_does_not_import(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.py").write_text("import math\nimport nosuchmodule\n")
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py") == 2
    told = "mine.py, line 2: the file does not import: ModuleNotFoundError: No module named 'nosuchmodule'; fix it, or name another --suite"
    assert capsys.readouterr().err == f"layerbench: {told}\n"


def test_an_input_dimension_that_is_not_in_the_sweep(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.py").write_text(SUITE.replace('randn("batch", "width")', 'randn("batch", "widht")'))
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py") == 2
    assert capsys.readouterr().err == "layerbench: mine.py: input dimension 'widht' is not in sweep; it has batch, width\n"


def test_state_dicts_that_differ_are_told_and_the_others_are_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.py").write_text(SUITE.replace("Variant(nn.Linear)})", 'Variant(nn.Linear), "renamed": Variant(Renamed)})'))
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py", "--step", "forward") == 2
    told = "variant 'renamed': state_dict lacks 'weight' that 'stock' has; subclass 'stock' and override only forward"
    assert f"FAILED linear renamed, 2 points, at declare: {told}" in capsys.readouterr().out
    run = run_file.read(run_file.newest(folder / "results"))
    assert {record.variant for record in run.records if hasattr(record.outcome, "timing")} == {"stock", "again", "noise_floor"}


def test_a_results_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "results").write_text("a file where the folder should be")
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py") == 2
    told = capsys.readouterr().err
    assert told.startswith("layerbench: cannot write in results/: ")
    assert told.endswith("; fix that, or give another folder with --out\n")
    assert told.count("\n") == 1


def test_a_results_folder_that_vanishes_under_way_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "replace", lambda text, path: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py", "--step", "forward") == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told
    (journal,) = (folder / "results").glob("*.journal")
    assert told.endswith(f"; what was measured is kept: to go on type  layerbench run --resume results/{journal.name}\n")
    assert len(journal.read_text().splitlines()) == 1 + 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"layerbench": {"schema": 1', "not a whole JSON file"),
        ("hello", "not a whole JSON file"),
        ('{"benchmarks": []}', "not a run of layerbench"),
        ('{"layerbench": {"schema": 99, "records": []}}', "its schema is 99, this layerbench reads up to 1"),
    ],
)
def test_a_bad_results_file(
    content: str, told: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.json").write_text(content)
    for command in (("report", "bad.json"), ("compare", "bad.json", "bad.json")):
        assert inprocess.layerbench(monkeypatch, *command) == 2
        error = capsys.readouterr().err
        assert error.startswith("layerbench: bad.json: ")
        assert told in error
        assert error.count("\n") == 1


def test_report_without_any_run_says_what_to_type(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.layerbench(monkeypatch, "report") == 2
    assert capsys.readouterr().err == "layerbench: no run file in results/; type  layerbench run  first, or give the path of a run file\n"


def test_dry_run_prints_the_points_and_makes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py", "--dry-run", "--set", "batch=3", "--step", "forward") == 0
    assert capsys.readouterr().out == "linear-forward-cpu-float32-batch3-width8  [stock again]\n"
    assert not (folder / "results").exists()


def test_list_names_layers_variants_and_sizes(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert inprocess.layerbench(monkeypatch, "list", "--suite", "mine.py") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["linear", "stock,", "again", "batch=2,4", "width=8", "mine.py:13"]


def test_a_layer_on_request_is_measured_when_it_is_named_or_all_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "mine.py").read_text()
    (folder / "seldom.py").write_text(
        text.replace('"linear"', '"seldom"').replace('again": Variant(nn.Linear)}', 'again": Variant(nn.Linear)}, on_request=True')
    )
    for words, layers in (((), {"linear"}), (("--all",), {"linear", "seldom"}), (("-k", "seldom"), {"seldom"})):
        assert inprocess.layerbench(monkeypatch, "run", "--suite", ".", "--dry-run", "--step", "forward", *words) == 0
        out, err = capsys.readouterr()
        assert {line.partition("-")[0] for line in out.splitlines()} == layers
        assert ("1 of 2 layers are measured on request only: --all, or -k NAME" in err) == (not words)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "seldom.py", "--dry-run", "--step", "forward") == 0
    assert capsys.readouterr().out.startswith("seldom-")  # a suite that has no others
    assert inprocess.layerbench(monkeypatch, "list", "--suite", ".") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in listed[1:3]] == ["linear", "seldom *"]
    assert listed[-1].startswith("* on request")


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from layerbench.bench.cli import main; main.app(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_defaults_are_those_of_the_modules() -> None:
    from layerbench.bench.cli import main

    assert main.DEFAULT_SUITE == mount.DEFAULT
    assert main.DEFAULT_HANG_SECONDS == handle.HANG_SECONDS


def test_open_shows_the_page_in_a_browser_and_says_so_where_there_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    words = ("--suite", "mine.py", "--step", "forward", "-k", "again", "--open")
    assert inprocess.layerbench(monkeypatch, "run", *words) == 0
    (page,) = (folder / "reports").glob("*/index.html")
    assert opened == [page.as_uri()]
    assert "no browser was found; open reports/" in capsys.readouterr().err
    assert inprocess.layerbench(monkeypatch, "report", "--open") == 0
    assert len(opened) == 2


def test_what_is_to_be_typed_next_can_be_typed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bin", "other", "a b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "layerbench").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    for path, program, typed_here in (
        ("bin", "bin/layerbench", "layerbench"),
        ("", "bin/layerbench", "bin/layerbench"),
        ("other", "bin/layerbench", "bin/layerbench"),  # what the shell finds is another one
        ("", "a b/layerbench", "'a b/layerbench'"),
    ):
        monkeypatch.setenv("PATH", str(tmp_path / path) if path else "")
        monkeypatch.setattr("sys.argv", [str(tmp_path / program)])
        assert invocation.command() == typed_here
    monkeypatch.chdir(tmp_path / "bin")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "bin" / "layerbench")])
    assert invocation.command() == "./layerbench"
    monkeypatch.setattr("sys.argv", ["-c"])
    assert invocation.command() == f"{sys.executable} -m layerbench.bench"


def test_no_sentence_names_a_package_that_is_not_published() -> None:
    for file in Path(invocation.__file__).parent.rglob("*.py"):
        assert "install --upgrade layerbench" not in file.read_text(encoding="utf-8"), file
