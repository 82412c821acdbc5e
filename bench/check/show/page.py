"""A regression check as one self-contained HTML file: `write` and `render`.  Not the page of a run, which is the package's own.

It looks like that page and shares its style sheet.  Nothing is drawn by a script; one script sorts the table.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ...data.check_record import Check, Row, exit_code
from ...report import html
from ...report.validity import BUSY, Fact
from ...report.words import plural
from ...text.digits import detectable, percent, slow_down
from . import dots, verdict
from . import words as spoken

HERE = Path(__file__).parent
PICTURES = 2_000  # rows that have one; a page with more of them would be slow to open, and nobody scrolls so far
GLYPHS = {"slower": "▼", "faster": "▲", "larger": "▲", "wrong": "✗", "missing": "✗", "different": "≠", "clear": "=", "inconclusive": "?"}


@dataclass(frozen=True)
class Line:
    """A benchmark as the table shows it; "" is an empty cell."""

    name: str
    label: str
    glyph: str
    fails: bool
    picture: Markup
    change: str
    span: str
    smallest: str
    units: str
    said: str  # exact numbers and reason


def write(check: Check, path: Path) -> Path:
    """Writes the page to `path`, making its folders; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(check), encoding="utf-8", newline="\n")
    return path


def render(check: Check) -> str:
    """The page as text."""
    rows, script = spoken.ordered(check.rows), html.read("sort.js")
    failing = {id(row) for row in spoken.failures(check)}
    axis = dots.axis([*rows, *check.control], check.threshold, check.tolerance)
    labels = [spoken.label(check, row) for row in rows]
    made = html.environment(HERE)
    made.filters["visible"] = spoken.visible
    values = {
        "check": check,
        "code": exit_code(check),
        "result": spoken.result(check),
        "sentences": [re.sub(r"(?<=\d) (?=%)", "\u00a0", sentence) for sentence in verdict.sentences(check)],
        "strip": strip(check),
        "lines": [_line(check, row, axis, id(row) in failing, place < PICTURES) for place, row in enumerate(rows)],
        "control": [_line(check, row, axis, False, True) for row in check.control],
        "pictures": PICTURES,
        "timed": any(row.units or row.confirmation for row in (*rows, *check.control)),
        "guides": dots.guides(axis),
        "scale": dots.scale(axis),
        "meanings": {label: spoken.MEANINGS.get(label, "") for label in dict.fromkeys(labels)},
        "counts": spoken.counts(labels),
        "base": spoken.side(check.base),
        "threshold": percent(check.threshold),
        "tolerance": percent(check.tolerance),
        "css": html.read("page.css") + html.read("check.css", HERE),
        "script": script,
        "policy": html.policy([script]),
    }
    text = made.get_template("check.html").render(values)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair, as in an odd file name, cannot be written


def _line(check: Check, row: Row, axis: dots.Axis, fails: bool, drawn: bool) -> Line:
    label, (change, span) = spoken.label(check, row), slow_down(row.estimate)
    said = "; ".join(filter(None, (spoken.numbers(row), spoken.reason(row))))
    picture = dots.picture(row, axis) if drawn else Markup("")
    smallest, units = detectable(row.estimate), spoken.units(row)
    return Line(spoken.plain(row.id), label, GLYPHS.get(label, ""), fails, picture, change, span, smallest, units, said)


def strip(check: Check) -> list[Fact]:
    """What was compared and how far to trust it."""
    machine = check.environment
    devices = [f"{device.kind}: {device.name}" if device.kind != "cpu" else device.name for device in machine.devices]
    versions = " · ".join(f"{name} {machine.versions[name]}" for name in ("torch", "triton") if name in machine.versions)
    dirty = "uncommitted changes: the commit alone does not give these numbers" if check.head.dirty else ""
    return [
        Fact("Result", f"{spoken.result(check)}, exit {exit_code(check)}"),
        Fact("Base", spoken.side(check.base), more=check.base.commit),
        Fact("Head", spoken.side(check.head), dirty, check.head.commit),
        Fact("Device", " + ".join(devices) or machine.cpu, more=f"{machine.cpu}, {plural(machine.cores, 'core')}, {machine.system}"),
        Fact("Versions", versions or "not recorded", "" if versions else "versions are unknown"),
        _threads(check),
        _control(check),
        _processes(check),
    ]


def _threads(check: Check) -> Fact:
    machine = check.environment
    doubt = f"load {machine.load:.1f} when the check began: other work was going on" if machine.load > BUSY * machine.cores else ""
    more = f"load {machine.load:.2f} when the check began"
    return Fact("Threads", f"{machine.threads} of {plural(machine.cores, 'core')}", doubt, more)


def _control(check: Check) -> Fact:
    more = "the base against itself: what the machine alone makes of no change at all"
    none = spoken.UNNOTICED if spoken.without_control(check) else ""
    return Fact("Control", spoken.control(check) or "not measured", check.unreliable or none, more)


def _processes(check: Check) -> Fact:
    if not check.isolated:
        return Fact("Processes", "one for both sides", more="drift of the machine and luck of the launch meet both sides alike")
    return Fact("Processes", "one for each side", check.isolated, "luck of the launch differs between the sides")
