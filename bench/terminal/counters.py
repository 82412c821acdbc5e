"""`layerbench explain --counters` in a terminal: each variant's kernels with what the GPU counted, beside the work that a step must do."""

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from ..analysis import counters
from ..analysis.counters import Counts
from ..data.record import Work
from . import fitting
from .fitting import Columns

LEAST = "at least"  # the row of what the step must move
KERNELS = 20  # rows of a variant; the others are one row
LEGEND = (
    "Counted by Nsight Compute, which runs each kernel several times, each time alone and with cold caches: the times rank nothing. MB and "
    "GB/s: 10^6 and 10^9 bytes, from and to DRAM; what is left in the L2 cache when a kernel ends is not in them. Hits: of sectors, in %. "
    "Warps: active ones, in % of those that fit (occupancy). Tensor: % of cycles in which tensor cores worked. A dash: not counted. "
    "Several kernels: sums; shares are means by time, L2 hits by bytes."
)


def print_counters(console: Console, found: Mapping[str, Sequence[Counts]], work: Work | None) -> None:
    """Each variant's kernels, then the sums of all variants side by side, above what the step must move at least."""
    for variant, kernels in found.items():
        console.print(Text(f"{variant}: {_number_of(sum(row.launches for row in kernels), 'kernel')} in a step", style="bold"))
        rest = kernels[KERNELS:]
        rows = [*kernels[:KERNELS], *([counters.add(f"{len(rest)} more kernels", rest)] if rest else [])]
        if rows:
            _print_rows(console, "kernel", [counters.short(row.kernel) for row in rows], rows)
    sums = [counters.add(variant, kernels) for variant, kernels in found.items()]
    nothing = math.nan
    least = Counts(LEAST, 0, nothing, work.read_bytes, work.written_bytes, *[nothing] * 5) if work else None
    rows = [*sums, *([least] if least else [])]
    console.print(Text("all kernels together", style="bold"))
    _print_rows(console, "variant", [row.kernel for row in rows], rows)
    for sentence in sentences(sums, work):
        console.print(Text(sentence))
    console.print(Text(LEGEND, style="dim"))


def _print_rows(console: Console, what: str, names: Sequence[str], rows: Sequence[Counts]) -> None:
    amounts = Columns(("launches", "µs", "MB read", "written", "GB/s", "L2 MB"), [*map(_amounts, rows)])
    shares = Columns(("L1 hits", "L2 hits", "warps", "tensor"), [*map(_shares, rows)])
    for table in fitting.tables(console, what, names, ([[amounts, shares]], [[amounts], [shares]])):
        console.print(table)


def sentences(sums: Sequence[Counts], work: Work | None) -> list[str]:
    """What the step must do at least, and each variant beside it."""
    if not work:
        return ["What the step must move and compute at least is not known: it is counted for forward, backward and training."]
    least = work.read_bytes + work.written_bytes
    flops = f", and do {_short(work.flops / 1e9)} GFLOP in products, convolutions and attention" if work.flops else ""
    said = [f"The step must move {_short(least / 1e6)} MB at least{flops}."]
    for each in sums:
        moved = f"moved {each.dram_bytes / least:.2f} times that" if least else f"moved {_short(each.dram_bytes / 1e6)} MB"
        if math.isnan(each.dram_bytes):
            moved = "how much it moved was not counted"
        rate = f"; {_short(work.flops / each.seconds / 1e12)} TFLOP/s while its kernels ran" if work.flops and each.seconds > 0 else ""
        said.append(f"{each.kernel}: {moved}{rate}")
    return said


def _amounts(row: Counts) -> list[str]:
    nbytes = (_short(value / 1e6) for value in (row.read_bytes, row.written_bytes))
    return [str(row.launches or "-"), _short(1e6 * row.seconds), *nbytes, _short(row.bytes_per_second / 1e9), _short(row.l2_bytes / 1e6)]


def _shares(row: Counts) -> list[str]:
    return ["-" if math.isnan(share) else f"{100 * share:.1f}" for share in (row.l1_hits, row.l2_hits, row.warps, row.tensor)]


def _short(value: float) -> str:
    """A dash for what is missing; one decimal, more below 1, none from 1,000."""
    if math.isnan(value):
        return "-"
    if value and value < 0.001:
        return "<0.001"
    return f"{value:,.0f}" if value >= 1_000 or not value else f"{value:,.1f}" if value >= 1 else f"{value:.3f}"


def _number_of(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
