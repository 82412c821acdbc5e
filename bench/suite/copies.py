"""Where a tree has the source of a package that was installed as a copy: however deep it lies, as in a repository of many projects.

The installed copy is what runs, so a change of the source changes nothing that is measured.  It is read, not imported.
"""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path


def source(name: str, installed: Sequence[Path], files: Sequence[Path]) -> Path | None:
    """The folder or file of a top-level name among the files of a tree; None where the tree has no source of the installed one.

    A folder of that name alone says nothing: it is the source where a project of the tree has the name of the installed distribution, or
    where the two begin with the same file.  A package without __init__.py begins with none, so there the project must have files of it.
    """
    places = [file.parent for file in files if file.name == "__init__.py" and file.parent.name == name]
    places += [file for file in files if file.name == f"{name}.py"]
    if not places:
        theirs = {file.relative_to(place) for place in installed if place.is_dir() for file in place.rglob("*.py")}
        above = {folder for file in files if file.suffix == ".py" for folder in file.parents if folder.name == name}
        places = [folder for folder in above if any((folder / each).is_file() for each in theirs)]
    if not places:
        return None
    wanted = {_normal(each) for each in _distributions().get(name, ())}
    projects = [file.parent for file in files if file.name == "pyproject.toml" and _normal(_project(file)) in wanted]
    for place in sorted(places, key=lambda each: len(each.parts)):
        if any(place.is_relative_to(project) for project in projects) or any(_same(place, each) for each in installed):
            return place
    return None


def project(root: Path, files: Sequence[str], name: str) -> str:
    """The folder to install from, relative to the root: the nearest above the source of that name that has a project; "." else."""
    inside = next((Path(file) for file in files if name in (*Path(file).parts[:-1], Path(file).stem)), Path())
    for folder in inside.parents:
        if any((root / folder / each).is_file() for each in ("pyproject.toml", "setup.py", "setup.cfg")):
            return folder.as_posix()
    return "."


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _project(file: Path) -> str:
    try:
        made = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return ""
    return str(made.get("project", {}).get("name", "") or made.get("tool", {}).get("poetry", {}).get("name", ""))


def _normal(name: str) -> str:
    """As PEP 503 compares the names of projects."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(ours: Path, theirs: Path) -> bool:
    """Whether they begin with the same code, which is not nothing."""
    a, b = (each / "__init__.py" if each.is_dir() else each for each in (ours, theirs))
    return a.is_file() and b.is_file() and bool(a.read_bytes().strip()) and a.read_bytes() == b.read_bytes()
