"""README.md and docs/ say what is true: the example runs, commands and options exist, links lead somewhere, constants are the code's."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from layerbench.bench.data.record import Measured
from layerbench.bench.storage import run_file

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every command line of the README, in words; comments and what follows && split off."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]


def layerbench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "layerbench.bench", *words], capture_output=True, text=True, check=False)


def test_the_example_runs_and_has_at_most_ten_lines(tmp_path: Path) -> None:
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    file = tmp_path / "my_layers.py"
    file.write_text(example)
    one_point = ("--device", "cpu", "--set", "batch=1", "--step", "forward", "-k", "plain", "--budget", "1s", "--out", str(tmp_path))
    done = layerbench("run", "--suite", str(file), *one_point)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "results").glob("*.json")
    outcomes = {record.variant: record.outcome for record in run_file.read(path).records}
    assert {name: type(outcome) for name, outcome in outcomes.items()} == {"stock": Measured, "plain": Measured, "noise_floor": Measured}
    assert outcomes["plain"].accuracy.slack <= 1
    assert (tmp_path / "reports" / path.stem / "index.html").read_text(encoding="utf-8").startswith("<!")


def test_the_example_has_three_variants_and_three_sizes(tmp_path: Path) -> None:
    file = tmp_path / "my_layers.py"
    file.write_text(blocks("python")[0])
    done = layerbench("run", "--suite", str(file), "--device", "cpu", "--step", "forward", "--dry-run")
    assert done.stdout.splitlines() == [f"silu-forward-cpu-float32-batch{n}-width1024  [stock plain compile]" for n in (1, 16, 256)]


def test_every_option_of_every_command_exists() -> None:
    used = [words[1:] for words in commands() if words and words[0] == "layerbench"]
    for words in commands():
        if words[:2] == ["nox", "-s"] and words[2].startswith("bench") and "--" in words:
            used.append(["run", *words[words.index("--") + 1 :]])
    assert len(used) >= 7
    for name, *rest in used:
        done = layerbench(name, "--help")
        assert done.returncode == 0, name
        known = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", done.stdout))
        assert {word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word)} <= known


def test_every_session_exists() -> None:
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    functions = re.findall(r"^@nox\.session\((.*)\)\ndef (\w+)", noxfile, re.MULTILINE)
    sessions = {re.sub(r'.*name="([^"]+)".*', r"\1", options) if "name=" in options else function for options, function in functions}
    assert sessions == {
        "bench",
        "bench-cpu",
        "bench-gpu",
        "report",
        "tests",
        "lint",
        "validate",
        "regression-check",
        "tests-newest",
        "tests-oldest",
        "gpu-proof",
    }
    assert {words[2] for words in commands() if words[:2] == ["nox", "-s"]} <= sessions


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not target.startswith("http") and not (page.parent / target).exists()] == []


def test_the_constants_of_the_method_are_those_of_the_code() -> None:
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("measuring.md", "checking.md"))
    rows = re.findall(r"^\| `([\w.]+)\.([A-Z_]+)` \| ([\d.^-]+) ", pages, re.MULTILINE)
    assert len(rows) >= 25
    for module, name, value in rows:
        base, _, exponent = value.partition("^")
        assert getattr(importlib.import_module(f"layerbench.bench.{module}"), name) == float(base) ** float(exponent or 1), (
            f"{module}.{name}"
        )
