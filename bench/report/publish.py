"""The page of a run: where it is written, how a terminal names it, and a browser that shows it."""

import sys
import webbrowser
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..data.change import Change
from ..data.record import Run
from ..storage import output


def write(run: Run, out: Path, changes: Sequence[Change] = (), name: str = "") -> Path:
    """Below reports/, under the run's name or another.  changes: against an older run.  Raises Mistake where it cannot be written."""
    from .. import report

    output.guarded(partial(output.folder, out / "reports"), out)
    return output.guarded(partial(report.write, run, out / "reports" / (name or run.name) / "index.html", changes), out)


def address(page: Path) -> str:
    """An address that a terminal opens at a click; in a log the path as it is, which is shorter."""
    return page.resolve().as_uri() if sys.stdout.isatty() else str(page)


def show(page: Path) -> None:
    if not webbrowser.open(page.resolve().as_uri()):
        print(f"layerbench: --open: no browser was found; open {page} yourself", file=sys.stderr)
