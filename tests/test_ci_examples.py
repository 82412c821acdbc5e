"""The files of docs/ci are what the services accept, and say what docs/ci.md promises; the shell in docs/ci.md does what it says."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "ci.md").read_text(encoding="utf-8")
FILES = {"github": DOCS / "ci" / "github.yml", "gitlab": DOCS / "ci" / "gitlab.yml"}
SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}


def read(name: str) -> dict:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed: what the CI examples hold is not tested")
    return yaml.YAML(typ="safe", pure=True).load(FILES[name])  # YAML 1.2, where `on` is a word


def shell(first_words: str) -> str:
    """The block of shell in docs/ci.md that begins so."""
    (block,) = [block for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if block.startswith(first_words)]
    return block


def script(name: str) -> list[str]:
    """The words of the command that checks, as the service's shell would see them."""
    whole = read(name)
    if name == "gitlab":
        (line,) = whole["regression-check"]["script"]
    else:
        (line,) = [step["run"] for step in steps() if "regression-check" in step.get("run", "")]
    return shlex.split(line)


def steps() -> list[dict]:
    return read("github")["jobs"]["regression-check"]["steps"]


def check_schema(name: str, file: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: the CI examples are not held against their schemas")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[name], str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_service_s_schema_accepts_the_file(name):
    done = check_schema(name, FILES[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "right", "wrong"), [("github", "runs-on:", "run-on:"), ("gitlab", "when: always", "when: sometimes")])
def test_the_schema_would_notice_a_mistake(name, right, wrong, tmp_path):
    text = FILES[name].read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "broken.yml"
    broken.write_text(text.replace(right, wrong))
    assert check_schema(name, broken).returncode == 1


def test_github_has_the_whole_history_and_no_more_rights_than_it_needs():
    whole = read("github")
    assert list(whole["on"]) == ["pull_request"]
    assert whole["permissions"] == {"contents": "read"}
    assert whole["concurrency"]["cancel-in-progress"] is True
    assert whole["jobs"]["regression-check"]["timeout-minutes"] == 45
    (checkout,) = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}


def test_github_keeps_its_files_whatever_the_exit_code():
    last = steps()[-1]
    assert last["uses"].startswith("actions/upload-artifact@") and last["if"] == "always()"
    assert last["with"]["path"].split() == ["reports/", "results/*.check.json"]


def test_no_expression_is_pasted_into_a_shell():
    assert [step["run"] for step in steps() if "${{" in step.get("run", "")] == []


def test_gitlab_has_the_whole_history_and_keeps_its_files_whatever_the_exit_code():
    job = read("gitlab")["regression-check"]
    assert job["variables"]["GIT_DEPTH"] == 0
    assert job["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]
    artifacts = job["artifacts"]
    assert artifacts["when"] == "always" and artifacts["paths"] == ["reports/", "results/*.check.json"]
    assert artifacts["reports"] == {"junit": "reports/*/junit.xml"}
    assert job["allow_failure"] == {"exit_codes": [4]}
    assert job["variables"]["PIP_CACHE_DIR"] == f"$CI_PROJECT_DIR/{job['cache']['paths'][0]}"


@pytest.mark.parametrize(
    ("name", "base"), [("github", "origin/$GITHUB_BASE_REF"), ("gitlab", "origin/$CI_MERGE_REQUEST_TARGET_BRANCH_NAME")]
)
def test_both_call_the_session_against_the_target_branch(name, base):
    assert script(name) == ["nox", "-s", "regression-check", "--", "--against", base, "--budget", "10m"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_installed_first_exists(name):
    text = FILES[name].read_text(encoding="utf-8")
    assert text.count("python -m pip install --constraint constraints.txt nox") == 1
    assert re.search(r"^nox==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_session_exists():
    assert "regression-check" in re.findall(r'name="([^"]+)"', (ROOT / "noxfile.py").read_text(encoding="utf-8"))


def test_every_option_that_is_named_exists():
    """Of the examples and of docs/ci.md, in the help of the commands themselves."""
    known = {}
    for command in ("check", "run", "compare"):
        done = subprocess.run([sys.executable, "-m", "layerbench.bench", command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        known[command] = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", done.stdout))
    table = re.findall(r"^\| (`-.*?) \|", PAGE, re.MULTILINE)
    named = {word for cell in table for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", cell)}
    assert {"--against", "--threshold", "--strict", "--isolate", "-k", "--allow-missing"} <= named
    used = named | {word for name in FILES for word in script(name)[4:] if word.startswith("-")}
    assert used - known["check"] == set()
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("layerbench ")]
    assert {words[1] for words in commands} == {"check", "run", "compare"}
    for words in commands:
        assert {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} <= known[words[1]], words


def run_with(code: int, text: str, folder: Path, *words: str) -> tuple[int, list[str]]:
    """Runs a block of shell where the tools end with `code`; its own exit code, and the words that a tool got."""
    for tool in ("layerbench", "nox"):
        fake = folder / tool
        fake.write_text(
            f'#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(folder / "words")!r}, "w"))\nsys.exit({code})\n'
        )
        fake.chmod(0o755)
    file = folder / "block.sh"
    file.write_text(text)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "GITHUB_BASE_REF": "main", "TMPDIR": str(folder)}
    done = subprocess.run(["sh", str(file), *words], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, json.loads((folder / "words").read_text())


@pytest.mark.parametrize(("code", "said"), [(0, 0), (1, 1), (2, 125), (3, 125), (4, 125), (130, 130)])
def test_bisect_skips_what_the_check_cannot_tell(code, said, tmp_path):
    got, words = run_with(code, shell("#!/bin/sh"), tmp_path, "v1.2", "softmax and forward")
    assert got == said
    assert words[:6] == ["check", "--against", "v1.2", "-k", "softmax and forward", "--strict"]


@pytest.mark.parametrize(("code", "said"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0)])
def test_the_step_that_lets_no_verdict_through_lets_nothing_else_through(code, said, tmp_path):
    got, words = run_with(code, shell("code=0"), tmp_path)
    assert got == said
    assert words == ["-s", "regression-check", "--", "--against", "origin/main", "--budget", "10m"]


def test_the_page_lists_every_exit_code_of_a_check():
    assert re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE) == ["0", "1", "2", "3", "4", "5"]
