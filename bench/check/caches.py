"""Where the workers of a check keep what they build: each side apart, and what takes long for the next check of the same code.

torch builds C++ and CUDA extensions (torch.utils.cpp_extension) into one folder under their names alone: two sides that share it would
build in turns, over and over, and one could load what is the other's.
"""

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from ..storage import output
from ..suite.closure import Closure

EXTENSION = b"cpp_extension"  # in the source of who builds one


@dataclass(frozen=True)
class Caches:
    """The folders of one check.  builders: side -> digests of the layer files of it whose code builds extensions."""

    worktree: Path
    asked: Path | None  # --cache
    builders: Mapping[str, frozenset[str]]

    def variables(self, sides: Iterable[str]) -> dict[str, str]:
        """The environment of a worker that has these sides.

        Compiled graphs and kernels are shared by all workers, and gone with the worktree where no cache was asked for: their names say
        what they are made of.  Extensions stay, under a name made of the code that builds them.
        """
        graphs = {"TORCHINDUCTOR_CACHE_DIR": str((self.asked or self.worktree / ".layerbench-cache") / "inductor")}
        kernels = {"TRITON_CACHE_DIR": str(self.asked / "triton")} if self.asked else {}
        return {**graphs, **kernels, "TORCH_EXTENSIONS_DIR": str(self.extensions(sides))}

    def extensions(self, sides: Iterable[str]) -> Path:
        """Where these sides build; sides of the same code, or in one process, share it."""
        digests = frozenset().union(*(self.builders[side] for side in sides))
        name = hashlib.sha256("\n".join([sys.version, metadata.version("torch"), *sorted(digests)]).encode()).hexdigest()[:16]
        return (self.asked / "extensions" if self.asked else _kept(self.worktree)) / name

    def built(self) -> frozenset[tuple[Path, int]]:
        """The finished extensions, each with its time of change: what is new among them was built meanwhile."""
        folders = {self.extensions(sides) for sides in (("base",), ("head",), ("base", "head"))}
        return frozenset((file, file.stat().st_mtime_ns) for folder in folders for file in folder.glob("*/*.so"))


@contextlib.contextmanager
def held(worktree: Path, asked: Path | None, roots: Mapping[str, Path], sources: Mapping[str, Mapping[str, Closure]]) -> Iterator[Caches]:
    """The folders, in use until the way out.  roots: side -> the tree that its code lies in.

    A process that was killed while it built leaves torch's mark that it does, for which all others wait; where nobody else uses the folder
    the mark is taken away.
    """
    builders = {side: frozenset(each.digest for each in codes.values() if builds(roots[side], each)) for side, codes in sources.items()}
    caches = Caches(worktree, asked, builders)
    folders = sorted({caches.extensions((side,)) for side, digests in builders.items() if digests})
    with contextlib.ExitStack() as stack:
        for folder in folders:
            output.guarded(partial(folder.mkdir, parents=True, exist_ok=True), folder, "--cache")
            file = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, file)
            with contextlib.suppress(OSError):  # in use, or a file system that cannot lock
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for mark in folder.glob("*/lock"):
                    mark.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_SH)
        yield caches


def note(built: Collection[tuple[Path, int]], seconds: float) -> str:
    """What was built while both sides were imported, in words; "" where nothing was."""
    names = ", ".join(sorted({file.stem for file, _ in built}))
    what = f"{len(built)} extension{'' if len(built) == 1 else 's'} ({names})"
    return f"{what} built before the budget began; with the import of both sides it took {seconds:.0f} s" if built else ""


def builds(root: Path, code: Closure) -> str:
    """The file of that code that builds an extension, relative to the root; "" where none does."""
    python = (file for file in code.files if file.endswith(".py"))
    return next((file for file in python if EXTENSION in (root / file).read_bytes()), "")


def _kept(worktree: Path) -> Path:
    """The user's folder for such things; where it cannot be written one that is gone with the worktree."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerbench" / "extensions"
        home.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the second: a user without a name and without HOME, as in some containers
        return worktree / ".layerbench-extensions"
    return home if os.access(home, os.W_OK) else worktree / ".layerbench-extensions"
