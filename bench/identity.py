"""What was measured, by its content: a digest of every layer's code.  Where the code lies, and on which line, does not count."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import structs

from . import mount
from .check import closure
from .record import LayerFacts, Run

HARNESS = "layerbench itself"


def codes(suite: str, layers: Sequence[LayerFacts]) -> dict[str, str]:
    """Layer -> digest of its file and of all that this imports of its own tree, as the regression check takes it; also of the harness.

    A layer whose code cannot be read is left out: nothing is known of it, and no run fails for that.
    """
    files = {layer.name: Path.cwd() / layer.file for layer in layers}
    root = _root(mount.locate(suite))
    found: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = closure.closures(root, dict.fromkeys(files.values()), root)
        found = {name: known[file].digest for name, file in files.items()}
    here = Path(__file__).parent
    harness = b"".join(file.read_bytes() for file in sorted(here.rglob("*.py")))
    return found | {HARNESS: hashlib.sha256(harness).hexdigest()}


def _root(suite: Path) -> Path:
    """The repository that a suite lies in; without one the folder of a file, or the parent of a folder, whose neighbours it may import."""
    for folder in suite.parents:
        if (folder / ".git").exists():
            return folder
    return suite.parent


def difference(old: Run, now: Run, names: Sequence[str]) -> str:
    """Which of these layers is not what it was, in words; "" where all are.

    A run from before digests were kept is held to what its file has: declarations with their lines, and the commit.
    """
    if not old.code:
        if old.layers != now.layers:
            return "layers: other variants, sizes or files (its file does not tell what the code was)"
        was, is_ = old.environment.commit, now.environment.commit
        return (
            "" if was == is_ else f"commit: {was[:8] or 'none'} before, {is_[:8] or 'none'} now (its file does not tell what the code was)"
        )
    before, after = _declared(old), _declared(now)
    for name in names:
        if before.get(name) != after.get(name):
            return f"layer {name}: other variants or sizes"
    return changed(old.code, now.code, names)


def changed(old: Mapping[str, str], now: Mapping[str, str], names: Sequence[str]) -> str:
    """The first of these layers, or the harness, whose code is not what it was, in words; "" where all are."""
    for name in (*names, HARNESS):
        if old.get(name) != now.get(name):
            return f"the code of {name if name == HARNESS else f'layer {name}'} has changed since"
    return ""


def _declared(run: Run) -> dict[str, LayerFacts]:
    return {layer.name: structs.replace(layer, file="", line=0, about="") for layer in run.layers}
