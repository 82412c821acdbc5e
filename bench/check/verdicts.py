"""The row of each benchmark, with its verdict, from what was measured.  It measures nothing and prints nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from ..analysis import exact
from ..data.check_record import FEWEST_UNITS, Estimate, Facts, Row, Unit
from ..data.record import Checked, Failed, Measured, Skipped
from ..plan import steps
from ..stats import sequential
from ..stats.sequential import Rule, Spread
from .executors import Fault
from .pairing import Benchmark
from .rounds import Found, Track, differences

Known = Facts | Measured | Checked | Skipped | Failed


@dataclass(frozen=True)
class Timed:
    """All that was timed: the search, the confirmation of what it flagged, and which flags were confirmed."""

    found: Found
    confirmation: Mapping[Track, list[Unit]]
    sure: frozenset[Track]
    rule: Rule


def before_timing(benchmark: Benchmark, base: Known | Fault, head: Known | Fault, difference: str) -> Row | None:
    """The row of a benchmark that is not to be timed: the head is wrong, or another layer, or the base cannot run.  None: time it."""
    for side, known in (("head", head), ("base", base)):
        if isinstance(known, Facts):
            continue
        stage = f" at {known.stage}" if isinstance(known, Failed) else ""
        why = f"{side} failed{stage}: {known.reason}" if isinstance(known, Failed | Fault) else getattr(known, "reason", "")
        if isinstance(known, Skipped) and known.stage == "compile":  # no compiler here; at any other stage its reference has failed
            return benchmark.row("skipped", why)
        return benchmark.row("wrong" if side == "head" else "not compared", why)
    if difference:
        return benchmark.row("different", difference)
    both = [each for each in (base, head) if isinstance(each, Facts)]
    reason = steps.impossible(benchmark.point.step, all(each.differentiable for each in both), all(each.learns for each in both))
    return benchmark.row("skipped", reason) if reason else None


def timed_row(benchmark: Benchmark, base: Known | Fault, head: Known | Fault, timed: Timed) -> Row:
    """The row of a benchmark that was timed, with what was known of it before."""
    assert isinstance(base, Facts) and isinstance(head, Facts)
    numbers = exact.compare(base, head, benchmark.point.step)
    track = Track(benchmark.point, benchmark.variant)
    found = timed.found
    if fault := found.faults.get(track):
        verdict = "wrong" if fault.side == "head" else "not compared"
        return structs.replace(benchmark.row(verdict, f"{fault.side} failed while it was timed: {fault.reason}"), exact=numbers)
    units, again = found.units[track], timed.confirmation.get(track, [])
    verdict, reason = _verdict(track, timed)
    worse = any(each.worse for each in numbers)
    verdict = "larger" if worse and verdict != "slower" else verdict
    row = benchmark.row(verdict, "; ".join(filter(None, (reason, *head.warnings))))
    spread = sequential.afterwards(found.spread) if again else found.spread
    estimate = _estimate(again or units, spread, timed.rule)
    return structs.replace(row, units=tuple(units), confirmation=tuple(again), estimate=estimate, exact=numbers)


def _verdict(track: Track, timed: Timed) -> tuple[str, str]:
    found = timed.found
    decided = found.decided.get(track, "inconclusive")
    if decided == "slower" and track not in timed.sure:
        return "inconclusive", "it was slower at first; fresh processes did not confirm it"
    if decided == "inconclusive":
        enough = len(found.units[track])
        what = "the budget was used up" if found.late else "as many as are ever taken"
        return decided, f"undecided after {enough} unit{'s' if enough != 1 else ''}: {what}"
    return decided, ""


AFTER_FORWARD = (
    "forward is slower too, and backward is timed right after it: a forward that touches more memory leaves colder caches, which alone can "
    "make backward some percent slower"
)


def with_what_forward_left(rows: Sequence[Row]) -> list[Row]:
    """A backward that is slower where its own forward is: the reason says that it may be no slow-down of the backward's code."""
    slower = {(row.point.cell, row.variant) for row in rows if row.verdict == "slower" and row.point.step == "forward"}
    return [
        structs.replace(row, reason=AFTER_FORWARD)
        if row.verdict == "slower" and row.point.step == "backward" and (row.point.cell, row.variant) in slower
        else row
        for row in rows
    ]


def control_row(benchmark: Benchmark, timed: Timed) -> Row:
    """A benchmark of the base against itself: clear, or inconclusive where it differs."""
    track = Track(benchmark.point, benchmark.variant, control=True)
    if fault := timed.found.faults.get(track):
        return benchmark.row("skipped", f"it failed while it was timed: {fault.reason}")
    units = timed.found.units[track]
    verdict = "inconclusive" if track in timed.found.alarms or not units else "clear"
    return structs.replace(benchmark.row(verdict), units=tuple(units), estimate=_estimate(units, timed.found.spread, timed.rule))


def _estimate(units: Sequence[Unit], spread: Spread, rule: Rule) -> Estimate | None:
    """None before there are as many units as a decision takes."""
    if len(units) < FEWEST_UNITS:
        return None
    mean = sequential.mean(differences(units), spread)
    ratio, low, high = sequential.interval(mean)
    return Estimate(ratio, low, high, sequential.detectable(mean, rule))


def unreliable(timed: Timed) -> str:
    """The control's alarm in words, of the control that differs most; "" where none does."""
    if not timed.found.alarms:
        return ""
    worst = max(timed.found.alarms.values(), key=abs)
    return f"the base against itself differs by {math.expm1(worst):+.1%}"


def without_time(row: Row) -> Row:
    """On an unreliable machine no verdict on time counts; what was counted still does."""
    if row.verdict not in ("slower", "faster", "clear"):
        return row
    if row.worse:
        return structs.replace(row, verdict="larger")
    return structs.replace(row, verdict="inconclusive", reason="the machine is unreliable")
