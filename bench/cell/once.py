"""Results that are found once for a layer and used for all its cells: proofs at its odd sizes, and the graphs of a whole sweep."""

from collections.abc import Iterable

from ..data.record import Failed, Point, SweepGraphs
from ..declare.layer import Layer
from ..equivalence.prove import Enter, Proof, prove
from ..profiling import compiling


class Once:
    """For the layers of one suite, or of one side of a check."""

    def __init__(self, enter: Enter) -> None:
        self._enter = enter
        self._proofs: dict[tuple[str, str, str], dict[str, Proof | Failed]] = {}  # layer, dtype, device -> variant ->
        self._thorough: dict[tuple[str, str], str] = {}  # layer, device -> the first dtype, in which all ways of use are tried
        self._sweeps: dict[tuple[str, str, str], SweepGraphs | None] = {}  # layer, variant, device ->

    def proofs(self, layer: Layer, variants: Iterable[str], point: Point) -> dict[str, Proof | Failed]:
        """Each variant's proof at the layer's odd sizes, scales of weights and ways of use, or why it is not the same layer."""
        names = tuple(variants)
        known = self._proofs.setdefault((layer.name, point.dtype, point.device), {})
        if new := tuple(name for name in names if name not in known):
            first = self._thorough.setdefault((layer.name, point.device), point.dtype)
            known |= prove(layer, new, point.dtype, point.device, self._enter, thorough=first == point.dtype)
        return {name: known[name] for name in names}

    def sweeps(self, layer: Layer, variants: Iterable[str], device: str) -> dict[str, SweepGraphs | None]:
        """What each of the compiled variants would compile over the layer's whole sweep on the device; None: it cannot be counted here."""
        compiled = [name for name in variants if layer.variants[name].compile]
        for name in compiled:
            if (layer.name, name, device) not in self._sweeps:
                self._enter("compile", name)
                found = None if compiling.missing_compiler() else compiling.over_sweep(layer, name, device)
                self._sweeps[layer.name, name, device] = found
        return {name: self._sweeps[layer.name, name, device] for name in compiled}
