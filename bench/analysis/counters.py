"""Hardware counters as Nsight Compute's table has them -> what each variant's kernels did.  Nothing is counted here.

What ncu did not count, or writes as nan, is NaN here: missing, never 0.  A sum with a part missing is missing too.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..declare.mistake import NoCounters

NAME = "Kernel Name"
COLUMNS = {  # ncu's name -> ours
    "gpu__time_duration.sum": "seconds",
    "dram__bytes_read.sum": "read_bytes",
    "dram__bytes_write.sum": "written_bytes",
    "lts__t_bytes.sum": "l2_bytes",
    "l1tex__t_sector_hit_rate.pct": "l1_hits",
    "lts__t_sector_hit_rate.pct": "l2_hits",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active": "tensor",
}
UNITS = {"ns": 1e-9, "nsecond": 1e-9, "byte": 1.0, "%": 0.01}  # with --print-units base; a number in another is missing
NUMBER = re.compile(r"-?[\d,]+(\.\d+)?")
NAMESPACES = re.compile(r"\b(?:at|c10|std|native|cuda|cub|thrust)::|<unnamed>::|\(anonymous namespace\)::|\bvoid ")


@dataclass(frozen=True)
class Counts:
    """One kernel, or several together.  Of several, bytes and seconds are sums and shares are means; NaN is what was not counted."""

    kernel: str
    launches: int
    seconds: float  # under ncu
    read_bytes: float  # from DRAM
    written_bytes: float  # to DRAM
    l2_bytes: float
    l1_hits: float  # share of sectors
    l2_hits: float
    warps: float  # active ones, as a share of those that a multiprocessor holds: achieved occupancy
    tensor: float  # share of cycles in which the tensor cores worked

    @property
    def dram_bytes(self) -> float:
        return self.read_bytes + self.written_bytes

    @property
    def bytes_per_second(self) -> float:
        """From and to DRAM."""
        return self.dram_bytes / self.seconds if self.seconds else math.nan


def by_variant(table: str, profiled: Sequence[str]) -> dict[str, list[Counts]]:
    """Variant -> its kernels, those of one name together, the longest first.

    profiled: the variants in the order of their steps.  Every step begins with a marker kernel, so the very first kernel is one, and every
    other of that name is another.  Raises NoCounters where there is not one for each.
    """
    rows = _rows(table)
    marks = [place for place, row in enumerate(rows) if row.kernel == rows[0].kernel]
    if len(marks) != len(profiled):
        raise NoCounters(
            f"Nsight Compute saw {len(marks)} marker kernels for {len(profiled)} steps, so whose kernels are whose is not known"
        )
    ends = [*marks[1:], len(rows)]
    return {name: merged(rows[mark + 1 : end]) for name, mark, end in zip(profiled, marks, ends, strict=True)}


def _rows(table: str) -> list[Counts]:
    """A row per launch, in the order of the launches.  ncu's own lines lie before and between: ==PROF== and the like."""
    lines = [line for line in table.splitlines() if not line.startswith("==")]
    begin = next((index for index, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    reader = csv.DictReader(lines[begin:])
    units = next(reader, {})
    if NAME not in units:
        raise NoCounters(f"Nsight Compute's table has no column {NAME!r}; it may be of a version that layerbench does not know")
    return [_counts(row, units) for row in reader if row.get("ID")]


def _counts(row: Mapping[str, str], units: Mapping[str, str]) -> Counts:
    return Counts(row[NAME], 1, **{ours: _number(row.get(theirs), units.get(theirs)) for theirs, ours in COLUMNS.items()})


def _number(text: str | None, unit: str | None) -> float:
    if not NUMBER.fullmatch(text or ""):
        return math.nan
    return float((text or "").replace(",", "")) * UNITS.get(unit or "", math.nan)


def merged(rows: Iterable[Counts]) -> list[Counts]:
    """The launches of a kernel as one row, the row with the most seconds first; seconds that are missing last."""
    named: dict[str, list[Counts]] = {}
    for row in rows:
        named.setdefault(row.kernel, []).append(row)
    return sorted((add(name, found) for name, found in named.items()), key=lambda row: -row.seconds if row.seconds >= 0 else math.inf)


def add(name: str, rows: Sequence[Counts]) -> Counts:
    """Several rows as one.  Shares are means weighted by seconds, and of L2 hits by the bytes of L2."""

    def total(of: Callable[[Counts], float]) -> float:
        return math.fsum(map(of, rows)) if rows else 0.0

    def mean(of: Callable[[Counts], float], weight: Callable[[Counts], float]) -> float:
        weighed = [(weight(row), of(row)) for row in rows if weight(row) != 0]  # what did nothing has no share in it
        whole = sum(each for each, _ in weighed)
        return sum(each * value for each, value in weighed) / whole if weighed else math.nan

    def seconds(row: Counts) -> float:
        return row.seconds

    return Counts(
        kernel=name,
        launches=sum(row.launches for row in rows),
        seconds=total(seconds),
        read_bytes=total(lambda row: row.read_bytes),
        written_bytes=total(lambda row: row.written_bytes),
        l2_bytes=total(lambda row: row.l2_bytes),
        l1_hits=mean(lambda row: row.l1_hits, seconds),
        l2_hits=mean(lambda row: row.l2_hits, lambda row: row.l2_bytes),
        warps=mean(lambda row: row.warps, seconds),
        tensor=mean(lambda row: row.tensor, seconds),
    )


def short(kernel: str) -> str:
    """A kernel's name without its parameters, the type it returns, and the namespaces that say nothing."""
    name = NAMESPACES.sub("", kernel.replace("(anonymous namespace)", "<unnamed>").replace("<unnamed>::", ""))
    depth, end = 0, len(name)
    for place, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            end = place
            break
    return name[:end].strip()
