"""What users do, end to end: real repositories, real workers, plants far above the noise.  One at a time, or they time each other."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import pytest
import toy_repository as toy

pytestmark = pytest.mark.usefixtures("forked_processes")

QUICK = Path(__file__).with_name("quick_check.py")
REAL = ("killed", "terminated", "older_harness", "by_plain_name")  # are started as users start them
OPTIONS = ("--step", "forward", "--device", "cpu", "--budget", "40s")

SILU = '''"""SiLU, written out."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Plain(nn.SiLU):
    """x times its sigmoid."""
    def forward(self, x):
        return x * x.sigmoid()

silu = Layer("silu", {"batch": (32,), "width": (1024,)}, (randn("batch", "width"),), lambda module, size: module(),
    {"stock": Variant(nn.SiLU), "plain": Variant(Plain)})
'''
RELU = SILU.replace("SiLU", "ReLU").replace("silu", "relu").replace("x * x.sigmoid()", "x * (x > 0)")
SLOW = SILU.replace("        return x *", f"        {'; '.join(['x.sigmoid()'] * 6)}\n        return x *")
HUNGRY = SILU.replace("return x * x.sigmoid()", "return (x.clone() * x.sigmoid()).clone()")
GROW = """
def grow():
    with open(__file__, "r+") as source:
        if not source.read().endswith("GROWN = 1\\n"):
            source.write("GROWN = 1\\n")
"""
FILES = {"layers/relu.py": RELU, "layers/silu.py": SILU, "README.md": "a suite\n"}


@dataclass(frozen=True)
class Case:
    """What a check said."""

    code: int
    out: str
    err: str
    found: dict[str, Any]  # the JSON result; empty where there is none
    left: list[str]  # worktrees beside the repository itself, and folders of ours for temporary files

    @property
    def verdicts(self) -> dict[str, str]:
        return {f"{row['point']['layer']} {row['variant']}": row["verdict"] for row in self.found["rows"]}

    def reason(self, name: str) -> str:
        return next(row["reason"] for row in self.found["rows"] if f"{row['point']['layer']} {row['variant']}" == name)


def check(root: Path, *words: str) -> Case:
    command = [sys.executable, str(QUICK), "check", "--suite", "layers", *OPTIONS, "--json", *words]
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, check=False)
    return Case(done.returncode, done.stdout, done.stderr, json.loads(done.stdout) if done.stdout.startswith("{") else {}, left(root))


def changed(root: Path, files: dict[str, str], *words: str) -> Case:
    """The first commit against a second one with these files."""
    toy.make(root, FILES)
    toy.write(root, files)
    toy.commit(root)
    return check(root, "--against", "HEAD~1", *words)


def slower(root: Path) -> Case:
    toy.make(root, FILES)
    toy.write(root, {"layers/silu.py": SLOW})  # not committed
    return check(root, "--against", "main")


def faster(root: Path) -> Case:
    toy.make(root, {**FILES, "layers/silu.py": SLOW})
    toy.write(root, {"layers/silu.py": SILU})
    toy.commit(root)
    toy.git(root, "checkout", "--quiet", "--detach")
    return check(root, "--against", "HEAD~1")


def unchanged(root: Path) -> Case:
    toy.make(root, FILES)
    return check(root, "--against", "HEAD")


def behind(root: Path) -> Case:
    """The branch adds a word to the README, and main has got faster since."""
    toy.make(root, {**FILES, "layers/silu.py": SLOW})
    toy.git(root, "checkout", "--quiet", "-b", "topic")
    toy.write(root, {"README.md": "a better word\n", "requirements.txt": "torch==1.0\n"})
    toy.commit(root)
    toy.git(root, "checkout", "--quiet", "main")
    toy.write(root, {"layers/silu.py": SILU})
    toy.commit(root)
    toy.git(root, "checkout", "--quiet", "topic")
    return check(root, "--against", "main")


def neither(root: Path) -> Case:
    """A file that imports on neither side, and one that does."""
    toy.make(root, {**FILES, "layers/gelu.py": "import gone\n"})
    toy.write(root, {"README.md": "a better word\n"})
    return check(root, "--against", "main", "-k", "gelu")


def documented(root: Path) -> Case:
    comments = SILU.replace('"""x times its sigmoid."""', '"""x * sigmoid(x), as SiLU is defined."""  # clearer')
    return changed(root, {"README.md": "a better word\n", "layers/silu.py": comments})


def added(root: Path) -> Case:
    return changed(
        root, {"layers/gelu.py": RELU.replace("ReLU", "GELU").replace("relu", "gelu").replace("x * (x > 0)", "super().forward(x)")}
    )


def deleted(root: Path, *words: str) -> Case:
    toy.make(root, FILES)
    (root / "layers/silu.py").unlink()
    return check(root, "--against", "main", *words)


def renamed(root: Path) -> Case:
    toy.make(root, FILES)
    toy.git(root, "mv", "layers/silu.py", "layers/swish.py")
    return check(root, "--against", "main", "--suite", "layers/swish.py")


def renamed_layer(root: Path) -> Case:
    """The layer has another name, and does more than it must."""
    return changed(root, {"layers/silu.py": SLOW.replace('"silu"', '"swish"').replace("silu = ", "swish = ")}, "-k", "plain and swish")


def by_the_old_name(root: Path) -> Case:
    return changed(root, {"layers/silu.py": SILU.replace('"silu"', '"swish"').replace("silu = ", "swish = ")}, "-k", "silu")


def linked(root: Path) -> Case:
    """A repository that is reached, and in which the suite is named, by a symbolic link above it."""
    toy.make(root, FILES)
    toy.write(root, {"layers/silu.py": SLOW})
    link = root.parent / "link"
    link.symlink_to(root)
    return check(link, "--against", "main", "--suite", str(link / "layers"))


def wrong(root: Path) -> Case:
    return changed(root, {"layers/silu.py": SILU.replace("x * x.sigmoid()", "x * x.sigmoid() * 1.001")})


def different(root: Path, *words: str) -> Case:
    other = SILU.replace('"stock": Variant(nn.SiLU)', '"stock": Variant(nn.Tanh)').replace("x * x.sigmoid()", "x.tanh()")
    return changed(root, {"layers/silu.py": other}, *words)


def head_broken(root: Path) -> Case:
    return changed(root, {"layers/silu.py": SILU.replace("import torch\n", "import torch\nfrom torch import gone\n")})


def base_broken(root: Path) -> Case:
    toy.make(root, {"layers/silu.py": SILU + "\nraise RuntimeError('half written')\n"})
    toy.write(root, {"layers/silu.py": SILU})
    return check(root, "--against", "main")


def older_harness(root: Path) -> Case:
    """`build` was called `make` once."""
    old = SILU.replace(" lambda module, size: module(),\n   ", " make=lambda module, size: module(), variants=")
    toy.make(root, {"layers/silu.py": old})
    toy.write(root, {"layers/silu.py": SILU})
    return check(root, "--against", "main")


def hungry(root: Path) -> Case:
    return changed(root, {"layers/silu.py": HUNGRY}, "--threshold", "1000%", "-k", "silu")


def edited(root: Path) -> Case:
    """Somebody goes on writing: here the layer itself, when it is first called."""
    return changed(
        root, {"layers/silu.py": SILU.replace("        return x *", "        grow()\n        return x *") + GROW}, "-k", "plain and silu"
    )


def by_plain_name(root: Path) -> Case:
    """The change is in a file that is imported by its plain name, as a process can have but one of."""
    use = SILU.replace("        return x * x.sigmoid()", "        from parts import gate\n        return gate(x)")
    slow = ", ".join(["x.sigmoid()"] * 6)  # two launches differ: it must be well above that
    part = "def gate(x):\n    return x * x.sigmoid()\n"
    toy.make(root, {"layers/silu.py": use, "layers/parts.py": part, "layers/relu.py": RELU})
    toy.write(root, {"layers/parts.py": part.replace("    return", f"    {slow}\n    return")})
    return check(root, "--against", "main", "-k", "plain and silu", "--budget", "2m")


def unknown(root: Path) -> Case:
    toy.make(root, FILES)
    return check(root, "--against", "gone")


def shallow(root: Path) -> Case:
    """A clone of the last commit alone, as build servers make them."""
    whole = toy.make(root.with_name("whole"), FILES)
    toy.write(whole, {"README.md": "more\n"})
    toy.commit(whole)
    toy.git(root.parent, "clone", "--quiet", "--depth", "1", whole.as_uri(), str(root))
    return check(root, "--against", "HEAD~1")


def new_suite(root: Path) -> Case:
    toy.make(root, {"README.md": "nothing yet\n"})
    toy.write(root, FILES)
    return check(root, "--against", "main")


def bisected(root: Path) -> Case:
    """The second of three commits makes it slower.  As docs/ci.md has it: what is neither pass nor regression is skipped."""
    toy.make(root, FILES)
    good = toy.git(root, "rev-parse", "HEAD")
    commits = []
    for number in range(1, 4):
        toy.write(root, {"layers/silu.py": (SLOW if number >= 2 else SILU) + f"\nSTATE = {number}\n"})
        commits.append(toy.commit(root))
    toy.git(root, "bisect", "start", commits[-1], good)
    command = [sys.executable, str(QUICK), "check", "--suite", "layers", *OPTIONS, "-k", "plain", "--against", good]
    script = root.with_name("bisect.sh")
    script.write_text(f"{shlex.join(command)}\ncode=$?\ncase $code in 0 | 1) exit $code ;; *) exit 125 ;; esac\n")
    done = subprocess.run(
        ["git", "bisect", "run", "sh", str(script)], cwd=root, env=environment(root), capture_output=True, text=True, check=False
    )
    return Case(done.returncode, done.stdout, done.stderr, {"planted": commits[1]}, left(root))


def under_way(root: Path) -> "subprocess.Popen[str]":
    """A check that has the base checked out by now."""
    toy.make(root, FILES)
    command = [sys.executable, str(QUICK), "check", "--suite", "layers", "--against", "HEAD"]
    process = subprocess.Popen(command, cwd=root, env=environment(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(worktrees(root)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def killed(root: Path) -> Case:
    """A check is killed while it has the base checked out; the next one cleans up after it."""
    process = under_way(root)
    process.kill()
    process.communicate()
    assert len(worktrees(root)) == 2
    return check(root, "--against", "HEAD")


def terminated(root: Path) -> Case:
    """A job is cancelled while it has the base checked out."""
    process = under_way(root)
    process.terminate()
    out, err = process.communicate(timeout=60)
    return Case(process.returncode, out, err, {}, left(root))


def environment(root: Path) -> dict[str, str]:
    """A folder for temporary files of its own, so that it can be seen what is left in it."""
    folder = Path(tempfile.gettempdir(), root.parent.name)
    folder.mkdir(exist_ok=True)
    real = {forked.REAL_START: ""} if root.parent.name in REAL else {}
    return {**os.environ, "TMPDIR": str(folder), **real}


DEVICE_LOCK = "layerbench-cpu.lock"  # all runs and checks of a machine share it, so none of them removes it


def left(root: Path) -> list[str]:
    folder = Path(tempfile.gettempdir(), root.parent.name)
    return [*worktrees(root)[1:], *(path.name for path in folder.glob("layerbench-*") if path.name != DEVICE_LOCK)]


def worktrees(root: Path) -> list[str]:
    return [line for line in toy.git(root, "worktree", "list", "--porcelain").splitlines() if line.startswith("worktree ")]


CASES: dict[str, Callable[[Path], Case]] = {
    **{each.__name__: each for each in (slower, faster, unchanged, documented, added, deleted, renamed, linked, wrong, different)},
    **{each.__name__: each for each in (head_broken, base_broken, older_harness, hungry, edited, by_plain_name, unknown)},
    **{each.__name__: each for each in (bisected, killed, terminated, behind, neither)},
    **{each.__name__: each for each in (shallow, new_suite, renamed_layer, by_the_old_name)},
    "deletion_allowed": lambda root: deleted(root, "--allow-missing"),
    "difference_allowed": lambda root: different(root, "--allow-different"),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("check")
    with pytest.MonkeyPatch.context() as patch:
        toy.isolate(folder, patch)
        return {name: case(folder / name / "repository") for name, case in CASES.items()}


def test_a_slower_layer_in_a_dirty_tree_is_found_and_confirmed(cases: dict[str, Case]) -> None:
    case = cases["slower"]
    assert case.code == 1, case.err
    assert case.verdicts["silu plain"] == "slower"
    assert case.verdicts["relu stock"] == case.verdicts["relu plain"] == "unchanged"
    (row,) = [row for row in case.found["rows"] if row["verdict"] == "slower"]
    assert (len(row["units"]), len(row["confirmation"])) == (4, 4)
    assert row["estimate"]["low"] > 1.05
    assert (row["file"], row["line"]) == ("layers/silu.py", 12)
    assert case.found["head"]["dirty"] is True


def test_a_branch_that_is_behind_is_not_blamed_for_what_its_base_got_since(cases: dict[str, Case]) -> None:
    case = cases["behind"]
    assert (case.code, set(case.verdicts.values())) == (0, {"unchanged"}), case.err
    assert case.found["base"]["ref"] == "merge base with main"
    assert case.found["notes"][0].startswith("HEAD lacks 1 commit of main")


def test_other_requirements_are_told_since_both_sides_ran_what_is_installed(cases: dict[str, Case]) -> None:
    found = cases["behind"].found
    assert found["dependencies"] == ["requirements.txt"]
    assert any("requirements.txt differs from the base: +torch==1.0" in note for note in found["notes"])


def test_what_imports_on_neither_side_is_a_sentence_with_the_error(cases: dict[str, Case]) -> None:
    case = cases["neither"]
    assert (case.code, case.found) == (2, {})
    assert "layers/gelu.py, line 1: the file does not import: ModuleNotFoundError: No module named 'gone'" in case.err


def test_a_job_that_is_cancelled_leaves_nothing_behind(cases: dict[str, Case]) -> None:
    case = cases["terminated"]
    assert (case.code, case.left) == (143, [])
    assert case.err.endswith("layerbench: interrupted before there was a verdict; nothing was written\n")


def test_a_faster_layer_on_a_detached_head_passes(cases: dict[str, Case]) -> None:
    assert (cases["faster"].code, cases["faster"].verdicts["silu plain"]) == (0, "faster")
    assert cases["faster"].found["head"]["dirty"] is False


@pytest.mark.parametrize("name", ["unchanged", "documented", "killed"])
def test_an_unchanged_tree_and_one_with_other_comments_measure_nothing(name: str, cases: dict[str, Case]) -> None:
    case = cases[name]
    assert case.code == 0, case.err
    assert set(case.verdicts.values()) == {"unchanged"}
    assert case.found["control"] == []
    assert case.found["seconds"] < 40


def test_a_new_layer_is_reported_and_fails_nothing(cases: dict[str, Case]) -> None:
    assert cases["added"].code == 0
    assert (cases["added"].verdicts["gelu stock"], cases["added"].verdicts["gelu plain"]) == ("new", "new")


def test_a_deleted_layer_fails_unless_that_is_allowed(cases: dict[str, Case]) -> None:
    assert (cases["deleted"].code, cases["deleted"].verdicts["silu plain"]) == (1, "missing")
    assert (cases["deletion_allowed"].code, cases["deletion_allowed"].verdicts["silu plain"]) == (0, "skipped")


def test_a_symbolic_link_above_the_suite_changes_nothing(cases: dict[str, Case]) -> None:
    case = cases["linked"]
    assert (case.code, case.verdicts["silu plain"]) == (1, "slower"), case.err
    assert case.left == []


def test_a_renamed_file_is_the_same_layer(cases: dict[str, Case]) -> None:
    assert (cases["renamed"].code, cases["renamed"].verdicts) == (0, {"silu stock": "unchanged", "silu plain": "unchanged"})


def test_a_renamed_layer_is_held_against_the_one_that_it_was(cases: dict[str, Case]) -> None:
    case = cases["renamed_layer"]
    assert (case.code, case.verdicts) == (1, {"swish plain": "slower"}), case.err
    assert case.found["notes"][0].startswith("paired swish with silu of the base (renamed, 8")


def test_who_asks_for_a_renamed_layer_by_its_old_name_is_told_the_new_one(cases: dict[str, Case]) -> None:
    case = cases["by_the_old_name"]
    assert case.code == 2
    assert "besides, silu is called swish at the head" in case.err


def test_a_head_with_other_values_is_wrong(cases: dict[str, Case]) -> None:
    assert (cases["wrong"].code, cases["wrong"].verdicts["silu plain"]) == (1, "wrong")
    assert cases["wrong"].reason("silu plain").startswith("head failed at verify: output: off by ")


def test_a_reference_that_computes_something_else_is_another_layer_unless_that_is_allowed(cases: dict[str, Case]) -> None:
    assert (cases["different"].code, cases["different"].verdicts["silu plain"]) == (1, "different")
    assert cases["different"].reason("silu plain") == "its reference computes something else than the base's: output differs"
    (allowed,) = [row for row in cases["difference_allowed"].found["rows"] if row["variant"] == "plain" and row["units"]]
    assert allowed["verdict"] in ("slower", "clear", "faster", "inconclusive")  # it was timed: another function takes another time


def test_a_head_file_that_does_not_import_fails_its_benchmarks_and_no_others(cases: dict[str, Case]) -> None:
    case = cases["head_broken"]
    wrong, unchanged = ("import error", "unchanged")
    assert (case.code, case.verdicts) == (1, {"relu stock": unchanged, "relu plain": unchanged, "silu stock": wrong, "silu plain": wrong})
    said = "at the head, layers/silu.py, line 3: the file does not import: ImportError: cannot import name 'gone'"
    assert case.reason("silu plain").startswith(said)


@pytest.mark.parametrize(
    ("name", "why"),
    [("base_broken", "RuntimeError: half written"), ("older_harness", "TypeError: Layer.__init__() got an unexpected keyword argument")],
)
def test_what_the_base_cannot_import_is_not_compared_and_where_that_is_all_nothing_was(name: str, why: str, cases: dict[str, Case]) -> None:
    case = cases[name]
    assert (case.code, set(case.verdicts.values())) == (4, {"not compared"})
    assert case.reason("silu plain").startswith("at the base, layers/silu.py, line 1")
    assert why in case.reason("silu plain")


def test_more_memory_alone_fails(cases: dict[str, Case]) -> None:
    case = cases["hungry"]
    assert (case.code, case.verdicts["silu plain"]) == (1, "larger")
    (row,) = [row for row in case.found["rows"] if row["variant"] == "plain"]
    numbers = {each["metric"]: (each["base"], each["head"], each["worse"]) for each in row["exact"]}
    tensor = 32 * 1024 * 4
    assert numbers["peak_forward_bytes"][2] is True
    assert numbers["peak_forward_bytes"][1] - numbers["peak_forward_bytes"][0] >= tensor
    assert numbers["live_bytes"] == (tensor, tensor, False)


def test_code_that_was_edited_meanwhile_has_no_verdict(cases: dict[str, Case]) -> None:
    assert (cases["edited"].code, cases["edited"].out, cases["edited"].left) == (4, "", [])
    said = "layerbench: the code of layers/silu.py changed while it was being checked, so the times are of neither version; check again"
    assert f"{said}; there is no verdict\n" in cases["edited"].err


def test_what_is_imported_by_its_plain_name_is_checked_in_two_processes(cases: dict[str, Case]) -> None:
    case = cases["by_plain_name"]
    assert case.found["isolated"] == "silu.py imports parts by its plain name, and a process can hold only one module of that name"
    assert (case.code, case.verdicts["silu plain"]) == (1, "slower"), case.found


def test_an_unknown_commit_is_a_sentence(cases: dict[str, Case]) -> None:
    assert cases["unknown"].code == 2
    assert cases["unknown"].err.startswith("layerbench: --against gone: ")


def test_a_shallow_clone_is_told_how_to_fetch(cases: dict[str, Case]) -> None:
    assert cases["shallow"].code == 2
    assert "HEAD~1" in cases["shallow"].err
    assert "git fetch --unshallow" in cases["shallow"].err


def test_a_suite_that_the_base_does_not_have_is_new_and_nothing_was_compared(cases: dict[str, Case]) -> None:
    assert (cases["new_suite"].code, set(cases["new_suite"].verdicts.values())) == (4, {"new"})


def test_git_bisect_finds_the_planted_commit(cases: dict[str, Case]) -> None:
    case = cases["bisected"]
    assert case.code == 0, case.out + case.err
    assert f"{case.found['planted']} is the first bad commit" in case.out


def test_no_worktree_and_no_folder_is_left_behind(cases: dict[str, Case]) -> None:
    for name, case in cases.items():
        assert case.left == [], name
