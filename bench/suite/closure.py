"""What a layer's code consists of: every file that its imports reach, with one digest over them.  It is read, not imported.

Layers with equal digests are the same code and need no measuring, so in doubt a file counts: too many cost time, too few hide a change.
Python counts as what it means (`source` says what that is).  Where files lie does not count, only by which names they are imported, so a
layer file that was moved or renamed is the same code.

The harness counts on neither side, as the running one measures both; nor does what lies outside the tree, which both share.  What a layer
may load counts byte by byte: files with a suffix of DATA beside the Python files, and those whose name ends as a string in the code does.
"""

import fnmatch
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from . import copies
from .mount import is_harness
from .source import DATA, Import, read

SKIPPED = ("node_modules", "site-packages", "__pycache__")  # and hidden folders: nobody keeps code of his own there


@dataclass(frozen=True)
class Closure:
    """The code of one layer file.

    `absolute` are the modules of the tree that it imports by a name which two copies of the tree share: with any, or where `everything`
    is not empty, the two copies cannot live in one process.
    """

    files: tuple[str, ...]  # relative to the root
    digest: str
    absolute: tuple[str, ...] = ()
    everything: str = ""  # why every Python file of the tree counts
    parts: Mapping[str, str] = field(default_factory=dict)  # file -> what of it goes into the digest


@dataclass(frozen=True)
class _Link:
    """A file that another one imports."""

    file: Path
    name: str  # as written there, with its dots
    kind: str  # relative | beside (the layer, by its plain name) | absolute
    late: bool


@dataclass(frozen=True)
class _Side:
    """A tree, seen from the folder of a suite, and what was already looked up in it."""

    root: Path
    working: Path  # the working tree, which the running Python's paths lead to
    suite: Path
    within: Path  # where files that nothing imports are looked for
    tops: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    links: dict[Path, tuple[_Link, ...]] = field(default_factory=dict)
    digests: dict[Path, str] = field(default_factory=dict)

    @cached_property
    def harness(self) -> tuple[Path, ...]:
        running, beside = Path(__file__).resolve().parents[1], self.suite.parent / "bench"
        mapped = (self.root / running.relative_to(self.working),) if running.is_relative_to(self.working) else ()
        return (running, *mapped, *((beside,) if is_harness(beside) else ()))

    @cached_property
    def contents(self) -> tuple[Path, ...]:
        """All files that may be loaded, but for the harness and environments."""
        found: list[Path] = []
        for folder, folders, files in os.walk(self.within):
            here = Path(folder)
            folders[:] = [each for each in folders if not _skipped(each) and not (here / each / "pyvenv.cfg").exists()]
            folders[:] = [each for each in folders if here / each not in self.harness]
            found += [here / each for each in files if (here / each).is_file()]  # not a link that leads nowhere
        return tuple(sorted(found))


def closures(root: Path, files: Iterable[Path], working: Path, within: Path | None = None) -> dict[Path, Closure]:
    """The closure of each layer file of a tree.  `root` is the working tree itself or the base's copy, `working` the working tree.

    within: where files that nothing imports by name are looked for; the whole tree where it is None.
    """
    sides: dict[Path, _Side] = {}
    found = {}
    for file in files:
        suite = file.parent.resolve()
        side = sides.setdefault(suite, _Side(root.resolve(), working.resolve(), suite, (within or root).resolve()))
        found[file] = _closure(side, suite / file.name)
    return found


def changed(base: Closure, head: Closure) -> bool:
    return base.digest != head.digest


def edits(then: Closure, now: Closure) -> list[str]:
    """The files that are other ones now, new and gone ones too."""
    return sorted(file for file in {*then.parts, *now.parts} if then.parts.get(file) != now.parts.get(file))


def elsewhere(code: Closure, layer: Path, working: Path) -> tuple[str, Path] | None:
    """A name of the tree's that this Python takes from an installed copy, and where that lies: both sides would run the copy."""
    for name in code.absolute:
        parts = name.split(".")
        top = ".".join(parts[: 2 if parts[0] == "layerbench" else 1])
        places = [] if _module(layer.parent, top) else copies.installed(top)
        if places and len(parts) > 1 and not any(map(_begins, places)):  # projects may share the name: then it is the next one that counts
            top = ".".join(parts[:2])
            places = copies.installed(top)
        if places and not any(place.is_relative_to(working.resolve()) for place in places):
            return top, places[0]
    return None


def _closure(side: _Side, layer: Path) -> Closure:
    names: dict[Path, set[str]] = {layer: set()}  # file -> how it is imported
    absolute: set[str] = set()
    way = [(layer, False)]  # grows while it is walked
    seen = set(way)
    for file, late in way:
        for link in _links(side, file):
            names.setdefault(link.file, set()).add(link.name)
            # Mounting keeps files beside two layers apart, but only while it imports them: a call that imports one gets either copy.
            if link.kind == "absolute" or (link.kind == "beside" and (late or link.late)):
                absolute.add(link.name)
            if (step := (link.file, late or link.late)) not in seen:
                seen.add(step)
                way.append(step)
    reasons = [f"{_shown(side, file)}, {why}" for file in sorted(names) if (why := read(file.read_bytes()).unfollowed)]
    if reasons:
        for file in side.contents:
            if file.suffix == ".py":
                names.setdefault(file, {_shown(side, file)})
    names |= {file: {file.name} for file in _data(side, names)}
    parts = {_shown(side, file): f"{_digest(side, file)} {' '.join(sorted(spelled))}" for file, spelled in names.items()}
    return Closure(
        files=tuple(sorted(parts)),
        digest=hashlib.sha256("\n".join(sorted(parts.values())).encode("utf-8", "surrogateescape")).hexdigest(),
        absolute=tuple(sorted(absolute)),
        everything="; ".join(reasons),
        parts=parts,
    )


def _data(side: _Side, python: Iterable[Path]) -> set[Path]:
    """The files that these may load: those they name, and all that lie beside one of either."""
    patterns = {pattern for file in python for pattern in read(file.read_bytes()).patterns}
    named = [file for file in side.contents if any(fnmatch.fnmatch(file.name, each) for each in patterns)] if patterns else []
    folders = {file.parent for file in (*python, *named)}
    return {file for folder in folders for file in folder.iterdir() if file.suffix in DATA and file.is_file()}


def _digest(side: _Side, file: Path) -> str:
    if file not in side.digests:
        with file.open("rb") as stream:
            side.digests[file] = read(stream.read()).digest if file.suffix == ".py" else hashlib.file_digest(stream, "sha256").hexdigest()
    return side.digests[file]


def _shown(side: _Side, file: Path) -> str:
    return file.relative_to(side.root).as_posix()


def _links(side: _Side, file: Path) -> tuple[_Link, ...]:
    if file not in side.links:
        imports = read(file.read_bytes()).imports
        side.links[file] = tuple(dict.fromkeys(link for each in imports for link in _imported(side, file, each)))
    return side.links[file]


def _imported(side: _Side, file: Path, statement: Import) -> Iterator[_Link]:
    """Every file that one statement runs, if nothing of it was imported before."""
    parts = statement.module.split(".") if statement.module else []
    names = statement.names
    if names == ("*",):
        packages = [link.file for link in _named(side, file, statement, parts) if link.file.name == "__init__.py"]
        names = tuple(name for package in packages[-1:] for name in read(package.read_bytes()).exported)
    if parts:
        yield from _named(side, file, statement, parts)
    for name in names:
        yield from _named(side, file, statement, [*parts, name])


def _named(side: _Side, file: Path, statement: Import, parts: Sequence[str]) -> Iterator[_Link]:
    """The files on the way down a dotted name, as far as they are of this tree."""
    if not parts:
        return
    if statement.level:
        folder = Path(os.path.normpath(file.parent.joinpath(*[".."] * (statement.level - 1))))
        width, kind = 1, "relative"
        place = _child(folder, parts[0]) if folder.is_relative_to(side.root) else None
    else:
        width = 2 if parts[0] == "layerbench" else 1  # a name that holds nothing itself: its folders lie apart
        top = ".".join(parts[:width])
        if top not in side.tops:
            side.tops[top] = _top(side, top)
        places = side.tops[top]  # several where projects of the tree share a name that holds nothing itself
        place = next((each for each in places if len(parts) > width and _child(each, parts[width])), next(iter(places), None))
        kind = "beside" if place == side.suite / f"{top}.py" else "absolute"
    for depth in range(width, len(parts) + 1):
        if place is None or any(place.is_relative_to(each) for each in side.harness):
            return
        run = place / "__init__.py" if place.is_dir() else place
        if run.is_file():
            yield _Link(run, "." * statement.level + ".".join(parts[:depth]), kind, statement.late)
        place = _child(place, parts[depth]) if depth < len(parts) and place.is_dir() else None


def _top(side: _Side, name: str) -> tuple[Path, ...]:
    """The file or folder of a top-level name.  It may be the tree's even where Python would now find an installed copy of it elsewhere."""
    if beside := _module(side.suite, name):
        return (beside,)
    if name in sys.stdlib_module_names:
        return ()
    installed = copies.installed(name)
    inside = [each.relative_to(side.working) for each in installed if each.is_relative_to(side.working)]
    ours = [side.root / each for each in inside if not any(map(_skipped, each.parts)) and (side.root / each).exists()]
    folders = (side.root, side.root / "src")
    ours = ours or [module for folder in folders if (module := _module(folder, name))]
    if any(map(_begins, ours)):
        return tuple(ours[:1])
    if installed and (found := (*ours, *copies.sources(name, installed, side.contents))):
        return found
    # Like Python, a folder without __init__.py comes last.
    plain = [folder / name for folder in (side.suite, *folders) if (folder / name).is_dir()]
    return tuple(plain[:1]) if not installed else ()


def _begins(place: Path) -> bool:
    """Whether it has code of its own: a file, or a folder with __init__.py."""
    return place.is_file() or (place / "__init__.py").is_file()


def _child(folder: Path, name: str) -> Path | None:
    return _module(folder, name) or (folder / name if (folder / name).is_dir() else None)


def _module(folder: Path, name: str) -> Path | None:
    if (folder / name / "__init__.py").is_file():
        return folder / name
    return file if (file := folder / f"{name}.py").is_file() else None


def _skipped(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED
