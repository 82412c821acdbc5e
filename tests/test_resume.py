"""`layerbench run --resume` under the fake clock: a run that was cut short becomes the file that it would have been."""

import json
import sys
from pathlib import Path
from typing import Any

import inprocess
import msgspec
import pytest

from layerbench.bench.data.record import Run
from layerbench.bench.machine import lock
from layerbench.bench.run import journal
from layerbench.bench.storage import run_file
from layerbench.bench.suite import mount

SUITE = """
from torch import nn
from layerbench.bench import Layer, Variant, randn

relu = Layer("relu", {"batch": (2, 4, 8)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(nn.ReLU), "again": Variant(nn.ReLU)})
"""
OPTIONS = ("--suite", "relu.py", "--step", "forward", "--set", "batch=2,4,6")
POINTS = [f"relu-forward-cpu-float32-batch{batch}" for batch in (2, 4, 6)]
CALLS = 300  # timed ones: more than the first point has, fewer than the first two


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "relu.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    return tmp_path


def cut_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ctrl-C in the middle of the second point.  Returns the journal."""
    made = {"calls": 0}

    def cost(variant: str, number: int) -> float:
        made["calls"] += 1
        if made["calls"] > CALLS:
            raise KeyboardInterrupt
        return 1e-3

    inprocess.install(monkeypatch, folder, cost)
    assert inprocess.layerbench(monkeypatch, "run", *OPTIONS) == 130
    inprocess.install(monkeypatch, folder)
    (path,) = (folder / "results").glob("*.journal")
    assert [entry.records[0].point.id for entry in journal.read(path)[1]] == POINTS[:1]
    return path


def newest(folder: Path) -> Run:
    return run_file.read(run_file.newest(folder / "results"))


def form(value: Any) -> Any:
    """A document without its numbers and words: keys, lengths of lists of mappings, types."""
    if isinstance(value, dict):
        return {key: form(each) for key, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [form(each) for each in value]
    return type(value).__name__


def test_a_resumed_run_is_equal_in_form_to_one_that_was_not_disturbed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inprocess.layerbench(monkeypatch, "run", *OPTIONS) == 0
    (whole,) = (folder / "results").glob("*.json")
    undisturbed = json.loads(whole.read_text())
    whole.rename(folder / "undisturbed.json")
    path = cut_short(folder, monkeypatch)
    finished = journal.read(path)[1][0].records
    assert inprocess.layerbench(monkeypatch, "run", "--resume") == 0
    resumed = json.loads(path.with_suffix(".json").read_text())
    assert form(resumed) == form(undisturbed)
    assert [record.id for record in newest(folder).records] == [record.id for record in run_file.read(folder / "undisturbed.json").records]
    assert newest(folder).records[: len(finished)] == finished
    assert newest(folder).notes == ("resumed: 1 of its 3 points were measured before it was cut short",)
    assert not path.exists()
    assert (folder / "reports" / path.stem / "index.html").exists()


def test_only_what_is_left_is_measured_and_from_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cut_short(folder, monkeypatch)
    asked = []
    answer = inprocess.InProcess.answer
    monkeypatch.setattr(inprocess.InProcess, "answer", lambda self, request: asked.append(request) or answer(self, request))
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert inprocess.layerbench(monkeypatch, "run", "--resume", str(path)) == 0
    assert [request.point.id for request in asked if hasattr(request, "point")] == POINTS[1:]
    assert [record.point.id for record in newest(folder).records if record.variant == "stock"] == POINTS


def test_a_torn_line_is_measured_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cut_short(folder, monkeypatch)
    path.write_bytes(path.read_bytes()[:-100])
    assert inprocess.layerbench(monkeypatch, "run", "--resume", f"results/{path.name}") == 0
    assert [record.point.id for record in newest(folder).records if record.variant == "stock"] == POINTS
    assert newest(folder).notes == ()


def test_a_second_ctrl_c_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cut_short(folder, monkeypatch)

    def at_once(variant: str, number: int) -> float:
        raise KeyboardInterrupt

    inprocess.install(monkeypatch, folder, at_once)
    assert inprocess.layerbench(monkeypatch, "run", "--resume") == 130
    assert [entry.records[0].point.id for entry in journal.read(path)[1]] == POINTS[:1]
    inprocess.install(monkeypatch, folder)
    assert inprocess.layerbench(monkeypatch, "run", "--resume") == 0
    assert [record.point.id for record in newest(folder).records if record.variant == "stock"] == POINTS


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert inprocess.layerbench(monkeypatch, "run", "--resume", *words) == 2
    return capsys.readouterr().err


def rewrite(folder: Path, suite: str) -> None:
    """Change the suite's file as if the next command were a new process, which it is outside of tests."""
    (folder / "relu.py").write_text(suite)
    ours = mount._package(folder.resolve()).partition(".")[0]  # of this suite alone: other tests have mounted others
    for name in [name for name in sys.modules if name.partition(".")[0] == ours]:
        del sys.modules[name]


def test_what_cannot_be_resumed_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = "layerbench: --resume: no journal in results/, so no run was left unfinished there; type  layerbench run  to begin one\n"
    assert refused(monkeypatch, capsys) == told
    path = cut_short(folder, monkeypatch)
    before = path.read_bytes()
    told = "layerbench: --resume takes everything from the journal: remove --budget, or remove --resume to start a new run\n"
    assert refused(monkeypatch, capsys, "--budget", "9s") == told
    rewrite(folder, SUITE.replace('"again"', '"another"'))
    assert refused(monkeypatch, capsys) == (
        f"layerbench: results/{path.name}: the points of {folder}/relu.py are no longer those that the run was begun with: "
        f"{POINTS[0]} [stock again] is gone; undo that change, or type  layerbench run  to start a new run\n"
    )
    rewrite(folder, SUITE)
    begun, entries, _ = journal.read(path)
    other = msgspec.structs.replace(begun.run.environment, python="3.9.0")
    lines = [msgspec.structs.replace(begun, run=msgspec.structs.replace(begun.run, environment=other)), *entries]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    assert refused(monkeypatch, capsys) == (
        f"layerbench: results/{path.name}: its run was begun under other conditions: python: 3.9.0 before, "
        f"{begun.run.environment.python} now; type  layerbench run  to start a new run\n"
    )
    path.write_bytes(before)
    assert inprocess.layerbench(monkeypatch, "run", "--resume") == 0


def test_a_comment_is_no_other_code_and_an_edit_on_the_same_line_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cut_short(folder, monkeypatch)
    rewrite(folder, SUITE.replace("Variant(nn.ReLU)}", "Variant(nn.ReLU6)}"))
    assert refused(monkeypatch, capsys) == (
        f"layerbench: results/{path.name} cannot be resumed: the code of layer 'relu' has changed: relu.py, or a file that it imports or "
        "loads; undo that change, or type  layerbench run  to start a new run\n"
    )
    rewrite(folder, "# a comment\n" + SUITE)
    assert inprocess.layerbench(monkeypatch, "run", "--resume") == 0
    assert [record.point.id for record in newest(folder).records if record.variant == "stock"] == POINTS


def test_a_full_disk_under_way_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    put, written = journal.Journal._put, []

    def full(self: journal.Journal, text: bytes) -> None:
        written.append(text)
        if len(written) == 3:  # the second point
            raise OSError(28, "No space left on device")
        put(self, text)

    monkeypatch.setattr(journal.Journal, "_put", full)
    assert inprocess.layerbench(monkeypatch, "run", "--quiet", *OPTIONS) == 2
    (path,) = (folder / "results").glob("*.journal")
    assert capsys.readouterr().err == (
        "layerbench: cannot write in results/: No space left on device; fix that, or give another folder with --out; "
        f"what was measured is kept: to go on type  layerbench run --resume results/{path.name}\n"
    )
    assert inprocess.layerbench(monkeypatch, "run", "--resume") == 0
    assert newest(folder).notes == ("resumed: 1 of its 3 points were measured before it was cut short",)


def test_another_run_on_the_same_device_is_said_and_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "another run of layerbench was going on, on cpu: the times of both may be worse than they need be"
    with lock.held(["cuda"]):
        assert inprocess.layerbench(monkeypatch, "run", "--quiet", *OPTIONS) == 0
    assert newest(folder).notes == ()
    assert capsys.readouterr().err == ""
    with lock.held(["cpu"]):
        assert inprocess.layerbench(monkeypatch, "run", "--quiet", *OPTIONS) == 0
    assert newest(folder).notes == (told,)
    assert capsys.readouterr().err == f"layerbench: {told}\n"


def test_a_run_that_another_one_joins_notes_it_too(folder: Path) -> None:
    with lock.held(["cpu"]) as first:
        assert first.busy() == []
        with lock.held(["cpu"]) as second:
            assert (first.busy(), second.busy()) == (["cpu"], ["cpu"])
        assert first.busy() == []
