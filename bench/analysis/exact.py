"""Numbers that are the same at every measurement, base against head: bytes, graphs, graph breaks.  They need no statistics."""

from ..data.check_record import Exact, Facts
from ..data.record import Compiled

SLACK = 0.002  # of the base's number, and
SLACK_BYTES = 64  # bytes: what an allocation is rounded up to
MEMORY = ("live_bytes", "saved_bytes", "peak_forward_bytes", "peak_backward_bytes")


def compare(base: Facts, head: Facts, step: str) -> tuple[Exact, ...]:
    """Every number that both sides have.  A forward says nothing of what backward needs at its peak, and inference has none."""
    names = MEMORY if step not in ("forward", "inference") else MEMORY[:3]
    found = [_bytes(name, getattr(base.memory, name), getattr(head.memory, name)) for name in names]
    if base.compiled and head.compiled:
        found += [_count(name, then, now) for name, then, now in _counts(base.compiled, head.compiled)]
    return tuple(found)


def _counts(base: Compiled, head: Compiled) -> list[tuple[str, int, int]]:
    counts = [("graphs", base.graphs, head.graphs), ("breaks", len(base.breaks), len(head.breaks))]
    if base.sweep and head.sweep and (base.sweep.dimension, base.sweep.sizes) == (head.sweep.dimension, head.sweep.sizes):
        counts.append(("sweep_graphs", base.sweep.graphs, head.sweep.graphs))
    return counts


def _bytes(metric: str, base: int, head: int) -> Exact:
    return Exact(metric, base, head, more(base, head))


def more(base: float, head: float) -> bool:
    """Whether bytes are more than what an allocation is rounded to, and more than a rounding of the whole."""
    return head > base + max(SLACK_BYTES, SLACK * base)


def _count(metric: str, base: int, head: int) -> Exact:
    return Exact(metric, base, head, head > base)
