"""layerbench: benchmark equivalent implementations of a PyTorch layer.  Here are the names that a layer file needs, and no others."""

if __name__ == "bench":
    raise ImportError("the folder bench/ is the package layerbench.bench: type `import layerbench.bench`, after `pip install -e .`")

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from .declare.layer import Random
    from .law import Law
    from .notebook import Comparison

__all__ = [
    "ANY",
    "CPU",
    "GPU",
    "Draw",
    "Layer",
    "Variant",
    "additive_mask",
    "compare",
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


def compare(
    reference: "Callable[..., object]",
    other: "Callable[..., object]",
    *inputs: object,
    seconds: float = 4.0,
    state: "Mapping[str, str] | Callable[[dict[str, Tensor]], dict[str, Tensor]] | None" = None,
    law: "Law | Random | None" = None,
    **kwargs: object,
) -> "Comparison":
    """Is `other` the same layer as `reference` on these inputs, and how many times faster?  `compare(nn.RMSNorm(512), Mine(512), x)`.

    Both are copied, get the weights of the reference with a tenth of noise, and are called as `reference(*inputs, **kwargs)`, forward and
    backward, in this process.  seconds: how long may be timed.  state: as of a `Variant`.  law: of a random layer, as of a `Layer`.
    Raises Mistake where the reference fails.
    """
    from .notebook import compare as compared  # here, for it imports torch, which a layer file does without

    return compared(reference, other, inputs, kwargs, seconds, state, law)
