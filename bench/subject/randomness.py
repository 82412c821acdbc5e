"""The default random generators, seeded as `torch.manual_seed` does it, without what that costs where there is no accelerator."""

from functools import cache

import torch


def seed(number: int) -> None:
    """`torch.manual_seed` keeps, for each kind of GPU that is not in use, a note with the stack of calls: a millisecond."""
    if _accelerated():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


@cache
def _accelerated() -> bool:
    return torch.accelerator.is_available()
