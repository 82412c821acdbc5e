"""The run files that are tracked: a fresh clone makes their pages without a GPU and without measuring anything."""

from pathlib import Path

import pytest

from layerbench.bench import report
from layerbench.bench.analysis import frame, summary
from layerbench.bench.storage import run_file

BASELINES = sorted((Path(__file__).parents[1] / "results" / "baselines").glob("*.json"))


def test_there_is_one() -> None:
    assert BASELINES


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_a_tracked_run_reads_and_its_page_says_what_it_says(path: Path, tmp_path: Path) -> None:
    run = run_file.read(path)
    table = frame.tidy(run)
    page = report.write(run, tmp_path / "index.html").read_text()
    first = summary.verdict(run, table).partition(". ")[0]
    assert first in page
    skipped = table[table.outcome == "skipped"]  # of layers without a backward, as an optimizer's step
    assert {reason.rpartition(", so ")[2] for reason in skipped.reason} <= {"there is no backward to time"}
    assert "measured" in set(table.outcome) <= {"measured", "checked", "skipped"}  # Triton is timed where there is a GPU
    assert {layer.file.partition("/")[0] for layer in run.layers} == {"layers"}
    assert not [word for word in run.command.split() if word.startswith("/") or ".." in word]  # no path of the machine that measured
