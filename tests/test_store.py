"""What is written is read back equal, is what pytest-benchmark reads, and says in a sentence what is wrong with any other file."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fixture_run
import msgspec
import pytest
from pytest_benchmark.stats import Stats
from runs import CHECKED, FAILED, SKIPPED, at, run, took

from layerbench.bench.data.record import Accuracy, Compiled, Run, TensorError
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.storage import output, run_file
from layerbench.bench.text import invocation


def whole() -> Run:
    compiled = took(1.5, compiled=Compiled(31.0, 2, ("print",), 1))
    return run(at(stock=took(2.0, 0.01), noise_floor=took(2.0), triton=CHECKED, compile=compiled), at(64, stock=FAILED, triton=SKIPPED))


def written(path: Path, made: Run | None = None) -> dict[str, Any]:
    run_file.write(made or whole(), path)
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Mistake) as caught:
        action()
    return str(caught.value)


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new/results/run.json"
    for made in (whole(), run(), fixture_run.small()):
        run_file.write(made, path)
        assert run_file.read(path) == made
    assert files(path.parent) == [".gitignore", "run.json"]


def test_a_file_from_before_layers_had_sizes_of_their_own_on_a_gpu(tmp_path: Path) -> None:
    document = written(tmp_path / "run.json")
    for layer in document["layerbench"]["layers"]:
        assert layer.pop("gpu_sweep") == {}
    (tmp_path / "run.json").write_text(json.dumps(document), encoding="utf-8")
    assert run_file.read(tmp_path / "run.json") == whole()


def test_each_sample_stands_once_in_the_file(tmp_path: Path) -> None:
    document = written(tmp_path / "run.json")
    timings = [record["outcome"].get("timing") for record in document["layerbench"]["records"]]
    assert [timing and timing["benchmark"] for timing in timings] == [0, 1, None, 2, None, None]
    assert all("seconds" not in timing for timing in timings if timing)
    assert [each["stats"]["data"] for each in document["benchmarks"]] == [
        list(record.outcome.timing.seconds) for record in whole().records if hasattr(record.outcome, "timing")
    ]


def test_a_benchmark_of_the_file(tmp_path: Path) -> None:
    reference, _, compiled = written(tmp_path / "run.json", run(at(stock=took(2.0), noise_floor=took(2.0), compile=took(1.0))))[
        "benchmarks"
    ]
    point = "softmax-forward-cpu-float32-batch8"
    assert {name: compiled[name] for name in ("group", "name", "fullname", "param", "params", "options")} == {
        "group": point,
        "name": f"{point}-compile",
        "fullname": f"softmax::{point}-compile",
        "param": f"{point}-compile",
        "params": {"variant": "compile", "step": "forward", "device": "cpu", "dtype": "float32", "batch": 8},
        "options": {"disable_gc": True, "timer": "layerbench host clock", "min_rounds": 4, "max_time": 0, "min_time": 0, "warmup": True},
    }
    assert compiled["extra_info"] == {
        **dict.fromkeys(("speedup", "speedup_low", "speedup_high"), pytest.approx(2.0)),
        "noise_floor": 0.01,
        "verdict": "faster",
    }
    assert reference["extra_info"] == {}


@pytest.mark.parametrize("rounds", [1, 2, 5, 8, 11])
def test_the_statistics_are_those_of_pytest_benchmark(tmp_path: Path, rounds: int) -> None:
    seconds = (*((7 * i % 5 + 1) * 1e-3 for i in range(rounds - 1)), 0.1)
    first = took(1.0)
    timing = msgspec.structs.replace(first.timing, seconds=seconds, order=tuple(range(rounds)))
    (benchmark,) = written(tmp_path / "run.json", run(at(stock=msgspec.structs.replace(first, timing=timing))))["benchmarks"]
    theirs = Stats()
    for each in seconds:
        theirs.update(each)
    assert benchmark["stats"] == {**theirs.as_dict(), "data": list(seconds), "iterations": 10}


def test_pytest_benchmark_lists_the_file(tmp_path: Path) -> None:
    run_file.write(whole(), tmp_path / "run.json")
    command = [Path(sys.executable).with_name("pytest-benchmark"), "compare", tmp_path / "run.json", "--columns=median,rounds,iterations"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("softmax-")}
    point = "softmax-forward-cpu-float32-batch8"
    assert sorted(rows) == [f"{point}-compile", f"{point}-noise_floor", f"{point}-stock"]
    assert [rows[f"{point}-{name}"][-2:] for name in ("compile", "noise_floor", "stock")] == [["4", "10"]] * 3
    assert rows[f"{point}-compile"][-4:] == ["1.5000", "(1.0)", "4", "10"]


def test_the_machine_and_the_commit(tmp_path: Path) -> None:
    document = written(tmp_path / "run.json")
    assert document["machine_info"] == {
        "node": "amd-epyc-2c-6f1c",
        "machine": "Linux 6.1.0",
        "system": "Linux",
        "release": "6.1.0",
        "python_version": "3.11.7",
        "cpu": {"brand_raw": "AMD EPYC 7B13", "count": 2},
    }
    assert document["commit_info"]["id"] == "3f9c2b1d5e8a7764"
    assert document["version"] == "5.3.1"
    outside = run(environment=fixture_run.environment(commit="", branch=""))
    assert written(tmp_path / "run.json", outside)["commit_info"] == {
        "id": "unversioned",
        "time": None,
        "author_time": None,
        "dirty": False,
        "project": "layerbench",
        "branch": "(unknown)",
    }


def test_an_interval_without_end_stays_out_of_the_file(tmp_path: Path) -> None:
    once = took(2.0)
    once = msgspec.structs.replace(once, timing=msgspec.structs.replace(once.timing, seconds=(2.0,), order=(0,)))
    again = msgspec.structs.replace(once)
    one_round = written(tmp_path / "run.json", run(at(stock=once, triton=again)))["benchmarks"][1]
    assert one_round["extra_info"] == {"speedup": 1.0, "speedup_low": 0.0, "verdict": "unclear"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_never_written(tmp_path: Path, value: float) -> None:
    path = tmp_path / "run.json"
    before = whole()
    run_file.write(before, path)
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        run_file.write(run(at(stock=took(2.0, accuracy=Accuracy((TensorError("output", value, 1.0),))))), path)
    assert run_file.read(path) == before
    assert files(tmp_path) == ["run.json"]


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    advice = "give the path of a run file, as results/NAME.json"
    assert refusal(lambda: run_file.read(tmp_path / "no.json")) == f"cannot read {tmp_path}/no.json: No such file or directory; {advice}"
    assert refusal(lambda: run_file.read(tmp_path)) == f"cannot read {tmp_path}: Is a directory; {advice}"


def test_a_file_cut_short_at_any_place(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    run_file.write(whole(), path)
    text = path.read_bytes()
    for end in (0, 1, len(text) // 2, len(text) - 1):
        path.write_bytes(text[:end])
        assert refusal(lambda: run_file.read(path)) == (
            f"{path}: not a whole JSON file (Input data was truncated); if its run was cut short, run again"
        )


def test_a_file_that_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("<!doctype html>")
    assert refusal(lambda: run_file.read(path)) == (
        f"{path}: not a whole JSON file (JSON is malformed: invalid character (byte 0)); if its run was cut short, run again"
    )


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"benchmarks": []}', '{"layerbench": []}'])
def test_json_that_is_not_ours(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    assert refusal(lambda: run_file.read(path)) == (
        f"{path}: not a run of layerbench: the key 'layerbench' is missing; give a file that `layerbench run` wrote"
    )


def damaged(path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    document = written(path)
    change(document)
    path.write_text(json.dumps(document))
    return refusal(lambda: run_file.read(path))


@pytest.mark.parametrize("schema", [2, None, "1"])
def test_a_newer_schema(tmp_path: Path, schema: object) -> None:
    path = tmp_path / "run.json"
    assert damaged(path, lambda document: document["layerbench"].update(schema=schema)) == (
        f"{path}: its schema is {schema}, this layerbench reads up to 1; {invocation.NEWER}"
    )


def _ours(document: dict[str, Any]) -> dict[str, Any]:
    return document["layerbench"]


def _first(document: dict[str, Any]) -> dict[str, Any]:
    return _ours(document)["records"][0]


def _timing(document: dict[str, Any]) -> dict[str, Any]:
    return _first(document)["outcome"]["timing"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: _ours(d).update(seconds="long"), "ValidationError: Expected `float`, got `str` - at `$.seconds`"),
        (lambda d: _first(d).pop("variant"), "ValidationError: Object missing required field `variant` - at `$.records[0]`"),
        (lambda d: _first(d)["outcome"].update(type="great"), "ValidationError: Invalid value 'great' - at `$.records[0].outcome.type`"),
        (lambda d: _ours(d).pop("records"), "KeyError: 'records'"),
        (lambda d: _ours(d).update(records=7), "TypeError: 'int' object is not iterable"),
        (lambda d: _ours(d).update(records=["x"]), "TypeError: string indices must be integers, not 'str'"),
        (lambda d: d.pop("benchmarks"), "KeyError: 'benchmarks'"),
        (lambda d: _timing(d).update(benchmark=3), "IndexError: list index out of range"),
        (lambda d: _timing(d).update(benchmark=-1), "IndexError: benchmark number below 0"),
        (lambda d: _timing(d).update(benchmark="0"), "TypeError: '<' not supported between instances of 'str' and 'int'"),
        (lambda d: _timing(d).pop("benchmark"), "KeyError: 'benchmark'"),
        (
            lambda d: d["benchmarks"][0]["stats"].update(data=[1, None]),
            "ValidationError: Expected `float`, got `null` - at `$.records[0].outcome.timing.seconds[1]`",
        ),
    ],
)
def test_a_damaged_file(tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    path = tmp_path / "run.json"
    assert damaged(path, change) == f"{path}: damaged: {said}; take it from a backup, or run again"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for folder, reason in ((tmp_path / "taken", "File exists"), (tmp_path / "taken/results", "Not a directory")):
        said = f"cannot write in {folder}/: {reason}; fix that, or give another folder with --out"
        assert refusal(lambda folder=folder: run_file.write(whole(), folder / "run.json")) == said


def test_the_newest_run_file(tmp_path: Path) -> None:
    assert refusal(lambda: run_file.newest(tmp_path)) == (
        f"no run file in {tmp_path}/; type  layerbench run  first, or give the path of a run file"
    )
    for name, age in (("b.json", 5), ("a.json", 3), ("c.json", 9), ("d.json.partial", 1), ("e.journal", 1)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    assert run_file.newest(tmp_path) == tmp_path / "a.json"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refusal(lambda: run_file.write(run(), tmp_path / "run.json")) == (
        f"cannot write in {tmp_path}/: No space left on device; fix that, or give another folder with --out"
    )
    assert files(tmp_path) == []


def test_two_that_write_one_file_at_once_leave_it_whole(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: output.replace(text, tmp_path / "index.html"), texts * 4))
    assert files(tmp_path) == ["index.html"]
    assert (tmp_path / "index.html").read_text() in texts


def broken(document: dict[str, Any], how: str) -> None:
    ours = document["layerbench"]
    if how == "fewer samples":
        document["benchmarks"][0]["stats"]["data"] = document["benchmarks"][0]["stats"]["data"][:-1]
        ours["records"][0]["outcome"]["timing"]["order"].pop()
    elif how == "fewer places":
        ours["records"][0]["outcome"]["timing"]["order"].pop()
    elif how == "a record twice":
        ours["records"].append(ours["records"][-1])
    else:
        ours["layers"] = []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fewer samples", "has variants with more samples than others"),
        ("fewer places", "4 samples and 3 places of them in time"),
        ("a record twice", "is there twice"),
        ("no layers", "layer softmax is not among its layers"),
    ],
)
def test_records_that_do_not_fit_each_other_are_one_sentence(tmp_path: Path, how: str, words: str) -> None:
    path = tmp_path / "run.json"
    assert words in damaged(path, lambda document: broken(document, how))


@pytest.mark.parametrize("samples", [[], [1e-3, -1e-3], [0.0], [float("nan")], [float("inf")]], ids=str)
def test_a_file_with_samples_that_are_no_times_is_one_sentence(tmp_path: Path, samples: list[float]) -> None:
    path = tmp_path / "run.json"
    run_file.write(run(at(8, stock=took(2.0), noise_floor=took(2.0))), path)
    document = json.loads(path.read_text())
    document["benchmarks"][0]["stats"]["data"] = samples
    path.write_text(json.dumps(document))
    with pytest.raises(Mistake) as caught:
        run_file.read(path)
    why = "has no samples" if not samples else "has a sample that is not a time above 0"
    no_json = any(not math.isfinite(each) for each in samples)  # which JSON has no word for
    assert ("not a whole JSON file" if no_json else why) in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_two_that_begin_in_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    started = datetime(2026, 11, 27, 8, 0, 0, tzinfo=UTC)
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: output.claim(tmp_path, started), range(24)))
    assert len(set(names)) == 24
    assert min(names) == "20261127-080000"


@pytest.mark.parametrize("left", ["20261127-080000.json", "20261127-080000.journal", "20261127-080000.check.json"])
def test_a_name_that_a_run_or_a_check_has_is_not_given_again(tmp_path: Path, left: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / left).touch()
    assert output.claim(tmp_path, datetime(2026, 11, 27, 8, 0, 0, tzinfo=UTC)) == "20261127-080000-2"


def test_git_leaves_the_folders_alone_that_we_make_and_those_of_others_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    output.claim(tmp_path, datetime(2026, 11, 27, 8, 0, 0, tzinfo=UTC))
    assert (tmp_path / "results" / ".gitignore").read_text() == "*\n"
    assert not (tmp_path / "reports" / ".gitignore").exists()
