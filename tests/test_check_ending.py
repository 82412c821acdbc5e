"""How a check ends where something around it goes wrong: the verdict and its exit code come all the same, and faults have their own."""

from pathlib import Path

import pytest
from check_example import check, slower, timed

from layerbench.bench.check import command as check_command
from layerbench.bench.check.command import Order
from layerbench.bench.check.sources import Edited
from layerbench.bench.cli import commands, main
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.plan.planning import Selection

ORDER = Order(
    against="main",
    tip=False,
    suite="layers",
    selection=Selection(),
    threads=1,
    budget_seconds=1.0,
    threshold=0.05,
    tolerance=0.005,
    strict=False,
    everything=False,
    control=True,
    cache=None,
    isolate=False,
    allow_missing=False,
    allow_different=False,
    hang_seconds=60.0,
    command="",
)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes the check end as told, and gives its exit code."""

    def run(end: object, out: Path) -> int:
        def found(order: Order, tell: object) -> object:
            if isinstance(end, BaseException):
                raise end
            return end

        monkeypatch.setattr(check_command, "check", found)
        return commands.check_suite(ORDER, as_json=False, out=out)

    return run


@pytest.mark.parametrize(("found", "code"), [(check(timed("clear")), 0), (check(slower()), 1)], ids=["passed", "failed"])
def test_a_verdict_outlives_an_output_that_cannot_be_written(found, code, ends, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    assert ends(found, tmp_path / "file") == code
    said = capsys.readouterr()
    assert "compared with main" in said.out.lower()
    assert said.err.startswith(f"layerbench: warning: cannot write in {tmp_path / 'file' / 'results'}/: Not a directory; fix that")


def test_and_a_summary_that_cannot(ends, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "gone" / "summary.md"))
    assert ends(check(timed("clear")), tmp_path) == 0
    said = capsys.readouterr()
    assert "warning: cannot write in" in said.err
    assert list((tmp_path / "results").glob("*.check.json"))
    assert "page:" in said.out


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (RuntimeError("ours"), 5, "a fault of layerbench itself, please report it; there is no verdict"),
        (Edited("a.py changed"), 4, "a.py changed; there is no verdict"),
    ],
)
def test_a_fault_of_ours_has_a_code_of_its_own_and_is_an_annotation(end, code, said, ends, tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert ends(end, tmp_path) == code
    told = capsys.readouterr().err
    assert told.endswith(f"layerbench: {said}\n::error title=layerbench::{said}\n")


@pytest.mark.parametrize("actions", ["true", ""])
def test_what_was_typed_wrongly_is_an_annotation_too(actions: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GITHUB_ACTIONS", actions)
    monkeypatch.setattr("sys.argv", ["layerbench", "check", "--against", "main", "--budget", "10"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("layerbench: --budget 10: seconds, minutes or hours?")
    assert ("::error title=layerbench::--budget 10: seconds" in told) == bool(actions)


def test_an_unknown_option_is_one_as_well(capsys, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr("sys.argv", ["layerbench", "check", "--no-such-option"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("::error title=layerbench::layerbench was called wrongly: the log says how\n")


def test_mistakes_are_still_raised(ends, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Mistake, match="no such commit"):
        ends(Mistake("no such commit"), tmp_path)
