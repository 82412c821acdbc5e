"""Kinds of repository whose parts lie elsewhere: submodules, files in Git LFS, packages that requirements name."""

from pathlib import Path

from repository import (
    FILES,
    IS_WRONG,
    MAIN,
    ORIGIN,
    PLAIN,
    RELU,
    SUITE,
    WORDS,
    WRONG,
    WRONG_GATE,
    Asked,
    Kind,
    Make,
    changed,
    commit,
    git,
    layer,
    made,
    write,
)


def submodule(folder: Path, nested: bool = False) -> tuple[Path, Path]:
    """A repository whose layer takes its formula from a submodule, or from a submodule of that one; and the innermost's repository."""
    inner = made(folder / "inner", {"gates.py": "def gate(x):\n    return x * x.sigmoid()\n", "__init__.py": ""})
    outer = inner
    if nested:
        outer = made(folder / "outer", {"__init__.py": ""})
        git(outer, "submodule", "--quiet", "add", inner.as_uri(), "deep")
        commit(outer)
    path = "from .lib.deep.gates import gate" if nested else "from .lib.gates import gate"
    root = made(folder / "toy", {"layers/silu.py": layer(top=path, value="gate(x)"), "layers/relu.py": RELU})
    git(root, "submodule", "--quiet", "add", outer.as_uri(), "layers/lib")
    git(root, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(root)
    git(root, "checkout", "--quiet", "-b", "topic")
    return root, inner


def submodule_changed(nested: bool) -> Make:
    def make(folder: Path) -> Asked:
        root, _ = submodule(folder, nested)
        clone = root / "layers/lib/deep" if nested else root / "layers/lib"
        commit(write(clone, {"gates.py": WRONG_GATE}))
        if nested:
            commit(root / "layers/lib")
        commit(root)
        return Asked(root, (*SUITE, *MAIN, *PLAIN))

    return make


def submodule_absent(folder: Path) -> Asked:
    """A clone that was made without its submodules."""
    root, _ = submodule(folder)
    git(folder, "clone", "--quiet", str(root), str(folder / "clone"))
    commit(write(folder / "clone", {"README.md": "more\n"}))
    return Asked(folder / "clone", (*SUITE, "--against", "HEAD~1", *PLAIN))


def submodule_unfetched(folder: Path) -> Asked:
    """The submodule has the head's commit alone, as `submodule update --depth 1` leaves it."""
    root, inner = submodule(folder)
    git(root / "layers/lib", "fetch", "--quiet", str(inner))
    newer = commit(write(inner, {"gates.py": "def gate(x):\n    return x.sigmoid() * x\n"}))
    git(root / "layers/lib", "fetch", "--quiet", inner.as_uri())
    git(root / "layers/lib", "checkout", "--quiet", newer)
    commit(root)
    git(folder, "clone", "--quiet", "--branch", "topic", root.as_uri(), str(folder / "clone"))
    git(folder / "clone", "submodule", "--quiet", "update", "--init", "--depth", "1")
    return Asked(folder / "clone", (*SUITE, *ORIGIN, "-k", "plain"))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
LOADS = layer(top='import json, pathlib\nWORDS = json.loads(pathlib.Path(__file__).with_name("words.json").read_text())')


def pointer_at_base(folder: Path) -> Asked:
    """A file in Git LFS: the working tree has it, and the base's checkout a pointer, since no filter runs."""
    root = made(folder / "toy", {**FILES, "layers/silu.py": LOADS, "layers/words.json": POINTER})
    return Asked(write(root, {"layers/words.json": "[1]\n"}), (*SUITE, "--against", "HEAD", "-k", "plain"))


def pointer_on_both(folder: Path) -> Asked:
    root = changed(folder / "toy", {"layers/silu.py": LOADS, "layers/words.json": POINTER}, {"README.md": "more\n"})
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


def wants(name: str, then: str, now: str) -> Make:
    return lambda folder: Asked(changed(folder / "toy", {**FILES, name: then}, {name: now}), (*SUITE, *MAIN, *PLAIN))


def project(version: str) -> str:
    return f'[project]\nname = "toy"\nversion = "1"\ndependencies = ["torch{version}"]\n'


def suite_in_submodule(folder: Path) -> Asked:
    """The suite is the submodule's own, checked against a commit of that."""
    made(folder / "inner", FILES)
    root = made(folder / "toy", {"README.md": "a project\n"})
    git(root, "submodule", "--quiet", "add", (folder / "inner").as_uri(), "vendor")
    commit(write(root / "vendor", {"layers/silu.py": WRONG}))
    return Asked(root, ("--suite", "vendor/layers", *WORDS, "--against", "origin/main", *PLAIN))


KINDS = (
    Kind("suite inside a submodule", suite_in_submodule, 1, IS_WRONG),
    Kind("submodule changed", submodule_changed(nested=False), 1, IS_WRONG),
    Kind("submodule of a submodule changed", submodule_changed(nested=True), 1, IS_WRONG),
    Kind("submodule not checked out", submodule_absent, 2, "git submodule update --init --recursive"),
    Kind(
        "submodule without the base's commit",
        submodule_unfetched,
        0,
        "^1 benchmark was not compared: .*git -C layers/lib fetch origin",
    ),
    Kind("Git LFS: the base's file is a pointer", pointer_at_base, 0, "^1 benchmark was not compared: .*Git LFS"),
    Kind("Git LFS: pointers on both sides", pointer_on_both, 2, "git lfs pull"),
    Kind("other requirements.txt", wants("requirements.txt", "torch==2.12\n", "torch==2.13\n"), 0, "requirements.txt.* not compared"),
    Kind("other lock file", wants("uv.lock", "a = 1\n", "a = 2\n"), 0, "uv.lock.* not compared"),
    Kind("other dependencies in pyproject.toml", wants("pyproject.toml", project(""), project(">2")), 0, "pyproject.toml.* not compared"),
)
