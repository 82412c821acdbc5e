"""The code of both sides as it lies in their trees: what was edited meanwhile, copies that are installed, files that are not in place."""

import sys
from pathlib import Path

import pytest
import toy_repository as toy

from layerbench.bench.check import mounting, sources
from layerbench.bench.check.mounting import Trees
from layerbench.bench.check.sources import Edited
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.suite import copies

LAYER = "from mine import ops\nfrom . import common\n"
FILES = {"layers/a.py": LAYER, "layers/common.py": "", "src/mine/__init__.py": "", "src/mine/ops.py": "x = 1\n"}


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trees:
    toy.isolate(tmp_path, monkeypatch)
    root = toy.make(tmp_path / "toy", FILES)
    base = toy.write(tmp_path / "base", FILES)
    return Trees(root, base, root / "layers", base / "layers")


# While it was checked.


@pytest.mark.parametrize(
    ("name", "then", "now", "said"),
    [
        ("layers/a.py", LAYER, LAYER + "y = 1\n", "layers/a.py changed while it was being checked, so"),
        ("layers/common.py", "", "y = 1\n", "layers/a.py changed while it was being checked (layers/common.py), so"),
        ("layers/tuned.json", "[1]", "[2]", "layers/a.py changed while it was being checked (layers/tuned.json), so"),
        ("layers/a.py", LAYER, LAYER + "# why\n", ""),
    ],
)
def test_code_that_was_edited_meanwhile_is_named(name: str, then: str, now: str, said: str, trees: Trees) -> None:
    toy.commit(toy.write(trees.root, {name: then, "README.md": "more"}))
    before = sources.sources(trees)
    toy.write(trees.root, {name: now})
    if not said:
        sources.stood_still(trees, before, ["layers/a.py"])
        return
    with pytest.raises(Edited) as edited:
        sources.stood_still(trees, before, ["layers/a.py"])
    assert str(edited.value).startswith(f"the code of {said} the times are of neither version; check again")
    assert str(edited.value).endswith("take it out of git") == name.endswith(".json")


@pytest.mark.parametrize("then", [None, "[1]"], ids=["new", "of an earlier check"])
def test_a_data_file_that_git_does_not_know_is_what_a_layer_wrote(then: str | None, trees: Trees) -> None:
    toy.write(trees.root, {"layers/tuned.json": then} if then else {})
    before = sources.sources(trees)
    toy.write(trees.root, {"layers/tuned.json": "[2]"})
    sources.stood_still(trees, before, ["layers/a.py"])


def test_a_layer_file_that_is_gone_was_edited(trees: Trees) -> None:
    before = sources.sources(trees)
    (trees.root / "layers/a.py").unlink()
    with pytest.raises(Edited, match=r"the code of layers/a.py changed while it was being checked, so"):
        sources.stood_still(trees, before, ["layers/a.py"])


# What is installed.


def test_an_installed_copy_is_refused_where_its_source_has_changed_and_told_where_it_has_not(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = toy.write(tmp_path / "site", {"mine/__init__.py": "", "mine/ops.py": "x = 1\n"})
    monkeypatch.syspath_prepend(str(copy))
    copies._distributions.cache_clear()
    toy.write(trees.root, {"layers/a.py": LAYER + "y = 1\n"})
    said = f"both sides ran the installed copy of mine ({copy / 'mine'}); its source is the same on both"
    assert list(sources.installed_copies(trees, sources.sources(trees))) == [said]
    toy.write(trees.root, {"src/mine/ops.py": "x = 2\n"})
    with pytest.raises(Mistake, match=r"a.py imports mine, which this Python takes from .*python -m pip install --editable \."):
        list(sources.installed_copies(trees, sources.sources(trees)))
    monkeypatch.syspath_prepend(str(trees.root / "src"))
    assert list(sources.installed_copies(trees, sources.sources(trees))) == []


def test_an_installed_copy_whose_source_lies_in_a_folder_of_another_name_is_refused_too(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = {"other/__init__.py": "", "other/ops.py": "", "other_kernels-1.dist-info/METADATA": "Name: other-kernels\nVersion: 1\n"}
    copy = toy.write(tmp_path / "site", {**site, "other_kernels-1.dist-info/top_level.txt": "other\n"})
    monkeypatch.syspath_prepend(str(copy))
    files = {"pyproject.toml": '[project]\nname = "other-kernels"\n', "code/ops.py": "x = 1\n", "code/__init__.py": ""}
    for root in (trees.root, trees.worktree):
        toy.write(root, {**files, "layers/a.py": "from other import ops\n"})
    copies._distributions.cache_clear()
    assert len(list(sources.installed_copies(trees, sources.sources(trees)))) == 1
    toy.write(trees.root, {"code/ops.py": "x = 2\n"})
    with pytest.raises(Mistake, match=r"a\.py imports other, which this Python takes from"):
        list(sources.installed_copies(trees, sources.sources(trees)))
    copies._distributions.cache_clear()


@pytest.mark.parametrize("first", [True, False], ids=["python -m", "the script"])
def test_modules_are_found_in_the_order_of_the_workers(first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = [str(tmp_path) if first else "/bin", "/site-packages"]
    monkeypatch.setattr(sys, "path", before)
    with sources.found_as_in_a_worker():
        assert sys.path == [*([] if first else ["/bin"]), "/site-packages", str(tmp_path)]
    assert sys.path is before


# What is named from where the user stands.


@pytest.mark.parametrize(
    ("text", "stands", "apart"),
    [
        (
            'open("layers/words.json")',
            ".",
            "a.py names layers/words.json from where the check was called, and a process can stand in one tree only",
        ),
        ('open("words.json")', "layers", "a.py names words.json from where the check was called, and a process can stand in one tree only"),
        ('open("layers/words.json")', "layers", ""),
        ('open("layers/words.json")', "..", ""),
        ('open("layers/gone.json")', ".", ""),
    ],
)
def test_who_names_a_file_from_where_the_user_stands_is_checked_in_two_processes(
    text: str, stands: str, apart: str, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.write(trees.worktree, {"layers/a.py": "x = 1"})
    toy.write(trees.root, {"layers/a.py": text, "layers/words.json": "[1]"})
    monkeypatch.chdir(trees.root / stands)
    assert sources.apart(trees, sources.sources(trees), isolate=False, everything=False) == apart


@pytest.mark.parametrize(("stands", "there"), [(".", "."), ("layers", "layers"), ("new", "."), ("..", None)])
def test_the_base_stands_in_its_own_tree(stands: str, there: str | None, trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write(trees.root, {"new/b.py": ""})
    monkeypatch.chdir(trees.root / stands)
    assert mounting._counterpart(trees) == (trees.worktree / there if there else trees.root.parent).resolve()


# What is not in place.

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


def test_a_pointer_of_git_lfs_is_told_where_a_file_does_not_import(trees: Trees) -> None:
    toy.write(trees.root, {"layers/words.json": "[1]"})
    toy.write(trees.worktree, {"layers/words.json": POINTER})
    broken = {"base": {"layers/a.py": "no JSON"}, "head": {"layers/a.py": "no JSON"}}
    hint = "layers/words.json is a pointer of Git LFS there and not the file itself; type  git lfs install && git lfs pull"
    assert sources.explained(broken, trees, sources.sources(trees), {}) == {
        "base": {"layers/a.py": f"no JSON; {hint}"},
        "head": {"layers/a.py": "no JSON"},
    }


def test_a_submodule_that_is_not_there_is_told_on_both_sides_and_one_without_the_bases_commit_at_the_base(trees: Trees) -> None:
    toy.write(trees.root, {"lib/.git": "gitdir: x"})
    broken = {side: {"layers/a.py": "no lib"} for side in ("base", "head")}
    found = sources.sources(trees)
    assert sources.explained(broken, trees, found, {"lib": "fetch it"}) == {
        "base": {"layers/a.py": "no lib; fetch it"},
        "head": {"layers/a.py": "no lib"},
    }
    assert sources.explained(broken, trees, found, {"gone": "check it out"})["head"] == {"layers/a.py": "no lib; check it out"}
