"""Kinds of repository by where the code lies that a layer imports: packages, installed in several ways, and files in other folders."""

import os
from pathlib import Path

from repository import (
    GATE,
    IS_WRONG,
    MAIN,
    PLAIN,
    RELU,
    SAME,
    SLOW_GATE,
    SUITE,
    WORDS,
    WRONG_GATE,
    Asked,
    Kind,
    Make,
    changed,
    commit,
    edit,
    environment,
    git,
    install,
    made,
    pyproject,
    uses,
    write,
)


def package(gate: str, project: str = "", source: str = "", editable: bool = True, namespace: bool = False, first: str = GATE) -> Make:
    """A project whose layers import its installed package `toy`, in which the formula changes from `first` to `gate`."""

    def make(folder: Path) -> Asked:
        inside = f"{project}/" if project else ""
        parts = f"{inside}{source}/toy" if source else f"{inside}toy"
        files = {
            f"{inside}layers/silu.py": uses("from toy.inner.ops import gate"),
            f"{inside}layers/relu.py": RELU,
            f"{inside}pyproject.toml": pyproject(source or "."),
            f"{parts}/inner/ops.py": first,
        }
        if not namespace:
            files |= {f"{parts}/__init__.py": '"""A toy."""\nTOY = 1\n', f"{parts}/inner/__init__.py": ""}
        root = made(folder / "mono", files)
        python = environment(folder / "environment")
        install(python, root / project, editable)
        git(root, "checkout", "--quiet", "-b", "topic")
        commit(write(root, {f"{parts}/inner/ops.py": gate, "README.md": "more\n"}))
        words = ("--suite", f"{inside}layers", *WORDS[:-1], "2m", *MAIN, *PLAIN)
        return Asked(root, words, python=python)

    return make


DEEP = "teams/vision/toy"
COPY = r"pip install --editable"


def by_path(folder: Path) -> Asked:
    """A package that lies in src and is found there by PYTHONPATH."""
    files = {"layers/silu.py": uses("from toy.ops import gate"), "src/toy/__init__.py": "", "src/toy/ops.py": GATE}
    root = changed(folder / "toy", files, {"src/toy/ops.py": WRONG_GATE})
    places = os.pathsep.join(filter(None, (str(root / "src"), os.environ.get("PYTHONPATH", ""))))
    return Asked(root, (*SUITE, *MAIN, *PLAIN), {"PYTHONPATH": places})


def beside(folder: Path) -> Asked:
    """A package that is installed nowhere and lies where the check is called, three folders deep."""
    files = {"layers/silu.py": uses("from toy.ops import gate"), "toy/__init__.py": "", "toy/ops.py": GATE}
    root = changed(folder / "mono", {f"{DEEP}/{name}": text for name, text in files.items()}, {f"{DEEP}/toy/ops.py": WRONG_GATE})
    return Asked(root / DEEP, (*SUITE, *MAIN, *PLAIN))


KERNELS = {"suite/layers/silu.py": uses("from ..kernels.gates import gate"), "suite/kernels/gates.py": GATE}
INSERTED = uses("import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'lib'))\nfrom gates import gate")

KINDS = (
    Kind("slow-down in an editable package", package(SLOW_GATE), 1, "1 of 1 benchmark got slower", slow=True),
    Kind("wrong editable package in a src layout", package(WRONG_GATE, source="src"), 1, IS_WRONG, slow=True),
    Kind("wrong editable namespace package", package(WRONG_GATE, source="src", namespace=True), 1, "1 of 1 benchmark is wrong", slow=True),
    Kind("wrong editable package three folders deep", package(WRONG_GATE, DEEP, "src"), 1, "1 of 1 benchmark is wrong", slow=True),
    Kind("package installed as a copy", package(SLOW_GATE, editable=False), 2, COPY, slow=True),
    Kind(
        "the same, namespace package in a src layout", package(SLOW_GATE, source="src", editable=False, namespace=True), 2, COPY, slow=True
    ),
    Kind("the same, three folders deep", package(SLOW_GATE, DEEP, "src", editable=False), 2, rf"{COPY} {DEEP}", slow=True),
    Kind("the same, and the package is unchanged", package(GATE, DEEP, editable=False), 0, SAME, slow=True),
    Kind(
        "helper in a sister folder, imported relatively",
        lambda folder: Asked(
            changed(folder / "toy", KERNELS, {"suite/kernels/gates.py": WRONG_GATE}), ("--suite", "suite/layers", *WORDS, *MAIN, *PLAIN)
        ),
        1,
        IS_WRONG,
    ),
    Kind(
        "helper found by sys.path.insert",
        edit({"lib/gates.py": WRONG_GATE}, *PLAIN, before={"layers/silu.py": INSERTED, "lib/gates.py": GATE}),
        1,
        IS_WRONG,
    ),
    Kind("package where the check is called, three folders deep", beside, 1, IS_WRONG),
    Kind("package found by PYTHONPATH", by_path, 1, IS_WRONG),
)
