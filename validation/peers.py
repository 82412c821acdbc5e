"""Other tools, live: pytest-benchmark and asv on the gate's suite, base against head, in about the time that the check takes.

A trial measures the base, then the head, as each tool's own commands do it.  pytest-benchmark's raw times are judged by the other rules
too.  asv is installed below results/validation/ when it is not there: no dependency of ours.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gate
import study
from neighbour import BURSTY, HALF, QUIET, TWO, beside
from rules import STATISTICS, Side, compare_fail, condensed, criterion_like, u_test

ASV = "asv==0.6.6"
REPEATS = 4
TOOLS = ("pytest-benchmark", "asv")
PLANTS = ("none", "+5 % everywhere", "+10 % everywhere")
FAIL = "mean:5%"  # the option that pytest-benchmark is given; its exit code must say what its numbers say
PYTEST_FILE = """
import pytest, torch
from layers import suite

torch.set_num_threads(1)
CASES = [(layer, variant, batch) for layer in (suite.norm, suite.softmax, suite.linear) for variant in layer.variants for batch in (4, 16)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].name} {case[1]} {case[2]}")
def test_forward(benchmark, case):
    layer, variant, batch = case
    module, x = layer.build(layer.variants[variant].module, {"batch": batch, "width": 256}), torch.randn(batch, 256)

    def calls():  # a round of pytest-benchmark is one of these: the plant is in every one
        for _ in range(20):
            module(x)

    benchmark(calls)
"""
ASV_FILE = """
import sys
from pathlib import Path
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from layers import suite

torch.set_num_threads(1)
CASES = {
    f"{layer.name} {variant} {batch}": (layer, variant, batch)
    for layer in (suite.norm, suite.softmax, suite.linear) for variant in layer.variants for batch in (4, 16)
}


class Forward:
    params = list(CASES)
    rounds = 1  # else asv's defaults: ten samples of 10 ms

    def setup(self, name):
        layer, variant, batch = CASES[name]
        self.module = layer.build(layer.variants[variant].module, {"batch": batch, "width": 256})
        self.x = torch.randn(batch, 256)

    def time_forward(self, name):
        self.module(self.x)
"""
ASV_SETTINGS = {"version": 1, "project": "gate", "repo": ".", "branches": ["HEAD"], "environment_type": "virtualenv"}


def one(trial: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="layerbench-peers-") as folder:
        root = Path(folder)
        every, planted = gate.PLANTS[trial["plant"]]
        gate.repository(root, every, planted)
        head = (root / "layers" / "suite.py").read_text(encoding="utf-8")
        started = time.monotonic()
        with beside(trial["condition"], 40):
            found = (_pytest_benchmark if trial["tool"] == "pytest-benchmark" else _asv)(root, [gate.SUITE, head])
    return {"seconds": round(time.monotonic() - started, 1), "flagged": found}


def _pytest_benchmark(root: Path, sides: Sequence[str]) -> dict[str, list[str]]:
    """Rule -> the benchmarks that it flags."""
    (root / "test_suite.py").write_text(PYTEST_FILE, encoding="utf-8")
    codes, runs = [], []
    for number, text in enumerate(sides):
        (root / "layers" / "suite.py").write_text(text, encoding="utf-8")
        words = [
            "-q",
            "-p",
            "no:cacheprovider",
            "--benchmark-save-data",
            "--benchmark-max-time=2",
            f"--benchmark-save=side{number}",
            f"--benchmark-json=side{number}.json",
        ]
        words += ["--benchmark-compare", f"--benchmark-compare-fail={FAIL}"] if number else []
        codes.append(_run([sys.executable, "-m", "pytest", *words, "test_suite.py"], root, {}).returncode)
        benchmarks = json.loads((root / f"side{number}.json").read_text())["benchmarks"]
        runs.append({each["param"] if isinstance(each["param"], str) else each["name"]: each["stats"] for each in benchmarks})
    base, head = runs
    assert codes[0] == 0 and len(base) == len(head) == 12, codes
    summary = [{name: Side(*([stats[each]] for each in Side._fields)) for name, stats in run.items()} for run in runs]
    found = {
        f"pytest-benchmark {name}:{percent}%": [each for each in base if compare_fail(name, percent)(summary[0][each], summary[1][each])]
        for name in STATISTICS
        for percent in (5, 10)
    }
    assert (codes[1] != 0) == bool(found[f"pytest-benchmark {FAIL}"]), (codes, found)
    data = [{name: condensed(stats["data"], min(100, len(stats["data"]))) for name, stats in run.items()} for run in runs]
    found["criterion-like"] = [name for name in base if criterion_like(data[0][name], data[1][name])]
    found["U test"] = [name for name in base if u_test(base[name]["data"], head[name]["data"])]
    return found


def _asv(root: Path, sides: Sequence[str]) -> dict[str, list[str]]:
    (root / "benchmarks").mkdir()
    (root / "benchmarks" / "__init__.py").touch()
    (root / "benchmarks" / "forward.py").write_text(ASV_FILE, encoding="utf-8")
    (root / "asv.conf.json").write_text(json.dumps(ASV_SETTINGS), encoding="utf-8")
    own = {"PYTHONPATH": str(_asv_folder()), "HOME": str(root)}
    asv = [sys.executable, "-m", "asv"]
    _run([*asv, "machine", "--yes"], root, own)
    commits = []
    for text in sides:
        (root / "layers" / "suite.py").write_text(text, encoding="utf-8")
        for words in (["add", "--all"], ["commit", "--quiet", "--allow-empty", "--message", "side"]):
            subprocess.run([*gate.git(root), *words], check=True)
        commits.append(subprocess.run([*gate.git(root), "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip())
        done = _run([*asv, "run", "-E", f"existing:{sys.executable}", "--set-commit-hash", commits[-1], "--record-samples"], root, own)
        assert done.returncode == 0, done.stdout + done.stderr
    done = _run([*asv, "compare", *commits, "--factor", "1.1"], root, own)
    lines = [line for line in done.stdout.splitlines() if "time_forward" in line]
    assert len(lines) == 12, done.stdout + done.stderr
    return {"asv compare, factor 1.1": [line for line in lines if line.lstrip("| ").startswith("+")]}


def _asv_folder() -> Path:
    folder = study.ROOT / "results" / "validation" / ASV.replace("==", "-")
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), ASV], check=True)
    return folder


def _run(command: Sequence[str], root: Path, own: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, env={**os.environ, **own}, capture_output=True, text=True)


def main() -> None:
    chosen = study.options()
    todo = [
        {"repeat": r, "tool": tool, "plant": plant, "condition": condition}
        for r in range(1 if chosen.quick else REPEATS)
        for condition in (QUIET, BURSTY, HALF, TWO)
        for plant in PLANTS
        for tool in TOOLS
        if r < (1 if plant != "none" else 2 if tool == "asv" else REPEATS)  # a suite of asv takes a minute and more
    ]
    found = study.trials("peers", todo, one, chosen, kept=True)
    rows = []
    for rule in dict.fromkeys(rule for each in found for rule in each["flagged"]):
        for condition in (QUIET, BURSTY, HALF, TWO):
            trials = [each for each in found if rule in each["flagged"] and each["condition"] == condition]
            if trials:
                rows.append([rule, condition, *_cells(rule, trials)])
    text = [
        "A suite is the twelve benchmarks of `gate`, base measured before head, by the tools' own commands: pytest-benchmark with 2 s",
        "for each, in rounds of 20 calls, of which a plant runs one or two twice; asv with its defaults. Percent: of benchmarks.",
        "Criterion-like and U test judge the raw times of pytest-benchmark's runs. The check itself, on the same suite: `gate`.",
        f"{len(found)} of {len(todo)} suites of the study are done.",
    ]
    columns = ["rule", "condition", "null suites", "of them flagged", "false", "+5 % found", "+10 % found", "median"]
    study.publish("peers", "Other tools, live", columns, rows, text, chosen)


def _cells(rule: str, trials: Sequence[dict[str, Any]]) -> list[str]:
    by_plant = {plant: [each["flagged"][rule] for each in trials if each["plant"] == plant] for plant in PLANTS}
    nulls = by_plant["none"]
    shares = [f"{100 * sum(map(len, suites)) / (12 * len(suites)):.0f} %" if suites else "" for suites in by_plant.values()]
    seconds = sorted(each["seconds"] for each in trials)
    return [str(len(nulls)), str(sum(map(bool, nulls))), *shares, f"{seconds[len(seconds) // 2]:.0f} s"]


if __name__ == "__main__":
    main()
