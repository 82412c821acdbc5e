"""The files of a check: written, and read again.  What they say is made elsewhere."""

import os
from functools import partial
from pathlib import Path

import msgspec

from ...data.check_record import SCHEMA, Check
from ...declare.mistake import Mistake
from ...storage.output import CHECK_SUFFIX, guarded, replace
from ...text import invocation
from . import junit, markdown


def write(check: Check, out: Path) -> dict[str, Path]:
    """Everything that a check leaves: what it is -> where it lies.  Raises Mistake where it cannot be written."""
    from . import page

    results, reports = out / "results" / f"{check.name}{CHECK_SUFFIX}", out / "reports" / check.name
    texts = {
        "results": (results, msgspec.json.format(msgspec.json.encode(check), indent=1).decode()),
        "page": (reports / "index.html", page.render(check)),
        "junit": (reports / "junit.xml", junit.write(check)),
        "summary": (reports / "summary.md", markdown.summary(check)),
    }
    for path, text in texts.values():
        guarded(partial(replace, text, path), path.parent)
    return {what: path for what, (path, _) in texts.items()}


def add_to_summary(check: Check) -> None:
    """On a build server that shows a page of Markdown per job, add the summary to it."""
    if target := os.environ.get("GITHUB_STEP_SUMMARY"):
        guarded(partial(_append, Path(target), markdown.summary(check)), Path(target).parent)


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def read(path: Path) -> Check:
    """Raises Mistake where it is missing, damaged or of a newer schema."""
    try:
        check = msgspec.json.decode(path.read_bytes(), type=Check)
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}; give the path of a check, as results/NAME{CHECK_SUFFIX}") from error
    except msgspec.DecodeError as error:
        raise Mistake(f"{path}: not a check that layerbench wrote: {error}; type  {invocation.command()} check  to make one") from error
    if check.schema > SCHEMA:
        raise Mistake(f"{path}: its schema is {check.schema}, this layerbench reads up to {SCHEMA}; {invocation.NEWER}")
    return check
