"""A check as Markdown for a CI job's summary: the sentence, a table of what moved, the rest folded.  It never grows beyond its limit."""

import re
from collections.abc import Iterable, Sequence

from ...data.check_record import Check, Row
from ...text.digits import change, detectable
from . import verdict, words

HEAD = "| benchmark | verdict | change (95 % interval) | smallest detectable | units | exact numbers, reason |"
RULE = "|---|---|---:|---:|---:|---|"
NOTES = 20
_MARKUP = re.compile(r"[&<>\\`*_|~$@#\[\]]|:(?=\S)")  # a colon before a word may begin an emoji's name or end a link's scheme


def summary(check: Check, limit_bytes: int = 64_000) -> str:
    """At most `limit_bytes` of UTF-8: rows of the fold give way first, then rows of the table, and it says how many."""
    above, below = _above(check), [_text(words.machine(check))]
    rows = words.ordered(check.rows)
    shown = [row for row in rows if _matters(check, row)]
    folded = [row for row in rows if not _matters(check, row)]
    left = limit_bytes - _size([*above, *below])
    table = _table(check, shown, left, "")
    counted = words.counts(words.label(check, row) for row in folded)
    fold = _table(check, folded, left - _size(table), f"The other {words.plural(len(folded), 'benchmark')}: {counted}")
    return "\n".join([*above, *table, *fold, *below]) + "\n"


def _matters(check: Check, row: Row) -> bool:
    return words.moved(row) or (check.strict and row.verdict == "inconclusive")


def _above(check: Check) -> list[str]:
    lines = [f"### Regression check: {words.result(check)}", "", f"**{_text(verdict.sentence(check))}**", ""]
    notes = [words.plain(note) for note in check.notes[:NOTES]]
    if len(check.notes) > NOTES:
        notes.append(f"{len(check.notes) - NOTES:,} more notes are in the page")
    lines += [f"- {_text(note)}" for note in notes]
    if control := words.control(check):
        lines.append(f"- control: base against itself {_text(control)}")
    elif words.without_control(check):
        lines.append(f"- no control: {words.UNNOTICED}")
    return [*lines, ""]


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
    name, label = f"<code>{_text(words.plain(row.id))}</code>", words.label(check, row)
    cells = (name, _text(label), change(row.estimate), detectable(row.estimate), words.units(row), _text(said))
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Character references are never structure in GitHub's Markdown, so whatever might be is written as one."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def _size(lines: Iterable[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)
