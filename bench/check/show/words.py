"""The words of a regression check that all its faces share: verdicts and their meanings, and the numbers of a row as text.

No layout, no colour and no escaping: those are each face's.  What came from outside is made one visible line here.  What was not
measured is the empty string, never 0.
"""

import math
import re
from collections.abc import Iterable

from ...data.check_record import FAILURES, FEWEST_UNITS, Check, Exact, Row, Side, compared, exit_code
from ...text.digits import change, detectable, known

TIMED = ("slower", "faster", "clear", "inconclusive")  # decided by times, so they count only on a reliable machine
APART = ("new", "skipped", "not compared")  # with anything
ORDER = (*FAILURES, "not compared", "inconclusive", "faster", "clear", "proved", "new", "skipped", "unchanged")
MEANINGS = {
    "wrong": "not the same layer any more, or it fails",
    "import error": "its file does not import at the head",
    "missing": "only the base has it",
    "different": "its reference computes something else than the base's did",
    "slower": "slower by more than the tolerance, suspected and then confirmed on fresh processes",
    "larger": "needs more bytes, graphs or graph breaks",
    "inconclusive": "the units could not tell whether it is slower",
    "faster": "faster by more than the tolerance",
    "clear": "not slower by the threshold or more",
    "proved": "its values are right; not timed, for its device is not here",
    "new": "only the head has it",
    "not compared": "the base has it, and it cannot be imported or run there",
    "skipped": "left out",
    "unchanged": "the same source on both sides, so not measured",
    "no verdict": "the machine is unreliable, so its times say nothing",
}
METRICS = {
    "live_bytes": "alive before the call",
    "saved_bytes": "saved",
    "peak_forward_bytes": "peak forward",
    "peak_backward_bytes": "peak backward",
    "graphs": "graphs",
    "breaks": "graph breaks",
    "sweep_graphs": "graphs over the sweep",
}
UNNOTICED = "the base was not timed against itself, so an unreliable machine would not be noticed"
LONGEST = 500  # characters of a name or reason; more is somebody's traceback
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")  # XML forbids some, terminals obey some


def visible(text: str) -> str:
    """One line without characters that cannot be seen or written: control codes, lone surrogates, overrides of the text's direction."""
    return " ".join(_INVISIBLE.sub("", " ".join(text.split())).split())


def plain(text: str) -> str:
    """The same, and not too long."""
    line = visible(text)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def units(row: Row) -> str:
    """How many units were measured, then how many confirmed: 8 + 6."""
    return " + ".join(str(len(part)) for part in (row.units, row.confirmation) if part)


def duration(check: Check) -> str:
    """Where the time went: a noisy machine shows as benchmarks that were still open after the first look."""
    late = sum(len(row.units) > FEWEST_UNITS for row in check.rows)
    longest = sorted(check.stages.items(), key=lambda stage: -stage[1])
    parts = ", ".join(f"{seconds:.0f} s {stage}" for stage, seconds in longest if seconds >= 0.5)
    more = f"; {plural(late, 'benchmark')} took more than {FEWEST_UNITS} units" if late else ""
    return f"took {check.seconds:.0f} s{f': {parts}' if parts else ''}{more}"


def exact(number: Exact) -> str:
    name = METRICS.get(number.metric) or plain(number.metric)
    return f"{name} {number.base:,} -> {number.head:,}{' bytes' if number.metric.endswith('_bytes') else ''}"


def numbers(row: Row) -> str:
    """The exact numbers that are not the same on both sides, the worse ones first."""
    moved = [number for number in row.exact if number.base != number.head]
    return ", ".join(exact(number) for number in sorted(moved, key=lambda number: not number.worse))


def reason(row: Row) -> str:
    """Why, where the numbers do not say it; a failure without a reason of its own is told what its verdict means."""
    return plain(row.reason) or (MEANINGS[row.verdict] if row.verdict in FAILURES[:4] else "")


def side(value: Side) -> str:
    """main (1a2b3c4); working tree (5d6e7f8 + changes); a hash only once."""
    commit = value.commit[:7] + (" + changes" if value.dirty else "")
    return plain(commit if value.commit.startswith(value.ref) else f"{value.ref} ({commit})" if commit else value.ref)


def measured_seconds(row: Row) -> float | None:
    """How long both sides ran inside the clock; None where nothing was measured."""
    taken = [4 * unit.cycles * unit.calls * (unit.base_seconds + unit.head_seconds) for unit in (*row.units, *row.confirmation)]
    return sum(taken) if taken else None


def failures(check: Check) -> list[Row]:
    """The rows that make the check fail, the worst first; exit_code is 1 where there are any."""
    return [row for row in ordered(check.rows) if row.verdict in FAILURES and not (check.unreliable and row.verdict == "slower")]


def nothing_compared(check: Check) -> bool:
    return not any(map(compared, check.rows))


def moved(row: Row) -> bool:
    """Whether anything of it is another on the head: its verdict, or a number that is exact."""
    return row.verdict in FAILURES or row.verdict == "faster" or any(number.base != number.head for number in row.exact)


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Failures first and the worst of them first, then inconclusive, faster, and the rest."""
    return sorted(rows, key=_place)


def label(check: Check, row: Row) -> str:
    """The verdict on a row; `no verdict` where only an unreliable machine's times gave it."""
    return "no verdict" if check.unreliable and row.verdict in TIMED else plain(row.verdict)


def counts(labels: Iterable[str]) -> str:
    """3 inconclusive, 9 clear."""
    found = [plain(label) for label in labels]
    names = sorted(set(found), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return ", ".join(f"{found.count(name):,} {name}" for name in names)


def message(check: Check, row: Row) -> str:
    """All that is known of a row in one line, for faces that have no table."""
    parts = []
    if text := change(row.estimate):
        smallest = detectable(row.estimate)
        facts = (f"smallest detectable slow-down {smallest}" if smallest else "", f"{units(row)} units" if units(row) else "")
        parts.append(", ".join(filter(None, (f"{text} against {side(check.base)}", *facts))))
    parts += [numbers(row), reason(row)]
    name = label(check, row)
    return f"{name}: " + ("; ".join(filter(None, parts)) or MEANINGS.get(name, name))


def control(check: Check) -> str:
    """What the base against itself came to: +0.2 % (-0.4 to +0.8 %); of several the one furthest from 0.  "" where none was measured."""
    estimates = [row.estimate for row in check.control if known(row.estimate) and row.estimate.ratio > 0]
    if not estimates:
        return ""
    furthest = max(estimates, key=lambda estimate: abs(math.log(estimate.ratio)))
    return change(furthest) + (f", the furthest from 0 of {len(estimates)}" if len(estimates) > 1 else "")


def without_control(check: Check) -> bool:
    """Whether times were taken and the base was not timed against itself."""
    return not check.control and any(row.units for row in check.rows)


def machine(check: Check) -> str:
    """Where and how it was measured, in one line."""
    found = check.environment
    devices = [device.name for device in found.devices] or [found.cpu]
    versions = [f"{name} {found.versions[name]}" for name in ("torch", "triton") if name in found.versions]
    way = f"each side in processes of its own: {check.isolated}" if check.isolated else "both sides in one process"
    where = f"{', '.join(devices)}, {plural(found.cores, 'core')}, {plural(found.threads, 'thread')}"
    return plain(f"{where}; {', '.join([f'Python {found.python}', *versions])}; {way}")


def result(check: Check) -> str:
    """The exit code as a word."""
    return {0: "passed", 1: "failed", 3: "inconclusive", 4: "no verdict"}[exit_code(check)]


def _place(row: Row) -> tuple[int, float]:
    place = ORDER.index(row.verdict) if row.verdict in ORDER else len(ORDER)
    if not known(row.estimate):
        return place, 0.0
    return place, row.estimate.ratio if row.verdict == "faster" else -row.estimate.ratio
