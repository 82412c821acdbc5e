"""The roofs of this machine: the fastest matrix product, copy and call that were measured on it.  No true time is far beyond them.

Measured here and now, with the clock that times the variants; never from a datasheet.  Who beats it is judged in sanity.
"""

from collections.abc import Callable

import torch
from torch import nn

from ..data.record import Roof
from .clock import Call, Clock

REPEATS = 3  # the fastest counts: a roof is what the machine can do, not what it does on average
LONG_SECONDS = 0.05  # matrices grow until one product takes so long
SIDES = (256, 512, 1024, 2048, 4096, 8192)
COPY_BYTES = (*(2**power for power in range(16, 28, 2)), 2**27)  # 64 KiB, which a cache holds, to 128 MiB, which none should


def measure(device: str, dtype: str, clock: Clock) -> Roof:
    """About two seconds on a CPU.  Rates are the fastest of a few tries at every size.

    Products are tried in float32 too: on many CPUs that is faster than float16, and a variant may compute in it.
    """
    copies = [_copy(device, nbytes, clock) for nbytes in COPY_BYTES]
    one = torch.ones(1, device=device)
    nothing = nn.Identity()
    call = _fastest(lambda: nothing(one), clock, 200)
    products = [_multiply(device, getattr(torch, name), clock) for name in dict.fromkeys((dtype, "float32"))]
    return Roof(device, dtype, max(products), copies[-1], max(copies), call)


def _multiply(device: str, dtype: torch.dtype, clock: Clock) -> float:
    """FLOP/s of the best square matrix product, each counted as 2 n^3."""
    best = 0.0
    for side in SIDES:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        seconds = _fastest(lambda a=a, b=b: a @ b, clock)  # type: ignore[misc]  # bound now, since the names move on
        best = max(best, 2 * side**3 / seconds)
        if seconds > LONG_SECONDS:
            break
    return best


def _copy(device: str, nbytes: int, clock: Clock) -> float:
    """Bytes/s, read and written, of copying so many bytes."""
    source = torch.randint(255, (nbytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    calls = max(1, 2**24 // nbytes)
    return 2 * nbytes / _fastest(lambda: target.copy_(source), clock, calls)


def _fastest(step: Callable[[], object], clock: Clock, calls: int = 1) -> float:
    call = Call("", None, lambda _: step())
    call.once()
    return min(clock.time(call, calls) for _ in range(REPEATS)) / calls
