"""A journal has every finished point as soon as it is appended, is read back equal, torn or not, and is held by one process."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from runs import FAILED, SKIPPED, at, run, took

from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.plan.planning import Selection
from layerbench.bench.run import journal
from layerbench.bench.run.journal import Begun, Entry, Journal, Order

ORDER = Order("/suites/mine.py", Selection("softmax", ("cpu",), (), ("forward",), {"batch": (8, 64)}), 2, 60.0, 300.0)
BEGUN = Begun(run(), ORDER, ("softmax-forward-cpu-float32-batch8 [stock]", "softmax-forward-cpu-float32-batch64 [stock]"))
FIRST = Entry(1.5, tuple(at(8, stock=took(2.0, 0.01), triton=SKIPPED)))
SECOND = Entry(3.25, tuple(at(64, stock=FAILED)))


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Mistake) as caught:
        action()
    return str(caught.value)


def written(path: Path, *entries: Entry) -> Path:
    made = Journal(path, BEGUN)
    for entry in entries:
        made.append(entry)
    made.close()
    return path


def test_a_point_is_one_line_and_is_there_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "results/run.journal"
    made = Journal(path, BEGUN)
    assert journal.read(path) == (BEGUN, [], path.stat().st_size)
    made.append(FIRST)
    assert journal.read(path) == (BEGUN, [FIRST], path.stat().st_size)
    made.append(SECOND)
    assert journal.read(path) == (BEGUN, [FIRST, SECOND], path.stat().st_size)
    assert path.read_bytes().count(b"\n") == 3
    made.remove()
    assert not path.exists()


def test_a_torn_last_line_counts_as_not_written_wherever_it_is_torn(tmp_path: Path) -> None:
    path = written(tmp_path / "run.journal", FIRST, SECOND)
    text = path.read_bytes()
    whole = len(text) - len(msgspec.json.encode(SECOND)) - 1
    for cut in range(whole, len(text)):
        path.write_bytes(text[:cut])
        assert journal.read(path) == (BEGUN, [FIRST], whole)


def test_what_is_taken_up_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    path = written(tmp_path / "run.journal", FIRST)
    keep = path.stat().st_size
    path.write_bytes(path.read_bytes() + b'{"seconds":3.25,"rec')
    again = Journal(path, None, keep)
    again.append(SECOND)
    again.close()
    assert journal.read(path)[1] == [FIRST, SECOND]


def test_a_journal_that_another_process_holds(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    held = Journal(path, BEGUN)
    told = f"{path}: its run is still going on; wait for its end, or press Ctrl-C there first"
    assert refusal(lambda: Journal(path, None, 0)) == told
    assert journal.read(path)[0] == BEGUN
    held.close()


def test_a_bad_journal_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    assert refusal(lambda: journal.read(path)) == (
        f"cannot read {path}: No such file or directory; give the path of a journal, as results/NAME.journal"
    )
    for text in (b"", b'{"run": {"sche'):
        path.write_bytes(text)
        assert refusal(lambda: journal.read(path)) == (
            f"{path}: it ends before its first line does, so nothing was finished; type  layerbench run  to start a new run"
        )
    path.write_bytes(b"hello\n")
    assert refusal(lambda: journal.read(path)) == (
        f"{path}: not a journal of this layerbench: JSON is malformed: invalid character (byte 0); type  layerbench run  to start a new run"
    )


def test_the_newest_journal(tmp_path: Path) -> None:
    told = f"--resume: no journal in {tmp_path}/, so no run was left unfinished there; type  layerbench run  to begin one"
    assert refusal(lambda: journal.newest(tmp_path)) == told
    for name, age in (("b.journal", 5), ("a.journal", 3), ("c.json", 1)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    assert journal.newest(tmp_path) == tmp_path / "a.journal"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    told = f"cannot write in {tmp_path}/taken/: File exists; fix that, or give another folder with --out"
    assert refusal(lambda: Journal(tmp_path / "taken/run.journal", BEGUN)) == told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk that is always full")
def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "run.journal").symlink_to("/dev/full")
    told = f"cannot write in {tmp_path}/: No space left on device; fix that, or give another folder with --out"
    assert refusal(lambda: Journal(tmp_path / "run.journal", BEGUN)) == told
