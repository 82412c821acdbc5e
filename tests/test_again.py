"""`layerbench again` under the fake clock: what told nothing is measured again, the rest is taken over as it was."""

import json
from pathlib import Path

import inprocess
import pytest
from test_resume import OPTIONS, POINTS, SUITE, rewrite

from layerbench.bench.data.record import Run
from layerbench.bench.declare.layer import NOISE_FLOOR
from layerbench.bench.run import journal
from layerbench.bench.storage import run_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "relu.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    return tmp_path


def noisy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Run]:
    """A run whose second point is noisy: the copy of the reference takes longer and shorter by turns there."""
    seen: list[str] = []

    def cost(variant: str, number: int) -> float:
        if variant == NOISE_FLOOR and number == 0:
            seen.append(variant)
        return 1e-3 * (3 if len(seen) == 2 and variant == NOISE_FLOOR else 1)

    inprocess.install(monkeypatch, folder, cost)
    assert inprocess.layerbench(monkeypatch, "run", *OPTIONS) == 0
    path = run_file.newest(folder / "results")
    inprocess.install(monkeypatch, folder)
    return path, run_file.read(path)


def test_only_what_told_nothing_is_measured_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, old = noisy(folder, monkeypatch)
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"again:   1 point, on a quieter machine:  layerbench again results/{old.name}.json"
    assert inprocess.layerbench(monkeypatch, "again", str(path.relative_to(folder))) == 0
    assert "again:" not in capsys.readouterr().out
    new = run_file.read(run_file.newest(folder / "results"))
    assert (new.notes, new.name != old.name) == (
        (f"2 of its 3 points are those of run {old.name}; at the others no verdict was possible there",),
        True,
    )
    assert [record.id for record in new.records] == [record.id for record in old.records]
    changed = {now.point.id for now, then in zip(new.records, old.records, strict=True) if now != then}
    assert changed == {POINTS[1]}
    assert run_file.read(path) == old  # it stays as it was
    assert not list((folder / "results").glob("*.journal"))


def test_where_everything_told_something_there_is_nothing_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.layerbench(monkeypatch, "run", *OPTIONS) == 0
    path = run_file.newest(folder / "results")
    capsys.readouterr()
    assert inprocess.layerbench(monkeypatch, "again", str(path)) == 0
    assert capsys.readouterr().out == f"{path}: no point was too noisy or disturbed, so there is nothing to measure again\n"
    assert run_file.newest(folder / "results") == path


def test_another_machine_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = noisy(folder, monkeypatch)
    document = json.loads(path.read_text())
    document[run_file.KEY]["environment"]["machine"] = "another"
    path.write_text(json.dumps(document))
    assert inprocess.layerbench(monkeypatch, "again", str(path)) == 2
    assert "was measured under other conditions: machine: " in capsys.readouterr().err


def test_one_that_is_cut_short_is_resumed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old = noisy(folder, monkeypatch)

    def interrupted(variant: str, number: int) -> float:
        raise KeyboardInterrupt

    inprocess.install(monkeypatch, folder, interrupted)
    assert inprocess.layerbench(monkeypatch, "again", str(path)) == 130
    (left,) = (folder / "results").glob("*.journal")
    assert [entry.records[0].point.id for entry in journal.read(left)[1]] == [POINTS[0], POINTS[2]]
    inprocess.install(monkeypatch, folder)
    assert inprocess.layerbench(monkeypatch, "run", "--resume", str(left)) == 0
    new = run_file.read(left.with_suffix(".json"))
    assert [record.id for record in new.records] == [record.id for record in old.records]
    assert new.notes == (f"2 of its 3 points are those of run {old.name}; at the others no verdict was possible there",)


HELPED = """
from torch import nn
from layerbench.bench import Layer, Variant, randn
from helper_of_relu import twice

class Twice(nn.ReLU):
    def forward(self, x):
        return twice(super().forward(x))

relu = Layer("relu", {"batch": (2, 4, 8)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(Twice), "again": Variant(Twice)})
"""
HELPER = "def twice(x):\n    return 2 * x\n"


@pytest.fixture
def helped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite whose layer calls a function of another file, measured, with a noisy point."""
    (folder / "relu.py").write_text(HELPED)
    (folder / "helper_of_relu.py").write_text(HELPER)
    path, _ = noisy(folder, monkeypatch)
    return path


@pytest.mark.parametrize(
    ("suite", "helper"),
    [
        ("# a comment\n\n" + HELPED, HELPER),
        (HELPED.replace("    def forward", "\n    # it doubles\n    def forward"), HELPER),
        (HELPED, '"""Doubles."""\n\n' + HELPER),
    ],
    ids=["comment above", "comment inside", "docstring of the helper"],
)
def test_comments_and_lines_that_moved_are_the_same_layer(
    folder: Path, helped: Path, monkeypatch: pytest.MonkeyPatch, suite: str, helper: str
) -> None:
    (folder / "helper_of_relu.py").write_text(helper)
    rewrite(folder, suite)
    assert inprocess.layerbench(monkeypatch, "again", str(helped)) == 0


@pytest.mark.parametrize(
    ("suite", "helper", "words"),
    [
        (HELPED.replace("super().forward(x)", "super().forward(-x)"), HELPER, "the code of layer 'relu' has changed: relu.py, or a file"),
        (HELPED, HELPER.replace("2 * x", "x + x"), "the code of layer 'relu' has changed: relu.py, or a file that it imports or loads"),
        (HELPED.replace('"again"', '"another"'), HELPER, "the code of layer 'relu' has changed: relu.py, or a file"),
        (HELPED.replace('Layer("relu"', 'Layer("other"'), HELPER, "layer 'relu' is gone"),
    ],
    ids=["same line", "helper", "variant", "gone"],
)
def test_other_code_is_never_mixed_in(
    folder: Path, helped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suite: str, helper: str, words: str
) -> None:
    (folder / "helper_of_relu.py").write_text(helper)
    rewrite(folder, suite)
    assert inprocess.layerbench(monkeypatch, "again", str(helped)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"layerbench: {helped.stem} cannot be measured again: {words}")
    assert said.endswith("; undo that change, or type  layerbench run  to start a new run")


def test_a_run_file_from_before_digests_is_compared_as_it_was_and_that_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, old = noisy(folder, monkeypatch)
    document = json.loads(path.read_text())
    for layer in document[run_file.KEY]["layers"]:
        del layer["digest"]
    path.write_text(json.dumps(document))
    rewrite(folder, "# above\n" + SUITE)
    assert inprocess.layerbench(monkeypatch, "again", str(path)) == 2
    assert "layer 'relu' has other variants, sizes, file or line; undo" in capsys.readouterr().err
    rewrite(folder, SUITE)
    assert inprocess.layerbench(monkeypatch, "again", str(path)) == 0
    told = f"run {old.name} is from before layerbench wrote down the code of layers: that it is the same could be told by "
    assert f"note: {told}" in " ".join(capsys.readouterr().out.split())
