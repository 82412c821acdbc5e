"""A check as GitHub's workflow commands, which put a mark where a layer is declared.  Whether this is GitHub, the caller knows.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from ...data.check_record import Check, Row
from . import verdict, words

WARNINGS = 10  # GitHub shows as many of a step; more than that is no advice but a list, and the page has it


def lines(check: Check) -> list[str]:
    """Errors: each row that fails the check, the worst first, and what leaves it without a verdict.  Warnings: a few open rows."""
    found = [_command("error", check, row) for row in words.failures(check)]
    if check.unreliable or words.nothing_compared(check):
        found.append(f"::error title={_property('Regression check')}::{_escape(verdict.sentence(check))}")
    still_open = [row for row in words.ordered(check.rows) if words.label(check, row) == "inconclusive"]
    if check.strict or len(still_open) < WARNINGS:
        found += [_command("error" if check.strict else "warning", check, row) for row in still_open]
    return found


def _command(kind: str, check: Check, row: Row) -> str:
    where = f"file={_property(row.file)},line={row.line}," if row.file else ""
    return f"::{kind} {where}title={_property(f'{row.id} {words.label(check, row)}')}::{_escape(words.message(check, row))}"


def _escape(text: str) -> str:
    return words.visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
