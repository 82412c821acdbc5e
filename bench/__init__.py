"""layerbench: benchmark equivalent implementations of a PyTorch layer.  Here are the names that a layer file needs, and no others."""

if __name__ == "bench":
    raise ImportError("the folder bench/ is the package layerbench.bench: type `import layerbench.bench`, after `pip install -e .`")

from .declare.inputs import (
    Draw,
    additive_mask,
    complex_randn,
    draw,
    integers,
    lengths,
    mask,
    one_hot,
    positive,
    probabilities,
    randn,
    uniform,
)
from .declare.layer import Layer
from .declare.variant import ANY, CPU, GPU, Variant

__all__ = [
    "ANY",
    "CPU",
    "GPU",
    "Draw",
    "Layer",
    "Variant",
    "additive_mask",
    "complex_randn",
    "draw",
    "integers",
    "lengths",
    "mask",
    "one_hot",
    "positive",
    "probabilities",
    "randn",
    "uniform",
]
