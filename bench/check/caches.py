"""Where the workers of a check keep what they build: each side apart, and what takes long for the next check of the same code.

torch builds C++ and CUDA extensions (torch.utils.cpp_extension) into one folder under their names alone: two sides that share it would
build in turns, over and over, and one could load what is the other's.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from ..suite.closure import Closure

EXTENSION = b"cpp_extension"  # in the source of who builds one


def builds(root: Path, code: Closure) -> str:
    """The file of that code that builds an extension, relative to the root; "" where none does."""
    python = (file for file in code.files if file.endswith(".py"))
    return next((file for file in python if EXTENSION in (root / file).read_bytes()), "")


def variables(worktree: Path, cache: Path | None, sources: Mapping[str, Mapping[str, Closure]], sides: Iterable[str]) -> dict[str, str]:
    """The environment of a worker that has these sides.

    Compiled graphs and kernels are shared by all workers, and gone with the worktree where no cache was asked for: their names say what
    they are made of.  Extensions stay, under a name made of the code of the sides.
    """
    digests = [each.digest for side in sides for each in sources[side].values()]
    name = hashlib.sha256("\n".join([metadata.version("torch"), *sorted(digests)]).encode()).hexdigest()[:16]
    graphs = {"TORCHINDUCTOR_CACHE_DIR": str((cache or worktree / ".layerbench-cache") / "inductor")}
    kernels = {"TRITON_CACHE_DIR": str(cache / "triton")} if cache else {}
    return {**graphs, **kernels, "TORCH_EXTENSIONS_DIR": str((cache / "extensions" if cache else _kept(worktree)) / name)}


def _kept(worktree: Path) -> Path:
    """The user's folder for such things; where it cannot be written one that is gone with the worktree."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerbench" / "extensions"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return worktree / ".layerbench-extensions"
    return home if os.access(home, os.W_OK) else worktree / ".layerbench-extensions"
