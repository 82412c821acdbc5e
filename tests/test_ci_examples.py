"""The files of docs/ci are what the services accept, and hold what docs/ci.md promises; their shell and the page's does what it says.

Where a service would run them there is none here: their shell runs in clones made as the services make them, with fakes of pip, layerbench
and the services' own clients that write down what they were called with.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy_repository import commit, git, isolate, make, write

from layerbench.bench.check.show import markdown

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "ci.md").read_text(encoding="utf-8")
FILES = {
    "github": DOCS / "ci" / "github.yml",
    "gitlab": DOCS / "ci" / "gitlab.yml",
    "buildkite": DOCS / "ci" / "buildkite.yml",
    "jenkins": DOCS / "ci" / "Jenkinsfile",
}
SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci", "buildkite": "vendor.buildkite"}
BASES = {
    "github": "origin/$GITHUB_BASE_REF",
    "gitlab": "origin/$CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
    "buildkite": "origin/$base",
    "jenkins": "origin/$CHANGE_TARGET",
}
SUMMARY = "<!-- layerbench check -->\n### Regression check: passed\n"


def read(name: str) -> dict:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed: what the CI examples hold is not tested")
    return yaml.YAML(typ="safe", pure=True).load(FILES[name])  # YAML 1.2, where `on` is a word


def shell(first_words: str) -> str:
    """The block of shell in docs/ci.md that begins so."""
    (block,) = [block for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if block.startswith(first_words)]
    return block


def steps(job: str = "regression-check") -> list[dict]:
    return read("github")["jobs"][job]["steps"]


def scripts(name: str) -> list[str]:
    """What the service's shell gets of the job that checks, piece by piece."""
    if name == "github":
        return [step["run"] for step in steps() if "run" in step]
    if name == "gitlab":
        job = read("gitlab")["regression-check"]
        return ["\n".join([*job["before_script"], *job["script"]])]
    if name == "buildkite":
        return [read("buildkite")["steps"][0]["command"].replace("$$", "$")]
    text = FILES["jenkins"].read_text(encoding="utf-8")
    return re.findall(r"\bsh(?:\(returnStatus: true, script:)? '''(.*?)'''", text, re.DOTALL)


def comment_script(name: str) -> str:
    if name == "github":
        return steps("comment")[-1]["run"]
    job = read("gitlab")["regression-comment"]
    return "\n".join([*job["before_script"], *job["script"]])


def check_words(name: str) -> list[str]:
    """The words of the command that checks, as the service's shell would see them."""
    (line,) = [line for script in scripts(name) for line in script.splitlines() if "layerbench check" in line]
    return shlex.split(line.split("||")[0])


# What the files hold.


def check_schema(name: str, file: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: the CI examples are not held against their schemas")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[name], str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_service_s_schema_accepts_the_file(name):
    done = check_schema(name, FILES[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("github", "runs-on:", "run-on:"), ("gitlab", "when: always", "when: sometimes"), ("buildkite", "timeout_in_minutes:", "timeout: x")],
)
def test_the_schema_would_notice_a_mistake(name, right, wrong, tmp_path):
    text = FILES[name].read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "broken.yml"
    broken.write_text(text.replace(right, wrong))
    assert check_schema(name, broken).returncode == 1


def faults(text: str) -> list[str]:
    """Where a text is no Groovy.  Whether Jenkins knows each step only a Jenkins can tell."""
    reason = "tree-sitter-groovy is not installed: the Jenkinsfile is not parsed"
    groovy, sitter = pytest.importorskip("tree_sitter_groovy", reason=reason), pytest.importorskip("tree_sitter", reason=reason)
    way = [sitter.Parser(sitter.Language(groovy.language())).parse(text.encode()).root_node]
    for node in way:
        way += node.children
    return [f"line {node.start_point.row + 1}" for node in way if node.type == "ERROR" or node.is_missing]


def test_the_jenkinsfile_is_groovy_and_a_parser_would_notice_a_mistake():
    text = FILES["jenkins"].read_text(encoding="utf-8")
    assert faults(text) == []
    for right, wrong in (("steps {", "steps"), ("options {", "options ("), ("'layers' ", "'layers ")):
        assert right in text
        assert faults(text.replace(right, wrong)), wrong


def test_the_jenkinsfile_has_the_sections_of_a_declarative_pipeline_in_their_places():
    """As https://www.jenkins.io/doc/book/pipeline/syntax/ has them."""
    text = FILES["jenkins"].read_text(encoding="utf-8")
    opened = re.findall(r"^( *)(\w+)(?:\(.*?\))? \{(?: //.*)?$", text, re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in opened] == [
        (0, "pipeline"),
        (1, "options"),
        (1, "environment"),
        (1, "stages"),
        (2, "stage"),
        (3, "steps"),
        (4, "script"),
        (3, "post"),
        (4, "always"),
        (5, "script"),
    ]
    assert re.findall(r"^    (agent \w+)", text, re.MULTILINE) == ["agent any"]
    assert "when { changeRequest() }" in text and "timeout(time: 45, unit: 'MINUTES')" in text
    assert "junit testResults: 'regression/reports/*/junit.xml', allowEmptyResults: true" in text
    assert "archiveArtifacts artifacts: 'regression/**', allowEmptyArchive: true" in text


def test_github_has_the_whole_history_and_no_more_rights_than_it_needs():
    whole = read("github")
    assert list(whole["on"]) == ["pull_request"]
    assert whole["permissions"] == {"contents": "read"}
    assert whole["concurrency"]["cancel-in-progress"] is True
    assert whole["jobs"]["regression-check"]["timeout-minutes"] == 45
    (checkout,) = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}


def test_only_the_job_that_runs_nothing_of_the_pull_request_may_write_and_only_comments():
    jobs = read("github")["jobs"]
    assert "permissions" not in jobs["regression-check"]
    assert jobs["comment"]["permissions"] == {"pull-requests": "write"}
    assert jobs["comment"]["needs"] == "regression-check"
    assert "!cancelled()" in jobs["comment"]["if"] and "head.repo.full_name == github.repository" in jobs["comment"]["if"]
    assert [step["uses"].split("@")[0] for step in steps("comment") if "uses" in step] == ["actions/download-artifact"]
    tokens = [step for job in jobs.values() for step in job["steps"] if "token" in json.dumps(step.get("env", {}))]
    assert tokens == [steps("comment")[-1]]


def test_github_keeps_its_files_whatever_the_exit_code():
    last = steps()[-1]
    assert last["uses"].startswith("actions/upload-artifact@") and last["if"] == "always()"
    assert last["with"] == {"name": "regression-check", "path": "regression/"}
    assert steps("comment")[0]["with"] == {"name": "regression-check", "path": "regression"}


def test_no_expression_is_pasted_into_a_shell():
    assert [step["run"] for job in read("github")["jobs"] for step in steps(job) if "${{" in step.get("run", "")] == []
    command = read("buildkite")["steps"][0]["command"]
    assert re.findall(r"(?<!\$)\$(?!\$)", command.replace("$$", "")) == []  # Buildkite would fill it in, before the shell


def test_gitlab_has_the_whole_history_and_keeps_its_files_whatever_the_exit_code():
    job = read("gitlab")["regression-check"]
    assert job["variables"]["GIT_DEPTH"] == 0
    assert job["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]
    artifacts = job["artifacts"]
    assert artifacts["when"] == "always" and artifacts["paths"] == ["regression/"]
    assert artifacts["reports"] == {"junit": "regression/reports/*/junit.xml"}
    assert job["allow_failure"] == {"exit_codes": [4]}
    assert job["variables"]["PIP_CACHE_DIR"] == f"$CI_PROJECT_DIR/{job['cache']['paths'][0]}"


def test_gitlab_comments_only_where_somebody_gave_a_token_and_whatever_the_exit_code():
    whole = read("gitlab")
    assert whole["regression-comment"]["needs"] == ["regression-check"]
    (rule,) = whole["regression-comment"]["rules"]
    assert rule["when"] == "always" and rule["if"].endswith("&& $REGRESSION_COMMENT_TOKEN")
    assert "TOKEN" not in json.dumps(whole["regression-check"])


def test_buildkite_lets_no_verdict_through_and_keeps_its_files():
    (step,) = read("buildkite")["steps"]
    assert step["if"] == "build.pull_request.id != null" and step["timeout_in_minutes"] == 45
    assert step["soft_fail"] == [{"exit_status": 4}]
    assert step["artifact_paths"] == ["regression/**/*"]


@pytest.mark.parametrize("name", FILES)
def test_all_check_against_the_target_branch_and_install_what_they_call(name):
    words = check_words(name)
    assert words[0] in ("layerbench", ".venv/bin/layerbench")
    assert words[1:] == ["check", "--against", BASES[name], "--suite", "$SUITE", "--budget", "10m", "--out", "regression"]
    assert "\n".join(scripts(name)).count('python -m pip install "$LAYERBENCH"') == 1


@pytest.mark.parametrize("name", FILES)
def test_what_is_to_be_edited_is_marked_and_the_same_in_all(name):
    lines = [line for line in FILES[name].read_text(encoding="utf-8").splitlines() if "edit:" in line]
    assert len([line for line in lines if re.search(r"LAYERBENCH\W+git\+https://git(hub|lab)\.com/OWNER/layerbench\b", line)]) == 1
    assert len([line for line in lines if re.search(r"SUITE\W+layers\b", line)]) == 1
    assert len([line for line in lines if "--editable PATH" in line]) == 1


# What their shell does.

TOOL = """\
#!{python}
import json, os, pathlib, sys
words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
if words[0].startswith("python") and words[1:3] == ["-m", "venv"]:
    bin = pathlib.Path(words[3]) / "bin"
    bin.mkdir(parents=True)
    for name in ("python", "layerbench"):
        (bin / name).symlink_to(pathlib.Path({tools!r}) / name)
if words[0] == "layerbench":
    import subprocess
    subprocess.run(["git", "merge-base", "HEAD", words[3]], check=True, stdout=subprocess.DEVNULL)
    if os.environ.get("SUMMARY"):
        folder = pathlib.Path("regression/reports/1")
        folder.mkdir(parents=True)
        (folder / "summary.md").write_text(os.environ["SUMMARY"])
    sys.exit(int(os.environ.get("CODE", "0")))
if words[0] == "buildkite-agent":
    pathlib.Path({log!r} + ".annotation").write_text(sys.stdin.read())
if words[0] in ("gh", "glab") and "--paginate" in words:
    print(os.environ.get("COMMENTS", ""))
"""


@dataclass(frozen=True)
class Service:
    """A service that has fetched a pull request, with a fake for each tool."""

    clone: Path
    tools: Path

    def run(self, script: str, **more: str) -> int:
        environment = {
            **os.environ,
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}",
            "LAYERBENCH": "git+https://x/y",
            "SUITE": "my layers",
        }
        environment |= dict.fromkeys(("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "CHANGE_TARGET"), "main")
        environment |= {"BUILDKITE_PULL_REQUEST_BASE_BRANCH": "main", "SUMMARY": SUMMARY, **more}
        return subprocess.run(["sh", "-e", "-c", script], cwd=self.clone, env=environment, capture_output=True, check=False).returncode

    def called(self, tool: str) -> list[list[str]]:
        log = self.tools / "log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [words[1:] for words in lines if words[0] == tool]


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare repository whose main went on after a pull request left it; it has the request's head and its merge, as GitHub does."""
    isolate(tmp_path, monkeypatch)
    work = make(tmp_path / "work", {"layers/a.py": "x = 1"})
    for number in range(3):
        commit(write(work, {"other.txt": str(number)}))
    git(work, "checkout", "--quiet", "-b", "feature")
    head = commit(write(work, {"layers/a.py": "x = 2"}))
    git(work, "checkout", "--quiet", "main")
    commit(write(work, {"other.txt": "later"}))
    bare = tmp_path / "origin.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(work), str(bare))
    git(work, "merge", "--quiet", "--no-ff", "--message", "merge", head)
    git(work, "push", "--quiet", str(bare), "HEAD:refs/pull/1/merge", f"{head}:refs/pull/1/head")
    git(bare, "branch", "--quiet", "--delete", "--force", "feature")
    return bare


EVERYTHING = ("+refs/heads/*:refs/remotes/origin/*", "+refs/pull/1/merge:refs/remotes/pull/1")
HEAD = "+refs/pull/1/head:refs/remotes/pull/1"
CLONES = {  # (service, how it clones) -> the words of its git fetch
    ("github", "the whole history"): EVERYTHING,
    ("gitlab", "the whole history"): EVERYTHING,
    ("jenkins", "one branch"): ("--no-tags", HEAD),
    ("jenkins", "shallow"): ("--no-tags", "--depth=1", HEAD),
    ("buildkite", "one branch"): (HEAD,),
    ("buildkite", "shallow"): ("--depth=1", HEAD),
    ("buildkite", "an old main"): ("+refs/heads/main:refs/remotes/origin/main", HEAD),
}


def service(origin: Path, *words: str) -> Service:
    clone, tools = origin.parent / "clone", origin.parent / "tools"
    clone.mkdir()
    git(clone, "init", "--quiet")
    git(clone, "remote", "add", "origin", origin.as_uri())
    options = [word for word in words if not word.startswith("+")]
    git(clone, "fetch", "--quiet", *options, "origin", *(word for word in words if word.startswith("+")))
    git(clone, "checkout", "--quiet", "--detach", "refs/remotes/pull/1")
    tools.mkdir()
    for name in ("python", "python3", "layerbench", "gh", "glab", "buildkite-agent", "apk"):
        (tools / name).write_text(TOOL.format(python=sys.executable, log=str(tools / "log"), tools=str(tools)))
        (tools / name).chmod(0o755)
    return Service(clone, tools)


@pytest.mark.parametrize(("name", "how"), CLONES)
def test_the_base_is_there_when_the_check_begins_however_the_service_clones(name, how, origin):
    found = service(origin, *CLONES[name, how])
    if how == "an old main":  # as an agent fetched it some days ago
        git(found.clone, "update-ref", "refs/remotes/origin/main", "refs/remotes/origin/main~3")
    for script in scripts(name):
        assert found.run(script) == 0, script
    assert found.called("layerbench") == [
        ["check", "--against", "origin/main", "--suite", "my layers", "--budget", "10m", "--out", "regression"]
    ]
    assert [words for words in found.called("python") if words[:3] == ["-m", "pip", "install"]] == [
        ["-m", "pip", "install", "git+https://x/y"]
    ]
    assert git(found.clone, "rev-parse", "origin/main") == git(origin, "rev-parse", "main")
    changed = git(found.clone, "status", "--porcelain").split("\n")
    assert [line for line in changed if "regression/" not in line and line] == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("code", [1, 2, 4])
def test_the_exit_code_of_the_check_is_that_of_the_last_piece(name, code, origin):
    found = service(origin, *EVERYTHING)
    assert [found.run(script, CODE=str(code)) for script in scripts(name)][-1] == code


@pytest.mark.parametrize(("code", "style"), [(0, "success"), (1, "error"), (4, "warning")])
def test_buildkite_annotates_in_place_whatever_the_exit_code(code, style, origin):
    found = service(origin, *EVERYTHING)
    assert found.run(scripts("buildkite")[0], CODE=str(code)) == code
    assert found.called("buildkite-agent") == [["annotate", "--context", "regression-check", "--style", style]]
    assert (found.tools / "log.annotation").read_text() == SUMMARY


def test_buildkite_annotates_nothing_where_there_is_no_summary(origin):
    found = service(origin, *EVERYTHING)
    assert found.run(scripts("buildkite")[0], CODE="2", SUMMARY="") == 2
    assert found.called("buildkite-agent") == []


COMMENTS = {  # of the client: the fields that name the comments, how to make one, how to change one
    "github": ("repos/me/it/issues/7/comments", ["--silent", "--method", "POST"], ["--silent", "--method", "PATCH"], "gh"),
    "gitlab": ("projects/3/merge_requests/7/notes", ["--method", "POST"], ["--method", "PUT"], "glab"),
}
GITHUB = {"GITHUB_REPOSITORY": "me/it", "NUMBER": "7"}
GITLAB = {"CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7"}


@pytest.mark.parametrize("name", COMMENTS)
@pytest.mark.parametrize("there", [True, False])
def test_the_comment_is_made_once_and_then_brought_up_to_date(name, there, origin):
    """GitHub's client filters the comments itself, GitLab's prints them all: whole pages, one after the other."""
    if name == "gitlab" and not shutil.which("jq"):
        pytest.skip("jq is not installed: GitLab's comment is not tried")
    found = service(origin, *EVERYTHING)
    write(found.clone, {"regression/reports/1/summary.md": SUMMARY})
    notes = [{"id": 11, "body": "a person's, who quotes > " + SUMMARY}, {"id": 12, "body": SUMMARY}]
    pages = f"{json.dumps(notes[:1])}{json.dumps(notes[1:] if there else [])}"
    listed = ("12" if there else "") if name == "github" else pages
    assert found.run(comment_script(name), COMMENTS=listed, **GITHUB, **GITLAB) == 0
    place, make_one, change_one, client = COMMENTS[name]
    *_, last = found.called(client)
    changed = "repos/me/it/issues/comments/12" if name == "github" else f"{place}/12"
    words = [*change_one, changed] if there else [*make_one, place]
    assert last == ["api", *words, "--field", "body=@comment.md"]
    assert (found.clone / "comment.md").read_text() == SUMMARY


@pytest.mark.parametrize("name", COMMENTS)
def test_where_a_push_has_no_result_the_comment_says_so_and_keeps_no_old_one(name, origin):
    if name == "gitlab" and not shutil.which("jq"):
        pytest.skip("jq is not installed: GitLab's comment is not tried")
    found = service(origin, *EVERYTHING)
    assert found.run(comment_script(name), COMMENTS="[]" if name == "gitlab" else "", **GITHUB, **GITLAB) == 0
    text = (found.clone / "comment.md").read_text()
    assert text.startswith(SUMMARY.splitlines()[0] + "\n") and "no result" in text


def test_github_s_client_is_asked_for_the_comment_with_the_mark_of_the_summary(origin):
    if not shutil.which("jq"):
        pytest.skip("jq is not installed: the filter for GitHub's comments is not tried")
    found = service(origin, *EVERYTHING)
    assert found.run(comment_script("github"), **GITHUB) == 0
    first = found.called("gh")[0]
    assert first[:4] == ["api", "--paginate", "repos/me/it/issues/7/comments", "--jq"]
    bot, person = {"login": "github-actions[bot]"}, {"login": "somebody"}
    listed = [
        {"id": 1, "user": bot, "body": "of another workflow, which quotes " + SUMMARY},
        {"id": 2, "user": person, "body": SUMMARY},
        {"id": 3, "user": bot, "body": SUMMARY},
    ]
    done = subprocess.run(["jq", "-r", first[4]], input=json.dumps(listed), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3"]
    assert SUMMARY.startswith(markdown.MARK)


# The page.


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
    used = named | {word for name in FILES for word in check_words(name) if word.startswith("-")}
    assert used - known["check"] == set()
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("layerbench ")]
    assert {words[1] for words in commands} == {"check", "run", "compare"}
    for words in commands:
        assert {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} <= known[words[1]], words


def run_with(code: int, text: str, folder: Path, *words: str) -> tuple[int, list[str]]:
    """Runs a block of shell where the tools end with `code`; its own exit code, and the words that a tool got."""
    fake = folder / "layerbench"
    fake.write_text(
        f'#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(folder / "words")!r}, "w"))\nsys.exit({code})\n'
    )
    fake.chmod(0o755)
    file = folder / "block.sh"
    file.write_text(text)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "GITHUB_BASE_REF": "main", "TMPDIR": str(folder)}
    environment["SUITE"] = "layers"
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
    assert words == [*check_words("github")[1:3], "origin/main", "--suite", "layers", "--budget", "10m", "--out", "regression"]


def test_the_page_lists_every_exit_code_of_a_check():
    assert re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE) == ["0", "1", "2", "3", "4", "5"]
