"""Redirects imports by plain name: in the base's own process, modules of the working tree are loaded from the base's tree instead.

A suite may import a package of its repository by its installed name.  That name leads to the working tree on both sides, and a check
of it would compare the head with itself.  The running harness is never moved.
"""

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

HARNESS = Path(__file__).resolve().parents[2]


class Moved(MetaPathFinder):
    """Asks the other finders, and sends what they find below `here` to the same place below `there`."""

    def __init__(self, here: Path, there: Path) -> None:
        self._here, self._there = here.resolve(), there.resolve()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)):
                return self._moved(spec)
        return None

    def _moved(self, spec: ModuleSpec) -> ModuleSpec:
        folders = [str(self._place(Path(folder)) or folder) for folder in spec.submodule_search_locations or ()]
        new = self._place(Path(spec.origin)) if spec.origin and spec.has_location else None
        if new is None:
            if spec.submodule_search_locations is not None:
                spec.submodule_search_locations = folders
            return spec
        if not new.exists():
            raise ModuleNotFoundError(f"No module named {spec.name!r} at the base", name=spec.name)
        moved = importlib.util.spec_from_file_location(spec.name, new, submodule_search_locations=folders or None)
        assert moved
        return moved

    def _place(self, path: Path) -> Path | None:
        return self._there / path.resolve().relative_to(self._here) if belongs(path, self._here) else None


def belongs(path: Path, root: Path) -> bool:
    """Whether a file is code of the tree below `root`: not the harness, not an environment that lies in the tree."""
    full = path.resolve()
    return full.is_relative_to(root) and not any(full.is_relative_to(place) for place in (HARNESS, Path(sys.prefix).resolve()))


def by_plain_name(roots: Iterable[str], suites: Iterable[str]) -> list[str]:
    """Modules of these trees that are loaded under their plain names, where two trees cannot both have one.

    Not those that lie in a suite's own folder: `mount` keeps two of them apart.
    """
    trees, folders = [Path(root).resolve() for root in roots], {_folder(Path(suite)) for suite in suites}
    found = []
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if not Path(file).is_absolute() or name.startswith("_layerbench_") or _folder(Path(file)) in folders:
            continue
        if any(belongs(Path(file), tree) for tree in trees):
            found.append(name)
    return found


def _folder(path: Path) -> Path:
    return path.resolve() if path.is_dir() else path.resolve().parent
