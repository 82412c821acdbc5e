"""A layer's code as a digest: of what its file and the files it imports do.  Their places and their comments do not count.

With equal digests, two runs measured the same code.  It is read from the files, so it is asked for as soon as the suite was mounted.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from msgspec import structs

from ..data.record import LayerFacts
from .closure import closures


def identified(layers: Iterable[tuple[Path, LayerFacts]]) -> tuple[LayerFacts, ...]:
    """The layers of one folder, each given with its file, with their digests.

    Code counts as far as the git repository goes; outside of one, as far as the folder beside which the suite's lies.
    """
    placed = [(file.parent.resolve() / file.name, facts) for file, facts in layers]
    if not placed:
        return ()
    folder = placed[0][0].parent
    repository = next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)
    root = repository or folder.parent
    within = root if repository else folder  # nobody's whole home folder is read
    try:
        found = closures(root, dict.fromkeys(file for file, _ in placed), root, within)
    except OSError:  # a file that may not be read: then it is not known what code these are, and no run fails for that
        return tuple(facts for _, facts in placed)
    return tuple(structs.replace(facts, digest=found[file].digest) for file, facts in placed)


def edited(then: Sequence[LayerFacts], now: Sequence[LayerFacts], names: Collection[str]) -> str:
    """Which of the named layers is no longer the same, in words; "" where all are."""
    current = {layer.name: layer for layer in now}
    for layer in then:
        if layer.name not in names:
            continue
        if not (other := current.get(layer.name)):
            return f"layer {layer.name!r} is gone"
        if layer.digest and other.digest:
            if layer.digest != other.digest:
                return f"the code of layer {layer.name!r} has changed: {other.file}, or a file that it imports or loads"
        elif structs.replace(other, digest=layer.digest) != layer:
            return f"layer {layer.name!r} has other variants, sizes, file or line"
    return ""


def known(layers: Sequence[LayerFacts], names: Collection[str]) -> bool:
    """Whether it was written down which code these layers were."""
    return all(layer.digest for layer in layers if layer.name in names)
