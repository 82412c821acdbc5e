"""The code of both sides as it lies in their trees: whether they may share a process, run what lies there, and stand still meanwhile."""

import ast
import contextlib
import os
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ..declare.mistake import Mistake
from ..suite import closure, copies
from ..suite.closure import Closure
from ..suite.source import DATA
from . import caches, git
from .mounting import Trees

POINTER = b"version https://git-lfs.github.com/spec/"  # how a file begins that Git LFS has not put in place

Sources = Mapping[str, Mapping[str, Closure]]


class Edited(Exception):
    """The working tree changed while it was checked.  Carries one sentence."""


@contextlib.contextmanager
def found_as_in_a_worker() -> Iterator[None]:
    """What lies where the user stands comes after all that is installed; `python -m` has it first, and a script not at all."""
    before, here = sys.path, str(Path.cwd())
    sys.path = [*(before[1:] if before[:1] == [here] else before), here]
    try:
        yield
    finally:
        sys.path = before


def sources(trees: Trees) -> dict[str, dict[str, Closure]]:
    """Side -> layer file, as a path -> what its code consists of."""
    return {"head": _code(trees.head, trees.root, trees), "base": _code(trees.base, trees.worktree, trees)}


def _code(suite: Path | None, root: Path, trees: Trees) -> dict[str, Closure]:
    return {str(file): each for file, each in closure.closures(root, layer_files(suite), trees.root).items()}


def layer_files(suite: Path | None) -> list[Path]:
    return [] if suite is None else [suite] if suite.is_file() else sorted(suite.glob("[!_]*.py"))


def stood_still(trees: Trees, then: Sources, files: Collection[str]) -> None:
    """Raises Edited where the code of a file, relative to the root, is another now: fresh processes may have read the later one.

    A data file that git does not know is no code: layers keep there what they have found out, and write it while they are measured.
    """
    now = _code(trees.head, trees.root, trees)
    for file in sorted(files):
        path = str(trees.root / file)
        if path not in then["head"]:
            continue
        edited = closure.edits(then["head"][path], now[path]) if path in now else [file]
        if edited := [each for each in edited if each.endswith(".py") or _tracked(trees.root, each)]:
            what = "" if file in edited else f" ({', '.join(edited[:3])})"
            raise Edited(
                f"the code of {file} changed while it was being checked{what}, so the times are of neither version; check again"
                + ("" if edited[0].endswith(".py") else ", and if the layers themselves write that file, take it out of git")
            )


def _tracked(root: Path, name: str) -> bool:
    return bool(git.output(root, "ls-files", "-z", "--", name))


def installed_copies(trees: Trees, found: Sources) -> Iterator[str]:
    """A sentence for each package of the tree that Python takes from an installed copy.  Raises Mistake where its source has changed."""
    then = {name: part for each in found["base"].values() for name, part in each.parts.items()}
    said: set[str] = set()
    for file, each in found["head"].items():
        copy = closure.elsewhere(each, Path(file), trees.root)
        if not copy or copy[0] in said:
            continue
        said.add(copy[0])
        top, place = copy
        name = top.split(".")[-1]
        ours = {path: part for path, part in each.parts.items() if name in (*Path(path).parts[:-1], Path(path).stem)}
        ours = ours or {path: part for path, part in each.parts.items() if trees.root / path != Path(file)}  # in a folder of another name
        if any(then.get(path) != part for path, part in ours.items()):
            raise Mistake(
                f"{Path(file).name} imports {top}, which this Python takes from {place} and not from {trees.root}, so both sides "
                "would run that copy; install it in editable form, as  python -m pip install --editable "
                + shlex.quote(os.path.relpath(trees.root / copies.project(trees.root, each.files, name)))
            )
        yield f"both sides ran the installed copy of {top} ({place}); its source is the same on both"


def apart(trees: Trees, found: Sources, isolate: bool, everything: bool) -> str:
    """Why the sides must not share a process, as far as the sources tell.  Code that both have is not timed, so it may do as it likes."""
    if isolate:
        return "--isolate"
    digests = [{each.digest for each in found[side].values()} for side in ("base", "head")]
    shared = set() if everything else digests[0] & digests[1]
    roots = {"base": trees.worktree, "head": trees.root}
    for side in ("head", "base"):
        for file, each in found[side].items():
            if each.digest not in shared and each.absolute:
                return (
                    f"{Path(file).name} imports {each.absolute[0]} by its plain name, and a process can hold only one module of that name"
                )
            if each.digest not in shared and (builder := caches.builds(roots[side], each)):
                return f"{builder} builds an extension, and a process can hold only one of its name"
            if each.digest not in shared and (name := _named_from_here(trees, roots[side], each)):
                return f"{Path(file).name} names {name} from where the check was called, and a process can stand in one tree only"
            if each.digest not in shared and each.everything:
                return f"what the code reaches cannot be told: {each.everything}"
    return ""


def _named_from_here(trees: Trees, root: Path, code: Closure) -> str:
    """A data file of the working tree that the code names by a path from the folder where the user stands; "" where there is none."""
    here = Path.cwd().resolve()
    if not here.is_relative_to(trees.root):
        return ""
    for name in code.files:
        with contextlib.suppress(SyntaxError, ValueError):
            nodes = ast.walk(ast.parse((root / name).read_bytes())) if name.endswith(".py") else ()
            values = (node.value for node in nodes if isinstance(node, ast.Constant))
            for value in values:
                if isinstance(value, str) and value.endswith(DATA) and not value.startswith("/") and (here / value).is_file():
                    return value
    return ""


def explained(broken: Mapping[str, Mapping[str, str]], trees: Trees, found: Sources, lost: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Why files do not import, with what is known of it: a submodule that is not there, a file that Git LFS has not put in place.

    lost: submodules that the base has not, and why.
    """
    roots = {"base": trees.worktree, "head": trees.root}
    absent = [why for path, why in lost.items() if not (trees.root / path / ".git").exists()]
    known = {"base": list(lost.values()), "head": absent}

    def explain(side: str, file: str, why: str) -> str:
        return "; ".join((why, *known[side], *pointers(roots[side], found[side].get(str(roots[side] / file)))))

    return {side: {file: explain(side, file, why) for file, why in torn.items()} for side, torn in broken.items()}


def pointers(root: Path, code: Closure | None) -> Iterator[str]:
    """A sentence for each data file of that code that is a pointer of Git LFS."""
    for name in code.files if code else ():
        if not name.endswith(".py"):
            with (root / name).open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    yield f"{name} is a pointer of Git LFS there and not the file itself; type  git lfs install && git lfs pull"
