"""Where a tree has the source of a package that was installed as a copy: however deep it lies, as in a repository of many projects.

The installed copy is what runs, so a change of the source changes nothing that is measured.  It is read, not imported.
"""

import ast
import configparser
import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

PROJECTS = ("pyproject.toml", "setup.cfg", "setup.py")
ALIKE = 0.5  # share of a package's files that a folder of another name must have, too, to be its source


def installed(name: str) -> list[Path]:
    """Where the running Python finds a name.  The finders are asked one by one: `find_spec` of a dotted name imports what is above it."""
    above, _, _ = name.rpartition(".")
    path = (list(getattr(sys.modules.get(above), "__path__", ())) or [str(place) for place in installed(above)]) if above else None
    found = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    spec = next(filter(None, found), None)
    places = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or ""])
    return [Path(place).resolve() for place in places if Path(place).is_absolute() and Path(place).exists()]


def sources(name: str, copy: Sequence[Path], files: Sequence[Path]) -> tuple[Path, ...]:
    """The folders and files of a top-level name among the files of a tree, the likeliest first; none where it lacks the source.

    A folder of that name alone says nothing: it is the source where a project of the tree has the name of the installed distribution, or
    where the two begin with the same file.  In such a project the folder may be without __init__.py, or have another name.
    """
    projects = [file.parent for file in files if file.name in PROJECTS and _makes(file, name)]
    places = [file.parent for file in files if file.name == "__init__.py" and file.parent.name == name]
    places += [file for file in files if file.name == f"{name}.py"]
    found = [place for place in places if _within(place, projects) or any(_same(place, each) for each in copy)]
    if not found and projects:
        modules = [file for file in files if file.suffix == ".py" and _within(file, projects)]
        folders = dict.fromkeys(folder for file in modules for folder in file.parents if _within(folder, projects))
        found = [folder for folder in folders if folder.name == name] or _alike(folders, set(modules), copy)
    return tuple(sorted(found, key=lambda each: len(each.parts)))


def project(root: Path, files: Sequence[str], name: str) -> str:
    """The folder to install from, relative to the root: a project of that name, or the nearest above the source of it; "." else."""
    inside = [Path(file) for file in files if name in (*Path(file).parts[:-1], Path(file).stem)]
    folders = [folder for file in map(Path, files) for folder in file.parents]
    made = [folder for folder in folders if any(_makes(root / folder / each, name) for each in PROJECTS)]
    above = [folder for file in inside[:1] for folder in file.parents if any((root / folder / each).is_file() for each in PROJECTS)]
    return next((folder.as_posix() for folder in (*made, *above)), ".")


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(map(path.is_relative_to, folders))


def _alike(folders: Iterable[Path], modules: Collection[Path], copy: Sequence[Path]) -> list[Path]:
    """The folder that has most of the installed package's files, by their names."""
    names = [file.relative_to(place) for place in copy for file in place.rglob("*.py")]
    shares = {folder: sum(folder / each in modules for each in names) / len(names) for folder in folders} if names else {}
    best = max(shares, key=lambda each: shares[each], default=None)
    return [best] if best and shares[best] >= ALIKE else []


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _makes(file: Path, name: str) -> bool:
    """Whether the project of that file is the distribution that a top-level name was installed from."""
    wanted = {_normal(each) for each in _distributions().get(name, ())}
    return bool(wanted) and not wanted.isdisjoint(map(_normal, _names(file)))


@cache
def _names(file: Path) -> list[str]:
    """What a project may be called, as far as it can be read there; of a setup.py what is given as a name or to a variable."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.name == "setup.py":
            given = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign | ast.keyword) and _named(node)]
            return [value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        if file.name == "setup.cfg":
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(text)
            return [parser.get("metadata", "name", fallback="")]
        made = tomllib.loads(text)
    except (OSError, SyntaxError, UnicodeDecodeError, configparser.Error, tomllib.TOMLDecodeError):
        return []
    return [str(made.get("project", {}).get("name", "") or made.get("tool", {}).get("poetry", {}).get("name", ""))]


def _named(node: ast.Assign | ast.keyword) -> bool:
    return isinstance(node, ast.Assign) or node.arg == "name"


def _normal(name: str) -> str:
    """As PEP 503 compares the names of projects."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(ours: Path, theirs: Path) -> bool:
    """Whether they begin with the same code, which is not nothing."""
    a, b = (each / "__init__.py" if each.is_dir() else each for each in (ours, theirs))
    return a.is_file() and b.is_file() and bool(a.read_bytes().strip()) and a.read_bytes() == b.read_bytes()
