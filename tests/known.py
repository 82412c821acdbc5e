"""What is known of torch that differs from version to version.  Outside of the versions named here the usual is expected."""

import torch

# Variants of torch's own that are another layer in some dtypes on a CPU, and are told so, before this version of torch.
# https://github.com/pytorch/pytorch/issues/191763, seen in 2.13.0; in 2.14.1 they agree.
WRONG = {("sgd", "fused"): (("bfloat16", "float16"), "2.14")}

# Layers whose stock module refuses an empty batch from this version of torch on, where it computed one before.
REFUSES_EMPTY = {"groupnorm": "2.14"}


def wrong(layer: str, variant: str, dtype: str, version: str = torch.__version__) -> bool:
    """Whether this variant must be found to be another layer."""
    dtypes, mended = WRONG.get((layer, variant), ((), ""))
    return dtype in dtypes and numbers(version) < numbers(mended)


def refuses_empty(layer: str, version: str = torch.__version__) -> bool:
    """Whether torch alone refuses an empty batch, so that a variant need not."""
    since = REFUSES_EMPTY.get(layer)
    return since is not None and numbers(version) >= numbers(since)


def numbers(version: str) -> tuple[int, ...]:
    """2.14.1+cpu -> (2, 14, 1)."""
    return tuple(int(part) for part in version.partition("+")[0].split(".") if part.isdecimal())
