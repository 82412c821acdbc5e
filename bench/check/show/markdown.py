"""A check as Markdown, for a CI job's summary or a comment: the sentence, a table of what moved, the rest folded, within a limit of bytes.

It begins with a comment that nobody sees, by which a client finds what it posted before and puts the new one in its place (docs/ci.md).
"""

import re
from collections.abc import Iterable, Sequence
from operator import itemgetter

from ...data.check_record import Check, Row
from ...text.digits import change, detectable
from . import verdict, words

HEAD = "| benchmark | verdict | change (95 % interval) | smallest detectable | units | exact numbers, reason |"
RULE = "|---|---|---:|---:|---:|---|"
MARK = "<!-- layerbench check -->"
NOTES = 20
CAUSES = 10  # why something was not compared
EXAMPLES = 3  # benchmarks named for each
_MARKUP = re.compile(r"[&<>\\`*_|~$@#\[\]]|:(?=\S)")  # a colon before a word may begin an emoji's name or end a link's scheme


def summary(check: Check, limit_bytes: int = 64_000) -> str:
    """At most `limit_bytes` of UTF-8: rows of the fold give way first, then rows of the table, and it says how many."""
    above, below = _above(check), [_text(f"base {words.side(check.base)}, head {words.side(check.head)}; {words.machine(check)}")]
    rows = words.ordered(check.rows)
    shown = [row for row in rows if _matters(check, row)]
    folded = [row for row in rows if not _matters(check, row)]
    left = limit_bytes - _size([*above, *below])
    table = _table(check, shown, left, "")
    counted = words.counts(words.label(check, row) for row in folded)
    title = f"{'The other' if shown else 'All'} {words.plural(len(folded), 'benchmark')}: {counted}"
    fold = _table(check, folded, left - _size(table), title)
    return "\n".join([*above, *table, *fold, *below]) + "\n"


def _matters(check: Check, row: Row) -> bool:
    return words.moved(row) or (check.strict and row.verdict == "inconclusive")


def _above(check: Check) -> list[str]:
    lines = [MARK, f"### Regression check: {words.result(check)}", "", f"**{_text(verdict.sentence(check))}**", ""]
    notes = [words.plain(note) for note in check.notes[:NOTES]]
    if len(check.notes) > NOTES:
        notes.append(f"{len(check.notes) - NOTES:,} more notes are in the page")
    lines += [f"- {_text(note)}" for note in notes]
    if control := words.control(check):
        lines.append(f"- control: base against itself {_text(control)}")
    elif words.without_control(check):
        lines.append(f"- no control: {words.UNNOTICED}")
    lines += [f"- {text}" for text in (_seen(check), *_not_compared(check)) if text]
    return [*lines, ""]


def _seen(check: Check) -> str:
    """The smallest slow-down that could have been seen, over the benchmarks that were timed."""
    timed = [row for row in check.rows if row.verdict in words.TIMED]
    seen = [(row.estimate.detectable, row) for row in timed if row.estimate and detectable(row.estimate)]
    if not seen or check.unreliable:
        return ""
    (_, best), (_, worst) = min(seen, key=itemgetter(0)), max(seen, key=itemgetter(0))
    least, most = detectable(best.estimate), detectable(worst.estimate)
    said = "smallest slow-down that could have been seen"
    return f"{said}: {least}" if least == most else f"{said}, by benchmark: {least} to {most} ({_name(worst)})"


def _not_compared(check: Check) -> list[str]:
    """What was not compared: a line for each cause."""
    causes: dict[tuple[str, str], list[Row]] = {}
    for row in words.ordered(row for row in check.rows if row.verdict in words.APART):
        causes.setdefault((words.label(check, row), words.reason(row) or words.MEANINGS[row.verdict]), []).append(row)
    lines = []
    for (label, reason), rows in list(causes.items())[:CAUSES]:
        names = ", ".join(map(_name, rows[:EXAMPLES])) + (f" and {len(rows) - EXAMPLES:,} more" if len(rows) > EXAMPLES else "")
        lines.append(f"{len(rows):,} {_text(label)}: {_text(reason)} ({names})")
    return [*lines, f"{len(causes) - CAUSES:,} more causes are in the page"] if len(causes) > CAUSES else lines


def _table(check: Check, rows: Sequence[Row], limit_bytes: int, title: str) -> list[str]:
    """As many rows as fit, folded under `title` where there is one; nothing where there are none."""
    if not rows:
        return []
    before = [f"<details><summary>{_text(title)}</summary>", ""] if title else []
    after = ["", "</details>", ""] if title else [""]
    used = _size([*before, HEAD, RULE, *after, "", _left_out(len(rows))])
    kept: list[str] = []
    for row in rows:
        line = _row(check, row)
        used += _size([line])
        if used > limit_bytes:
            break
        kept.append(line)
    missing = len(rows) - len(kept)
    said = ["", _left_out(missing)] if missing else []
    return [*before, *([HEAD, RULE] if kept else []), *kept, *said, *after]


def _left_out(number: int) -> str:
    return f"Left out here, but in the page and the result file: {words.plural(number, 'row')}."


def _row(check: Check, row: Row) -> str:
    said = "; ".join(filter(None, (words.numbers(row), words.reason(row))))
    cells = (_name(row), _text(words.label(check, row)), change(row.estimate), detectable(row.estimate), words.units(row), _text(said))
    return f"| {' | '.join(cells)} |"


def _name(row: Row) -> str:
    return f"<code>{_text(words.plain(row.id))}</code>"


def _text(text: str) -> str:
    """Character references are never structure in GitHub's Markdown, so whatever might be is written as one."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def _size(lines: Iterable[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)
