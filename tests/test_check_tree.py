"""The two sides of a check as folders: which commit is meant, where it is checked out, and that nothing is left or disturbed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import toy_repository
from toy_repository import commit, git, make, write

from layerbench.bench.check import base, caches, dependencies, mounting, neighbours, submodules
from layerbench.bench.check.worktrees import base_path, checked_out, dirty, head_commit, repository, resolve
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.machine import lock
from layerbench.bench.suite.closure import Closure

SOFTMAX = "import torch\n\n\ndef softmax(x):\n    e = torch.exp(x)\n    return e / e.sum()\n"
HOLDER = """
import sys
from pathlib import Path
from layerbench.bench.check.worktrees import checked_out
with checked_out(Path(sys.argv[1]), "HEAD") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_repository.isolate(tmp_path, monkeypatch)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return make(tmp_path / "toy", {"layers/softmax.py": SOFTMAX, ".gitignore": "results/\n"})


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "temporary").iterdir())


def listed(root: Path) -> list[str]:
    lines = git(root, "worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")]


@contextmanager
def holder(root: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Another process with a commit checked out, and the folder it holds."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        yield process, Path(process.stdout.readline().rstrip("\n"))


# Which repository, which commit.


def test_the_repository_of_a_folder_and_of_a_file(toy: Path) -> None:
    assert repository(toy / "layers") == repository(toy / "layers" / "softmax.py") == repository(toy) == toy


def test_a_suite_in_no_repository(tmp_path: Path) -> None:
    suite = write(tmp_path, {"alone/softmax.py": SOFTMAX}) / "alone"
    with pytest.raises(Mistake) as caught:
        repository(suite)
    said = "is in no git repository, so there is no earlier state to check against; give --suite PATH of one that is"
    assert str(caught.value) == f"{suite} {said}"


def test_a_suite_that_git_ignores_unless_it_was_committed_all_the_same(toy: Path) -> None:
    write(toy, {".gitignore": "build/\n", "build/layers/softmax.py": SOFTMAX})
    with pytest.raises(Mistake, match=r"build/layers is ignored by git, so no commit has it to check against; give --suite PATH"):
        repository(toy / "build" / "layers")
    git(toy, "add", "--force", "build")
    assert repository(toy / "build" / "layers") == toy


def test_git_is_not_installed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(toy))
    with pytest.raises(Mistake, match=r"^git was not found; .*: install git, or put it on PATH$"):
        repository(toy)


def test_what_git_refuses_is_said_in_its_words(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(Mistake) as caught:
        repository(toy)
    assert str(caught.value) == (
        f"git rev-parse failed in {toy}: fatal: detected dubious ownership in repository at '{toy}'; "
        f"git config --global --add safe.directory {toy}"
    )


def test_every_way_to_name_a_commit(toy: Path) -> None:
    first = head_commit(toy)
    git(toy, "tag", "--annotate", "--message", "", "v1")
    second = commit(write(toy, {"layers/gelu.py": ""}))
    git(toy, "commit", "--quiet", "--allow-empty", "--message", "the third")
    third = head_commit(toy)
    assert [resolve(toy, ref) for ref in ("main", "HEAD~1", "v1", first[:10], ":/the third")] == [third, second, first, first, third]


def test_on_a_detached_head(toy: Path) -> None:
    first = head_commit(toy)
    second = commit(write(toy, {"layers/gelu.py": ""}))
    git(toy, "checkout", "--quiet", "--detach", first)
    assert (head_commit(toy), resolve(toy, "HEAD"), resolve(toy, "main"), dirty(toy)) == (first, first, second, False)


def test_without_a_commit(tmp_path: Path) -> None:
    empty = write(make(tmp_path / "empty", {}), {"layers/softmax.py": SOFTMAX})
    for look in (head_commit, lambda root: resolve(root, "HEAD")):
        with pytest.raises(Mistake) as caught:
            look(repository(empty / "layers"))
        assert str(caught.value) == f"{empty} has no commit yet, so there is nothing to check against; type  git add . && git commit"


def refusal(root: Path, ref: str) -> str:
    with pytest.raises(Mistake) as caught:
        resolve(root, ref)
    return str(caught.value)


LISTED = "git knows no such commit here; give a branch, a tag or a hash, as  git branch --all  and  git tag  list them"


@pytest.mark.parametrize("ref", ["mian", "", "--all", "-1", "HEAD..HEAD", "^HEAD", "0" * 40, "HEAD~7"])
def test_no_such_commit(toy: Path, ref: str) -> None:
    assert refusal(toy, ref) == f"--against {ref}: {LISTED}"


def test_something_that_is_no_commit(toy: Path) -> None:
    assert refusal(toy, "HEAD:layers") == "--against HEAD:layers: this is a tree, not a commit; give a commit"


def test_a_branch_that_is_only_on_the_remote(toy: Path, tmp_path: Path) -> None:
    git(toy, "branch", "side")
    git(tmp_path, "clone", "--quiet", str(toy), "clone")
    clone = tmp_path / "clone"
    assert refusal(clone, "side") == "--against side: git knows no such commit here, but it knows origin/side; type  --against origin/side"
    assert resolve(clone, "origin/side") == head_commit(toy)


def test_a_branch_that_was_not_fetched_yet(toy: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(toy), "clone")
    git(toy, "branch", "side/way")
    clone = tmp_path / "clone"
    typed = "git fetch origin side/way:refs/remotes/origin/side/way"
    assert refusal(clone, "origin/side/way") == f"--against origin/side/way: git knows no such commit here; type  {typed}  and check again"
    git(clone, *typed.split()[1:])
    assert resolve(clone, "origin/side/way") == head_commit(toy)


def test_in_a_shallow_clone_what_is_said_to_type_helps(toy: Path, tmp_path: Path) -> None:
    first = head_commit(toy)
    git(toy, "branch", "side")
    commit(write(toy, {"layers/gelu.py": ""}))
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{toy}", "clone")
    clone = tmp_path / "clone"
    start, end = "this clone is shallow and does not have it; type", "(in CI: check out with fetch-depth: 0)"
    fetch = "git fetch --unshallow origin side:refs/remotes/origin/side"
    assert refusal(clone, "origin/side") == f"--against origin/side: {start}  {fetch}  {end}"
    for ref in ("HEAD~1", first, "origin/main~1"):
        assert refusal(clone, ref) == f"--against {ref}: {start}  git fetch --unshallow  {end}"
    git(clone, *fetch.split()[1:])
    assert resolve(clone, "origin/side") == first
    assert resolve(clone, "HEAD~1") == first


@pytest.mark.parametrize("words", [("--depth", "1"), ()], ids=["shallow", "whole"])
def test_in_a_clone_of_one_branch_what_is_said_to_type_brings_the_other_and_a_commit_in_common(
    words: tuple[str, ...], toy: Path, tmp_path: Path
) -> None:
    first = head_commit(toy)
    git(toy, "checkout", "--quiet", "-b", "topic")
    commit(write(toy, {"layers/gelu.py": ""}))
    git(tmp_path, "clone", "--quiet", *words, "--single-branch", "--branch", "topic", f"file://{toy}", "clone")
    clone = tmp_path / "clone"
    fetch = f"git fetch {'--unshallow ' if words else ''}origin main:refs/remotes/origin/main"
    assert f"type  {fetch}  and  --against origin/main" in refusal(clone, "main")
    git(clone, *fetch.split()[1:])
    assert base.base(clone, "origin/main", tip=False) == base.Base(first, "origin/main")


def test_dirty(toy: Path) -> None:
    states = [dirty(toy)]
    write(toy, {"results/run.json": "{}"})
    states.append(dirty(toy))  # ignored
    write(toy, {"layers/gelu.py": ""})
    states.append(dirty(toy))  # new
    commit(toy)
    states.append(dirty(toy))
    write(toy, {"layers/gelu.py": "x = 1\n"})
    states.append(dirty(toy))  # changed
    git(toy, "add", "--all")
    states.append(dirty(toy))  # staged
    assert states == [False, False, True, False, True, True]


def test_new_files_make_it_dirty_even_where_git_status_hides_them(toy: Path) -> None:
    git(toy, "config", "status.showUntrackedFiles", "no")
    assert dirty(write(toy, {"layers/gelu.py": ""}))


# The folder of the base.


def test_a_commit_is_checked_out_beside_changes_and_nothing_is_left(toy: Path, tmp_path: Path) -> None:
    first = head_commit(toy)
    commit(write(toy, {"layers/softmax.py": "second"}))
    write(toy, {"layers/softmax.py": "third"})
    with checked_out(toy, first) as folder:
        assert folder.parent == tmp_path / "temporary"
        assert folder.name.startswith("layerbench-base-")
        assert (folder / "layers" / "softmax.py").read_text() == SOFTMAX
        assert (head_commit(folder), dirty(folder), git(folder, "branch", "--show-current")) == (first, False, "")
        write(folder, {"layers/__pycache__/softmax.pyc": "", "new": ""})
    assert (toy / "layers" / "softmax.py").read_text() == "third"
    assert (left(tmp_path), listed(toy), git(toy, "branch", "--all")) == ([], [str(toy)], "* main")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing_either(toy: Path, tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), checked_out(toy, "HEAD"):
        assert len(left(tmp_path)) == 2  # the folder, and the lock beside it
        raise error
    assert (left(tmp_path), listed(toy)) == ([], [str(toy)])


def test_a_commit_that_cannot_be_checked_out_leaves_nothing(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"^git worktree failed in .*/toy: fatal: .*nonsense"), checked_out(toy, "nonsense"):
        pass
    assert (left(tmp_path), listed(toy)) == ([], [str(toy)])


def test_what_git_cannot_remove_is_removed_all_the_same(toy: Path, tmp_path: Path) -> None:
    with checked_out(toy, "HEAD") as folder:
        (folder / ".git").unlink()  # then git takes it for no worktree
    assert (left(tmp_path), listed(toy)) == ([], [str(toy)])


def test_what_a_killed_check_left_is_removed_by_the_next_one_and_what_a_living_one_holds_is_not(toy: Path, tmp_path: Path) -> None:
    with holder(toy) as (killed, abandoned), holder(toy) as (living, held):
        assert sorted(listed(toy)) == sorted(map(str, (toy, abandoned, held)))
        killed.kill()
        killed.wait()
        git(toy, "worktree", "lock", str(abandoned))  # as git does while it makes one
        with checked_out(toy, "HEAD") as ours:
            assert sorted(listed(toy)) == sorted(map(str, (toy, held, ours)))
            assert (abandoned.exists(), (held / "layers" / "softmax.py").read_text()) == (False, SOFTMAX)
        living.communicate("")
        assert living.returncode == 0
    assert (left(tmp_path), listed(toy)) == ([], [str(toy)])


def test_a_killed_check_whose_folder_is_gone_too_is_forgotten(toy: Path) -> None:
    with holder(toy) as (killed, abandoned):
        killed.kill()
        killed.wait()
    git(toy, "worktree", "add", "--quiet", "--detach", f"{toy}-of-the-user")
    for folder in (abandoned, Path(f"{toy}-of-the-user")):
        subprocess.run(["rm", "-r", str(folder)], check=True)
    with checked_out(toy, "HEAD"):
        assert str(abandoned) not in listed(toy)
    assert listed(toy) == [str(toy), f"{toy}-of-the-user"]  # on a disk that is not there now, perhaps


def test_a_folder_whose_check_was_killed_before_git_knew_of_it_is_removed(toy: Path, tmp_path: Path) -> None:
    names = ("layerbench-base-killed/half", "layerbench-base-killed.lock", "layerbench-base-gone.lock", "another.lock")
    write(tmp_path / "temporary", dict.fromkeys(names, ""))
    with checked_out(toy, "HEAD") as folder:
        assert left(tmp_path) == sorted(["another.lock", folder.name, f"{folder.name}.lock"])
    assert left(tmp_path) == ["another.lock"]


def test_checks_of_one_repository_that_begin_and_end_at_once_do_not_trip_over_each_other(toy: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: _softmax(toy), range(24)))
    assert texts == [SOFTMAX] * 24
    assert (left(tmp_path), listed(toy)) == ([], [str(toy)])


def _softmax(root: Path) -> str:
    with checked_out(root, "HEAD") as folder:
        return (folder / "layers" / "softmax.py").read_text()


def test_a_worktree_of_the_users_that_has_such_a_name_stays(toy: Path, tmp_path: Path) -> None:
    git(toy, "worktree", "add", "--quiet", "--detach", str(tmp_path / "layerbench-base-mine"))
    with checked_out(toy, "HEAD"):
        pass
    assert listed(toy) == [str(toy), str(tmp_path / "layerbench-base-mine")]


def test_neither_the_repository_nor_the_folder_that_the_user_stands_in_is_removed_whatever_lies_beside_it(tmp_path: Path) -> None:
    here = tmp_path / "temporary"
    main, linked = make(here / "layerbench-base-main", {"layers/softmax.py": SOFTMAX}), here / "layerbench-base-linked"
    git(main, "worktree", "add", "--quiet", "--detach", str(linked))
    write(here, {"layerbench-base-main.lock": "", "layerbench-base-linked.lock": ""})
    with checked_out(linked, "HEAD"):
        assert [(root / "layers" / "softmax.py").exists() for root in (main, linked)] == [True, True]


def test_hooks_of_the_users_do_not_run(toy: Path) -> None:
    hook = toy / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho ran >> {toy}/hook-ran\n")
    hook.chmod(0o755)
    with checked_out(toy, "main"):
        pass
    assert not (toy / "hook-ran").exists()
    git(toy, "checkout", "--quiet", "-b", "other")
    assert (toy / "hook-ran").exists()  # it would have run


def test_inside_a_hook_of_another_repository(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = head_commit(toy)
    other = make(tmp_path / "other", {"layers/other.py": ""})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_PREFIX", "layers/")
    assert (repository(toy / "layers"), resolve(toy, "main"), dirty(toy)) == (toy, expected, False)
    with checked_out(toy, "HEAD") as folder:
        assert (folder / "layers" / "softmax.py").read_text() == SOFTMAX


def with_submodule(tmp_path: Path) -> tuple[Path, Path]:
    """A repository with a submodule `lib` that has one of its own, `deep`; and that submodule's own repository."""
    deep = make(tmp_path / "deep", {"deep.py": "DEEP = 1\n"})
    lib = make(tmp_path / "lib", {"lib.py": "LIB = 1\n", ".gitattributes": "lib.py export-ignore\n"})
    allow = ("-c", "protocol.file.allow=always")
    git(lib, *allow, "submodule", "--quiet", "add", str(deep), "deep")
    commit(lib)
    root = make(tmp_path / "whole", {"layers/softmax.py": SOFTMAX})
    git(root, *allow, "submodule", "--quiet", "add", str(lib), "layers/lib")
    git(root, *allow, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(root)
    return root, lib


def test_submodules_are_checked_out_at_the_commits_that_the_base_names_and_so_are_theirs(tmp_path: Path) -> None:
    root, _ = with_submodule(tmp_path)
    first = head_commit(root)
    clone = root / "layers" / "lib"
    commit(write(clone, {"lib.py": "LIB = 2\n"}))
    commit(root)
    for wanted, text in ((first, "LIB = 1\n"), ("HEAD", "LIB = 2\n")):
        with checked_out(root, wanted) as folder:
            assert (folder / "layers/lib/lib.py").read_text() == text
            assert (folder / "layers/lib/deep/deep.py").read_text() == "DEEP = 1\n"
            assert not list(folder.rglob(".layerbench-index"))
        assert submodules.missing(root, wanted) == {}
    assert git(clone, "status", "--porcelain") == ""
    assert len(listed(root)) == 1


def test_a_submodule_that_is_not_here_is_told_with_what_to_type(tmp_path: Path) -> None:
    root, lib = with_submodule(tmp_path)
    alone = tmp_path / "alone"
    git(tmp_path, "clone", "--quiet", str(root), str(alone))
    why = "submodule layers/lib is not checked out; type  git submodule update --init --recursive"
    assert submodules.missing(alone, "HEAD") == {"layers/lib": why}
    with checked_out(alone, "HEAD") as folder:
        assert not list((folder / "layers/lib").iterdir())
    newer = commit(write(lib, {"lib.py": "LIB = 3\n"}))
    git(root, "update-index", "--cacheinfo", f"160000,{newer},layers/lib")
    git(root, "commit", "--quiet", "--message", "a newer one that was not fetched")
    why = f"submodule layers/lib does not have the base's commit {newer[:7]}; type  git -C layers/lib fetch origin {newer}"
    assert submodules.missing(root, "HEAD") == {"layers/lib": why}


def test_where_git_cannot_list_another_worktree_the_files_alone_are_put_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = with_submodule(tmp_path)
    commit(write(root, {"layers/hidden.py": "", ".gitattributes": "layers/hidden.py export-ignore\n"}))
    places = [root / ".git", root / ".git" / "modules" / "layers" / "lib"]
    before = [sorted((path, path.stat().st_mtime_ns) for path in place.rglob("*")) for place in places]
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(root))
        with checked_out(root, "HEAD") as folder:
            assert listed(root) == [str(root)]
            names = ("layers/softmax.py", "layers/hidden.py", "layers/lib/lib.py", "layers/lib/deep/deep.py")
            assert [name for name in names if not (folder / name).is_file()] == []
            assert not list(folder.rglob(".layerbench-index"))
    assert not folder.exists()
    assert before == [sorted((path, path.stat().st_mtime_ns) for path in place.rglob("*")) for place in places]
    with checked_out(root, "HEAD"):
        assert len(listed(root)) == 2


# Which commit a branch stands for.


def test_of_a_branch_it_is_the_commit_that_the_head_left_it_at(toy: Path) -> None:
    fork = head_commit(toy)
    git(toy, "checkout", "--quiet", "-b", "topic")
    commit(write(toy, {"topic.txt": "x"}))
    git(toy, "checkout", "--quiet", "main")
    for number in range(2):
        tip = commit(write(toy, {"main.txt": str(number)}))
    git(toy, "checkout", "--quiet", "topic")
    found = base.base(toy, "main", tip=False)
    assert (found.commit, found.ref) == (fork, "merge base with main")
    assert found.note.startswith(f"HEAD lacks 2 commits of main: it was compared with {fork[:7]}, the last one that both have; --tip")
    for ref, at_tip, wanted in (("main", True, tip), (tip, False, tip), ("main~1", False, git(toy, "rev-parse", "main~1"))):
        assert base.base(toy, ref, at_tip) == base.Base(wanted, ref)
    git(toy, "tag", "v1", tip)
    assert base.base(toy, "v1", tip=False) == base.Base(tip, "v1")


def test_a_branch_that_the_head_has_whole_is_taken_as_it_is(toy: Path) -> None:
    first = head_commit(toy)
    git(toy, "checkout", "--quiet", "-b", "topic")
    commit(write(toy, {"topic.txt": "x"}))
    assert base.base(toy, "main", tip=False) == base.Base(first, "main")
    git(toy, "checkout", "--quiet", "main")
    git(toy, "merge", "--quiet", "--no-ff", "-m", "merged", "topic")
    git(toy, "checkout", "--quiet", "--detach")
    assert base.base(toy, "topic", tip=False).ref == "topic"


def test_without_a_commit_in_common_the_branch_itself_is_compared_and_that_is_said(toy: Path) -> None:
    git(toy, "checkout", "--quiet", "--orphan", "other")
    tip = commit(write(toy, {"other.txt": "x"}))
    git(toy, "checkout", "--quiet", "main")
    found = base.base(toy, "other", tip=False)
    assert (found.commit, found.ref) == (tip, "other")
    assert found.note == "the histories of HEAD and other have nothing in common, so other as it is now was compared"


def test_in_a_shallow_clone_that_ends_before_the_merge_base_nobody_is_blamed_for_being_behind(toy: Path, tmp_path: Path) -> None:
    git(toy, "checkout", "--quiet", "-b", "topic")
    commit(write(toy, {"topic.txt": "x"}))
    git(toy, "checkout", "--quiet", "main")
    tip = commit(write(toy, {"main.txt": "x"}))
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", "--branch", "topic", toy.as_uri(), str(clone))
    git(clone, "fetch", "--quiet", "--depth", "1", "origin", "main:refs/remotes/origin/main")
    with pytest.raises(Mistake, match="no commit in common in it; type  git fetch --unshallow"):
        base.base(clone, "origin/main", tip=False)
    assert base.base(clone, "origin/main", tip=True).commit == tip
    git(clone, "fetch", "--quiet", "--unshallow")
    assert base.base(clone, "origin/main", tip=False).ref == "merge base with origin/main"


@pytest.mark.parametrize("ref", ["", "origin/", "  "])
def test_an_empty_name_of_a_branch_is_no_pull_request(toy: Path, ref: str) -> None:
    with pytest.raises(Mistake, match="the name of the branch is empty; in CI this is no pull request"):
        base.base(toy, ref, tip=False)


# Which packages are wanted.


@pytest.mark.parametrize(
    ("name", "then", "now", "said"),
    [
        ("requirements.txt", "torch==2.12\nnumpy\n", "torch==2.13\nnumpy\n", "-torch==2.12; +torch==2.13"),
        ("ci/requirements-dev.txt", "", "triton\n", "+triton"),
        ("uv.lock", "a = 1\n", "a = 2\n", "-a = 1; +a = 2"),
        (
            "pyproject.toml",
            '[project]\nname = "x"\ndependencies = ["torch"]\n',
            '[project]\nname = "y"\ndependencies = ["torch>2"]\n',
            "-torch; +torch>2",
        ),
        ("environment.yml", "- torch=2.12\n", "- torch=2.13\n", "- - torch=2.12; +- torch=2.13"),
    ],
)
def test_files_that_want_other_packages_are_named_with_what_changed(toy: Path, name: str, then: str, now: str, said: str) -> None:
    first = commit(write(toy, {name: then} if then else {"a.txt": "a"}))
    write(toy, {name: now})
    assert dependencies.differences(toy, first) == [name]
    told = dependencies.note(toy, first, [name])
    assert told.startswith(
        f"{name} differs from the base: {said.replace('- - ', '-- ')}. Both sides ran the packages that are installed (torch "
    )


def test_comments_other_files_and_other_words_of_pyproject_want_no_other_packages(toy: Path) -> None:
    files = {"requirements.txt": "torch\n", "pyproject.toml": '[project]\nname = "x"\nversion = "1"\n', "notes.txt": "a\n"}
    first = commit(write(toy, files))
    write(
        toy, {"requirements.txt": "# the newest\ntorch\n", "pyproject.toml": '[project]\nname = "x"\nversion = "2"\n', "notes.txt": "b\n"}
    )
    assert dependencies.differences(toy, first) == []
    assert dependencies.note(toy, first, []) == ""


# Where a file lay.


def lay(root: Path, name: str) -> str | None:
    """Where a file of the working tree lay at HEAD, relative to the root."""
    commit = head_commit(root)
    with checked_out(root, commit) as folder:
        found = base_path(root, folder, root / name, commit)
        return found.relative_to(folder).as_posix() if found else None


def test_files_and_folders_that_stayed_where_they_were(toy: Path) -> None:
    write(toy, {"layers/softmax.py": "all new"})
    assert [lay(toy, name) for name in ("layers/softmax.py", "layers", ".")] == ["layers/softmax.py", "layers", "."]


@pytest.mark.parametrize("told", [True, False], ids=["git mv", "mv"])
def test_a_folder_that_was_renamed_is_found_by_its_files(toy: Path, told: bool) -> None:
    commit(write(toy, {"layers/gelu.py": "def gelu(x):\n    return x * phi(x)\n", "other/tanh.py": "def tanh(x):\n    return x\n"}))
    (toy / "layers").rename(toy / "suite")
    write(toy, {"suite/new.py": "all of it is new\n", "more/soft.py": ""})
    if told:
        git(toy, "add", "--all")
    assert [lay(toy, name) for name in ("suite", "more")] == ["layers", None]


def test_new_ones_lay_nowhere(toy: Path) -> None:
    write(toy, {"layers/copy.py": SOFTMAX, "more/gelu.py": ""})  # softmax.py is still there, so the copy is new
    assert [lay(toy, name) for name in ("layers/copy.py", "more/gelu.py", "more")] == [None, None, None]


@pytest.mark.parametrize("told", [True, False], ids=["git mv", "mv"])
def test_a_file_that_was_renamed_and_edited(toy: Path, told: bool) -> None:
    write(toy, {"layers/gelu.py": "def gelu(x):\n    return x * phi(x)\n", "a_note/softmax.txt": SOFTMAX})
    commit(toy)
    for old, new in (("layers/softmax.py", "suite/activations/soft.py"), ("a_note/softmax.txt", "notes.txt"), ("layers/gelu.py", "g.py")):
        (toy / new).parent.mkdir(parents=True, exist_ok=True)
        (toy / old).rename(toy / new)
    write(toy, {"suite/activations/soft.py": SOFTMAX.replace("e / e.sum()", "e / e.sum(-1)") + "\n\nBLOCK = 64\n"})
    if told:
        git(toy, "add", "--all")
    assert lay(toy, "suite/activations/soft.py") == "layers/softmax.py"
    assert lay(toy, "g.py") == "layers/gelu.py"


def test_of_two_earlier_files_the_more_similar_one_and_of_equal_ones_the_namesake(toy: Path) -> None:
    other = SOFTMAX + "y = 1\n"
    commit(write(toy, {"a.py": other, "layers/b.py": other, "layers/c.py": other}))
    git(toy, "rm", "-r", "--quiet", "a.py", "layers")
    write(toy, {"new/a.py": SOFTMAX, "new/b.py": other})
    assert [lay(toy, name) for name in ("new/a.py", "new/b.py")] == ["layers/softmax.py", "layers/b.py"]


def test_a_file_that_is_all_different_was_not_renamed(toy: Path) -> None:
    git(toy, "rm", "--quiet", "layers/softmax.py")
    assert lay(write(toy, {"layers/gelu.py": "def gelu(x):\n    return x\n"}), "layers/gelu.py") is None


def test_a_file_that_only_left_the_index_is_no_earlier_name(toy: Path) -> None:
    git(toy, "rm", "--quiet", "--cached", "layers/softmax.py")
    assert lay(write(toy, {"layers/copy.py": SOFTMAX}), "layers/copy.py") is None


def test_names_that_git_would_quote(tmp_path: Path) -> None:
    toy = make(tmp_path / "toy", {'layers/söft "max"\n[a].py': SOFTMAX})
    (toy / 'layers/söft "max"\n[a].py').rename(toy / "layers/plain.py")
    assert lay(toy, "layers/plain.py") == 'layers/söft "max"\n[a].py'


# What is built.


def code(digest: str, *files: str) -> Closure:
    return Closure(files, digest)


def test_who_builds_an_extension_is_found_in_all_that_a_layer_imports(toy: Path) -> None:
    write(toy, {"layers/a.py": "from .ops import f", "layers/ops.py": "from torch.utils.cpp_extension import load_inline"})
    assert caches.builds(toy, code("1", "layers/a.py", "layers/ops.py")) == "layers/ops.py"
    assert caches.builds(toy, code("1", "layers/a.py", "layers/softmax.py")) == ""


def folders(worktree: Path, **builders: str) -> caches.Caches:
    return caches.Caches(worktree, None, {side: frozenset(digests.split()) for side, digests in builders.items()})


def test_extensions_of_two_sides_lie_apart_and_those_of_equal_code_together(tmp_path: Path) -> None:
    found = folders(tmp_path, base="1", head="2")
    base_, head = (found.variables((side,))["TORCH_EXTENSIONS_DIR"] for side in ("base", "head"))
    assert base_ != head
    assert base_.startswith(str(tmp_path / "home" / ".cache" / "layerbench" / "extensions"))
    assert folders(tmp_path / "another", head="2").variables(("head",))["TORCH_EXTENSIONS_DIR"] == head
    unchanged = folders(tmp_path, base="2", head="2")  # in one process, where nothing of it changed
    assert unchanged.variables(("base", "head"))["TORCH_EXTENSIONS_DIR"] == head


def test_code_that_builds_nothing_gives_extensions_no_other_name(toy: Path) -> None:
    write(toy, {"layers/a.py": "from torch.utils.cpp_extension import load_inline"})
    names = []
    for other in ("3", "4"):
        sides = {side: {"a": code("1", "layers/a.py"), "b": code(other, "layers/softmax.py")} for side in ("base", "head")}
        with caches.held(toy, None, {"base": toy, "head": toy}, sides) as found:
            names.append(found.extensions(("head",)))
    assert names[0] == names[1]


def test_a_mark_that_a_killed_build_left_is_taken_away_unless_somebody_builds_there(toy: Path) -> None:
    write(toy, {"layers/a.py": "from torch.utils.cpp_extension import load_inline"})
    arguments = (toy, None, {"base": toy}, {"base": {"a": code("1", "layers/a.py")}})
    with caches.held(*arguments) as found:
        mark = write(found.extensions(("base",)), {"fast/lock": ""}) / "fast/lock"
        with caches.held(*arguments):
            assert mark.exists()
    with caches.held(*arguments):
        assert not mark.exists()


def test_what_was_built_is_told_and_what_was_there_is_not(tmp_path: Path) -> None:
    found = folders(tmp_path, base="1", head="2")
    write(found.extensions(("base",)), {"fast/fast.so": ""})
    before = found.built()
    assert len(before) == 1
    assert caches.note(found.built() - before, 3.0) == ""
    write(found.extensions(("head",)), {"fast/fast.so": "", "fast/fast.o": ""})
    assert caches.note(found.built() - before, 41.2).startswith("1 extension (fast) built before the budget began; with the import of ")
    assert "41 s" in caches.note(found.built() - before, 41.2)


BUILDS = """
import os
from pathlib import Path

from torch import nn, utils  # where utils.cpp_extension would run a compiler, as this stands for it
from layerbench.bench import Layer, Variant, randn

library = Path(os.environ["TORCH_EXTENSIONS_DIR"], "fast", "fast.so")
if not library.exists():
    library.parent.mkdir(parents=True, exist_ok=True)
    library.write_text("built by VERSION")
assert library.read_text() == "built by VERSION"
relu = Layer("relu", {"batch": (4,)}, inputs=(randn("batch"),), build=lambda module, size: module(), variants={"stock": Variant(nn.ReLU)})
"""


def test_each_side_has_what_its_own_code_builds_and_a_second_check_builds_nothing(toy: Path) -> None:
    write(toy, {"suite/a.py": BUILDS.replace("VERSION", "base")})
    before = commit(toy)
    write(toy, {"suite/a.py": BUILDS.replace("VERSION", "head")})
    built = []
    for _ in range(2):
        with checked_out(toy, before) as worktree:
            roots = {"base": worktree, "head": toy}
            sources = {side: {"a": code(side, "suite/a.py")} for side in roots}
            trees = mounting.Trees(toy, worktree, toy / "suite", worktree / "suite")
            with caches.held(worktree, None, roots, sources) as found:
                there = found.built()
                with mounting.opened(trees, 1, "both build fast", found.variables, 100.0) as ready:
                    assert ready.broken == {"base": {}, "head": {}}
                built.append(len(found.built() - there))
    assert built == [2, 0]


def test_without_a_folder_of_the_users_extensions_go_with_the_worktree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = folders(tmp_path, head="1").variables(("head",))["TORCH_EXTENSIONS_DIR"]
    assert found.startswith(str(tmp_path / ".layerbench-extensions"))


def test_a_user_without_a_home_has_none_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    found = folders(tmp_path, head="1").variables(("head",))["TORCH_EXTENSIONS_DIR"]
    assert found.startswith(str(tmp_path / ".layerbench-extensions"))


# Who measures beside a check.


def test_another_run_or_check_is_noted_though_it_ends_before_this_one() -> None:
    said: list[str] = []
    with neighbours.noticed(["cpu"], said.append) as (telling, seen):
        telling("alone")
        assert neighbours.note(seen) == ""
        with lock.held(["cpu"]) as other:
            assert other.busy() == ["cpu"]
            telling("beside another")
        telling("alone again")
    assert neighbours.note(seen) == "another run of layerbench was going on, on cpu: the times of both may be worse than they need be"
    assert said == ["alone", "beside another", "alone again"]


def test_who_measures_on_another_device_is_no_neighbour() -> None:
    with lock.held(["cuda"]), neighbours.noticed(["cpu"], lambda _: None) as (telling, seen):
        telling("alone")
    assert seen == set()
