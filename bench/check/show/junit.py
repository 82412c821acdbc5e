"""A check as JUnit XML: a testcase per benchmark, and a real failure for each that fails the check.  It decides nothing.

The elements are those that CI services share: testsuites, testsuite, testcase, failure, error, skipped, system-out.
"""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ...data.check_record import Check, Row
from ...text.digits import percent
from . import verdict, words

SUITE = "layerbench check"


def write(check: Check) -> str:
    """The file as text, to be stored as UTF-8."""
    suite = Element("testsuite")
    properties = SubElement(suite, "properties")
    for name, value in _facts(check).items():
        _element(properties, "property", name=name, value=value)
    failing = {id(row) for row in words.failures(check)}
    for row in words.ordered(check.rows):
        _case(suite, check, row, id(row) in failing)
    _whole(suite, check)
    for name, value in _totals(check, suite).items():
        suite.set(name, words.visible(value))
    root = Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False).join(('<?xml version="1.0" encoding="UTF-8"?>\n', "\n"))


def _facts(check: Check) -> dict[str, str]:
    return {
        "base": words.side(check.base),
        "head": words.side(check.head),
        "threshold": percent(check.threshold),
        "machine": words.machine(check),
        "command": check.command,
        "verdict": verdict.sentence(check),
    }


def _totals(check: Check, suite: Element) -> dict[str, str]:
    cases = suite.findall("testcase")
    counted = {f"{name}s": str(sum(case.find(name) is not None for case in cases)) for name in ("failure", "error")}
    counted["skipped"] = str(sum(case.find("skipped") is not None for case in cases))
    when = {"time": f"{check.seconds:.3f}", "timestamp": check.started[:19]}  # its schema knows no time zone
    return {"name": SUITE, "tests": str(len(cases))} | counted | when


def _case(suite: Element, check: Check, row: Row, fails: bool) -> None:
    case = _element(suite, "testcase", classname=row.point.layer, name=row.id, file=row.file, line=str(row.line))
    if (seconds := words.measured_seconds(row)) is not None:
        case.set("time", f"{seconds:.3f}")
    label, message = words.label(check, row), words.message(check, row)
    if fails or (label == "inconclusive" and check.strict):
        _element(case, "failure", message, message=message, type=label)
    elif label in (*words.APART, "no verdict"):
        _element(case, "skipped", message=message)
    else:
        _element(case, "system-out", message)


def _whole(suite: Element, check: Check) -> None:
    """What keeps the whole check from a verdict is an error of its own, or a run that says nothing would look like one that passed."""
    if check.unreliable:
        name, kind = "control", "unreliable"
    elif words.nothing_compared(check):
        name, kind = "comparison", "nothing compared"
    else:
        return
    case = _element(suite, "testcase", classname=SUITE, name=name)
    sentence = verdict.sentence(check)
    _element(case, "error", sentence, message=sentence, type=kind)


def _element(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """`visible` drops what XML 1.0 cannot hold; ElementTree escapes the rest."""
    made = SubElement(parent, tag, {name: words.visible(value) for name, value in attributes.items()})
    if text:
        made.text = words.visible(text)
    return made
