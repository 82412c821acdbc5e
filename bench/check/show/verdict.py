"""The verdict on a whole check in sentences, the same on every face: what got worse, what was compared, and what was not and why."""

import math
from collections import Counter
from collections.abc import Sequence

from ...data.check_record import FAILURES, FEWEST_UNITS, Check, Row
from ...stats.sequential import LOOKS
from ...text.digits import known, percent, slow_down
from .words import APART, TIMED, counts, failures, nothing_compared, numbers, plain, plural, side

UNIT_SECONDS = 0.7  # of a unit and what lies around it
CAUSES = 3  # that are told; more than that is for the page
_VERBS = {
    "slower": ("got slower", "got slower"),
    "wrong": ("is wrong", "are wrong"),
    "import error": ("cannot be imported at the head", "cannot be imported at the head"),
    "missing": ("is missing", "are missing"),
    "different": ("has a reference that computes something else", "have a reference that computes something else"),
    "larger": ("got larger", "got larger"),
}


def sentence(check: Check) -> str:
    """The verdict on the whole check."""
    return " ".join(sentences(check))


def sentences(check: Check) -> list[str]:
    """The same, for a face that sets the first one apart."""
    failing = failures(check)
    words = _failing(check, failing) if failing else []
    if not nothing_compared(check) and (apart := [row for row in check.rows if row.verdict == "not compared"]):
        words.append(_apart(apart))
    if check.unreliable:
        words.append(f"The machine is unreliable: {plain(check.unreliable).rstrip('.')}; no verdict on time.")
    elif nothing_compared(check):
        words += filter(None, (_nothing(check), enough(check)))
    elif not failing:
        words += _passing(check)
    return words


def _failing(check: Check, failing: Sequence[Row]) -> list[str]:
    looked = sum(row.verdict not in (*APART, "unchanged") for row in check.rows)
    clauses: list[str] = []
    for verdict in _VERBS:
        rows = [row for row in failing if row.verdict == verdict]
        if rows:
            of = "" if clauses else f" of {plural(looked, 'benchmark')}"
            clauses.append(f"{len(rows):,}{of} {_VERBS[verdict][len(rows) > 1]}{'' if clauses else _example(rows)}")
    others = [row.verdict for row in check.rows if row.verdict not in FAILURES] if not check.unreliable else []
    rest = f"; the other {len(others):,}: {counts(others)}" if others else ""
    meant = ["What was removed on purpose passes with --allow-missing."] if any(row.verdict == "missing" for row in failing) else []
    return [f"{'; '.join(clauses)}.", f"Compared with {side(check.base)}{rest}.", *meant]


def _example(rows: Sequence[Row]) -> str:
    """The worst of the rows that the sentence begins with, and its number."""
    row = rows[0]
    which = {"slower": "the worst "}.get(row.verdict, "the first ") if len(rows) > 1 else ""
    middle, span = slow_down(row.estimate) if row.verdict == "slower" else ("", "")
    detail = f" by {middle} ({span})" if middle else f" ({numbers(row)})" if row.verdict == "larger" and numbers(row) else ""
    return f", {which}{plain(row.id)}{detail}"


def _passing(check: Check) -> list[str]:
    verdicts = [row.verdict for row in check.rows]
    timed, base = [verdict for verdict in verdicts if verdict in TIMED], side(check.base)
    if timed:
        open_, quick = timed.count("inconclusive"), timed.count("faster")
        claim = "No layer was found to be" if open_ else "No layer got"
        claim = "Nothing was decided" if open_ == len(timed) else f"{claim} slower by {percent(check.threshold)} or more"
        extra = "".join(f", {number:,} {name}" for number, name in ((open_, "inconclusive"), (quick, "faster")) if number)
        rest = counts(verdict for verdict in verdicts if verdict not in TIMED)
        told = [f"{claim}: {plural(len(timed), 'benchmark')} compared with {base}{extra}{f'; not timed: {rest}' if rest else ''}."]
        return [*told, *filter(None, [enough(check)])] if open_ else told
    if proved := verdicts.count("proved"):
        claim = f"No layer is wrong: the values of {plural(proved, 'benchmark')} were proved, and nothing was timed."
        rest = counts(verdict for verdict in verdicts if verdict != "proved")
    else:
        same = verdicts.count("unchanged")
        claim = f"Nothing that could make a layer slower has changed since {base}: "
        if check.base.commit == check.head.commit and not check.head.dirty:
            claim = f"Base and head are one commit, {base}, so nothing can have changed (name an earlier one, as HEAD~1): "
        elif check.dependencies:
            claim = f"No layer's code has changed since {base}, and {plain(check.dependencies[0])} has, which was not compared: "
        claim += f"{plural(same, 'benchmark')} {'has' if same == 1 else 'have'} the same source; nothing was measured."
        rest = counts(verdict for verdict in verdicts if verdict != "unchanged")
    return [claim, f"Besides: {rest}."] if rest else [claim]


def _nothing(check: Check) -> str:
    if not check.rows:
        return "Nothing was compared: no benchmark was selected."
    reasons = [plain(row.reason).rstrip(".") for row in check.rows]
    why = "" if "" in reasons else f" ({_causes(reasons)})"
    return f"Nothing was compared: {counts(row.verdict for row in check.rows)}{why}."


def _apart(rows: Sequence[Row]) -> str:
    """How many benchmarks nobody compared, and why."""
    was = "was" if len(rows) == 1 else "were"
    return f"{plural(len(rows), 'benchmark')} {was} not compared: {_causes([plain(row.reason).rstrip('.') for row in rows])}."


def _causes(reasons: Sequence[str]) -> str:
    """Each with the number of its benchmarks where there are several, the most frequent first."""
    causes = Counter(reasons).most_common()
    if len(causes) == 1:
        return causes[0][0]
    told = "; ".join(f"{number:,} since {cause}" for cause, number in causes[:CAUSES])
    return told + (f"; and {plural(len(causes) - CAUSES, 'other cause')}" if len(causes) > CAUSES else "")


def enough(check: Check) -> str:
    """Which budget would decide what is still open, as far as its units tell; "" where they do not."""
    still = [row for row in check.rows if row.verdict == "inconclusive" and row.units]
    timing = check.stages.get("timing", 0.0)
    if none := [row for row in check.rows if row.verdict == "inconclusive" and len(row.units) < FEWEST_UNITS]:
        seconds = check.seconds + FEWEST_UNITS * UNIT_SECONDS * (len(none) + len(check.control))
        return (
            f"About --budget {10 * math.ceil(seconds / 10)}s would tell: nothing is decided before there are {FEWEST_UNITS} units of each."
        )
    if not still or not timing or max(len(row.units) for row in still) >= LOOKS[-1]:
        return ""
    taken = max(len(row.units) for row in still)
    wanted = max(_wanted(row, check.threshold) for row in still)
    if wanted > LOOKS[-1]:
        return f"A quieter machine, or a larger --threshold, would tell: {LOOKS[-1]} units, as many as are ever taken, would not."
    seconds = check.seconds + timing * (wanted / taken - 1) + 1
    return f"About --budget {10 * math.ceil(seconds / 10)}s would tell: it takes {wanted} units, and there were {taken}."


def _wanted(row: Row, threshold: float) -> int:
    """Units after which it can be decided: the smallest slow-down that can be seen falls with the root of their number."""
    if not known(row.estimate) or not row.estimate.detectable:
        return LOOKS[1]
    units = len(row.units) * (row.estimate.detectable / threshold) ** 2
    return next((look for look in LOOKS if look >= max(units, len(row.units) + 1)), LOOKS[-1] + 1)
