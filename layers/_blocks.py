"""Blocks of rows or images: what a loss or a norm makes on the way then stays in a CPU's caches, and only its results are as large as x."""

from torch import Tensor

CACHED = 2**19  # numbers in a block, 2 MB in float32: smaller blocks cost more in calls than they save (measured at 2^16 to 2^21)


def blocks(x: Tensor) -> list[slice]:
    """Parts of the first axis of x, of about CACHED numbers each; on a GPU one, and none of no numbers."""
    if not x.numel():
        return []
    step = max(1, CACHED // x[0].numel()) if x.device.type == "cpu" else len(x)
    return [slice(start, start + step) for start in range(0, len(x), step)]
