"""A kernel as small as can be, to see whether Triton's interpreter works in this process.  Triton is imported with it."""

import torch
import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _sum(x, y, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803  as Triton has it
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        places = start + tl.arange(0, BLOCK)
        total += tl.load(x + places, mask=places < n, other=0.0)
    tl.store(y + tl.arange(0, BLOCK), total)


def run() -> None:
    """Raises whatever the interpreter does; AssertionError where its sum is wrong."""
    x, y = torch.arange(5.0), torch.zeros(4)
    _sum[(1,)](x, y, 5, BLOCK=4)
    assert y.tolist() == [4.0, 1.0, 2.0, 3.0]
