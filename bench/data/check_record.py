"""The data of a regression check: frozen types that measuring and printing share.  Units are raw; verdicts are the decisions taken on them.

Base is the commit that is checked against, head the working tree.  What was not measured is missing, never 0.
"""

from msgspec import Struct

from .record import Compiled, Environment, Memory, Point

SCHEMA = 1
# 1  2026-11: first.

FEWEST_UNITS = 4  # before which nothing is decided
FAILURES = ("wrong", "import error", "missing", "different", "slower", "larger")  # verdicts that fail the check, the worst first


class Unit(Struct, frozen=True):
    """A fresh pair of instances, one of each side, timed in turns for about half a second.  Units are the sample of the test."""

    difference: float  # trimmed mean of log(head seconds / base seconds) over its super-cycles; > 0 is slower
    base_seconds: float  # median seconds per call
    head_seconds: float
    cycles: int  # super-cycles of eight blocks, four of each side
    calls: int  # per block
    process: int  # units with the same number ran in one process
    again: int = 0  # blocks that were taken again, since other work had the core for part of their time


class Estimate(Struct, frozen=True):
    """What the units say of one benchmark.  ratio: seconds of head over seconds of base, above 1 is slower; with a 95 % interval."""

    ratio: float
    low: float
    high: float
    detectable: float  # relative: the smallest slow-down that so many such units find 95 times in 100


class Facts(Struct, frozen=True, tag="facts"):
    """What is the same at every measurement of a variant."""

    memory: Memory
    compiled: Compiled | None
    differentiable: bool = True  # whether there is a backward to time
    learns: bool = True  # whether there is a parameter to update
    warnings: tuple[str, ...] = ()  # what must be said wherever it is measured


class Exact(Struct, frozen=True):
    """A number that is the same at every measurement, compared as it is."""

    metric: str  # live_bytes | saved_bytes | peak_forward_bytes | peak_backward_bytes | graphs | breaks | sweep_graphs
    base: int
    head: int
    worse: bool  # larger on the head by more than the slack


class Row(Struct, frozen=True):
    """One benchmark: a variant at a point, with the verdict on it.

    verdict   failures: wrong (head is not the same layer any more, or fails), import error (its file at the head), missing (only the
              base has it), different (its reference computes something else than the base's did), slower (confirmed), larger (bytes,
              graphs or breaks).
              Others: faster, clear (slower by less than the threshold), inconclusive, unchanged (same source on both sides, so not
              measured), new (only the head has it), not compared (the base has it, and it cannot run or be imported there), proved
              (values only, no GPU here), skipped.
    reason    one sentence where the numbers do not say it all; "" where they do.
    """

    point: Point
    variant: str
    file: str  # where the layer is declared, relative to the repository
    line: int
    verdict: str
    reason: str = ""
    units: tuple[Unit, ...] = ()
    confirmation: tuple[Unit, ...] = ()  # of fresh processes, taken after the units had flagged it
    estimate: Estimate | None = None  # of the confirmation where there is one, else of the units
    exact: tuple[Exact, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.point.id}-{self.variant}"

    @property
    def worse(self) -> tuple[Exact, ...]:
        return tuple(each for each in self.exact if each.worse)


class Side(Struct, frozen=True):
    ref: str  # as the user named it; "working tree" for the head
    commit: str  # full hash; of HEAD for the working tree
    dirty: bool  # uncommitted changes


class Check(Struct, frozen=True):
    """A whole check.  `control` are the A/A benchmarks: the base against itself."""

    schema: int
    name: str
    started: str  # ISO 8601, UTC
    seconds: float
    command: str
    suite: str
    base: Side
    head: Side
    threshold: float  # 0.05: a slow-down that must not be missed
    tolerance: float  # 0.005: a slow-down up to this does not matter
    strict: bool
    isolated: str  # "": both sides in one process; else why each had a process of its own
    environment: Environment
    rows: tuple[Row, ...]
    control: tuple[Row, ...] = ()
    unreliable: str = ""  # the control's alarm in words; then no timing verdict counts
    notes: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()  # files that want other packages than at the base; both sides ran the installed ones
    stages: dict[str, float] = {}  # seconds by what was done: reading, importing, verifying, comparing, timing, confirming, proving


def compared(row: Row) -> bool:
    """Whether head was held against base: not where only one has it, nor where the time was up before there was anything to look at."""
    undecided = row.verdict == "inconclusive" and len(row.units) < FEWEST_UNITS
    return row.verdict not in ("new", "skipped", "not compared") and not undecided


def nothing_decided(check: Check) -> bool:
    """Whether benchmarks were timed, and of none it is known whether it got slower."""
    verdicts = {row.verdict for row in check.rows}
    return "inconclusive" in verdicts and not verdicts & {*FAILURES, "faster", "clear", "proved"}


def exit_code(check: Check) -> int:
    """0 pass · 1 regression · 3 inconclusive under --strict · 4 unreliable machine, or nothing was compared, or nothing decided."""
    if any(row.verdict in FAILURES and not (check.unreliable and row.verdict == "slower") for row in check.rows):
        return 1
    if check.unreliable or not any(map(compared, check.rows)) or nothing_decided(check):
        return 4
    return 3 if check.strict and any(row.verdict == "inconclusive" for row in check.rows) else 0
